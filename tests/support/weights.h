#pragma once
// Random weight matrices in checkpoint form and their values, written down from the formulas of the
// formats alone so that they can judge the packing and the kernels.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/dtype.h"
#include "base/half.h"
#include "base/tensor_view.h"
#include "tests/support/random.h"

namespace heddle::test {

struct Weights {
  DType dtype = DType::kF32;
  std::int64_t n_rows = 0;
  std::int64_t n_cols = 0;
  std::vector<std::byte> bytes;

  TensorView view() const { return {bytes.data(), dtype, {n_rows, n_cols}}; }
  const std::byte* row(std::int64_t r) const { return bytes.data() + r * row_bytes(dtype, n_cols); }
};

/// Elements with one scale: 32 or 16; 0 for types that are not quantised.
inline int scale_elements(DType dtype) {
  if (!info(dtype).quantised()) return 0;
  return dtype == DType::kQ2_K || dtype == DType::kQ3_K || dtype == DType::kQ6_K ? 16 : 32;
}

/// `k` rounded up to a row that the type can have.
inline std::int64_t whole_blocks(DType dtype, std::int64_t k) {
  const std::int64_t block = info(dtype).block_elements;
  return (k + block - 1) / block * block;
}

/// Where the f16 scales are in a block (-1: there is none), and the largest quant times scale.
struct ScaleOffsets {
  int d = 0;
  int m = -1;
  float largest = 1;
};
inline ScaleOffsets scale_offsets(DType dtype) {
  switch (dtype) {
    case DType::kQ4_1:
    case DType::kQ5_1:
      return {0, 2, 16};
    case DType::kQ8_0:
    case DType::kIQ4_NL:
      return {0, -1, 128};
    case DType::kQ2_K:
      return {80, 82, 15 * 3};
    case DType::kQ3_K:
      return {108, -1, 32 * 4};
    case DType::kQ4_K:
      return {0, 2, 63 * 15};
    case DType::kQ5_K:
      return {0, 2, 63 * 31};
    case DType::kQ6_K:
      return {208, -1, 128 * 32};
    case DType::kMXFP4:
      return {-1, -1, 12};
    default:
      return {0, -1, 16};
  }
}

inline void set_half(std::byte* p, std::uint16_t bits) {
  std::memcpy(p, &bits, 2);
}

/// Values up to about 0.2; quants and sub-scales take every value of their range.
inline Weights random_weights(DType dtype, std::int64_t n_rows, std::int64_t n_cols, Random& rng) {
  Weights w;
  w.dtype = dtype;
  w.n_rows = n_rows;
  w.n_cols = n_cols;
  w.bytes.resize(static_cast<std::size_t>(n_rows * row_bytes(dtype, n_cols)));
  const DTypeInfo& type = info(dtype);
  const ScaleOffsets scale = scale_offsets(dtype);
  for (std::size_t b = 0; b < w.bytes.size(); b += static_cast<std::size_t>(type.block_bytes)) {
    std::byte* const at = w.bytes.data() + b;
    if (!type.quantised()) {
      const float f = rng.normal() * 0.1F;
      if (dtype == DType::kF32) {
        std::memcpy(at, &f, 4);
      } else {
        set_half(at, dtype == DType::kF16 ? f32_to_f16(f) : f32_to_bf16(f));
      }
      continue;
    }
    for (std::int64_t i = 0; i < type.block_bytes; ++i) {
      at[i] = static_cast<std::byte>(rng.bits() & 0xff);
    }
    const float largest = 0.2F / scale.largest;
    if (scale.d >= 0) set_half(at + scale.d, f32_to_f16(rng.uniform(-largest, largest)));
    if (scale.m >= 0) set_half(at + scale.m, f32_to_f16(rng.uniform(-largest, largest)));
    if (dtype == DType::kMXFP4) at[0] = static_cast<std::byte>(rng.integer(116, 123));
  }
  return w;
}

/// The parts of one weight: value = d * q, + m if the type has a minimum (types that are not
/// quantised: d = value, q = 1). Where the format has a scale of the scale, d and m are the
/// products, which f32 holds exactly.
struct WeightParts {
  float d = 0;
  int q = 0;
  float m = 0;
  bool has_min = false;
  double value() const {
    const double product = static_cast<double>(d) * q;  // may be -0, which + 0 would lose
    return has_min ? product + static_cast<double>(m) : product;
  }
};

/// The types with blocks of 256; `p` is the block, `i` the element in it.
inline WeightParts weight_of_256(DType dtype, const std::uint8_t* p, int i) {
  const auto half = [p](int offset) {
    std::uint16_t v = 0;
    std::memcpy(&v, p + offset, 2);
    return f16_to_f32(v);
  };
  const int l = i % 32;
  const auto two_bits = [&](int offset) {
    return p[offset + i / 128 * 32 + l] >> (i / 32 % 4 * 2) & 3;
  };
  switch (dtype) {
    case DType::kQ2_K: {
      const int scales = p[i / 16];
      return {half(80) * static_cast<float>(scales & 15), two_bits(16),
              -half(82) * static_cast<float>(scales >> 4), true};
    }
    case DType::kQ3_K: {
      const int j = i / 16;
      const int low = j < 8 ? p[96 + j] & 15 : p[96 + j - 8] >> 4;
      const int s = low + (p[104 + j % 4] >> (j / 4 * 2) & 3) * 16 - 32;
      const int high = p[l] >> (i / 32) & 1;
      return {half(108) * static_cast<float>(s), two_bits(32) + 4 * high - 4};
    }
    case DType::kQ6_K: {
      const int byte = p[i / 128 * 64 + i % 64];
      const int low = i % 128 < 64 ? byte & 15 : byte >> 4;
      const int s = static_cast<std::int8_t>(p[192 + i / 16]);
      return {half(208) * static_cast<float>(s), low + 16 * two_bits(128) - 32};
    }
    default:
      break;
  }
  const bool fifth = dtype == DType::kQ5_K;
  const int j = i / 32;
  const std::uint8_t* const s = p + 4;
  const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) + (s[j - 4] >> 6) * 16;
  const int min = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) + (s[j] >> 6) * 16;
  const int byte = p[(fifth ? 48 : 16) + j / 2 * 32 + l];
  const int low = j % 2 == 0 ? byte & 15 : byte >> 4;
  const int high = fifth ? p[16 + l] >> j & 1 : 0;
  return {half(0) * static_cast<float>(scale), low + 16 * high, -half(2) * static_cast<float>(min),
          true};
}

