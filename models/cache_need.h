#pragma once
#include <cstdint>
#include <vector>

#include "kernels/api/linear_attention.h"

namespace heddle {

/// Paged keys and values of one layer: what CacheStorage lays out per block of tokens, or, where
/// the engine chose a ring (engine/cache_rings.h), per state slot.
struct PagedKvNeed {
  int n_kv_heads = 0;
  int head_dim = 0;
  int n_q_heads = 0;             // that read them
  std::int64_t window = 0;       // a token reads so many keys, itself included; 0: all
  bool skips = false;            // keys between those that a token reads are left out
  std::int64_t ring_blocks = 0;  // of a sequence, filled in by the engine; 0: in blocks of the pool
  std::int64_t elements_per_token() const { return 2LL * n_kv_heads * head_dim; }
};

/// The recurrent state of one layer and sequence: kernels/api/linear_attention.h.
struct RecurrentNeed {
  int n_heads = 0;
  int key_dim = 0;
  int value_dim = 0;
  /// f32 elements of S and of the tail.
  std::int64_t elements() const {
    return std::int64_t{n_heads} *
           (std::int64_t{key_dim} * value_dim + kLinearBlock * (key_dim + value_dim));
  }
};

/// Means of windows of keys beside paged KV: kernels/api/key_blocks.h.
struct CompressedKeyNeed {
  int n_kv_heads = 0;
  int head_dim = 0;
  int kernel = 0;
  int stride = 0;
};

/// Everything one mixer wants to remember of a sequence.
struct CacheNeed {
  std::vector<PagedKvNeed> paged;
  std::vector<CompressedKeyNeed> compressed;
  std::vector<RecurrentNeed> recurrent;
};

}  // namespace heddle
