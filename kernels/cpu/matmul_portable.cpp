// Plain C++: runs everywhere, gives the bits of the other fast variants.

#include <bit>
#include <cmath>

#include "base/half.h"
#include "kernels/cpu/matmul_impl.h"

namespace heddle::cpu {
namespace {

struct Portable {
  static constexpr int kMaxWidth = 4;
  struct F {
    float v[16];
  };
  struct I {
    std::int32_t v[16];
  };

  template <typename R, typename Make>
  static R make(const Make& of_lane) {
    R r;
    for (int i = 0; i < 16; ++i) r.v[i] = of_lane(i);
    return r;
  }

  static F zero() { return set(0.0F); }
  static F set(float f) {
    return make<F>([&](int) { return f; });
  }
  static F load(const float* p) {
    return make<F>([&](int i) { return p[i]; });
  }
  static void store(float* p, const F& f) { std::memcpy(p, f.v, sizeof f.v); }
  static F load_f16(const std::byte* p) {
    std::uint16_t h[16];
    std::memcpy(h, p, sizeof h);
    return make<F>([&](int i) { return f16_to_f32(h[i]); });
  }
  static F load_bf16(const std::byte* p) {
    std::uint16_t h[16];
    std::memcpy(h, p, sizeof h);
    return make<F>([&](int i) { return bf16_to_f32(h[i]); });
  }
  static F load_u8(const std::byte* p) {
    return make<F>([&](int i) { return std::to_integer<int>(p[i]); });
  }
  static F load_s8(const std::byte* p) {
    return make<F>([&](int i) { return static_cast<std::int8_t>(std::to_integer<int>(p[i])); });
  }
  static F load_low_u4(const std::byte* p) {
    return make<F>([&](int i) { return std::to_integer<int>(p[i] & std::byte{15}); });
  }
  static F load_high_u4(const std::byte* p) {
    return make<F>([&](int i) { return std::to_integer<int>(p[i] >> 4); });
  }
  static F load_e8m0(const std::byte* p) {
    return make<F>([&](int i) {
      const auto e = std::to_integer<std::uint32_t>(p[i]);
      return std::bit_cast<float>(e < 2 ? 0x00200000U << e : (e - 1U) << 23);
    });
  }
  static F add(const F& a, const F& b) {
    return make<F>([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F sub(const F& a, const F& b) {
    return make<F>([&](int i) { return a.v[i] - b.v[i]; });
  }
  static F mul(const F& a, const F& b) {
    return make<F>([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F fma(const F& a, const F& b, const F& c) {
    return make<F>([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
  }
  static F to_float(const I& a) {
    return make<F>([&](int i) { return static_cast<float>(a.v[i]); });
  }

  static I zero_i() { return set_i(0); }
  static I set_i(std::int32_t v) {
    return make<I>([&](int) { return v; });
  }
  static I load_i(const void* p) {
    I r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
  static I add_i(const I& a, const I& b) {
    return make<I>([&](int i) { return a.v[i] + b.v[i]; });
  }
  static I max_i(const I& a, const I& b) {
    return make<I>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static I magnitude_bits(const F& a) {
    return make<I>([&](int i) { return std::bit_cast<std::int32_t>(a.v[i]) & 0x7fffffff; });
  }
  static std::uint32_t max_lane(const I& a) {
    std::int32_t m = 0;
    for (const std::int32_t v : a.v) m = v > m ? v : m;
    return static_cast<std::uint32_t>(m);
  }
  static std::int32_t sum_lanes(const I& a) {
    std::int32_t s = 0;
    for (const std::int32_t v : a.v) s += v;
    return s;
  }
  /// To the nearest integer, ties to even, for magnitudes below 2^22: the sum with 1.5 * 2^23 has
  /// no bits below 1, so the addition rounds.
  static I round(const F& a) {
    return make<I>([&](int i) {
      const float magic = 12582912.0F;
      return std::bit_cast<std::int32_t>(a.v[i] + magic) - std::bit_cast<std::int32_t>(magic);
    });
  }
  static void store_i16(std::int16_t* p, const I& a, const I& b) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<std::int16_t>(a.v[i]);
    for (int i = 0; i < 16; ++i) p[16 + i] = static_cast<std::int16_t>(b.v[i]);
  }

  static constexpr std::int32_t pair(std::int32_t low, std::int32_t high) {
    return static_cast<std::int32_t>((static_cast<std::uint32_t>(low) & 0xffffU) |
                                     static_cast<std::uint32_t>(high) << 16);
  }
  static constexpr std::int32_t low16(std::int32_t v) { return static_cast<std::int16_t>(v); }
  static constexpr std::int32_t high16(std::int32_t v) { return v >> 16; }
  static I set_pair(const std::int16_t* p) { return set_i(pair(p[0], p[1])); }
  static I dot(const I& acc, const I& w, const I& x) {
    return make<I>([&](int i) {
      return acc.v[i] + low16(w.v[i]) * low16(x.v[i]) + high16(w.v[i]) * high16(x.v[i]);
    });
  }
  static I shift_left_by(const I& a, const std::int32_t* bits) {
    return make<I>([&](int i) { return a.v[i] * (1 << *bits); });
  }
  template <int kBits>
  static I shift_left(const I& a) {
    return make<I>([&](int i) { return shifted<-kBits>(a.v[i]); });
  }
  template <int kShift>  // right; left if negative
  static constexpr std::int32_t shifted(std::int32_t v) {
    const auto u = static_cast<std::uint32_t>(v);
    return static_cast<std::int32_t>(kShift >= 0 ? u >> (kShift & 31) : u << (-kShift & 31));
  }
  template <int kBits, int kShift>
  static I field(const I& a) {
    return make<I>([&](int i) { return shifted<kShift>(a.v[i]) & (((1 << kBits) - 1) * 0x10001); });
  }
  template <int kShift, std::uint32_t kMask>
  static I merge(const I& low, const I& high) {
    return make<I>([&](int i) {
      return low.v[i] | (shifted<kShift>(high.v[i]) & static_cast<std::int32_t>(kMask));
    });
  }
  template <int kShift>
  static I nibbles(const I& a) {
    return make<I>([&](int i) { return shifted<kShift>(a.v[i]) & 0x0f0f0f0f; });
  }
  static I table(const QuantTable* t) {
    I r = zero_i();
    if (t != nullptr) std::memcpy(r.v, t->values, 16);
    return r;
  }
  static I lookup(const I& t, const I& index) {
    const auto* const from = reinterpret_cast<const std::uint8_t*>(t.v);
    return make<I>([&](int i) {
      const auto u = static_cast<std::uint32_t>(index.v[i]);
      return static_cast<std::int32_t>(from[u & 15U] | from[u >> 8 & 15U] << 8 |
                                       from[u >> 16 & 15U] << 16 |
                                       static_cast<std::uint32_t>(from[u >> 24 & 15U]) << 24);
    });
  }
  static I low_bytes(const I& a) {
    return make<I>([&](int i) {
      return pair(static_cast<std::int8_t>(a.v[i]), static_cast<std::int8_t>(a.v[i] >> 16));
    });
  }
  static I high_bytes(const I& a) {
    return make<I>([&](int i) {
      return pair(static_cast<std::int8_t>(a.v[i] >> 8), static_cast<std::int8_t>(a.v[i] >> 24));
    });
  }
};

}  // namespace

const MatmulKernels& matmul_kernels_portable() {
  return kKernels<Portable>;
}

}  // namespace heddle::cpu
