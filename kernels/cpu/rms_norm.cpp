#include <cmath>

#include "base/error.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

void check(const RmsNormArgs& args) {
  HEDDLE_CHECK(args.x.rank == 2 && args.x.dtype == DType::kF32);
  HEDDLE_CHECK(args.out.rank == 2 && args.out.dtype == DType::kF32);
  HEDDLE_CHECK(args.out.dim(0) == args.x.dim(0) && args.out.dim(1) == args.x.dim(1));
  HEDDLE_CHECK(args.weight.rank == 1 && args.weight.dtype == DType::kF32);
  HEDDLE_CHECK(args.weight.dim(0) == args.x.dim(1));
  HEDDLE_CHECK(args.eps >= 0 && std::isfinite(args.eps));
}

void fast(const RmsNormArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  const std::int64_t width = args.x.dim(1);
  const auto* const x = args.x.as<const float>();
  const auto* const weight = args.weight.as<const float>();
  auto* const out = args.out.as<float>();
  for_rows(context, args.x.dim(0), width, [&](std::int64_t t) {
    kernels.rms_norm(x + t * width, weight, out + t * width, width, args.eps);
  });
}

void ref(const RmsNormArgs& args, CpuContext&) {
  check(args);
  const std::int64_t width = args.x.dim(1);
  for (std::int64_t t = 0; t < args.x.dim(0); ++t) {
    const float* const x = args.x.as<const float>() + t * width;
    double squares = 0;
    for (std::int64_t i = 0; i < width; ++i) squares += static_cast<double>(x[i]) * x[i];
    const double r = 1.0 / std::sqrt(squares / static_cast<double>(width) + args.eps);
    float* const out = args.out.as<float>() + t * width;
    for (std::int64_t i = 0; i < width; ++i) {
      out[i] = static_cast<float>(x[i] * r * args.weight.as<const float>()[i]);
    }
  }
}

}  // namespace

const Table<RmsNormArgs>& rms_norm_table() {
  static constexpr Table<RmsNormArgs> kTable = {"rms_norm",
                                                RowVariants<RmsNormArgs, fast, ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