inline WeightParts weight_at(const Weights& w, std::int64_t r, std::int64_t k) {
  const DTypeInfo& type = info(w.dtype);
  const auto* const p =
      reinterpret_cast<const std::uint8_t*>(w.row(r)) + k / type.block_elements * type.block_bytes;
  const auto bits16 = [&](int offset) {
    std::uint16_t v = 0;
    std::memcpy(&v, p + offset, 2);
    return v;
  };
  const auto half = [&](int offset) { return f16_to_f32(bits16(offset)); };
  const auto i = static_cast<int>(k % type.block_elements);
  const auto nibble = [&](int offset) {
    const int byte = p[offset + i % 16];
    return i < 16 ? byte & 15 : byte >> 4;
  };
  const auto fifth = [&](int offset) { return (p[offset + i / 8] >> (i % 8) & 1) * 16; };
  constexpr int kIq4Nl[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                            1,    13,   25,  38,  53,  69,  89,  113};
  constexpr int kE2M1Doubled[] = {0, 1, 2, 3, 4, 6, 8, 12};
  switch (w.dtype) {
    case DType::kF32: {
      float f = 0;
      std::memcpy(&f, p, 4);
      return {f, 1};
    }
    case DType::kF16:
      return {half(0), 1};
    case DType::kBF16:
      return {bf16_to_f32(bits16(0)), 1};
    case DType::kQ4_0:
      return {half(0), nibble(2) - 8};
    case DType::kQ4_1:
      return {half(0), nibble(4), half(2), true};
    case DType::kQ5_0:
      return {half(0), nibble(6) + fifth(2) - 16};
    case DType::kQ5_1:
      return {half(0), nibble(8) + fifth(4), half(2), true};
    case DType::kQ8_0:
      return {half(0), static_cast<std::int8_t>(p[2 + i])};
    case DType::kIQ4_NL:
      return {half(0), kIq4Nl[nibble(2)]};
    case DType::kMXFP4: {
      const int q = kE2M1Doubled[nibble(1) & 7];
      return {std::ldexp(1.0F, p[0] - 128), nibble(1) < 8 ? q : -q};
    }
    default:
      break;
  }
  return weight_of_256(w.dtype, p, i);
}

}  // namespace heddle::test
