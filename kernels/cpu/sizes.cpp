#include "kernels/sizes.h"

#include <algorithm>

#include "base/thread_pool.h"
#include "kernels/api/attention.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/linear_attention_kernels.h"
#include "kernels/cpu/matmul_tasks.h"
#include "kernels/cpu/pack.h"

namespace heddle {
namespace {

/// Per element of x: 16-bit values and their block's scales and sums, or the value as it is.
std::int64_t prepared_x(const ScratchShape& s, bool plain) {
  cpu::XForms forms;
  for (const DType type : s.weight_types) forms.add(type);
  if (plain) return forms.plain ? s.x_elements * 4 : 0;
  return s.x_elements * 3 * (static_cast<int>(forms.by_32) + static_cast<int>(forms.by_256));
}

/// Pieces that attention cuts a step's rows into: attention_plan.cpp never makes one of fewer than
/// 12 pairs of a row and a head, but of what is left of a sequence.
std::int64_t attention_pieces(const ScratchShape& s) {
  return s.n_rows * s.n_q_heads / 12 + s.n_sequences * s.n_kv_heads;
}

std::int64_t attention_tiles(std::int64_t n_keys) {
  return n_keys / kAttentionTile + 1;
}

/// Tasks and, where rows skip keys, the list of tiles of each piece.
std::int64_t attention_tasks(const ScratchShape& s) {
  if (s.n_q_heads == 0) return 0;
  constexpr std::int64_t kTask = 2 * (sizeof(cpu::AttentionTask) + 16);
  constexpr std::int64_t kParts = 512;  // beside one a piece: each is 1/64 of the work or 4 tiles
  const std::int64_t pieces = attention_pieces(s);
  const std::int64_t lists = s.key_lists ? pieces * attention_tiles(s.n_positions) * 4 : 0;
  return (pieces + kParts) * kTask + lists + attention_tiles(s.n_positions);
}

/// Results of single tiles: of up to 32 pairs a sequence and KV head, those of pieces so small
/// that their keys are shared out.
std::int64_t attention_partials(const ScratchShape& s) {
  constexpr std::int64_t kPairs = 32;
  const std::int64_t tiles = s.n_keys / kAttentionTile + 2 * s.n_sequences;
  return tiles * s.n_kv_heads * kPairs * (cpu::kAttentionPartialHead + s.head_dim) * 4;
}

std::int64_t select_bytes(const ScratchShape& s) {
  if (s.entry_stride == 0) return 0;
  constexpr std::int64_t kSmallestBlock = 16;
  constexpr std::int64_t kPadding = 6 * 16 * 8;
  const std::int64_t group = s.n_q_heads / std::max<std::int64_t>(s.n_kv_heads, 1);
  const std::int64_t n_1 = s.n_positions / s.entry_stride + 16;
  const std::int64_t n_2 = n_1 / 4 + 16;
  return (n_1 + n_2) * (8 + 4 * group) + 4 * n_1 + 8 * (s.n_positions / kSmallestBlock + 16) +
         kPadding * group;
}

/// The most that any op wants for one worker, of all workers.
std::int64_t workers_bytes(const ScratchShape& s) {
  const std::int64_t attention =
      s.n_q_heads == 0 ? 0 : cpu::attention_kernels_portable().scratch(s.head_dim) * 4;
  const std::int64_t linear =
      s.linear_heads == 0 ? 0 : cpu::linear_kernels_portable().scratch(s.key_dim, s.value_dim) * 4;
  const std::int64_t routers = 20 * s.n_experts + 12 * s.n_q_heads;
  const std::int64_t any = std::max({attention, linear, routers, select_bytes(s),
                                     s.x_width * static_cast<std::int64_t>(sizeof(double))});
  constexpr std::int64_t kCandidate = 16;  // of sample: the exponential, logit, id
  const std::int64_t sample = std::max(any, s.vocab * kCandidate);
  const std::int64_t threads = s.threads > 0 ? s.threads : available_cores();
  return s.n_sequences > 1 ? threads * sample : (threads - 1) * any + sample;  // one row: one task
}

}  // namespace

std::uint64_t packed_bytes(DType dtype, std::int64_t n_rows, std::int64_t n_cols) {
  const std::int64_t groups = (n_rows + cpu::kGroupRows - 1) / cpu::kGroupRows;
  return static_cast<std::uint64_t>(groups * cpu::group_bytes(dtype, n_cols));
}

std::uint64_t scratch_bytes(const ScratchShape& s) {
  const std::int64_t linear = (s.n_sequences * (s.linear_heads + 4) + 1) * 16;
  const std::int64_t slots[] = {
      std::max({prepared_x(s, false), attention_tasks(s), linear}),
      std::max(
          {prepared_x(s, true), attention_partials(s), attention_tiles(s.n_positions), linear}),
      static_cast<std::int64_t>(3 * std::min(s.expert_rows, s.n_experts) * sizeof(cpu::MatmulJob)) +
          (2 * s.n_experts + 3 * s.expert_rows + 1) * 4};
  std::int64_t bytes = workers_bytes(s);
  for (const std::int64_t slot : slots) bytes += slot;
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace heddle
