// Paged attention: checks and the reference. The fast variants are attention_plan.cpp (how a call
// is cut into tasks) and attention_impl.h (the loops); docs/kernels.md explains the scheme.

#include "kernels/api/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/cpu_tables.h"

namespace heddle::cpu {
namespace {

void check_index(const TensorView& v, std::int64_t n_tokens) {
  HEDDLE_CHECK(v.rank == 1 && v.dtype == DType::kI32 && v.dim(0) == n_tokens);
}

// Lists ascend to the row's own block, so what they name exists.
void check_blocks(const AttentionArgs& args) {
  const KeyBlocks& blocks = args.blocks;
  const std::int64_t n_lists = blocks.ids.dim(1);
  HEDDLE_CHECK(blocks.block > 0 && blocks.block % 16 == 0);
  HEDDLE_CHECK(blocks.ids.rank == 3 && blocks.ids.dtype == DType::kI32);
  HEDDLE_CHECK(blocks.ids.dim(0) == args.q.dim(0));
  HEDDLE_CHECK(n_lists == 1 || n_lists == args.pages.n_kv_heads());
  HEDDLE_CHECK(blocks.counts.rank == 2 && blocks.counts.dtype == DType::kI32);
  HEDDLE_CHECK(blocks.counts.dim(0) == args.q.dim(0) && blocks.counts.dim(1) == n_lists);
  for (std::int64_t i = 0; i < args.q.dim(0) * n_lists; ++i) {
    const std::int32_t count = blocks.counts.as<const std::int32_t>()[i];
    if (count == -1) continue;
    HEDDLE_CHECK(count > 0 && count <= blocks.ids.dim(2));
    const auto* const ids = blocks.ids.as<const std::int32_t>() + i * blocks.ids.dim(2);
    HEDDLE_CHECK(ids[0] >= 0);
    for (std::int32_t k = 1; k < count; ++k) HEDDLE_CHECK(ids[k] > ids[k - 1]);
    HEDDLE_CHECK(ids[count - 1] ==
                 args.positions.as<const std::int32_t>()[i / n_lists] / blocks.block);
  }
}

void check(const AttentionArgs& args) {
  const std::int64_t n = args.q.dim(0);
  const KvPages& pages = args.pages;
  HEDDLE_CHECK(args.q.rank == 3 && args.q.dtype == DType::kF32);
  HEDDLE_CHECK(args.out.rank == 3 && args.out.dtype == DType::kF32 && args.out.dims == args.q.dims);
  HEDDLE_CHECK(n == 0 || args.out.data != args.q.data);
  HEDDLE_CHECK(pages.k.rank == 4 && pages.v.rank == 4 && pages.k.dtype == pages.v.dtype);
  HEDDLE_CHECK(pages.k.dtype == DType::kF32 || pages.k.dtype == DType::kF16 ||
               pages.k.dtype == DType::kBF16);
  HEDDLE_CHECK(pages.v.dim(0) == pages.k.dim(0) && pages.v.dim(1) == pages.k.dim(1));
  HEDDLE_CHECK(pages.v.dim(2) == pages.k.dim(3) && pages.v.dim(3) == pages.k.dim(2));
  HEDDLE_CHECK(pages.head_dim() == args.q.dim(2) && pages.n_kv_heads() > 0);
  HEDDLE_CHECK(pages.block_tokens() > 0 && args.q.dim(1) % pages.n_kv_heads() == 0);
  HEDDLE_CHECK(args.block_tables.rank == 2 && args.block_tables.dtype == DType::kI32);
  check_index(args.sequence, n);
  check_index(args.positions, n);
  HEDDLE_CHECK(args.head_mask.absent() ||
               (args.head_mask.rank == 2 && args.head_mask.dtype == DType::kU8 &&
                args.head_mask.dim(0) == n && args.head_mask.dim(1) == args.q.dim(1)));
  HEDDLE_CHECK(args.scale != 0.0F && std::isfinite(args.scale));
  HEDDLE_CHECK(args.window >= 0 && args.first_keys >= 0);
  HEDDLE_CHECK(args.sinks.absent() || (args.sinks.rank == 1 && args.sinks.dtype == DType::kF32 &&
                                       args.sinks.dim(0) == args.q.dim(1)));
  HEDDLE_CHECK(args.soft_cap >= 0 && std::isfinite(args.soft_cap));
  HEDDLE_CHECK(args.soft_cap == 0 || std::isfinite(1.0F / args.soft_cap));
  const auto* const sequence = args.sequence.as<const std::int32_t>();
  const auto* const position = args.positions.as<const std::int32_t>();
  const std::int64_t limit = args.block_tables.dim(1) * pages.block_tokens();
  for (std::int64_t t = 0; t < n; ++t) {
    HEDDLE_CHECK(sequence[t] >= 0 && sequence[t] < args.block_tables.dim(0));
    HEDDLE_CHECK(position[t] >= 0 && position[t] < limit);
  }
  if (!args.blocks.absent()) check_blocks(args);
}

void run_fast(const AttentionArgs& args, CpuContext& context, const AttentionKernels& kernels) {
  check(args);
  if (args.q.elements() != 0) run_attention(args, context, kernels);
}

// Shapes of the fast variants; any other goes to ref.
bool accepts_shape(const AttentionArgs& args) {
  const std::int64_t dim = args.pages.head_dim();
  const std::int64_t tokens = args.pages.block_tokens();
  return dim >= 16 && dim % 16 == 0 && dim <= kMaxAttentionHeadDim && tokens >= 16 &&
         tokens % 16 == 0 && kAttentionTile % tokens == 0;
}

float element(const TensorView& pages, std::int64_t i) {
  if (pages.dtype == DType::kF16) return f16_to_f32(pages.as<const std::uint16_t>()[i]);
  if (pages.dtype == DType::kBF16) return bf16_to_f32(pages.as<const std::uint16_t>()[i]);
  return pages.as<const float>()[i];
}

// Whether row t's heads of kv head g see key s <= position[t].
bool sees(const AttentionArgs& args, std::int64_t t, std::int64_t g, std::int64_t s) {
  const std::int64_t position = args.positions.as<const std::int32_t>()[t];
  if (args.window != 0 && s <= position - args.window && s >= args.first_keys) return false;
  if (args.blocks.absent()) return true;
  const std::int64_t n_lists = args.blocks.ids.dim(1);
  const std::int64_t list = t * n_lists + (n_lists == 1 ? 0 : g);
  const std::int32_t count = args.blocks.counts.as<const std::int32_t>()[list];
  if (count == -1) return true;
  const auto* const ids = args.blocks.ids.as<const std::int32_t>() + list * args.blocks.ids.dim(2);
  return std::find(ids, ids + count, s / args.blocks.block) != ids + count;
}

void ref_head(const AttentionArgs& args, std::int64_t t, std::int64_t h) {
  const std::int64_t n_heads = args.q.dim(1);
  const std::int64_t dim = args.q.dim(2);
  const std::int64_t tokens = args.pages.block_tokens();
  const std::int64_t n_kv_heads = args.pages.n_kv_heads();
  const std::int64_t g = h / (n_heads / n_kv_heads);
  const float* const q = args.q.as<const float>() + (t * n_heads + h) * dim;
  float* const out = args.out.as<float>() + (t * n_heads + h) * dim;
  if (!args.head_mask.absent() && args.head_mask.as<const std::uint8_t>()[t * n_heads + h] == 0) {
    std::fill(out, out + dim, 0.0F);
    return;
  }
  const std::int32_t* const table =
      args.block_tables.as<const std::int32_t>() +
      args.sequence.as<const std::int32_t>()[t] * args.block_tables.dim(1);
  const auto head_of = [&](std::int64_t s) { return table[s / tokens] * n_kv_heads + g; };
  std::vector<std::int64_t> seen;
  for (std::int64_t s = 0; s <= args.positions.as<const std::int32_t>()[t]; ++s) {
    if (sees(args, t, g, s)) seen.push_back(s);
  }
  const double lowest = -std::numeric_limits<double>::infinity();
  const double sink = args.sinks.absent() ? lowest : args.sinks.as<const float>()[h];
  std::vector<double> p;
  double max = sink;
  for (const std::int64_t s : seen) {
    double dot = 0;
    for (std::int64_t d = 0; d < dim; ++d) {
      dot += static_cast<double>(q[d]) *
             element(args.pages.k, (head_of(s) * dim + d) * tokens + s % tokens);
    }
    double score = args.scale * dot;
    if (args.soft_cap != 0) score = args.soft_cap * std::tanh(score / args.soft_cap);
    p.push_back(score);
    max = std::max(max, score);
  }
  double sum = args.sinks.absent() ? 0 : std::exp(sink - max);
  for (double& x : p) sum += x = std::exp(x - max);
  for (std::int64_t d = 0; d < dim; ++d) {
    double o = 0;
    for (std::size_t i = 0; i < seen.size(); ++i) {
      const std::int64_t s = seen[i];
      o += p[i] * element(args.pages.v, (head_of(s) * tokens + s % tokens) * dim + d);
    }
    out[d] = static_cast<float>(o / sum);
  }
}

void ref(const AttentionArgs& args, CpuContext& context) {
  check(args);
  const std::int64_t n_heads = args.q.dim(1);
  context.pool.run(args.q.dim(0) * n_heads,
                   [&](std::int64_t i, int) { ref_head(args, i / n_heads, i % n_heads); });
}

using V = Variant<AttentionArgs, CpuContext>;
constexpr V kVariants[] = {
    {"avx512",
     [](const AttentionArgs& args, const DeviceCaps& caps) {
       return caps.avx512 && attention_kernels_avx512() != nullptr && accepts_shape(args);
     },
     [](const AttentionArgs& args, CpuContext& c) {
       run_fast(args, c, *attention_kernels_avx512());
     }},
    {"avx2",
     [](const AttentionArgs& args, const DeviceCaps& caps) {
       return caps.avx2 && attention_kernels_avx2() != nullptr && accepts_shape(args);
     },
     [](const AttentionArgs& args, CpuContext& c) {
       run_fast(args, c, *attention_kernels_avx2());
     }},
    {"portable", [](const AttentionArgs& args, const DeviceCaps&) { return accepts_shape(args); },
     [](const AttentionArgs& args, CpuContext& c) {
       run_fast(args, c, attention_kernels_portable());
     }},
    {"ref", [](const AttentionArgs&, const DeviceCaps&) { return true; }, ref}};

}  // namespace

const Table<AttentionArgs>& attention_table() {
  static constexpr Table<AttentionArgs> kTable = {"attention", kVariants};
  return kTable;
}

}  // namespace heddle::cpu
