#pragma once
// V in plain C++, for any processor. Contract: simd16.h. Loops of 16 are what a compiler turns into
// its own vectors; where the processor has no fused multiply-add, std::fma computes it (slowly).

#include <bit>
#include <cmath>

#include "base/half.h"
#include "kernels/cpu/simd16.h"

namespace heddle::cpu {
namespace {

struct Portable {
  struct F {
    float x[16];
  };
  struct I {
    std::uint32_t x[16];
  };
  struct D {
    double x[16];
  };
  static constexpr int kMaxRows = 4;
  static constexpr int columns(int /*rows*/) { return 1; }
  static constexpr bool kColumnsFirst = false;

  template <typename Out, typename Fn>
  static HEDDLE_SIMD Out lanes(const Fn& fn) {
    Out r;
    for (int i = 0; i < 16; ++i) r.x[i] = fn(i);
    return r;
  }

  static HEDDLE_SIMD F zero() { return set1(0.0F); }
  static HEDDLE_SIMD F set1(float v) {
    return lanes<F>([&](int) { return v; });
  }
  static HEDDLE_SIMD F load(const float* p) {
    return lanes<F>([&](int i) { return p[i]; });
  }
  static HEDDLE_SIMD F load(const F16* p) {
    return lanes<F>([&](int i) { return f16_to_f32(p[i].bits); });
  }
  static HEDDLE_SIMD F load(const BF16* p) {
    return lanes<F>([&](int i) { return bf16_to_f32(p[i].bits); });
  }
  static HEDDLE_SIMD F load_n(const float* p, int n, const F& fill) {
    return lanes<F>([&](int i) { return i < n ? p[i] : fill.x[i]; });
  }
  static HEDDLE_SIMD void store(float* p, const F& v) {
    for (int i = 0; i < 16; ++i) p[i] = v.x[i];
  }
  static HEDDLE_SIMD void store(F16* p, const F& v) {
    for (int i = 0; i < 16; ++i) p[i].bits = f32_to_f16(v.x[i]);
  }
  static HEDDLE_SIMD void store(BF16* p, const F& v) {
    for (int i = 0; i < 16; ++i) p[i].bits = f32_to_bf16(v.x[i]);
  }
  static HEDDLE_SIMD void store_n(float* p, int n, const F& v) {
    for (int i = 0; i < 16 && i < n; ++i) p[i] = v.x[i];
  }

  static HEDDLE_SIMD F add(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.x[i] + b.x[i]; });
  }
  static HEDDLE_SIMD F sub(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.x[i] - b.x[i]; });
  }
  static HEDDLE_SIMD F mul(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.x[i] * b.x[i]; });
  }
  static HEDDLE_SIMD F div(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.x[i] / b.x[i]; });
  }
  static HEDDLE_SIMD F fma(const F& a, const F& b, const F& c) {
    return lanes<F>([&](int i) { return std::fma(a.x[i], b.x[i], c.x[i]); });
  }
  static HEDDLE_SIMD F max(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.x[i] > b.x[i] ? a.x[i] : b.x[i]; });
  }
  static HEDDLE_SIMD F min(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.x[i] < b.x[i] ? a.x[i] : b.x[i]; });
  }
  static HEDDLE_SIMD F select_lt(const F& a, const F& b, const F& t, const F& f) {
    return lanes<F>([&](int i) { return a.x[i] < b.x[i] ? t.x[i] : f.x[i]; });
  }
  static HEDDLE_SIMD F first_n(const F& v, int n, const F& fill) {
    return lanes<F>([&](int i) { return i < n ? v.x[i] : fill.x[i]; });
  }
  static HEDDLE_SIMD F neg(const F& v) {
    return lanes<F>([&](int i) { return -v.x[i]; });
  }
  static HEDDLE_SIMD F abs(const F& v) {
    return lanes<F>([&](int i) { return std::fabs(v.x[i]); });
  }
  static HEDDLE_SIMD bool any_nan(const F& v) {
    bool nan = false;
    for (int i = 0; i < 16; ++i) nan |= v.x[i] != v.x[i];
    return nan;
  }

  static HEDDLE_SIMD I bits(const F& v) {
    return lanes<I>([&](int i) { return std::bit_cast<std::uint32_t>(v.x[i]); });
  }
  static HEDDLE_SIMD F from_bits(const I& v) {
    return lanes<F>([&](int i) { return std::bit_cast<float>(v.x[i]); });
  }
  static HEDDLE_SIMD I iset1(std::int32_t v) {
    return lanes<I>([&](int) { return static_cast<std::uint32_t>(v); });
  }
  static HEDDLE_SIMD I iadd(const I& a, const I& b) {
    return lanes<I>([&](int i) { return a.x[i] + b.x[i]; });
  }
  static HEDDLE_SIMD I isub(const I& a, const I& b) {
    return lanes<I>([&](int i) { return a.x[i] - b.x[i]; });
  }
  template <int N>
  static HEDDLE_SIMD I shift_left(const I& a) {
    return lanes<I>([&](int i) { return a.x[i] << N; });
  }
  template <int N>
  static HEDDLE_SIMD I shift_right(const I& a) {
    return lanes<I>(
        [&](int i) { return static_cast<std::uint32_t>(static_cast<std::int32_t>(a.x[i]) >> N); });
  }

  static HEDDLE_SIMD float reduce_add(F v) {
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) v.x[i] = v.x[i] + v.x[i + half];
    }
    return v.x[0];
  }
  static HEDDLE_SIMD float reduce_max(F v) {
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) v.x[i] = v.x[i] > v.x[i + half] ? v.x[i] : v.x[i + half];
    }
    return v.x[0];
  }

  static HEDDLE_SIMD D dzero() {
    return lanes<D>([](int) { return 0.0; });
  }
  static HEDDLE_SIMD D dadd(const D& d, const F& v) {
    return lanes<D>([&](int i) { return d.x[i] + static_cast<double>(v.x[i]); });
  }
  static HEDDLE_SIMD D dadd_grid(const D& d, const F& v) {
    return lanes<D>(
        [&](int i) { return d.x[i] + ((static_cast<double>(v.x[i]) + 0x1p18) - 0x1p18); });
  }
  static HEDDLE_SIMD double dreduce(D v) {
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) v.x[i] = v.x[i] + v.x[i + half];
    }
    return v.x[0];
  }
};

}  // namespace
}  // namespace heddle::cpu
