#pragma once
#include <cstdint>
#include <vector>

namespace heddle {

/// Paged keys and values of one layer: what CacheStorage lays out per block of tokens.
struct PagedKvNeed {
  int n_kv_heads = 0;
  int head_dim = 0;
  std::int64_t elements_per_token() const { return 2LL * n_kv_heads * head_dim; }
};

/// Everything one layer wants to remember of a sequence.
struct CacheNeed {
  std::vector<PagedKvNeed> paged;
};

}  // namespace heddle
