// Which keys of a tile the rows of the fast attention variants see. Included through
// attention_impl.h only.

#pragma once
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/simd16.h"

namespace heddle::cpu {
namespace {

constexpr int kTile = 64;

// Bit i: key i of the tile.
using Keys = std::uint64_t;
constexpr Keys kAllKeys = ~Keys{0};

// Those of a tile that are among its first n keys; n may be anything.
HEDDLE_SIMD Keys first_of_tile(std::int64_t n) {
  return n <= 0 ? 0 : n >= kTile ? kAllKeys : (Keys{1} << n) - 1;
}

// Calls f(begin, end) for each longest run of keys, ascending.
template <typename F>
HEDDLE_SIMD void for_key_runs(Keys keys, const F& f) {
  while (keys != 0) {
    const int begin = __builtin_ctzll(keys);
    const Keys after = ~keys & ~first_of_tile(begin);
    const int end = after == 0 ? kTile : __builtin_ctzll(after);
    f(begin, end);
    keys &= ~first_of_tile(end);
  }
}

// The same for runs of those groups of 16 that hold a key: f(first_group, end_group).
template <typename F>
HEDDLE_SIMD void for_group_runs(Keys keys, const F& f) {
  int first = 0;
  for (int j = 0; j <= kTile / 16; ++j) {
    if (j < kTile / 16 && (keys >> (j * 16) & 0xFFFFU) != 0) continue;
    if (first < j) f(first, j);
    first = j + 1;
  }
}

// Whether the keys are one run.
HEDDLE_SIMD bool one_run(Keys keys) {
  const Keys low = keys & -keys;
  return (keys & (keys + low)) == 0;
}

// A tile as all rows see it.
struct TileSpan {
  std::int64_t begin;        // its first key's position
  std::int64_t first_block;  // that holds keys of it, and the last one
  std::int64_t last_block;
  Keys first_keys;  // seen through any window
};

HEDDLE_SIMD TileSpan tile_span(const AttentionProblem& p, std::int64_t tile) {
  TileSpan span = {};
  span.begin = tile * kTile;
  span.first_keys = first_of_tile(p.first_keys - span.begin);
  if (p.block_ids != nullptr) {
    span.first_block = span.begin / p.key_block;
    span.last_block = (span.begin + kTile - 1) / p.key_block;
  }
  return span;
}

// What a row sees: keys first_key .. n_keys - 1, in the blocks of its list if it has one.
struct RowKeys {
  std::int64_t first_key;
  std::int64_t n_keys;
  const std::int32_t* ids;  // or null: every block
  std::int32_t n_ids;
  std::int32_t at;  // of the list: blocks before it are before the tile
};

HEDDLE_SIMD RowKeys row_keys(const AttentionProblem& p, std::int64_t row, std::int64_t kv_head) {
  RowKeys keys = {};
  keys.first_key = p.first_key(p.positions[row]);
  keys.n_keys = std::int64_t{p.positions[row]} + 1;
  if (p.block_ids != nullptr) {
    const std::int64_t list = row * p.n_lists + (p.n_lists == 1 ? 0 : kv_head);
    keys.n_ids = p.block_counts[list];
    if (keys.n_ids >= 0) keys.ids = p.block_ids + list * p.list_capacity;
  }
  return keys;
}

// The keys of a tile that the row sees; tiles come in ascending order.
HEDDLE_SIMD Keys seen_keys(const AttentionProblem& p, RowKeys& row, const TileSpan& tile) {
  Keys keys = first_of_tile(row.n_keys - tile.begin) &
              (~first_of_tile(row.first_key - tile.begin) | tile.first_keys);
  if (row.ids == nullptr) return keys;
  while (row.at < row.n_ids && row.ids[row.at] < tile.first_block) ++row.at;
  Keys listed = 0;
  for (std::int32_t i = row.at; i < row.n_ids && row.ids[i] <= tile.last_block; ++i) {
    const std::int64_t begin = row.ids[i] * p.key_block - tile.begin;
    listed |= first_of_tile(begin + p.key_block) & ~first_of_tile(begin);
  }
  return keys & listed;
}

}  // namespace
}  // namespace heddle::cpu
