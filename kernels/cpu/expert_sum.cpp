#include "base/error.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

void check(const ExpertSumArgs& args) {
  HEDDLE_CHECK(args.y.rank == 3 && args.y.dtype == DType::kF32 && args.y.dim(1) >= 1);
  HEDDLE_CHECK(args.weights.rank == 2 && args.weights.dtype == DType::kF32);
  HEDDLE_CHECK(args.weights.dim(0) == args.y.dim(0) && args.weights.dim(1) == args.y.dim(1));
  const auto like_out = [&](const TensorView& v) {
    return v.rank == 2 && v.dtype == DType::kF32 && v.dim(0) == args.y.dim(0) &&
           v.dim(1) == args.y.dim(2);
  };
  HEDDLE_CHECK(like_out(args.out));
  HEDDLE_CHECK(args.out.elements() == 0 || args.out.data != args.y.data);
  HEDDLE_CHECK(args.residual.absent() || like_out(args.residual));
}

void fast(const ExpertSumArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  const std::int64_t top_k = args.y.dim(1);
  const std::int64_t width = args.y.dim(2);
  for_rows(context, args.y.dim(0), (top_k + 1) * width, [&](std::int64_t t) {
    WeightedSum row;
    row.y = args.y.as<const float>() + t * top_k * width;
    row.weights = args.weights.as<const float>() + t * top_k;
    if (!args.residual.absent()) row.residual = args.residual.as<const float>() + t * width;
    row.out = args.out.as<float>() + t * width;
    row.n = top_k;
    row.width = width;
    kernels.weighted_sum(row);
  });
}

void ref(const ExpertSumArgs& args, CpuContext&) {
  check(args);
  const std::int64_t top_k = args.y.dim(1);
  const std::int64_t width = args.y.dim(2);
  for (std::int64_t t = 0; t < args.y.dim(0); ++t) {
    for (std::int64_t i = 0; i < width; ++i) {
      double sum = args.residual.absent() ? 0 : args.residual.as<const float>()[t * width + i];
      for (std::int64_t j = 0; j < top_k; ++j) {
        const std::int64_t row = t * top_k + j;
        sum += static_cast<double>(args.weights.as<const float>()[row]) *
               args.y.as<const float>()[row * width + i];
      }
      args.out.as<float>()[t * width + i] = static_cast<float>(sum);
    }
  }
}

}  // namespace

const Table<ExpertSumArgs>& expert_sum_table() {
  static constexpr Table<ExpertSumArgs> kTable = {"expert_sum",
                                                  RowVariants<ExpertSumArgs, fast, ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
