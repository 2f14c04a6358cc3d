#pragma once
// Single elements of weight rows as the checkpoint has them (WeightLayout::kRows), exact: the f32
// operations of kernels/cpu/quant_blocks.cpp, which has the formats. For look-ups of a few rows;
// every element reads its block's scales again.

#include "kernels/cuda/convert.cuh"

namespace heddle::cuda {

namespace weight_rows {

using Bytes = const std::uint8_t*;

__device__ __forceinline__ float half_at(Bytes p) {
  return to_f32(__ushort_as_half(static_cast<unsigned short>(p[0] | p[1] << 8)));
}
__device__ __forceinline__ float bf16_at(Bytes p) {
  return __uint_as_float(static_cast<unsigned>(p[0]) << 16 | static_cast<unsigned>(p[1]) << 24);
}
__device__ __forceinline__ float f32_at(Bytes p) {
  return __uint_as_float(static_cast<unsigned>(p[0]) | static_cast<unsigned>(p[1]) << 8 |
                         static_cast<unsigned>(p[2]) << 16 | static_cast<unsigned>(p[3]) << 24);
}
/// Byte j holds j in its lower half, j + n in its upper half.
__device__ __forceinline__ int nibble(Bytes p, int n, int j) {
  return p[j % n] >> (j / n * 4) & 15;
}
/// Byte 32 h + l holds 128 h + 32 i + l in bits 2 i.
__device__ __forceinline__ int crumb(Bytes p, int k) {
  return p[k / 128 * 32 + k % 32] >> (k % 128 / 32 * 2) & 3;
}
/// Bit i of byte l is the bit of 32 i + l.
__device__ __forceinline__ int bit_of_32(Bytes p, int k) {
  return p[k % 32] >> (k / 32) & 1;
}
/// 2^(e - 128); the two smallest are subnormal.
__device__ __forceinline__ float e8m0(unsigned e) {
  return __uint_as_float(e < 2U ? 0x00200000U << e : (e - 1U) << 23);
}
/// -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113.
__device__ __forceinline__ int iq4_nl(int q) {
  const std::uint64_t values = q < 8 ? 0xF6EADDCFBFAD9881U : 0x7159453526190D01U;
  return static_cast<std::int8_t>(values >> (8 * (q & 7)));
}
/// Doubled E2M1.
__device__ __forceinline__ int mxfp4(int q) {
  const int magnitude = q & 7;
  const int value = magnitude < 4 ? magnitude : (2 + (magnitude & 1)) << (magnitude / 2 - 1);
  return (q & 8) != 0 ? -value : value;
}

/// The element k of a 32-element block.
__device__ __forceinline__ float of_32(DType dtype, Bytes p, int k) {
  switch (dtype) {
    case DType::kQ4_0:
      return half_at(p) * static_cast<float>(nibble(p + 2, 16, k) - 8);
    case DType::kIQ4_NL:
      return half_at(p) * static_cast<float>(iq4_nl(nibble(p + 2, 16, k)));
    case DType::kQ4_1:
      return half_at(p) * static_cast<float>(nibble(p + 4, 16, k)) + half_at(p + 2);
    case DType::kQ5_0:
      return half_at(p) *
             static_cast<float>((nibble(p + 6, 16, k) | (p[2 + k / 8] >> (k % 8) & 1) << 4) - 16);
    case DType::kQ5_1:
      return half_at(p) *
                 static_cast<float>(nibble(p + 8, 16, k) | (p[4 + k / 8] >> (k % 8) & 1) << 4) +
             half_at(p + 2);
    case DType::kQ8_0:
      return half_at(p) * static_cast<float>(static_cast<std::int8_t>(p[2 + k]));
    default:
      return e8m0(p[0]) * static_cast<float>(mxfp4(nibble(p + 1, 16, k)));
  }
}

/// One of Q4_K's and Q5_K's eight 6-bit scales and minima in 12 bytes.
struct ScaleAndMin {
  int scale;
  int min;
};
__device__ __forceinline__ ScaleAndMin six_bit_pair(Bytes p, int j) {
  if (j < 4) return {p[j] & 63, p[j + 4] & 63};
  return {(p[j + 4] & 15) | p[j - 4] >> 6 << 4, p[j + 4] >> 4 | p[j] >> 6 << 4};
}
/// One of Q3_K's sixteen 6-bit scales in 12 bytes, 32 standing for 0.
__device__ __forceinline__ int six_bits(Bytes p, int j) {
  const int low = p[j % 8] >> (j / 8 * 4) & 15;
  const int high = p[8 + j % 4] >> (j / 4 * 2) & 3;
  return (low | high << 4) - 32;
}

/// The element k of a 256-element block.
__device__ __forceinline__ float of_256(DType dtype, Bytes p, int k) {
  switch (dtype) {
    case DType::kQ2_K: {
      const int pair = p[k / 16];
      const float product =
          half_at(p + 80) * static_cast<float>(pair & 15) * static_cast<float>(crumb(p + 16, k));
      return product - half_at(p + 82) * static_cast<float>(pair >> 4);
    }
    case DType::kQ3_K:
      return half_at(p + 108) * static_cast<float>(six_bits(p + 96, k / 16)) *
             static_cast<float>(crumb(p + 32, k) + 4 * bit_of_32(p, k) - 4);
    case DType::kQ6_K: {
      const int low = nibble(p + k / 128 * 64, 64, k % 128);
      return half_at(p + 208) * static_cast<float>(static_cast<std::int8_t>(p[192 + k / 16])) *
             static_cast<float>((low | crumb(p + 128, k) << 4) - 32);
    }
    default: {
      const bool fifth = dtype == DType::kQ5_K;
      const ScaleAndMin pair = six_bit_pair(p + 4, k / 32);
      int quant = nibble(p + (fifth ? 48 : 16) + k / 64 * 32, 32, k % 64);
      if (fifth) quant += 16 * bit_of_32(p + 16, k);
      const float product = half_at(p) * static_cast<float>(pair.scale) * static_cast<float>(quant);
      return product - half_at(p + 2) * static_cast<float>(pair.min);
    }
  }
}

}  // namespace weight_rows

/// Element k of the row that starts at `row`, whose blocks have that size.
__device__ inline float weight_at(
    DType dtype, const std::byte* row, std::int64_t k, int block_elements, int block_bytes) {
  const auto* const p =
      reinterpret_cast<const std::uint8_t*>(row) + k / block_elements * block_bytes;
  if (dtype == DType::kF32) return weight_rows::f32_at(p);
  if (dtype == DType::kF16) return weight_rows::half_at(p);
  if (dtype == DType::kBF16) return weight_rows::bf16_at(p);
  const int in_block = static_cast<int>(k % block_elements);
  return block_elements == 32 ? weight_rows::of_32(dtype, p, in_block)
                              : weight_rows::of_256(dtype, p, in_block);
}

}  // namespace heddle::cuda
