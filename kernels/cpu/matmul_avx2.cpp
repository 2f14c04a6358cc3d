// AVX2 with FMA and F16C: two 256-bit registers per vector of 16 rows.

#include "kernels/cpu/matmul_kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>

#include "kernels/cpu/matmul_impl.h"

namespace heddle::cpu {
namespace {

struct Avx2 {
  // 16 registers: 8 integer sums, 2 of weights, 1 of x, 1 product.
  static constexpr int kMaxWidth = 4;
  struct F {
    __m256 a, b;
  };
  struct I {
    __m256i a, b;
  };

  static HEDDLE_INLINE F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static HEDDLE_INLINE F set(float f) {
    const __m256 v = _mm256_set1_ps(f);
    return {v, v};
  }
  static HEDDLE_INLINE F load(const float* p) {
    return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
  }
  static HEDDLE_INLINE void store(float* p, const F& f) {
    _mm256_storeu_ps(p, f.a);
    _mm256_storeu_ps(p + 8, f.b);
  }
  static HEDDLE_INLINE F load_f16(const std::byte* p) {
    const auto* const h = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
  }
  static HEDDLE_INLINE F load_bf16(const std::byte* p) {
    const auto* const h = reinterpret_cast<const __m128i*>(p);
    const auto widen = [](__m128i v) {
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
    };
    return {widen(_mm_loadu_si128(h)), widen(_mm_loadu_si128(h + 1))};
  }
  static HEDDLE_INLINE __m128i load_bytes(const std::byte* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static HEDDLE_INLINE F load_u8(const std::byte* p) { return to_float(of_u8(load_bytes(p))); }
  static HEDDLE_INLINE F load_s8(const std::byte* p) {
    const __m128i v = load_bytes(p);
    return to_float({_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))});
  }
  static HEDDLE_INLINE F load_low_u4(const std::byte* p) {
    return to_float(of_u8(_mm_and_si128(load_bytes(p), _mm_set1_epi8(15))));
  }
  static HEDDLE_INLINE F load_high_u4(const std::byte* p) {
    return to_float(of_u8(_mm_and_si128(_mm_srli_epi16(load_bytes(p), 4), _mm_set1_epi8(15))));
  }
  static HEDDLE_INLINE I of_u8(__m128i v) {
    return {_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))};
  }
  static HEDDLE_INLINE F load_e8m0(const std::byte* p) {
    const auto value = [](__m256i e) {
      const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
      const __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);  // 2^-128, 2^-127
      const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
      return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, is_small));
    };
    const I e = of_u8(load_bytes(p));
    return {value(e.a), value(e.b)};
  }
  static HEDDLE_INLINE F add(const F& x, const F& y) {
    return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
  }
  static HEDDLE_INLINE F sub(const F& x, const F& y) {
    return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
  }
  static HEDDLE_INLINE F mul(const F& x, const F& y) {
    return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
  }
  static HEDDLE_INLINE F fma(const F& x, const F& y, const F& z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  static HEDDLE_INLINE F to_float(const I& x) {
    return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
  }

  static HEDDLE_INLINE I zero_i() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static HEDDLE_INLINE I set_i(std::int32_t x) {
    const __m256i v = _mm256_set1_epi32(x);
    return {v, v};
  }
  static HEDDLE_INLINE I load_i(const void* p) {
    const auto* const v = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
  }
  static HEDDLE_INLINE I add_i(const I& x, const I& y) {
    return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
  }
  static HEDDLE_INLINE I max_i(const I& x, const I& y) {
    return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)};
  }
  static HEDDLE_INLINE I magnitude_bits(const F& x) {
    const __m256i mask = _mm256_set1_epi32(0x7fffffff);
    return {_mm256_and_si256(_mm256_castps_si256(x.a), mask),
            _mm256_and_si256(_mm256_castps_si256(x.b), mask)};
  }
  static HEDDLE_INLINE std::uint32_t max_lane(const I& x) {
    const __m256i v = _mm256_max_epi32(x.a, x.b);
    __m128i h = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0xb1));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(h));
  }
  static HEDDLE_INLINE std::int32_t sum_lanes(const I& x) {
    const __m256i v = _mm256_add_epi32(x.a, x.b);
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1));
    return _mm_cvtsi128_si32(h);
  }
  static HEDDLE_INLINE I round(const F& x) {
    constexpr int kEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_cvtps_epi32(_mm256_round_ps(x.a, kEven)),
            _mm256_cvtps_epi32(_mm256_round_ps(x.b, kEven))};
  }
  static HEDDLE_INLINE void store_i16(std::int16_t* p, const I& x, const I& y) {
    const auto narrow = [](const I& v) {
      return _mm256_permute4x64_epi64(_mm256_packs_epi32(v.a, v.b), 0xd8);
    };
    auto* const to = reinterpret_cast<__m256i*>(p);
    _mm256_storeu_si256(to, narrow(x));
    _mm256_storeu_si256(to + 1, narrow(y));
  }

  static HEDDLE_INLINE I set_pair(const std::int16_t* p) {
    std::int32_t v;
    std::memcpy(&v, p, sizeof v);
    return set_i(v);
  }
  static HEDDLE_INLINE I dot(const I& acc, const I& w, const I& x) {
    I sum = {_mm256_add_epi32(acc.a, _mm256_madd_epi16(w.a, x.a)),
             _mm256_add_epi32(acc.b, _mm256_madd_epi16(w.b, x.b))};
    // GCC would otherwise reassociate the additions of a block into a tree, whose 128 products do
    // not fit 16 registers: twice the time, spent on the stack.
    asm("" : "+x"(sum.a), "+x"(sum.b));
    return sum;
  }
  static HEDDLE_INLINE I shift_left_by(const I& x, const std::int32_t* bits) {
    const __m256i by = _mm256_set1_epi32(*bits);
    return {_mm256_sllv_epi32(x.a, by), _mm256_sllv_epi32(x.b, by)};
  }
  template <int kShift>
  static HEDDLE_INLINE I shift_right(const I& x) {
    if constexpr (kShift == 0) return x;
    return {_mm256_srli_epi32(x.a, kShift), _mm256_srli_epi32(x.b, kShift)};
  }
  template <int kShift>
  static HEDDLE_INLINE I shift_left(const I& x) {
    return {_mm256_slli_epi32(x.a, kShift), _mm256_slli_epi32(x.b, kShift)};
  }
  static HEDDLE_INLINE I mask(const I& x, __m256i m) {
    return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
  }
  template <int kBits, int kShift>
  static HEDDLE_INLINE I field(const I& x) {
    if constexpr (kBits + kShift == 16) {  // the topmost field of a half needs no mask
      return {_mm256_srli_epi16(x.a, kShift), _mm256_srli_epi16(x.b, kShift)};
    } else {
      return mask(shift_right<kShift>(x), _mm256_set1_epi32(((1 << kBits) - 1) * 0x10001));
    }
  }
  template <int kShift, std::uint32_t kMask>
  static HEDDLE_INLINE I merge(const I& low, const I& high) {
    I v = high;
    if constexpr (kShift > 0) v = shift_right<kShift>(high);
    if constexpr (kShift < 0) v = shift_left<-kShift>(high);
    v = mask(v, _mm256_set1_epi32(static_cast<int>(kMask)));
    return {_mm256_or_si256(low.a, v.a), _mm256_or_si256(low.b, v.b)};
  }
  template <int kShift>
  static HEDDLE_INLINE I nibbles(const I& x) {
    return mask(shift_right<kShift>(x), _mm256_set1_epi8(15));
  }
  static HEDDLE_INLINE I table(const QuantTable* t) {
    if (t == nullptr) return zero_i();
    const __m256i v =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t->values)));
    return {v, v};
  }
  static HEDDLE_INLINE I lookup(const I& t, const I& index) {
    return {_mm256_shuffle_epi8(t.a, index.a), _mm256_shuffle_epi8(t.a, index.b)};
  }
  static HEDDLE_INLINE I low_bytes(const I& x) {
    return {_mm256_srai_epi16(_mm256_slli_epi16(x.a, 8), 8),
            _mm256_srai_epi16(_mm256_slli_epi16(x.b, 8), 8)};
  }
  static HEDDLE_INLINE I high_bytes(const I& x) {
    return {_mm256_srai_epi16(x.a, 8), _mm256_srai_epi16(x.b, 8)};
  }
};

}  // namespace

const MatmulKernels* matmul_kernels_avx2() {
  return &kKernels<Avx2>;
}

}  // namespace heddle::cpu

#else

namespace heddle::cpu {

const MatmulKernels* matmul_kernels_avx2() {
  return nullptr;
}

}  // namespace heddle::cpu

#endif
