#pragma once
// The f32 exponential that is part of an op's definition: the operations of exp_nonpositive in
// kernels/cpu/simd16_math.h, so the same bits.

namespace heddle::cuda {

/// exp(x) for x <= 0: at most 2 ulp, results below 2^-126 are 0, exp(0) = 1, exp(-inf) = 0; NaN
/// gives NaN.
__device__ __forceinline__ float exp_nonpositive(float x) {
  constexpr float kRound = 12582912.0F;
  const float t = fmaf(x, 0x1.715476p+0F, kRound);
  const float n = t - kRound;
  float r = fmaf(n, -0x1.62e430p-1F, x);
  r = fmaf(n, 0x1.05c610p-29F, r);
  float q = fmaf(0x1.6a234ep-10F, r, 0x1.123a6cp-7F);
  q = fmaf(q, r, 0x1.5558f4p-5F);
  q = fmaf(q, r, 0x1.555490p-3F);
  q = fmaf(q, r, 0x1.fffffcp-2F);
  q = fmaf(q, r, 1.0F);
  const float exp_r = fmaf(q, r, 1.0F);
  const float scale = __uint_as_float((__float_as_uint(t) << 23) + 0x3f800000U);
  return x < -0x1.5d58a0p+6F ? 0.0F : exp_r * scale;
}

}  // namespace heddle::cuda
