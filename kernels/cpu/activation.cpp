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
  HEDDLE_CHECK(args.limit >= 0 && std::isfinite(args.limit) && std::isfinite(args.up_add));
}

void check(const ActivateArgs& args) {
  HEDDLE_CHECK(args.x.dtype == DType::kF32 && args.out.dtype == DType::kF32);
  HEDDLE_CHECK(args.x.rank == args.out.rank && args.x.dims == args.out.dims);
}

// Elementwise, so cut regardless of rows: calls f(begin, count) for each chunk of n elements.
template <typename F>
void for_chunks(CpuContext& context, std::int64_t n, const F& f) {
  constexpr std::int64_t kChunk = 2048;
  // an element costs about ten of a plain copy
  for_rows(context, (n + kChunk - 1) / kChunk, 2 * kChunk, [&](std::int64_t chunk) {
    const std::int64_t begin = chunk * kChunk;
    f(begin, begin + kChunk < n ? kChunk : n - begin);
  });
}

void glu_fast(const GluArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  GluRow all;
  all.gate = args.gate.as<const float>();
  all.up = args.up.as<const float>();
  all.out = args.out.as<float>();
  all.activation = args.activation;
  all.limit = args.limit;
  all.up_add = args.up_add;
  for_chunks(context, args.gate.elements(), [&](std::int64_t begin, std::int64_t count) {
    GluRow row = all;
    row.gate += begin;
    row.up += begin;
    row.out += begin;
    row.n = count;
    kernels.glu(row);
  });
}

void activate_fast(const ActivateArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  const auto* const x = args.x.as<const float>();
  auto* const out = args.out.as<float>();
  for_chunks(context, args.x.elements(), [&](std::int64_t begin, std::int64_t count) {
    kernels.activate(args.activation, x + begin, out + begin, count);
  });
}

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      // erfc keeps the digits that 1 + erf loses far left of 0
      return x / 2 * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      // x/2 (1 + tanh y) = x / (1 + exp(-2 y)), without the cancellation
      return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kQuickGelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::kRelu:
      return x < 0 ? 0 : x;  // a NaN stays
    case Activation::kElu1:
      return x > 0 ? x + 1 : std::exp(x);
    case Activation::kIdentity:
      break;
  }
  return x;
}

void glu_ref(const GluArgs& args, CpuContext&) {
  check(args);
  const double limit = args.limit;
  for (std::int64_t i = 0; i < args.gate.elements(); ++i) {
    double gate = args.gate.as<const float>()[i];
    double up = args.up.as<const float>()[i];
    if (limit > 0) {
      if (gate > limit) gate = limit;
      if (up > limit) up = limit;
      if (up < -limit) up = -limit;
    }
    if (args.up_add != 0) up += args.up_add;
    args.out.as<float>()[i] = static_cast<float>(activated(args.activation, gate) * up);
  }
}

void activate_ref(const ActivateArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t i = 0; i < args.x.elements(); ++i) {
    args.out.as<float>()[i] =
        static_cast<float>(activated(args.activation, args.x.as<const float>()[i]));
  }
}

}  // namespace

const Table<ActivateArgs>& activate_table() {
  static constexpr Table<ActivateArgs> kTable = {
      "activate", RowVariants<ActivateArgs, activate_fast, activate_ref>::kAll};
  return kTable;
}

const Table<GluArgs>& glu_table() {
  static constexpr Table<GluArgs> kTable = {"glu", RowVariants<GluArgs, glu_fast, glu_ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
