#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "tools/heddle/kernel_case_list.h"

namespace heddle::cli {
namespace {

constexpr std::int64_t kRow = kQHeads * kHeadDim;

Job<ActivateArgs> activate(Workbench& bench, std::int64_t n) {
  Job<ActivateArgs> job;
  job.args.x = f32(bench.source(), {n, kFfn});
  job.args.out = f32(bench.sink(), {n, kFfn});
  job.args.activation = Activation::kSigmoid;
  job.shape = fmt::format("{} n {} width {}", name(job.args.activation), n, kFfn);
  job.bytes = number(2 * n * kFfn * 4);
  return job;
}

Job<AddScaledArgs> add_scaled(Workbench& bench, std::int64_t n) {
  const auto c = std::make_shared<std::vector<float>>(random_floats(n));
  Job<AddScaledArgs> job;
  job.args.x = f32(bench.source(), {n, kHidden});
  job.args.y = f32(bench.source() + bench.source_bytes() / 2, {n, kHidden});
  job.args.c = f32(c->data(), {n});
  job.args.out = f32(bench.sink(), {n, kHidden});
  job.args.b = 0.5F;
  job.shape = fmt::format("n {} width {}", n, kHidden);
  job.bytes = number(n * (3 * kHidden + 1) * 4);
  job.owned = c;
  return job;
}

Job<LogScaleArgs> log_scale(Workbench& bench, std::int64_t n) {
  constexpr std::int64_t kN0 = 4096;  // and positions just there: x grows slowly
  const auto positions = std::make_shared<std::vector<std::int32_t>>(
      static_cast<std::size_t>(n), static_cast<std::int32_t>(kN0));
  fill_sink(bench, n * kRow, 1.0F);
  Job<LogScaleArgs> job;
  job.args.x = f32(bench.sink(), {n, kQHeads, kHeadDim});
  job.args.positions = TensorView(positions->data(), DType::kI32, {n});
  job.args.n0 = kN0;
  job.shape = fmt::format("n {}, heads {} d {}", n, kQHeads, kHeadDim);
  job.bytes = number(2 * n * kRow * 4);
  job.owned = positions;
  return job;
}

Job<ScaleHeadsArgs> scale_heads(Workbench& bench, std::int64_t n) {
  const auto gates = std::make_shared<std::vector<float>>(random_floats(n * kQHeads));
  Job<ScaleHeadsArgs> job;
  job.args.x = f32(bench.source(), {n, kQHeads, kHeadDim});
  job.args.gates = f32(gates->data(), {n, kQHeads});
  job.args.out = f32(bench.sink(), {n, kQHeads, kHeadDim});
  job.shape = fmt::format("n {}, heads {} d {}", n, kQHeads, kHeadDim);
  job.bytes = number(n * (2 * kRow + kQHeads) * 4);
  job.owned = gates;
  return job;
}

Job<LrpeArgs> lrpe(Workbench& bench, std::int64_t n) {
  struct Memory {
    std::vector<float> theta;
    std::vector<std::int32_t> positions;
  };
  const auto own = std::make_shared<Memory>();
  for (std::int64_t i = 0; i < kRow; ++i) {
    own->theta.push_back(std::pow(1e4F, -2.0F * static_cast<float>(i) / kRow));
  }
  own->positions.resize(static_cast<std::size_t>(n));
  std::iota(own->positions.begin(), own->positions.end(), 0);
  Job<LrpeArgs> job;
  job.args.x = f32(bench.source(), {n, kQHeads, kHeadDim});
  job.args.theta = f32(own->theta.data(), {kQHeads, kHeadDim});
  job.args.positions = TensorView(own->positions.data(), DType::kI32, {n});
  job.args.out = f32(bench.sink(), {n, kQHeads, 2 * kHeadDim});
  job.shape = fmt::format("n {}, heads {} d {}", n, kQHeads, kHeadDim);
  job.bytes = number((3 * n + 1) * kRow * 4);
  job.owned = own;
  return job;
}

}  // namespace

void add_elementwise_cases(Cases& cases) {
  const std::int64_t half = cases.arena() / 2;
  constexpr auto kF32 = DType::kF32;
  constexpr auto kArithmetic = Arithmetic::kF32;
  cases.add(cpu::activate_table(), kF32, kArithmetic, half / (kFfn * 4), activate);
  cases.add(cpu::add_scaled_table(), kF32, kArithmetic, half / (kHidden * 4), add_scaled);
  cases.add(cpu::log_scale_table(), kF32, kArithmetic, half / (kRow * 4), log_scale);
  cases.add(cpu::scale_heads_table(), kF32, kArithmetic, half / (kRow * 4), scale_heads);
  cases.add(cpu::lrpe_table(), kF32, kArithmetic, std::min(kPrompt, half / (2 * kRow * 4)), lrpe);
}

}  // namespace heddle::cli
