// AVX-512 with VNNI: one 512-bit register per vector of 16 rows.

#include "kernels/cpu/matmul_kernels.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

#include "kernels/cpu/matmul_impl.h"

namespace heddle::cpu {
namespace {

struct Avx512 {
  // 32 registers: 12 integer sums, 12 float sums, weights, scale, minimum; x is a broadcast
  // operand.
  static constexpr int kMaxWidth = 12;
  struct F {
    __m512 v;
  };
  struct I {
    __m512i v;
  };

  static HEDDLE_INLINE F zero() { return {_mm512_setzero_ps()}; }
  static HEDDLE_INLINE F set(float f) { return {_mm512_set1_ps(f)}; }
  static HEDDLE_INLINE F load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static HEDDLE_INLINE void store(float* p, const F& f) { _mm512_storeu_ps(p, f.v); }
  static HEDDLE_INLINE F load_f16(const std::byte* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static HEDDLE_INLINE F load_bf16(const std::byte* p) {
    const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
  }
  static HEDDLE_INLINE __m128i load_bytes(const std::byte* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static HEDDLE_INLINE F load_u8(const std::byte* p) { return of_u8(load_bytes(p)); }
  static HEDDLE_INLINE F load_s8(const std::byte* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_bytes(p)))};
  }
  static HEDDLE_INLINE F load_low_u4(const std::byte* p) {
    return of_u8(_mm_and_si128(load_bytes(p), _mm_set1_epi8(15)));
  }
  static HEDDLE_INLINE F load_high_u4(const std::byte* p) {
    return of_u8(_mm_and_si128(_mm_srli_epi16(load_bytes(p), 4), _mm_set1_epi8(15)));
  }
  static HEDDLE_INLINE F of_u8(__m128i bytes) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))};
  }
  static HEDDLE_INLINE F load_e8m0(const std::byte* p) {
    const __m512i e = _mm512_cvtepu8_epi32(load_bytes(p));
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);  // 2^-128, 2^-127
    const __mmask16 is_small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
    return {_mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, is_small, small))};
  }
  static HEDDLE_INLINE F add(const F& x, const F& y) { return {_mm512_add_ps(x.v, y.v)}; }
  static HEDDLE_INLINE F sub(const F& x, const F& y) { return {_mm512_sub_ps(x.v, y.v)}; }
  static HEDDLE_INLINE F mul(const F& x, const F& y) { return {_mm512_mul_ps(x.v, y.v)}; }
  static HEDDLE_INLINE F fma(const F& x, const F& y, const F& z) {
    return {_mm512_fmadd_ps(x.v, y.v, z.v)};
  }
  static HEDDLE_INLINE F to_float(const I& x) { return {_mm512_cvtepi32_ps(x.v)}; }

  static HEDDLE_INLINE I zero_i() { return {_mm512_setzero_si512()}; }
  static HEDDLE_INLINE I set_i(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
  static HEDDLE_INLINE I load_i(const void* p) { return {_mm512_loadu_si512(p)}; }
  static HEDDLE_INLINE I add_i(const I& x, const I& y) { return {_mm512_add_epi32(x.v, y.v)}; }
  static HEDDLE_INLINE I max_i(const I& x, const I& y) { return {_mm512_max_epi32(x.v, y.v)}; }
  static HEDDLE_INLINE I magnitude_bits(const F& x) {
    return {_mm512_and_si512(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x7fffffff))};
  }
  static HEDDLE_INLINE std::uint32_t max_lane(const I& x) {
    return static_cast<std::uint32_t>(_mm512_reduce_max_epi32(x.v));
  }
  static HEDDLE_INLINE std::int32_t sum_lanes(const I& x) { return _mm512_reduce_add_epi32(x.v); }
  static HEDDLE_INLINE I round(const F& x) {
    return {_mm512_cvt_roundps_epi32(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  static HEDDLE_INLINE void store_i16(std::int16_t* p, const I& x, const I& y) {
    auto* const to = reinterpret_cast<__m256i*>(p);
    _mm256_storeu_si256(to, _mm512_cvtepi32_epi16(x.v));
    _mm256_storeu_si256(to + 1, _mm512_cvtepi32_epi16(y.v));
  }

  static HEDDLE_INLINE I set_pair(const std::int16_t* p) {
    std::int32_t v;
    std::memcpy(&v, p, sizeof v);
    return set_i(v);
  }
  static HEDDLE_INLINE I dot(const I& acc, const I& w, const I& x) {
    return {_mm512_dpwssd_epi32(acc.v, w.v, x.v)};
  }
  static HEDDLE_INLINE I shift_left_by(const I& x, const std::int32_t* bits) {
    return {_mm512_sllv_epi32(x.v, _mm512_set1_epi32(*bits))};
  }
  template <int kBits>
  static HEDDLE_INLINE I shift_left(const I& x) {
    return {_mm512_slli_epi32(x.v, kBits)};
  }
  template <int kBits, int kShift>
  static HEDDLE_INLINE I field(const I& x) {
    // The topmost field of a half needs no mask.
    if constexpr (kBits + kShift == 16) return {_mm512_srli_epi16(x.v, kShift)};
    const __m512i v = kShift == 0 ? x.v : _mm512_srli_epi32(x.v, kShift);
    return {_mm512_and_si512(v, _mm512_set1_epi32(((1 << kBits) - 1) * 0x10001))};
  }
  template <int kShift, std::uint32_t kMask>
  static HEDDLE_INLINE I merge(const I& low, const I& high) {
    const __m512i v = kShift > 0   ? _mm512_srli_epi32(high.v, kShift & 31)
                      : kShift < 0 ? _mm512_slli_epi32(high.v, -kShift & 31)
                                   : high.v;
    constexpr int kOrAnd = 0xf8;  // a | (b & c)
    return {
        _mm512_ternarylogic_epi32(low.v, v, _mm512_set1_epi32(static_cast<int>(kMask)), kOrAnd)};
  }
  template <int kShift>
  static HEDDLE_INLINE I nibbles(const I& x) {
    const __m512i v = kShift == 0 ? x.v : _mm512_srli_epi32(x.v, kShift);
    return {_mm512_and_si512(v, _mm512_set1_epi8(15))};
  }
  static HEDDLE_INLINE I table(const QuantTable* t) {
    if (t == nullptr) return zero_i();
    return {_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t->values)))};
  }
  static HEDDLE_INLINE I lookup(const I& t, const I& index) {
    return {_mm512_shuffle_epi8(t.v, index.v)};
  }
  static HEDDLE_INLINE I low_bytes(const I& x) {
    return {_mm512_srai_epi16(_mm512_slli_epi16(x.v, 8), 8)};
  }
  static HEDDLE_INLINE I high_bytes(const I& x) { return {_mm512_srai_epi16(x.v, 8)}; }
};

}  // namespace

const MatmulKernels* matmul_kernels_avx512_vnni() {
  return &kKernels<Avx512>;
}

}  // namespace heddle::cpu

#else

namespace heddle::cpu {

const MatmulKernels* matmul_kernels_avx512_vnni() {
  return nullptr;
}

}  // namespace heddle::cpu

#endif
