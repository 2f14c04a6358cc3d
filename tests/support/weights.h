#pragma once
// Random weight matrices in checkpoint form and their values, written down from the formulas of the
// formats alone so that they can judge the packing and the kernels.

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

/// Values of ordinary size; quants take every value of their range.
inline Weights random_weights(DType dtype, std::int64_t n_rows, std::int64_t n_cols, Random& rng) {
  Weights w;
  w.dtype = dtype;
  w.n_rows = n_rows;
  w.n_cols = n_cols;
  w.bytes.resize(static_cast<std::size_t>(n_rows * row_bytes(dtype, n_cols)));
  std::byte* at = w.bytes.data();
  const auto put16 = [&at](std::uint16_t v) {
    std::memcpy(at, &v, 2);
    at += 2;
  };
  const DTypeInfo& type = info(dtype);
  for (std::int64_t b = 0; b < n_rows * n_cols / type.block_elements; ++b) {
    if (!type.quantised()) {
      const float f = rng.normal() * 0.1F;
      if (dtype == DType::kF32) {
        std::memcpy(at, &f, 4);
        at += 4;
      } else {
        put16(dtype == DType::kF16 ? f32_to_f16(f) : f32_to_bf16(f));
      }
      continue;
    }
    put16(f32_to_f16(rng.uniform(-0.02F, 0.02F)));
    if (dtype == DType::kQ4_1) put16(f32_to_f16(rng.uniform(-0.1F, 0.1F)));
    const int n = dtype == DType::kQ8_0 ? 32 : 16;
    for (int i = 0; i < n; ++i) *at++ = static_cast<std::byte>(rng.bits() & 0xff);
  }
  return w;
}

/// The parts of one weight: value = d * q, + m if the type has a minimum (types that are not
/// quantised: d = value, q = 1).
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

inline WeightParts weight_at(const Weights& w, std::int64_t r, std::int64_t k) {
  const DTypeInfo& type = info(w.dtype);
  const std::byte* const p = w.row(r) + k / type.block_elements * type.block_bytes;
  const auto half = [&](int offset) {
    std::uint16_t v = 0;
    std::memcpy(&v, p + offset, 2);
    return v;
  };
  const auto i = static_cast<int>(k % type.block_elements);
  const auto nibble = [&](int offset) {
    const int byte = std::to_integer<int>(p[offset + i % 16]);
    return i < 16 ? byte & 15 : byte >> 4;
  };
  switch (w.dtype) {
    case DType::kF16:
      return {f16_to_f32(half(0)), 1};
    case DType::kBF16:
      return {bf16_to_f32(half(0)), 1};
    case DType::kQ4_0:
      return {f16_to_f32(half(0)), nibble(2) - 8};
    case DType::kQ4_1:
      return {f16_to_f32(half(0)), nibble(4), f16_to_f32(half(2)), true};
    case DType::kQ8_0:
      return {f16_to_f32(half(0)), static_cast<std::int8_t>(std::to_integer<int>(p[2 + i]))};
    default:
      break;
  }
  float f = 0;
  std::memcpy(&f, p, 4);
  return {f, 1};
}

}  // namespace heddle::test
