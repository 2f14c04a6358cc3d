#pragma once
// exp and the activation functions over V (simd16.h): own polynomials, the same operations on every
// instruction set. NaN gives NaN.

#include "kernels/cpu/simd16.h"

namespace heddle::cpu {
namespace {

// exp(x) = 2^n exp(r), n = round(x log2 e), |r| <= ln 2 / 2. exp(r) = 1 + r + r^2 q'(r), q' minimax
// of degree 4 (error 3e-9), q = 1 + r q'. Adding 1.5 * 2^23 rounds to an integer and leaves n in
// the low bits.
template <typename V>
struct ExpParts {
  typename V::F q;  // exp(r) = 1 + r q
  typename V::F r;
  typename V::I shifted;  // bits of n + 1.5 * 2^23
  HEDDLE_SIMD typename V::F exp_r() const { return V::fma(q, r, V::set1(1.0F)); }
};

constexpr float kRound = 12582912.0F;

template <typename V>
HEDDLE_SIMD ExpParts<V> exp_parts(typename V::F x) {
  const auto t = V::fma(x, V::set1(0x1.715476p+0F), V::set1(kRound));
  const auto n = V::sub(t, V::set1(kRound));
  auto r = V::fma(n, V::set1(-0x1.62e430p-1F), x);
  r = V::fma(n, V::set1(0x1.05c610p-29F), r);
  auto q = V::fma(V::set1(0x1.6a234ep-10F), r, V::set1(0x1.123a6cp-7F));
  q = V::fma(q, r, V::set1(0x1.5558f4p-5F));
  q = V::fma(q, r, V::set1(0x1.555490p-3F));
  q = V::fma(q, r, V::set1(0x1.fffffcp-2F));
  q = V::fma(q, r, V::set1(1.0F));
  return {q, r, V::bits(t)};
}

/// exp(x) for x <= 0: at most 2 ulp, results below 2^-126 are 0, exp(0) = 1, exp(-inf) = 0.
template <typename V>
HEDDLE_SIMD typename V::F exp_nonpositive(typename V::F x) {
  const auto e = exp_parts<V>(x);
  // the 1.5 * 2^23 leaves the word when n moves up to the exponent
  const auto scale =
      V::from_bits(V::iadd(V::template shift_left<23>(e.shifted), V::iset1(0x3f800000)));
  return V::select_lt(x, V::set1(-0x1.5d58a0p+6F), V::zero(), V::mul(e.exp_r(), scale));
}

/// exp(x) for any x: at most 2 ulp while the result is normal, then gradual underflow; overflow
/// gives infinity. The scale is applied in two halves, since 2^n itself may not exist.
template <typename V>
HEDDLE_SIMD typename V::F exp_any(typename V::F x) {
  x = V::max(V::set1(-106.0F), V::min(V::set1(90.0F), x));  // a NaN x stays
  const auto e = exp_parts<V>(x);
  const auto n = V::isub(e.shifted, V::iset1(0x4b400000));
  const auto n1 = V::template shift_right<1>(n);
  const auto n2 = V::isub(n, n1);
  const auto one = V::iset1(0x3f800000);
  const auto s1 = V::from_bits(V::iadd(V::template shift_left<23>(n1), one));
  const auto s2 = V::from_bits(V::iadd(V::template shift_left<23>(n2), one));
  return V::mul(V::mul(e.exp_r(), s1), s2);
}

/// tanh(x) = -m / (2 + m), m = exp(-2|x|) - 1 = 2^n (r q) + (2^n - 1), the last exact or beyond
/// f32: no cancellation, so at most 4 ulp everywhere; 1 from about 9.01 on, odd.
template <typename V>
HEDDLE_SIMD typename V::F tanh_any(typename V::F x) {
  // a NaN x stays; below -24 the result is 1
  const auto e = exp_parts<V>(V::max(V::set1(-24.0F), V::mul(V::set1(-2.0F), V::abs(x))));
  const auto scale =
      V::from_bits(V::iadd(V::template shift_left<23>(e.shifted), V::iset1(0x3f800000)));
  const auto m = V::fma(scale, V::mul(e.q, e.r), V::sub(scale, V::set1(1.0F)));
  const auto t = V::div(V::neg(m), V::add(V::set1(2.0F), m));
  return V::select_lt(x, V::zero(), V::neg(t), t);
}

/// cap * tanh(x * (1 / cap)), 1 / cap rounded to f32: within cap * 2^-21 of the exact value.
template <typename V>
struct SoftCap {
  typename V::F cap;
  typename V::F inverse;
  HEDDLE_SIMD explicit SoftCap(float c) : cap(V::set1(c)), inverse(V::set1(1.0F / c)) {}
  HEDDLE_SIMD typename V::F operator()(typename V::F x) const {
    return V::mul(cap, tanh_any<V>(V::mul(x, inverse)));
  }
};

/// x / (1 + exp(-y)), through exp(-|y|) so that nothing overflows: at most 4 ulp for y = x, plus
/// y's own error times |y|.
template <typename V>
HEDDLE_SIMD typename V::F times_sigmoid(typename V::F x, typename V::F y) {
  const auto e = exp_any<V>(V::neg(V::abs(y)));
  const auto numerator = V::select_lt(y, V::zero(), e, V::set1(1.0F));
  return V::div(V::mul(x, numerator), V::add(V::set1(1.0F), e));
}

template <typename V>
HEDDLE_SIMD typename V::F silu(typename V::F x) {
  return times_sigmoid<V>(x, x);
}

/// x/2 (1 + tanh y) = x / (1 + exp(-2 y)), 2 y = x (k + 0.044715 k x^2), k = 2 sqrt(2 / pi).
template <typename V>
HEDDLE_SIMD typename V::F gelu_tanh(typename V::F x) {
  const auto f = V::fma(V::mul(x, x), V::set1(0x1.2444f2p-4F), V::set1(0x1.988454p+0F));
  return times_sigmoid<V>(x, V::mul(x, f));
}

/// x / (1 + exp(-y)), y = 1.702 x: y carries two roundings, which exp multiplies by |y|.
template <typename V>
HEDDLE_SIMD typename V::F quick_gelu(typename V::F x) {
  return times_sigmoid<V>(x, V::mul(x, V::set1(1.702F)));
}

template <typename V>
HEDDLE_SIMD typename V::F sigmoid(typename V::F x) {
  return times_sigmoid<V>(V::set1(1.0F), x);
}

template <typename V>
HEDDLE_SIMD typename V::F relu(typename V::F x) {
  return V::max(V::zero(), x);  // a NaN x stays
}

/// x + 1 where x > 0, else exp(x).
template <typename V>
HEDDLE_SIMD typename V::F elu1(typename V::F x) {
  return V::select_lt(V::zero(), x, V::add(x, V::set1(1.0F)), exp_nonpositive<V>(x));
}

/// x Phi(x). With u = |x|: Phi(-u) = exp(-u^2/2) G(u), G a polynomial of degree 10 in
/// 1 / (1 + 0.3 u), minimax in relative error (3e-9) on [0, 14]. u^2 is kept in two parts, so the
/// tail keeps its relative accuracy: at most 6 ulp down to x = -13, 0 from about -13.2 on.
template <typename V>
HEDDLE_SIMD typename V::F gelu(typename V::F x) {
  const auto one = V::set1(1.0F);
  const auto u = V::min(V::set1(14.0F), V::abs(x));
  const auto square = V::mul(u, u);
  const auto rest = V::fma(u, u, V::neg(square));
  const auto t = V::div(one, V::fma(V::set1(0.3F), u, one));
  auto g = V::fma(V::set1(-0.01984255574643612F), t, V::set1(0.10783956944942474F));
  g = V::fma(g, t, V::set1(-0.21635346114635468F));
  g = V::fma(g, t, V::set1(0.1741480678319931F));
  g = V::fma(g, t, V::set1(-0.06272130459547043F));
  g = V::fma(g, t, V::set1(0.08565299212932587F));
  g = V::fma(g, t, V::set1(0.08282312750816345F));
  g = V::fma(g, t, V::set1(0.108997642993927F));
  g = V::fma(g, t, V::set1(0.119790218770504F));
  g = V::fma(g, t, V::set1(0.11966472119092941F));
  g = V::fma(g, t, V::set1(9.555029691910022e-07F));
  const auto tail = V::mul(exp_nonpositive<V>(V::mul(V::set1(-0.5F), square)), g);
  const auto phi = V::fma(V::mul(V::set1(-0.5F), tail), rest, tail);
  return V::mul(x, V::select_lt(x, V::zero(), phi, V::sub(one, phi)));
}

}  // namespace
}  // namespace heddle::cpu
