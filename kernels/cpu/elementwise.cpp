// add_scaled, log_scale and scale_heads; activate is in activation.cpp.

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

/// Calls f(row, begin, count) for pieces of every row, in parallel if the work is worth it.
template <typename F>
void for_pieces(CpuContext& context, std::int64_t n_rows, std::int64_t width, const F& f) {
  constexpr std::int64_t kPiece = 4096;
  const std::int64_t n_pieces = (width + kPiece - 1) / kPiece;
  for_rows(context, n_rows * n_pieces, std::min(width, kPiece), [&](std::int64_t i) {
    const std::int64_t begin = i % n_pieces * kPiece;
    f(i / n_pieces, begin, std::min(kPiece, width - begin));
  });
}

void check_like(const TensorView& view, const TensorView& x) {
  HEDDLE_CHECK(view.rank == x.rank && view.dims == x.dims && view.dtype == DType::kF32);
}

void check(const AddScaledArgs& args) {
  HEDDLE_CHECK(args.x.rank == 2 && args.x.dtype == DType::kF32);
  check_like(args.out, args.x);
  if (!args.y.absent()) check_like(args.y, args.x);
  if (!args.c.absent()) {
    HEDDLE_CHECK(!args.y.absent());
    HEDDLE_CHECK(args.c.rank == 1 && args.c.dtype == DType::kF32);
    HEDDLE_CHECK(args.c.dim(0) == args.x.dim(0));
  }
}

void add_scaled_fast(const AddScaledArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  const std::int64_t width = args.x.dim(1);
  for_pieces(context, args.x.dim(0), width,
             [&](std::int64_t t, std::int64_t begin, std::int64_t count) {
               const std::int64_t at = t * width + begin;
               const float* const x = args.x.as<const float>() + at;
               float* const out = args.out.as<float>() + at;
               if (args.y.absent()) {
                 kernels.scale(args.a, x, out, count);
                 return;
               }
               ScaledSumRow row;
               row.x = x;
               row.y = args.y.as<const float>() + at;
               row.out = out;
               row.n = count;
               row.a = args.a;
               row.b = args.c.absent() ? args.b : args.b * args.c.as<const float>()[t];
               kernels.add_scaled(row);
             });
}

void add_scaled_ref(const AddScaledArgs& args, CpuContext&) {
  check(args);
  const std::int64_t width = args.x.dim(1);
  for (std::int64_t i = 0; i < args.x.elements(); ++i) {
    double sum = static_cast<double>(args.a) * args.x.as<const float>()[i];
    if (!args.y.absent()) {
      double term = static_cast<double>(args.b) * args.y.as<const float>()[i];
      if (!args.c.absent()) term *= args.c.as<const float>()[i / width];
      sum += term;
    }
    args.out.as<float>()[i] = static_cast<float>(sum);
  }
}

void check(const LogScaleArgs& args) {
  HEDDLE_CHECK(args.x.rank >= 1 && args.x.dtype == DType::kF32);
  HEDDLE_CHECK(args.positions.rank == 1 && args.positions.dtype == DType::kI32);
  HEDDLE_CHECK(args.positions.dim(0) == args.x.dim(0));
  HEDDLE_CHECK(args.n0 >= 2);
  for (std::int64_t t = 0; t < args.positions.dim(0); ++t) {
    HEDDLE_CHECK(args.positions.as<const std::int32_t>()[t] >= 0);
  }
}

// As with rope's cosines, f64 makes processors agree but for a libm's error on a rounding boundary.
float log_factor(std::int32_t position, std::int64_t n0) {
  if (position < n0) return 1.0F;
  return static_cast<float>(std::log(position + 1.0) / std::log(static_cast<double>(n0)));
}

void log_scale_fast(const LogScaleArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  const TensorView x = args.x.matrix();
  for_pieces(context, x.dim(0), x.dim(1),
             [&](std::int64_t t, std::int64_t begin, std::int64_t count) {
               const float factor = log_factor(args.positions.as<const std::int32_t>()[t], args.n0);
               if (factor == 1.0F) return;
               float* const row = x.as<float>() + t * x.dim(1) + begin;
               kernels.scale(factor, row, row, count);
             });
}

void log_scale_ref(const LogScaleArgs& args, CpuContext&) {
  check(args);
  const TensorView x = args.x.matrix();
  for (std::int64_t t = 0; t < x.dim(0); ++t) {
    const double keys = args.positions.as<const std::int32_t>()[t] + 1.0;
    const double factor = std::max(1.0, std::log(keys) / std::log(static_cast<double>(args.n0)));
    for (std::int64_t i = 0; i < x.dim(1); ++i) {
      float& value = x.as<float>()[t * x.dim(1) + i];
      value = static_cast<float>(value * factor);
    }
  }
}

void check(const ScaleHeadsArgs& args) {
  HEDDLE_CHECK(args.x.rank == 3 && args.x.dtype == DType::kF32);
  HEDDLE_CHECK(args.gates.rank == 2 && args.gates.dtype == DType::kF32);
  HEDDLE_CHECK(args.gates.dim(0) == args.x.dim(0) && args.gates.dim(1) == args.x.dim(1));
  check_like(args.out, args.x);
}

void scale_heads_fast(const ScaleHeadsArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  const std::int64_t head_dim = args.x.dim(2);
  for_rows(context, args.gates.elements(), head_dim, [&](std::int64_t h) {
    kernels.scale(args.gates.as<const float>()[h], args.x.as<const float>() + h * head_dim,
                  args.out.as<float>() + h * head_dim, head_dim);
  });
}

void scale_heads_ref(const ScaleHeadsArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t i = 0; i < args.x.elements(); ++i) {
    const double gate = args.gates.as<const float>()[i / args.x.dim(2)];
    args.out.as<float>()[i] = static_cast<float>(gate * args.x.as<const float>()[i]);
  }
}

}  // namespace

const Table<AddScaledArgs>& add_scaled_table() {
  static constexpr Table<AddScaledArgs> kTable = {
      "add_scaled", RowVariants<AddScaledArgs, add_scaled_fast, add_scaled_ref>::kAll};
  return kTable;
}

const Table<LogScaleArgs>& log_scale_table() {
  static constexpr Table<LogScaleArgs> kTable = {
      "log_scale", RowVariants<LogScaleArgs, log_scale_fast, log_scale_ref>::kAll};
  return kTable;
}

const Table<ScaleHeadsArgs>& scale_heads_table() {
  static constexpr Table<ScaleHeadsArgs> kTable = {
      "scale_heads", RowVariants<ScaleHeadsArgs, scale_heads_fast, scale_heads_ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
