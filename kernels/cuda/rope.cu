// rope_angles, rope and lrpe (formulas: kernels/api/rope.h, elementwise.h).
//
// The angle is the f32 product of position and frequency; its cosine and sine are computed in f64
// and rounded once: x - n pi/2 with pi/2 in three parts (Cody and Waite), each step one fused
// multiply-add, then fdlibm's polynomials on [-pi/4, pi/4]. Below 2^31 that errs by less than 2^-50
// absolutely, so an f32 result differs from the CPU's only where a rounding boundary is that close.
// (CUDA's own sincos keeps an array in local memory for larger arguments.)
//
// `packs` (rope)  One block to a token; a thread rotates four pairs at a time with 16-byte loads of
//   x, cos and sin. Bound: latency for a few tokens, device memory for many.
// `plain`  The same, one pair at a time; rope_angles and lrpe: one element to a thread, bound by
//   f64 arithmetic (about 40 instructions an angle, once a step).

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/pack.cuh"

namespace heddle::cuda {
namespace {

constexpr int kThreads = 256;

struct CosSin {
  double cos;
  double sin;
};

__device__ __forceinline__ CosSin cos_sin(float angle) {
  const double x = angle;
  const double n = rint(x * 0.63661977236758138);
  double r = fma(n, -1.5707963267948966, x);
  r = fma(n, -6.1232339957367660e-17, r);
  r = fma(n, -8.4784276603689000e-32, r);
  const double z = r * r;
  double s = fma(z, 1.58969099521155010221e-10, -2.50507602534068634195e-08);
  s = fma(z, s, 2.75573137070700676789e-06);
  s = fma(z, s, -1.98412698298579493134e-04);
  s = fma(z, s, 8.33333333332248946124e-03);
  s = fma(z, s, -1.66666666666666324348e-01);
  s = fma(z * r, s, r);
  double c = fma(z, -1.13596475577881948265e-11, 2.08757232129817482790e-09);
  c = fma(z, c, -2.75573143513906633035e-07);
  c = fma(z, c, 2.48015872894767294178e-05);
  c = fma(z, c, -1.38888888888741095749e-03);
  c = fma(z, c, 4.16666666666666019037e-02);
  c = fma(z * z, c, fma(z, -0.5, 1.0));
  const int quadrant = static_cast<int>(static_cast<long long>(n) & 3);
  const double even = (quadrant & 1) != 0 ? s : c;
  const double odd = (quadrant & 1) != 0 ? c : s;
  return {quadrant == 1 || quadrant == 2 ? -even : even, quadrant >= 2 ? -odd : odd};
}

__global__ void __launch_bounds__(kThreads) rope_angles_plain(const std::int32_t* positions,
                                                              const float* inv_freq,
                                                              double scale,
                                                              float* out,
                                                              std::int64_t n,
                                                              std::int64_t half) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const std::int64_t t = i / half;
  const std::int64_t j = i % half;
  const CosSin c = cos_sin(static_cast<float>(positions[t]) * inv_freq[j]);
  out[t * 2 * half + j] = static_cast<float>(scale * c.cos);
  out[t * 2 * half + half + j] = static_cast<float>(scale * c.sin);
}

void run_angles(const RopeAnglesArgs& args, CudaContext& context) {
  const std::int64_t n_tokens = args.positions.dim(0);
  const std::int64_t half = args.inv_freq.dim(0);
  HEDDLE_CHECK(is_i32(args.positions, {n_tokens}) && is_f32(args.inv_freq, {half}));
  HEDDLE_CHECK(is_f32(args.cos_sin, {n_tokens, 2, half}));
  const std::int64_t n = n_tokens * half;
  if (n == 0) return;
  rope_angles_plain<<<blocks_for(n, kThreads), kThreads, 0, context.stream>>>(
      args.positions.as<std::int32_t>(), args.inv_freq.as<float>(), args.scale,
      args.cos_sin.as<float>(), n, half);
  check_launch("rope_angles");
}

struct Heads {
  float* x;
  int n_heads;
  int head_dim;
};

/// Rotates one token's heads, kPairs pairs at a time.
template <int kPairs>
__device__ __forceinline__ void rotate(const Heads& heads, const float* cos, int half) {
  const float* const sin = cos + half;
  const int per_head = half / kPairs;
  float* const row =
      heads.x + static_cast<std::int64_t>(blockIdx.x) * heads.n_heads * heads.head_dim;
  for (int u = static_cast<int>(threadIdx.x); u < heads.n_heads * per_head; u += kThreads) {
    const int i = u % per_head * kPairs;
    float* const low = row + static_cast<std::int64_t>(u / per_head) * heads.head_dim + i;
    float* const high = low + half;
    if constexpr (kPairs == 4) {
      Pack<float> a;
      Pack<float> b;
      Pack<float> c;
      Pack<float> s;
      load_whole(a, low);
      load_whole(b, high);
      load_constant(c, cos + i);
      load_constant(s, sin + i);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float x = a.v[e];
        a.v[e] = x * c.v[e] - b.v[e] * s.v[e];
        b.v[e] = b.v[e] * c.v[e] + x * s.v[e];
      }
      store_whole(low, a);
      store_whole(high, b);
    } else {
      const float a = *low;
      const float b = *high;
      *low = a * cos[i] - b * sin[i];
      *high = b * cos[i] + a * sin[i];
    }
  }
}

