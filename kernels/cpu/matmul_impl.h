// The loops of every fast matmul variant, over a vector type V of 16 lanes, one weight row each.
// Included by matmul_<isa>.cpp only, after that file's V. Everything is in an anonymous namespace
// and calls nothing from std::, so that no function compiled for one instruction set can stand in
// for another's at link time.
//
// Weights are widened on their way from the packed bytes to the multiply-add, every time a tile of
// x rows passes: a shift and a mask per 32 quants cost less than reading a widened copy back from
// the second cache (docs/kernels_matmul.md has the measurement).
//
// V: F (16 floats), I (16 int32, or 32 int16 in pairs), kMaxWidth, and the operations used below.
// Each is one IEEE operation per lane (fma is fused), so all variants give the same bits.

#pragma once
#include <cstring>

#include "kernels/cpu/matmul_kernels.h"
#include "kernels/cpu/quant_formats.h"

namespace heddle::cpu {
namespace {

#define HEDDLE_INLINE inline __attribute__((always_inline))

constexpr int kLanes = 16;
constexpr int kBlockK = 32;

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
    const std::int64_t row = (out.rows == nullptr ? c : out.rows[c]) * out.stride;
    float* const to = out.out + row;
    const float* const residual = out.residual == nullptr ? nullptr : out.residual + row;
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

// Bit patterns of magnitudes order like the magnitudes, NaN above all.
template <typename V>
std::uint32_t largest_bits(const float* x) {
  return V::max_lane(
      V::max_i(V::magnitude_bits(V::load(x)), V::magnitude_bits(V::load(x + kLanes))));
}

// The 32 values of block `at` of the memory that `to` names, as round(x * inverse); all 0 where
// that is 0. Sums are stored times `unit`.
template <typename V>
void quantise_block(
    const float* x, float inverse, float unit, std::int64_t at, const QuantisedRows& to) {
  std::int16_t* const q = to.q + at * kBlockK;
  std::int32_t sum[2] = {0, 0};
  if (inverse == 0.0F) {
    std::memset(q, 0, kBlockK * sizeof *q);
  } else {
    const typename V::F by = V::set(inverse);
    const typename V::I q0 = V::round(V::mul(V::load(x), by));
    const typename V::I q1 = V::round(V::mul(V::load(x + kLanes), by));
    V::store_i16(q, q0, q1);
    sum[0] = V::sum_lanes(q0);
    sum[1] = V::sum_lanes(q1);
  }
  to.per_32.sum[at] = unit * static_cast<float>(sum[0] + sum[1]);
  to.per_32.minus_sum[at] = -(sum[0] + sum[1]);
  for (int i = 0; i < 2; ++i) {
    to.per_16.sum[2 * at + i] = unit * static_cast<float>(sum[i]);
    to.per_16.minus_sum[2 * at + i] = -sum[i];
  }
}

// The values of a step of a row, whose blocks are `width` apart from block `at` on.
template <typename V>
void quantise_step(const float* x, std::int64_t at, int width, const QuantisedRows& to) {
  constexpr int kMaxBlocks = 8;
  const int n = to.step / kBlockK;
  std::uint32_t bits[kMaxBlocks];
  std::uint32_t largest = 0;
  for (int i = 0; i < n; ++i) {
    bits[i] = largest_bits<V>(x + i * kBlockK);
    largest = bits[i] > largest ? bits[i] : largest;
  }
  constexpr std::uint32_t kInf = 0x7f800000U;
  constexpr std::uint32_t kTiny = 0x0d800000U;  // 2^-100: 32767 / it is still finite
  // Below kTiny there is nothing to see beside an accumulator of normal size; a step that is not
  // finite makes all results of the row NaN.
  float d = largest >= kInf ? __builtin_nanf("") : 0.0F;
  float inverse = 0.0F;
  if (largest >= kTiny && largest < kInf) {
    float max = 0.0F;
    std::memcpy(&max, &largest, sizeof max);
    d = max / 32767.0F;
    inverse = 32767.0F / max;
  }
  if (n > 1) d *= 1.0F / static_cast<float>(1 << kMaxShift);
  for (int i = 0; i < n; ++i) {
    const std::int64_t block = at + i * width;
    // Doublings after which the block's largest is not above that of the step.
    const std::uint32_t doublings = (largest - bits[i]) >> 23;
    const int fine = n == 1 ? 0 : doublings > kMaxShift ? kMaxShift : static_cast<int>(doublings);
    to.d[block] = d;
    to.shift[block] = kMaxShift - fine;
    const float unit = n == 1 ? d : static_cast<float>(1 << (kMaxShift - fine));
    quantise_block<V>(x + i * kBlockK, inverse * static_cast<float>(1 << fine), unit, block, to);
  }
}

template <typename V>
void quantise(const float* x,
              std::int64_t stride,
              int width,
              std::int64_t n_blocks,
              const QuantisedRows& to) {
  const int step_blocks = to.step / kBlockK;
  for (std::int64_t b = 0; b < n_blocks; b += step_blocks) {
    for (int c = 0; c < width; ++c) {
      quantise_step<V>(x + c * stride + b * kBlockK, b * width + c, width, to);
    }
  }
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

}  // namespace
}  // namespace heddle::cpu

#include "kernels/cpu/matmul_quantised.h"

namespace heddle::cpu {
namespace {

template <typename V>
constexpr MatmulKernels kKernels = {V::kMaxWidth, quantise<V>, quantised<V>, plain<V>};

}  // namespace
}  // namespace heddle::cpu
