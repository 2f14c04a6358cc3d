#pragma once
// The inner loops of the fast attention variants, one set per instruction set; attention_plan.cpp
// cuts the work, these do it. attention_impl.h has the loops, written once, on top of
// attention_rows.h, attention_tile.h and attention_keys.h; docs/kernels.md, "paged attention on the
// CPU", explains them.

#include <cstdint>

namespace heddle::cpu {

/// AttentionArgs as plain pointers and counts. The grouping: q heads group * g .. group * (g+1) - 1
/// share kv head g; a "pair" is one (query row, q head of the group), numbered row * group + head.
struct AttentionProblem {
  const float* q = nullptr;
  float* out = nullptr;
  const std::uint8_t* head_mask = nullptr;  // or null
  const void* k_pages = nullptr;
  const void* v_pages = nullptr;
  const std::int32_t* block_tables = nullptr;
  const std::int32_t* sequence = nullptr;
  const std::int32_t* positions = nullptr;
  std::int64_t max_blocks = 0;
  std::int64_t n_q_heads = 0;
  std::int64_t n_kv_heads = 0;
  std::int64_t group = 0;
  std::int64_t head_dim = 0;
  std::int64_t block_tokens = 0;
  float scale = 0.0F;
  std::int64_t window = 0;
  std::int64_t first_keys = 0;  // 0 without a window
  float soft_cap = 0.0F;
  const float* sinks = nullptr;             // or null
  const std::int32_t* block_ids = nullptr;  // or null: no lists
  const std::int32_t* block_counts = nullptr;
  std::int64_t n_lists = 0;
  std::int64_t list_capacity = 0;
  std::int64_t key_block = 0;
  /// The first key that a row at `position` sees beside first_keys. Inlined by force: files of
  /// every instruction set compile it (simd16.h, link-time trap).
  __attribute__((always_inline)) std::int64_t first_key(std::int64_t position) const {
    return window == 0 || position < window ? 0 : position - window + 1;
  }
};

enum class KvType : std::uint8_t { kF32, kF16, kBF16 };

/// Some pairs of one sequence and kv head, against some tiles of keys: tiles[i] for tile_begin <= i
/// < tile_end, ascending, or tile i where `tiles` is null. If the tiles are all the pairs have,
/// `partial` is null and the results are written; else partial[i - tile_begin] receives, per pair
/// that sees keys of it, m, l and o[head_dim] of that tile alone.
struct AttentionTask {
  std::int64_t first_row = 0;
  std::int64_t pair_begin = 0;  // counted from first_row * group
  std::int64_t n_pairs = 0;     // 1 .. kMaxAttentionPairs
  std::int64_t kv_head = 0;
  std::int64_t tile_begin = 0;
  std::int64_t tile_end = 0;
  const std::int32_t* tiles = nullptr;
  float* partial = nullptr;
};

inline constexpr std::int64_t kMaxAttentionPairs = 96;
inline constexpr std::int64_t kMaxAttentionHeadDim = 256;

/// A pair's partial of one tile: m, l, unused up to here, then o[head_dim].
inline constexpr std::int64_t kAttentionPartialHead = 16;

/// y[r * stride + j] = scale * <q[r], entries[j]>: 16 lanes over head_dim (a multiple of 16), then
/// the halving tree.
struct EntryScores {
  const float* q = nullptr;  // [n_rows, head_dim]
  std::int64_t n_rows = 0;
  std::int64_t head_dim = 0;
  const float* const* entries = nullptr;
  std::int64_t n_entries = 0;
  float scale = 0.0F;
  float* y = nullptr;
  std::int64_t stride = 0;
};

/// w[j] += exp(y[j] - m) / l, m and l the maximum of norm[i] and the sum of exp(norm[i] - m); a NaN
/// adds 0. Arrays have room for a multiple of 16 elements; w's beyond n are written too.
struct WindowWeights {
  const float* norm = nullptr;
  std::int64_t n_norm = 0;  // at least 1
  const float* y = nullptr;
  std::int64_t n = 0;
  float* w = nullptr;
};

struct AttentionKernels {
  /// f32 elements of scratch memory that `run` and `merge` need, 64-byte aligned.
  std::int64_t (*scratch)(std::int64_t head_dim) = nullptr;
  void (*run)(const AttentionProblem& problem,
              KvType type,
              const AttentionTask& task,
              float* scratch) = nullptr;
  /// Merges the partials of the pairs' tiles (task.partial: [i - tile_begin][pair], tile_begin the
  /// piece's first) left to right and writes the results.
  void (*merge)(const AttentionProblem& problem,
                const AttentionTask& task,
                float* scratch) = nullptr;
  // of select_blocks
  void (*score_entries)(const EntryScores& scores) = nullptr;
  void (*add_weights)(const WindowWeights& weights) = nullptr;
};

const AttentionKernels& attention_kernels_portable();
/// Null where the build is for another processor.
const AttentionKernels* attention_kernels_avx2();
const AttentionKernels* attention_kernels_avx512();

}  // namespace heddle::cpu
