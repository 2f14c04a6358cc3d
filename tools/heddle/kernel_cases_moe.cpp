// Routing, the matmuls of experts, mixture of heads.

#include <fmt/format.h>

#include <memory>

#include "kernels/cpu/pack.h"
#include "tools/heddle/kernel_case_list.h"

namespace heddle::cli {
namespace {

constexpr std::int64_t kExperts = 8;
constexpr std::int64_t kTopK = 2;

Job<RouteArgs> route(Workbench& bench, std::int64_t n) {
  constexpr std::int64_t kMany = 256;  // eight of them, of four groups of eight
  constexpr std::int64_t kManyTopK = 8;
  struct Memory {
    std::vector<float> logits;
    std::vector<std::int32_t> ids;
    std::vector<float> weights;
  };
  const auto own = std::make_shared<Memory>();
  own->logits = random_floats(n * kMany);
  own->ids.resize(static_cast<std::size_t>(n * kManyTopK));
  own->weights.resize(own->ids.size());
  Job<RouteArgs> job;
  job.args.logits = f32(own->logits.data(), {n, kMany});
  job.args.bias = f32(bench.source(), {kMany});
  job.args.ids = TensorView(own->ids.data(), DType::kI32, {n, kManyTopK});
  job.args.weights = f32(own->weights.data(), {n, kManyTopK});
  job.args.score = RouterScore::kSigmoid;
  job.args.renormalise = true;
  job.args.n_groups = 8;
  job.args.top_groups = 4;
  job.shape = fmt::format("n {}, {} of {} experts", n, kManyTopK, kMany);
  job.bytes = number(n * (kMany + 2 * kManyTopK) * 4);
  job.owned = own;
  return job;
}

struct ExpertMemory {
  std::vector<PackedMatrix> experts;
  std::vector<float> x;
  std::vector<std::int32_t> ids;
  std::vector<float> out;
};

/// `n` tokens, of experts side by side in the source; the bytes are taken as packed ones, as those
/// of matmul's weights are. Each repetition has other experts.
Job<ExpertMatmulArgs> expert_matmul(Workbench& bench,
                                    DType dtype,
                                    std::int64_t n,
                                    std::int64_t groups) {
  const auto own = std::make_shared<ExpertMemory>();
  const std::int64_t bytes = groups * cpu::group_bytes(dtype, kHidden);
  const std::int64_t rows = groups * cpu::kGroupRows;
  own->experts.resize(kExperts);
  for (std::int64_t e = 0; e < kExperts; ++e) {
    PackedMatrix& w = own->experts[static_cast<std::size_t>(e)];
    w.data = Buffer(bench.source() + e * bytes, static_cast<std::size_t>(bytes),
                    [](void*, std::size_t) noexcept {});
    w.n_rows = rows;
    w.n_cols = kHidden;
    w.dtype = dtype;
    w.layout = WeightLayout::kRows16;
  }
  own->x = random_floats(n * kHidden);
  own->ids.resize(static_cast<std::size_t>(n * kTopK));
  own->out.resize(static_cast<std::size_t>(n * kTopK * rows));
  Job<ExpertMatmulArgs> job;
  job.args.x = f32(own->x.data(), {n, kHidden});
  job.args.ids = TensorView(own->ids.data(), DType::kI32, {n * kTopK});
  job.args.rows_per_x = kTopK;
  job.args.targets[0].experts = own->experts;
  job.args.targets[0].out = f32(own->out.data(), {n * kTopK, rows});
  job.shape = fmt::format("n {} k {} rows {}, {} of {} experts", n, kHidden, rows, kTopK, kExperts);
  job.bytes = number(std::min(n * kTopK, kExperts) * bytes + n * (kHidden + kTopK * rows) * 4);
  job.operations = 2.0 * number(n * kTopK) * number(kHidden) * number(rows);
  job.owned = own;
  job.next = [own](ExpertMatmulArgs&, std::int64_t repetition) {
    std::int64_t next = repetition * kTopK;
    for (std::int32_t& id : own->ids) id = static_cast<std::int32_t>(next++ % kExperts);
  };
  return job;
}

Job<ExpertSumArgs> expert_sum(Workbench& bench, std::int64_t n) {
  Job<ExpertSumArgs> job;
  job.args.y = f32(bench.source(), {n, kTopK, kHidden});
  job.args.weights = f32(bench.source(), {n, kTopK});
  job.args.residual = f32(bench.source(), {n, kHidden});
  job.args.out = f32(bench.sink(), {n, kHidden});
  job.shape = fmt::format("n {} width {}, {} experts", n, kHidden, kTopK);
  job.bytes = number(n * (kTopK + 2) * kHidden * 4);
  return job;
}

Job<RouteHeadsArgs> route_heads(Workbench& bench, std::int64_t n) {
  Job<RouteHeadsArgs> job;
  job.args.q = f32(bench.source(), {n, kQHeads, kHeadDim});
  job.args.mask = TensorView(bench.sink(), DType::kU8, {n, kQHeads});
  job.args.n_shared = kQHeads / 2;
  job.args.top_k = kQHeads / 4;
  job.shape = fmt::format("n {}, {} of {} heads, d {}", n, kQHeads / 4, kQHeads / 2, kHeadDim);
  job.bytes = number(n * (kQHeads / 2 * kHeadDim * 4 + kQHeads));  // shared heads are not read
  return job;
}

}  // namespace

void add_moe_cases(Cases& cases) {
  constexpr auto kArithmetic = Arithmetic::kF32;
  const std::int64_t half = cases.arena() / 2;
  cases.add(cpu::route_table(), DType::kF32, kArithmetic, kPrompt, route);
  // The arithmetic is matmul's, whose cases have every type.
  for (const DType dtype : {DType::kBF16, DType::kQ4_0}) {
    const Arithmetic arithmetic = info(dtype).quantised() ? Arithmetic::kInt16 : kArithmetic;
    const std::int64_t groups = cases.arena() / (cpu::group_bytes(dtype, kHidden) * kExperts);
    const std::int64_t prefill_groups = kPrefillRows / cpu::kGroupRows;
    cases.add(
        cpu::expert_matmul_table(), dtype, arithmetic, groups,
        [dtype](Workbench& b, std::int64_t size) { return expert_matmul(b, dtype, 1, size); });
    cases.add(cpu::expert_matmul_table(), dtype, arithmetic, std::min(groups, prefill_groups),
              [dtype](Workbench& b, std::int64_t size) {
                return expert_matmul(b, dtype, kPrompt, size);
              });
  }
  cases.add(cpu::expert_sum_table(), DType::kF32, kArithmetic, half / (kHidden * 4), expert_sum);
  cases.add(cpu::route_heads_table(), DType::kF32, kArithmetic, half / (kQHeads * kHeadDim * 4),
            route_heads);
}

}  // namespace heddle::cli
