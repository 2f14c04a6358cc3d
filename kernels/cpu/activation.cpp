#include <cmath>

#include "base/error.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

void check(const GluArgs& args) {
  for (const TensorView* const v : {&args.gate, &args.up, &args.out}) {
    HEDDLE_CHECK(v->rank == 2 && v->dtype == DType::kF32);
    HEDDLE_CHECK(v->dim(0) == args.gate.dim(0) && v->dim(1) == args.gate.dim(1));
  }
}

// Elementwise, so cut regardless of rows.
void fast(const GluArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  constexpr std::int64_t kChunk = 2048;
  const std::int64_t n = args.gate.elements();
  const auto* const gate = args.gate.as<const float>();
  const auto* const up = args.up.as<const float>();
  auto* const out = args.out.as<float>();
  // an element costs about ten of a plain copy
  for_rows(context, (n + kChunk - 1) / kChunk, 2 * kChunk, [&](std::int64_t chunk) {
    const std::int64_t begin = chunk * kChunk;
    const std::int64_t count = begin + kChunk < n ? kChunk : n - begin;
    kernels.glu(args.activation, gate + begin, up + begin, out + begin, count);
  });
}

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      // erfc keeps the digits that 1 + erf loses far left of 0
      return x / 2 * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      break;
  }
  // x/2 (1 + tanh y) = x / (1 + exp(-2 y)), without the cancellation
  return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

void ref(const GluArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t i = 0; i < args.gate.elements(); ++i) {
    args.out.as<float>()[i] = static_cast<float>(
        activate(args.activation, args.gate.as<const float>()[i]) * args.up.as<const float>()[i]);
  }
}

}  // namespace

const Table<GluArgs>& glu_table() {
  static constexpr Table<GluArgs> kTable = {"glu", RowVariants<GluArgs, fast, ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
