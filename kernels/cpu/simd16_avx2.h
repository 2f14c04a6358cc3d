#pragma once
// V on AVX2 with FMA and F16C: two registers. Contract: simd16.h.

#include <immintrin.h>

#include "kernels/cpu/simd16.h"

namespace heddle::cpu {
namespace {

struct Avx2 {
  struct F {
    __m256 lo, hi;
  };
  struct I {
    __m256i lo, hi;
  };
  struct D {
    __m256d q[4];
  };
  // Register tile of attention: rows x columns of 16. Three rows of two columns are 12 sums, 3
  // broadcasts and one half column: all 16 registers, if the columns' halves come one by one.
  static constexpr int kMaxRows = 6;
  static constexpr int columns(int rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }
  static constexpr bool kColumnsFirst = true;

  static HEDDLE_SIMD __m256i first8(int n) {  // lanes below n, any n
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static HEDDLE_SIMD F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static HEDDLE_SIMD F set1(float x) {
    const __m256 v = _mm256_set1_ps(x);
    return {v, v};
  }
  static HEDDLE_SIMD F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static HEDDLE_SIMD __m128i half8(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
  }
  static HEDDLE_SIMD F load(const F16* p) {
    return {_mm256_cvtph_ps(half8(p)), _mm256_cvtph_ps(half8(p + 8))};
  }
  static HEDDLE_SIMD __m256 widen(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
  }
  static HEDDLE_SIMD F load(const BF16* p) { return {widen(half8(p)), widen(half8(p + 8))}; }
  static HEDDLE_SIMD __m256 load8(const float* p) { return _mm256_loadu_ps(p); }
  static HEDDLE_SIMD __m256 load8(const F16* p) { return _mm256_cvtph_ps(half8(p)); }
  static HEDDLE_SIMD __m256 load8(const BF16* p) { return widen(half8(p)); }
  /// sum[r][c] += x[r] * p[0 .. 16); the halves of each x are the same.
  template <int R, int C, typename T>
  static HEDDLE_SIMD void add_column(F (&sum)[R][C], int c, const F (&x)[R], const T* p) {
    const __m256 low = load8(p);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r][c].lo = _mm256_fmadd_ps(x[r].lo, low, sum[r][c].lo);
    const __m256 high = load8(p + 8);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r][c].hi = _mm256_fmadd_ps(x[r].lo, high, sum[r][c].hi);
  }
  static HEDDLE_SIMD F load_n(const float* p, int n, F fill) {
    const __m256i a = first8(n);
    const __m256i b = first8(n - 8);
    return {_mm256_blendv_ps(fill.lo, _mm256_maskload_ps(p, a), _mm256_castsi256_ps(a)),
            _mm256_blendv_ps(fill.hi, _mm256_maskload_ps(p + 8, b), _mm256_castsi256_ps(b))};
  }
  static HEDDLE_SIMD void store(float* p, F v) {
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
  }
  static HEDDLE_SIMD void store(F16* p, F v) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v.lo, kNearest));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(v.hi, kNearest));
  }
  static HEDDLE_SIMD __m256i bf16_words(__m256 v) {  // the 16 bits in the low half of each lane
    const __m256i u = _mm256_castps_si256(v);
    const __m256i high = _mm256_srli_epi32(u, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(rounded, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
  }
  static HEDDLE_SIMD void store(BF16* p, F v) {
    const __m256i packed = _mm256_packus_epi32(bf16_words(v.lo), bf16_words(v.hi));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
  }
  static HEDDLE_SIMD void store_n(float* p, int n, F v) {
    _mm256_maskstore_ps(p, first8(n), v.lo);
    _mm256_maskstore_ps(p + 8, first8(n - 8), v.hi);
  }

  static HEDDLE_SIMD F add(F a, F b) {
    return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
  }
  static HEDDLE_SIMD F sub(F a, F b) {
    return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
  }
  static HEDDLE_SIMD F mul(F a, F b) {
    return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
  }
  static HEDDLE_SIMD F div(F a, F b) {
    return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
  }
  static HEDDLE_SIMD F fma(F a, F b, F c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
  }
  static HEDDLE_SIMD F max(F a, F b) {
    return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
  }
  static HEDDLE_SIMD F min(F a, F b) {
    return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
  }
  static HEDDLE_SIMD F select_lt(F a, F b, F t, F f) {
    return {_mm256_blendv_ps(f.lo, t.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
            _mm256_blendv_ps(f.hi, t.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
  }
  static HEDDLE_SIMD F first_n(F v, int n, F fill) {
    return {_mm256_blendv_ps(fill.lo, v.lo, _mm256_castsi256_ps(first8(n))),
            _mm256_blendv_ps(fill.hi, v.hi, _mm256_castsi256_ps(first8(n - 8)))};
  }
  static HEDDLE_SIMD F neg(F v) {
    const __m256 sign = _mm256_set1_ps(-0.0F);
    return {_mm256_xor_ps(v.lo, sign), _mm256_xor_ps(v.hi, sign)};
  }
  static HEDDLE_SIMD F abs(F v) {
    const __m256 sign = _mm256_set1_ps(-0.0F);
    return {_mm256_andnot_ps(sign, v.lo), _mm256_andnot_ps(sign, v.hi)};
  }
  static HEDDLE_SIMD bool any_nan(F v) {
    return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(v.lo, v.lo, _CMP_UNORD_Q),
                                           _mm256_cmp_ps(v.hi, v.hi, _CMP_UNORD_Q))) != 0;
  }

  static HEDDLE_SIMD I bits(F v) {
    return {_mm256_castps_si256(v.lo), _mm256_castps_si256(v.hi)};
  }
  static HEDDLE_SIMD F from_bits(I i) {
    return {_mm256_castsi256_ps(i.lo), _mm256_castsi256_ps(i.hi)};
  }
  static HEDDLE_SIMD I iset1(std::int32_t i) {
    const __m256i v = _mm256_set1_epi32(i);
    return {v, v};
  }
  static HEDDLE_SIMD I iadd(I a, I b) {
    return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
  }
  static HEDDLE_SIMD I isub(I a, I b) {
    return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)};
  }
  template <int N>
  static HEDDLE_SIMD I shift_left(I a) {
    return {_mm256_slli_epi32(a.lo, N), _mm256_slli_epi32(a.hi, N)};
  }
  template <int N>
  static HEDDLE_SIMD I shift_right(I a) {
    return {_mm256_srai_epi32(a.lo, N), _mm256_srai_epi32(a.hi, N)};
  }

  static HEDDLE_SIMD float reduce_add(F v) {
    const __m256 a = _mm256_add_ps(v.lo, v.hi);
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  static HEDDLE_SIMD float reduce_max(F v) {
    const __m256 a = _mm256_max_ps(v.lo, v.hi);
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
  }

  static HEDDLE_SIMD D dzero() {
    const __m256d z = _mm256_setzero_pd();
    return {{z, z, z, z}};
  }
  static HEDDLE_SIMD D dwiden(F v) {
    return {{_mm256_cvtps_pd(_mm256_castps256_ps128(v.lo)),
             _mm256_cvtps_pd(_mm256_extractf128_ps(v.lo, 1)),
             _mm256_cvtps_pd(_mm256_castps256_ps128(v.hi)),
             _mm256_cvtps_pd(_mm256_extractf128_ps(v.hi, 1))}};
  }
  static HEDDLE_SIMD D dsum(D a, D b) {
    return {{_mm256_add_pd(a.q[0], b.q[0]), _mm256_add_pd(a.q[1], b.q[1]),
             _mm256_add_pd(a.q[2], b.q[2]), _mm256_add_pd(a.q[3], b.q[3])}};
  }
  static HEDDLE_SIMD D dadd(D d, F v) {
    return dsum(d, dwiden(v));
  }
  static HEDDLE_SIMD __m256d grid(__m256d x) {
    const __m256d g = _mm256_set1_pd(0x1p18);
    return _mm256_sub_pd(_mm256_add_pd(x, g), g);
  }
  static HEDDLE_SIMD D dadd_grid(D d, F v) {
    const D w = dwiden(v);
    return dsum(d, {{grid(w.q[0]), grid(w.q[1]), grid(w.q[2]), grid(w.q[3])}});
  }
  static HEDDLE_SIMD double dreduce(D d) {
    const __m256d a = _mm256_add_pd(d.q[0], d.q[2]);
    const __m256d b = _mm256_add_pd(d.q[1], d.q[3]);
    const __m256d c = _mm256_add_pd(a, b);
    const __m128d e = _mm_add_pd(_mm256_castpd256_pd128(c), _mm256_extractf128_pd(c, 1));
    return _mm_cvtsd_f64(_mm_add_sd(e, _mm_unpackhi_pd(e, e)));
  }
};

}  // namespace
}  // namespace heddle::cpu
