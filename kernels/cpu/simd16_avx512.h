#pragma once
// V on AVX-512 (F, BW, DQ, VL): one register. Contract: simd16.h.

#include <immintrin.h>

#include "kernels/cpu/simd16.h"

namespace heddle::cpu {
namespace {

struct Avx512 {
  using F = __m512;
  using I = __m512i;
  struct D {
    __m512d lo, hi;
  };
  // Register tile of attention: rows x columns of 16.
  static constexpr int kMaxRows = 6;
  static constexpr int columns(int /*rows*/) { return 4; }
  static constexpr bool kColumnsFirst = false;

  static HEDDLE_SIMD __mmask16 first(int n) {
    return static_cast<__mmask16>(n >= 16 ? 0xffffU : (1U << static_cast<unsigned>(n)) - 1U);
  }
  static HEDDLE_SIMD F zero() { return _mm512_setzero_ps(); }
  static HEDDLE_SIMD F set1(float x) { return _mm512_set1_ps(x); }
  static HEDDLE_SIMD F load(const float* p) { return _mm512_loadu_ps(p); }
  static HEDDLE_SIMD F load(const F16* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static HEDDLE_SIMD F load(const BF16* p) {
    const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
  }
  static HEDDLE_SIMD F load_n(const float* p, int n, F fill) {
    return _mm512_mask_loadu_ps(fill, first(n), p);
  }
  static HEDDLE_SIMD void store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static HEDDLE_SIMD void store(F16* p, F v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static HEDDLE_SIMD void store(BF16* p, F v) {
    const __m512i u = _mm512_castps_si512(v);
    const __m512i high = _mm512_srli_epi32(u, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i r = _mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(r));
  }
  static HEDDLE_SIMD void store_n(float* p, int n, F v) { _mm512_mask_storeu_ps(p, first(n), v); }

  static HEDDLE_SIMD F add(F a, F b) { return _mm512_add_ps(a, b); }
  static HEDDLE_SIMD F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static HEDDLE_SIMD F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static HEDDLE_SIMD F div(F a, F b) { return _mm512_div_ps(a, b); }
  static HEDDLE_SIMD F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static HEDDLE_SIMD F max(F a, F b) { return _mm512_max_ps(a, b); }
  static HEDDLE_SIMD F min(F a, F b) { return _mm512_min_ps(a, b); }
  static HEDDLE_SIMD F select_lt(F a, F b, F t, F f) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), f, t);
  }
  static HEDDLE_SIMD F first_n(F v, int n, F fill) {
    return _mm512_mask_blend_ps(first(n), fill, v);
  }
  static HEDDLE_SIMD F neg(F v) {
    return from_bits(_mm512_xor_si512(bits(v), _mm512_set1_epi32(static_cast<int>(0x80000000U))));
  }
  static HEDDLE_SIMD F abs(F v) {
    return from_bits(_mm512_and_si512(bits(v), _mm512_set1_epi32(0x7fffffff)));
  }
  static HEDDLE_SIMD bool any_nan(F v) { return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q) != 0; }

  static HEDDLE_SIMD I bits(F v) { return _mm512_castps_si512(v); }
  static HEDDLE_SIMD F from_bits(I i) { return _mm512_castsi512_ps(i); }
  static HEDDLE_SIMD I iset1(std::int32_t i) { return _mm512_set1_epi32(i); }
  static HEDDLE_SIMD I iadd(I a, I b) { return _mm512_add_epi32(a, b); }
  static HEDDLE_SIMD I isub(I a, I b) { return _mm512_sub_epi32(a, b); }
  template <int N>
  static HEDDLE_SIMD I shift_left(I a) {
    return _mm512_slli_epi32(a, N);
  }
  template <int N>
  static HEDDLE_SIMD I shift_right(I a) {
    return _mm512_srai_epi32(a, N);
  }

  static HEDDLE_SIMD float reduce_add(F v) {
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  static HEDDLE_SIMD float reduce_max(F v) {
    const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
  }

  static HEDDLE_SIMD D dzero() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
  static HEDDLE_SIMD __m512d low(F v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
  static HEDDLE_SIMD __m512d high(F v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)); }
  static HEDDLE_SIMD D dadd(D d, F v) {
    return {_mm512_add_pd(d.lo, low(v)), _mm512_add_pd(d.hi, high(v))};
  }
  static HEDDLE_SIMD __m512d grid(__m512d x) {
    const __m512d g = _mm512_set1_pd(0x1p18);
    return _mm512_sub_pd(_mm512_add_pd(x, g), g);
  }
  static HEDDLE_SIMD D dadd_grid(D d, F v) {
    return {_mm512_add_pd(d.lo, grid(low(v))), _mm512_add_pd(d.hi, grid(high(v)))};
  }
  static HEDDLE_SIMD double dreduce(D d) {
    const __m512d a = _mm512_add_pd(d.lo, d.hi);
    const __m256d b = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    const __m128d c = _mm_add_pd(_mm256_castpd256_pd128(b), _mm256_extractf128_pd(b, 1));
    return _mm_cvtsd_f64(_mm_add_sd(c, _mm_unpackhi_pd(c, c)));
  }
};

}  // namespace
}  // namespace heddle::cpu
