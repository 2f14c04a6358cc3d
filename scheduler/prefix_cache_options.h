#pragma once
// What the prefix cache is made with, and what it tells of itself.

#include <array>
#include <cstddef>
#include <cstdint>

namespace heddle {

struct PrefixCacheOptions {
  int block_tokens = 16;
  bool states = false;         // the model has states, so that a prefix is of use at snapshots only
  int state_block_tokens = 1;  // a state of n tokens serves any position from n / this * this to n
  std::array<std::uint64_t, 2> key = {};   // of the hashes; random in production
  std::size_t remembered_bytes = 1 << 22;  // for what was evicted: LostPrefixes::bytes_of() each
  int few_children = 16;                   // of a node: so many are looked at one by one
  int host_blocks = 0;                     // room in host memory for what is evicted
  int host_slots = 0;
  /// What it costs to copy one there and back, in tokens that could be computed meanwhile: what
  /// saves fewer is not worth it.
  double block_copy_tokens = 0.0;
  double state_copy_tokens = 0.0;
};

struct PrefixCacheStats {
  std::int64_t blocks = 0;
  std::int64_t snapshots = 0;
  std::int64_t host_blocks = 0;
  std::int64_t host_snapshots = 0;
  std::int64_t evicted_blocks = 0;  // and gone
  std::int64_t evicted_snapshots = 0;
  std::int64_t moved_blocks = 0;  // to the host
  std::int64_t moved_snapshots = 0;
  std::int64_t lookups = 0;  // of texts, by match()
};

}  // namespace heddle
