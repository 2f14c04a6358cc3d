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
  static F add(const F& a, const F& b) {
    return make<F>([&](int i) { return a.v[i] + b.v[i]; });
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
  template <int kNibble>
  static I nibbles(const I& a) {
    return make<I>([&](int i) { return (a.v[i] >> (4 * kNibble)) & 0x000f000f; });
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