template <int kPairs>
__global__ void __launch_bounds__(kThreads)
    rope_kernel(const float* cos_sin, int half, Heads q, Heads k) {
  const float* const cos = cos_sin + static_cast<std::int64_t>(blockIdx.x) * 2 * half;
  rotate<kPairs>(q, cos, half);
  rotate<kPairs>(k, cos, half);
}

Heads heads_of(const TensorView& v) {
  return {v.as<float>(), static_cast<int>(v.dim(1)), static_cast<int>(v.dim(2))};
}

template <int kPairs>
void run_rope(const RopeArgs& args, CudaContext& context) {
  const std::int64_t n = args.cos_sin.dim(0);
  const std::int64_t half = args.cos_sin.dim(2);
  HEDDLE_CHECK(is_f32(args.cos_sin, {n, 2, half}));
  for (const TensorView* const v : {&args.q, &args.k}) {
    HEDDLE_CHECK(v->rank == 3 && is_f32(*v, {n, v->dim(1), v->dim(2)}));
    HEDDLE_CHECK(2 * half <= v->dim(2) && v->dim(1) * v->dim(2) < (1 << 30));
  }
  if (n == 0 || half == 0) return;
  rope_kernel<kPairs><<<blocks_for(n, 1), kThreads, 0, context.stream>>>(
      args.cos_sin.as<float>(), static_cast<int>(half), heads_of(args.q), heads_of(args.k));
  check_launch("rope");
}

bool accepts_packs(const RopeArgs& args, const DeviceCaps& /*caps*/) {
  return args.cos_sin.dim(2) % 4 == 0 && args.q.dim(2) % 4 == 0 && args.k.dim(2) % 4 == 0 &&
         is_aligned_16(args.cos_sin.data) && is_aligned_16(args.q.data) &&
         is_aligned_16(args.k.data);
}

struct LrpeCall {
  const float* x;
  const float* theta;
  const std::int32_t* positions;
  float* out;
  std::int64_t n;
  std::int64_t n_heads;
  std::int64_t head_dim;
};

__global__ void __launch_bounds__(kThreads) lrpe_plain(LrpeCall call) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= call.n) return;
  const std::int64_t width = call.n_heads * call.head_dim;
  const auto position = static_cast<float>(call.positions[i / width]);
  const CosSin c = cos_sin(position * call.theta[i % width]);
  float* const out = call.out + i / call.head_dim * 2 * call.head_dim + i % call.head_dim;
  out[0] = call.x[i] * static_cast<float>(c.cos);
  out[call.head_dim] = call.x[i] * static_cast<float>(c.sin);
}

void run_lrpe(const LrpeArgs& args, CudaContext& context) {
  HEDDLE_CHECK(args.x.rank == 3);
  const std::int64_t n_tokens = args.x.dim(0);
  const std::int64_t n_heads = args.x.dim(1);
  const std::int64_t head_dim = args.x.dim(2);
  HEDDLE_CHECK(is_f32(args.x, {n_tokens, n_heads, head_dim}));
  HEDDLE_CHECK(is_f32(args.theta, {n_heads, head_dim}) && is_i32(args.positions, {n_tokens}));
  HEDDLE_CHECK(is_f32(args.out, {n_tokens, n_heads, 2 * head_dim}));
  const LrpeCall call{args.x.as<float>(),
                      args.theta.as<float>(),
                      args.positions.as<std::int32_t>(),
                      args.out.as<float>(),
                      args.x.elements(),
                      n_heads,
                      head_dim};
  if (call.n == 0) return;
  lrpe_plain<<<blocks_for(call.n, kThreads), kThreads, 0, context.stream>>>(call);
  check_launch("lrpe");
}

constexpr Variant<RopeAnglesArgs, CudaContext> kAngles[] = {
    {"plain", accepts_all<RopeAnglesArgs, DeviceCaps>, run_angles},
};
constexpr Variant<RopeArgs, CudaContext> kRope[] = {
    {"packs", accepts_packs, run_rope<4>},
    {"plain", accepts_all<RopeArgs, DeviceCaps>, run_rope<1>},
};
constexpr Variant<LrpeArgs, CudaContext> kLrpe[] = {
    {"plain", accepts_all<LrpeArgs, DeviceCaps>, run_lrpe},
};

}  // namespace

const Table<RopeAnglesArgs>& rope_angles_table() {
  static const Table<RopeAnglesArgs> table{"rope_angles", kAngles};
  return table;
}
const Table<RopeArgs>& rope_table() {
  static const Table<RopeArgs> table{"rope", kRope};
  return table;
}
const Table<LrpeArgs>& lrpe_table() {
  static const Table<LrpeArgs> table{"lrpe", kLrpe};
  return table;
}

}  // namespace heddle::cuda
