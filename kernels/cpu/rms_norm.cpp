#include <cmath>

#include "base/error.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

void check(const RmsNormArgs& args) {
  HEDDLE_CHECK(args.x.rank == 2 && args.x.dtype == DType::kF32);
  HEDDLE_CHECK(args.out.rank == 2 && args.out.dtype == DType::kF32);
  HEDDLE_CHECK(args.out.dim(0) == args.x.dim(0) && args.out.dim(1) == args.x.dim(1));
  if (!args.weight.absent()) {
    HEDDLE_CHECK(args.weight.rank == 1 && args.weight.dtype == DType::kF32);
    HEDDLE_CHECK(args.weight.dim(0) == args.x.dim(1));
  }
  HEDDLE_CHECK(args.eps >= 0 && std::isfinite(args.eps));
  const int s = args.segments;
  HEDDLE_CHECK(s == 1 || s == 2 || s == 4 || s == NormRow::kMaxSegments);
  HEDDLE_CHECK(args.groups >= 1 && args.x.dim(1) % (std::int64_t{args.groups} * s) == 0);
  if (!args.residual.absent()) {
    HEDDLE_CHECK(args.residual.rank == 2 && args.residual.dtype == DType::kF32);
    HEDDLE_CHECK(args.residual.dims == args.out.dims);
  }
}

// What is normalised on its own: a row, or one of its groups.
struct Parts {
  std::int64_t width = 0;
  std::int64_t count = 0;

  explicit Parts(const RmsNormArgs& args)
      : width(args.x.dim(1) / args.groups), count(args.x.dim(0) * args.groups) {}
};

void fast(const RmsNormArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  const Parts parts(args);
  NormRow first;
  first.x = args.x.as<const float>();
  if (!args.weight.absent()) first.weight = args.weight.as<const float>();
  if (!args.residual.absent()) first.residual = args.residual.as<const float>();
  first.out = args.out.as<float>();
  first.width = parts.width;
  first.segments = args.segments;
  first.eps = args.eps;
  for_rows(context, parts.count, parts.width, [&](std::int64_t p) {
    NormRow row = first;
    row.x += p * row.width;
    row.out += p * row.width;
    if (row.weight != nullptr) row.weight += p % args.groups * row.width;
    if (row.residual != nullptr) row.residual += p * row.width;
    kernels.rms_norm(row);
  });
}

void ref(const RmsNormArgs& args, CpuContext&) {
  check(args);
  const Parts parts(args);
  for (std::int64_t p = 0; p < parts.count; ++p) {
    const float* const x = args.x.as<const float>() + p * parts.width;
    double squares = 0;
    for (std::int64_t i = 0; i < parts.width; ++i) squares += static_cast<double>(x[i]) * x[i];
    const double r = 1.0 / std::sqrt(squares / static_cast<double>(parts.width) + args.eps);
    const std::int64_t column = p % args.groups * parts.width;
    for (std::int64_t i = 0; i < parts.width; ++i) {
      double y = x[i] * r;
      if (!args.weight.absent()) y *= args.weight.as<const float>()[column + i];
      if (!args.residual.absent()) y += args.residual.as<const float>()[p * parts.width + i];
      args.out.as<float>()[p * parts.width + i] = static_cast<float>(y);
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
