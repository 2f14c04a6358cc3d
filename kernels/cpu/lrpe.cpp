#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "kernels/cpu/angle.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

bool apart(const TensorView& a, const TensorView& b) {
  const auto* const a_begin = a.as<const std::byte>();
  const auto* const b_begin = b.as<const std::byte>();
  const std::less_equal<> at_most;
  return a.elements() == 0 || at_most(a_begin + a.bytes(), b_begin) ||
         at_most(b_begin + b.bytes(), a_begin);
}

void check(const LrpeArgs& args) {
  HEDDLE_CHECK(args.x.rank == 3 && args.x.dtype == DType::kF32);
  HEDDLE_CHECK(args.theta.rank == 2 && args.theta.dtype == DType::kF32);
  HEDDLE_CHECK(args.theta.dim(0) == args.x.dim(1) && args.theta.dim(1) == args.x.dim(2));
  HEDDLE_CHECK(args.positions.rank == 1 && args.positions.dtype == DType::kI32);
  HEDDLE_CHECK(args.positions.dim(0) == args.x.dim(0));
  HEDDLE_CHECK(args.out.rank == 3 && args.out.dtype == DType::kF32);
  HEDDLE_CHECK(args.out.dim(0) == args.x.dim(0) && args.out.dim(1) == args.x.dim(1));
  HEDDLE_CHECK(args.out.dim(2) == 2 * args.x.dim(2));
  HEDDLE_CHECK(apart(args.x, args.out));
}

// One head of one token.
struct Head {
  const float* x = nullptr;
  const float* theta = nullptr;
  float position = 0.0F;
  float* cos = nullptr;  // out's two halves
  float* sin = nullptr;

  Head(const LrpeArgs& args, std::int64_t i) {
    const std::int64_t head_dim = args.x.dim(2);
    x = args.x.as<const float>() + i * head_dim;
    theta = args.theta.as<const float>() + i % args.x.dim(1) * head_dim;
    position = static_cast<float>(args.positions.as<const std::int32_t>()[i / args.x.dim(1)]);
    cos = args.out.as<float>() + i * 2 * head_dim;
    sin = cos + head_dim;
  }
};

void fast(const LrpeArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  constexpr std::int64_t kCost = 40;  // a sine and a cosine, in copied elements
  constexpr std::int64_t kPiece = 64;
  const std::int64_t head_dim = args.x.dim(2);
  for_rows(context, args.x.dim(0) * args.x.dim(1), head_dim * kCost, [&](std::int64_t i) {
    const Head head(args, i);
    for (std::int64_t begin = 0; begin < head_dim; begin += kPiece) {
      float cos[kPiece];
      float sin[kPiece];
      const std::int64_t count = std::min(kPiece, head_dim - begin);
      for (std::int64_t j = 0; j < count; ++j) {
        const CosSin c = cos_sin(head.position, head.theta[begin + j], 1.0);
        cos[j] = c.cos;
        sin[j] = c.sin;
      }
      kernels.multiply(head.x + begin, cos, head.cos + begin, count);
      kernels.multiply(head.x + begin, sin, head.sin + begin, count);
    }
  });
}

void ref(const LrpeArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t i = 0; i < args.x.dim(0) * args.x.dim(1); ++i) {
    const Head head(args, i);
    for (std::int64_t j = 0; j < args.x.dim(2); ++j) {
      const double angle = head.position * head.theta[j];  // the f32 product is part of the op
      head.cos[j] = static_cast<float>(head.x[j] * std::cos(angle));
      head.sin[j] = static_cast<float>(head.x[j] * std::sin(angle));
    }
  }
}

}  // namespace

const Table<LrpeArgs>& lrpe_table() {
  static constexpr Table<LrpeArgs> kTable = {"lrpe", RowVariants<LrpeArgs, fast, ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
