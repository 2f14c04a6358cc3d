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
  if (!args.residual.absent()) {
    HEDDLE_CHECK(args.residual.rank == 2 && args.residual.dtype == DType::kF32);
    HEDDLE_CHECK(args.residual.dims == args.out.dims);
  }
}

void fast(const RmsNormArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  const std::int64_t width = args.x.dim(1);
  NormRow first;
  first.x = args.x.as<const float>();
  first.weight = args.weight.as<const float>();
  if (!args.residual.absent()) first.residual = args.residual.as<const float>();
  first.out = args.out.as<float>();
  first.width = width;
  first.eps = args.eps;
  for_rows(context, args.x.dim(0), width, [&](std::int64_t t) {
    NormRow row = first;
    row.x += t * width;
    row.out += t * width;
    if (row.residual != nullptr) row.residual += t * width;
    kernels.rms_norm(row);
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
    const float* const residual =
        args.residual.absent() ? nullptr : args.residual.as<const float>() + t * width;
    for (std::int64_t i = 0; i < width; ++i) {
      const double norm = x[i] * r * args.weight.as<const float>()[i];
      out[i] = static_cast<float>(residual == nullptr ? norm : residual[i] + norm);
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
