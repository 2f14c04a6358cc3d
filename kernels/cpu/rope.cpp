#include "base/error.h"
#include "kernels/cpu/angle.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

void check(const RopeAnglesArgs& args) {
  HEDDLE_CHECK(args.positions.rank == 1 && args.positions.dtype == DType::kI32);
  HEDDLE_CHECK(args.inv_freq.rank == 1 && args.inv_freq.dtype == DType::kF32);
  HEDDLE_CHECK(args.cos_sin.rank == 3 && args.cos_sin.dtype == DType::kF32);
  HEDDLE_CHECK(args.cos_sin.dim(0) == args.positions.dim(0) && args.cos_sin.dim(1) == 2);
  HEDDLE_CHECK(args.cos_sin.dim(2) == args.inv_freq.dim(0));
}

void angles_of(const RopeAnglesArgs& args, std::int64_t t) {
  const std::int64_t half = args.inv_freq.dim(0);
  const auto position = static_cast<float>(args.positions.as<const std::int32_t>()[t]);
  float* const cos = args.cos_sin.as<float>() + t * 2 * half;
  float* const sin = cos + half;
  for (std::int64_t i = 0; i < half; ++i) {
    const CosSin c = cos_sin(position, args.inv_freq.as<const float>()[i], args.scale);
    cos[i] = c.cos;
    sin[i] = c.sin;
  }
}

void angles_portable(const RopeAnglesArgs& args, CpuContext& context) {
  check(args);
  constexpr std::int64_t kCost = 40;  // a sine and a cosine, in copied elements
  for_rows(context, args.positions.dim(0), args.inv_freq.dim(0) * kCost,
           [&](std::int64_t t) { angles_of(args, t); });
}

void angles_ref(const RopeAnglesArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t t = 0; t < args.positions.dim(0); ++t) angles_of(args, t);
}

void check(const RopeArgs& args) {
  HEDDLE_CHECK(args.cos_sin.rank == 3 && args.cos_sin.dtype == DType::kF32);
  HEDDLE_CHECK(args.cos_sin.dim(1) == 2);
  for (const TensorView* const v : {&args.q, &args.k}) {
    HEDDLE_CHECK(v->rank == 3 && v->dtype == DType::kF32);
    HEDDLE_CHECK(v->dim(0) == args.cos_sin.dim(0));
    HEDDLE_CHECK(2 * args.cos_sin.dim(2) <= v->dim(2));
  }
}

template <typename F>
void for_heads(const TensorView& x, std::int64_t t, const F& f) {
  const std::int64_t n_heads = x.dim(1);
  const std::int64_t head_dim = x.dim(2);
  float* const row = x.as<float>() + t * n_heads * head_dim;
  for (std::int64_t h = 0; h < n_heads; ++h) f(row + h * head_dim);
}

void rope_fast(const RopeArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  const std::int64_t half = args.cos_sin.dim(2);
  const std::int64_t row = args.q.dim(1) * args.q.dim(2) + args.k.dim(1) * args.k.dim(2);
  for_rows(context, args.cos_sin.dim(0), row, [&](std::int64_t t) {
    const float* const cos = args.cos_sin.as<const float>() + t * 2 * half;
    for (const TensorView* const v : {&args.q, &args.k}) {
      for_heads(*v, t, [&](float* head) { kernels.rope(cos, cos + half, head, half); });
    }
  });
}

void rope_ref(const RopeArgs& args, CpuContext&) {
  check(args);
  const std::int64_t half = args.cos_sin.dim(2);
  for (std::int64_t t = 0; t < args.cos_sin.dim(0); ++t) {
    const float* const cos = args.cos_sin.as<const float>() + t * 2 * half;
    const float* const sin = cos + half;
    for (const TensorView* const v : {&args.q, &args.k}) {
      for_heads(*v, t, [&](float* head) {
        for (std::int64_t i = 0; i < half; ++i) {
          const double a = head[i];
          const double b = head[i + half];
          head[i] = static_cast<float>(a * cos[i] - b * sin[i]);
          head[i + half] = static_cast<float>(b * cos[i] + a * sin[i]);
        }
      });
    }
  }
}

bool always(const RopeAnglesArgs&, const DeviceCaps&) {
  return true;
}

}  // namespace

const Table<RopeAnglesArgs>& rope_angles_table() {
  using V = Variant<RopeAnglesArgs, CpuContext>;
  static constexpr V kAll[] = {{"portable", always, angles_portable}, {"ref", always, angles_ref}};
  static constexpr Table<RopeAnglesArgs> kTable = {"rope_angles", kAll};
  return kTable;
}

const Table<RopeArgs>& rope_table() {
  static constexpr Table<RopeArgs> kTable = {"rope",
                                             RowVariants<RopeArgs, rope_fast, rope_ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
