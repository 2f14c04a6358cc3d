// The loops of every fast matmul variant, over a vector type V of 16 lanes, one weight row each.
// Included by matmul_<isa>.cpp only, after that file's V. Everything is in an anonymous namespace
// and calls nothing from std::, so that no function compiled for one instruction set can stand in
// for another's at link time.
//
// Weights are widened on their way from the packed bytes to the multiply-add, every time a tile of
// x rows passes: a shift and a mask per 32 quants cost less than reading a widened copy back from
// the second cache (docs/kernels.md has the measurement).
//
// V: F (16 floats), I (16 int32, or 32 int16 in pairs), kMaxWidth, and the operations used below.
// Each is one IEEE operation per lane (fma is fused), so all variants give the same bits.
//
// Exactness inside a block: |x| <= 32767 and 4-bit quants are at most 15, so a block's integer sum
// is at most 32 * 15 * 32767 < 2^24 (with the -8 of Q4_0 no larger) and its conversion to f32 is
// exact; 8-bit quants: 32 * 128 * 32767 < 2^27 fits int32 and the conversion rounds to even.

#pragma once
#include <cstring>

#include "kernels/cpu/matmul_kernels.h"

namespace heddle::cpu {
namespace {

#define HEDDLE_INLINE inline __attribute__((always_inline))

constexpr int kLanes = 16;
constexpr int kBlockK = 32;

template <DType T>
constexpr bool kHasMin = T == DType::kQ4_1;
template <DType T>
constexpr int kBlockBytes = T == DType::kQ4_0   ? 288
                            : T == DType::kQ4_1 ? 320
                                                : 544;
template <DType T>
constexpr int kQuantOffset = kHasMin<T> ? 64 : 32;

// Calls f.template operator()<C>() for the C = width in 1 .. kMax.
template <int kMax, typename F>
HEDDLE_INLINE void with_width(int width, const F& f) {
  if constexpr (kMax >= 1) {
    if (width == kMax) {
      f.template operator()<kMax>();
    } else {
      with_width<kMax - 1>(width, f);
    }
  }
}

// The sums of one output tile, per segment: [segment][column][16 rows].
template <int C>
struct Parts {
  alignas(64) float sum[kMaxSegments][C][kLanes];
};

// Adds the segments as ((0+1)+(2+3))+((4+5)+(6+7)), then bias and residual; writes the rows that
// exist.
template <typename V, int C>
HEDDLE_INLINE void finish(Parts<C>& parts, const OutTile& out) {
  for (int c = 0; c < C; ++c) {
    for (int step = 1; step < out.segments; step *= 2) {
      for (int s = 0; s < out.segments; s += 2 * step) {
        V::store(parts.sum[s][c],
                 V::add(V::load(parts.sum[s][c]), V::load(parts.sum[s + step][c])));
      }
    }
    float* const to = out.out + c * out.stride;
    const float* const residual = out.residual == nullptr ? nullptr : out.residual + c * out.stride;
    const float* const sum = parts.sum[0][c];
    if (out.n_rows == kLanes) {
      typename V::F s = V::load(sum);
      if (out.bias != nullptr) s = V::add(s, V::load(out.bias));
      V::store(to, residual == nullptr ? s : V::add(s, V::load(residual)));
    } else {
      for (int r = 0; r < out.n_rows; ++r) {
        const float s = out.bias == nullptr ? sum[r] : sum[r] + out.bias[r];
        to[r] = residual == nullptr ? s : s + residual[r];
      }
    }
  }
}

// ---- activations

template <typename V>
void quantise_block(const float* x, std::int16_t* q, float* d, float* d_sum, std::int32_t* sum8) {
  const typename V::F x0 = V::load(x);
  const typename V::F x1 = V::load(x + kLanes);
  // Bit patterns of magnitudes order like the magnitudes, NaN above all.
  const std::uint32_t bits = V::max_lane(V::max_i(V::magnitude_bits(x0), V::magnitude_bits(x1)));
  constexpr std::uint32_t kInf = 0x7f800000U;
  constexpr std::uint32_t kTiny = 0x0d800000U;  // 2^-100: 32767 / it is still finite
  if (bits < kTiny || bits >= kInf) {
    // Nothing to see beside an accumulator of normal size; or not finite, which makes all results
    // of the row NaN.
    float nan = 0.0F;
    if (bits >= kInf) {
      const std::uint32_t quiet = 0x7fc00000U;
      std::memcpy(&nan, &quiet, sizeof nan);
    }
    std::memset(q, 0, kBlockK * sizeof *q);
    *d = nan;
    *d_sum = nan;
    *sum8 = 0;
    return;
  }
  float largest = 0.0F;
  std::memcpy(&largest, &bits, sizeof largest);
  const float scale = largest / 32767.0F;
  const typename V::F inverse = V::set(32767.0F / largest);
  const typename V::I q0 = V::round(V::mul(x0, inverse));
  const typename V::I q1 = V::round(V::mul(x1, inverse));
  V::store_i16(q, q0, q1);
  const std::int32_t sum = V::sum_lanes(V::add_i(q0, q1));
  *d = scale;
  *d_sum = scale * static_cast<float>(sum);
  *sum8 = -8 * sum;
}

template <typename V>
void quantise(const float* x,
              std::int64_t stride,
              int width,
              std::int64_t n_blocks,
              const QuantisedRows& to) {
  for (std::int64_t b = 0; b < n_blocks; ++b) {
    for (int c = 0; c < width; ++c) {
      const std::int64_t at = b * width + c;
      quantise_block<V>(x + c * stride + b * kBlockK, to.q + at * kBlockK, to.d + at, to.d_sum + at,
                        to.minus_8_sum + at);
    }
  }
}

// ---- quantised weights

// Calls use(pair, w) for the 16 int16 pairs of a block: w holds k = 2 pair, 2 pair + 1 of 16 rows.
template <typename V, DType T, typename Use>
HEDDLE_INLINE void for_each_pair(const std::byte* quants, const Use& use) {
  if constexpr (T == DType::kQ8_0) {
#pragma GCC unroll 8
    for (int word = 0; word < 8; ++word) {
      const typename V::I v = V::load_i(quants + word * 64);
      use(word * 2, V::low_bytes(v));
      use(word * 2 + 1, V::high_bytes(v));
    }
  } else {
#pragma GCC unroll 4
    for (int word = 0; word < 4; ++word) {
      const typename V::I v = V::load_i(quants + word * 64);
      use(word * 4, V::template nibbles<0>(v));
      use(word * 4 + 1, V::template nibbles<1>(v));
      use(word * 4 + 2, V::template nibbles<2>(v));
      use(word * 4 + 3, V::template nibbles<3>(v));
    }
  }
}

template <typename V, DType T, int C>
void quantised_tile(const std::byte* group,
                    std::int64_t n_blocks,
                    const XTile& x,
                    const OutTile& out) {
  using F = typename V::F;
  using I = typename V::I;
  Parts<C> parts;
  const std::int64_t segment_blocks = n_blocks / out.segments;
  const std::byte* block = group;
  const std::int16_t* q = x.q;
  std::int64_t at = 0;
  for (int s = 0; s < out.segments; ++s) {
    F acc[C];
    for (int c = 0; c < C; ++c) acc[c] = V::zero();
    for (std::int64_t b = 0; b < segment_blocks; ++b) {
      // Two chains per sum where registers allow: integer addition may be reordered.
      constexpr int kChains = C <= 2 ? 2 : 1;
      I sum[C][kChains];
      for (int c = 0; c < C; ++c) {
        sum[c][0] = T == DType::kQ4_0 ? V::set_i(x.minus_8_sum[at + c]) : V::zero_i();
        if constexpr (kChains == 2) sum[c][1] = V::zero_i();
      }
      for_each_pair<V, T>(block + kQuantOffset<T>, [&](int pair, const I& w) {
        for (int c = 0; c < C; ++c) {
          I& chain = sum[c][pair % kChains];
          chain = V::dot(chain, w, V::set_pair(q + c * kBlockK + 2 * pair));
        }
      });
      const F d = V::load_f16(block);
      for (int c = 0; c < C; ++c) {
        if constexpr (kChains == 2) sum[c][0] = V::add_i(sum[c][0], sum[c][1]);
        acc[c] = V::fma(V::to_float(sum[c][0]), V::mul(d, V::set(x.d[at + c])), acc[c]);
      }
      if constexpr (kHasMin<T>) {
        const F m = V::load_f16(block + 32);
        for (int c = 0; c < C; ++c) acc[c] = V::fma(m, V::set(x.d_sum[at + c]), acc[c]);
      }
      block += kBlockBytes<T>;
      q += C * kBlockK;
      at += C;
    }
    for (int c = 0; c < C; ++c) V::store(parts.sum[s][c], acc[c]);
  }
  finish<V, C>(parts, out);
}

template <typename V>
void quantised(DType dtype,
               const std::byte* group,
               std::int64_t n_blocks,
               const XTile& x,
               const OutTile& out) {
  with_width<V::kMaxWidth>(x.width, [&]<int C>() {
    if (dtype == DType::kQ4_0) {
      quantised_tile<V, DType::kQ4_0, C>(group, n_blocks, x, out);
    } else if (dtype == DType::kQ4_1) {
      quantised_tile<V, DType::kQ4_1, C>(group, n_blocks, x, out);
    } else {
      quantised_tile<V, DType::kQ8_0, C>(group, n_blocks, x, out);
    }
  });
}

// ---- f32, f16 and bf16 weights

template <typename V, DType T>
HEDDLE_INLINE typename V::F load_weights(const std::byte* p) {
  if constexpr (T == DType::kF32) {
    return V::load(reinterpret_cast<const float*>(p));
  } else if constexpr (T == DType::kF16) {
    return V::load_f16(p);
  } else {
    return V::load_bf16(p);
  }
}

template <typename V, DType T, int C>
void plain_tile(const std::byte* group, std::int64_t k, const XTile& x, const OutTile& out) {
  using F = typename V::F;
  constexpr int kBytes = kLanes * (T == DType::kF32 ? 4 : 2);
  Parts<C> parts;
  const std::int64_t segment_k = k / out.segments;
  const float* column = x.x;
  for (int s = 0; s < out.segments; ++s) {
    F acc[C];
    for (int c = 0; c < C; ++c) acc[c] = V::zero();
    for (std::int64_t i = 0; i < segment_k; ++i) {
      const F w = load_weights<V, T>(group);
      for (int c = 0; c < C; ++c) acc[c] = V::fma(V::set(column[c]), w, acc[c]);
      group += kBytes;
      column += C;
    }
    for (int c = 0; c < C; ++c) V::store(parts.sum[s][c], acc[c]);
  }
  finish<V, C>(parts, out);
}

template <typename V>
void plain(
    DType dtype, const std::byte* group, std::int64_t k, const XTile& x, const OutTile& out) {
  with_width<V::kMaxWidth>(x.width, [&]<int C>() {
    if (dtype == DType::kF32) {
      plain_tile<V, DType::kF32, C>(group, k, x, out);
    } else if (dtype == DType::kF16) {
      plain_tile<V, DType::kF16, C>(group, k, x, out);
    } else {
      plain_tile<V, DType::kBF16, C>(group, k, x, out);
    }
  });
}

template <typename V>
constexpr MatmulKernels kKernels = {V::kMaxWidth, quantise<V>, quantised<V>, plain<V>};

}  // namespace
}  // namespace heddle::cpu
