#pragma once
// What a quantised type is made of, once for packing, dequantising and the matmul loops. A new type
// is a description here, a reader of its checkpoint block in quant_blocks.cpp, and its line in the
// lists of pack.cpp and matmul_quantised.h.
//
// A weight is d * s * (quant - zero), or + m or - dmin * sm with a minimum; quant may go through a
// table. d and dmin are f16 (or d a power of two), s and sm integers of at most 8 bits. So d * s
// and dmin * sm have at most 11 + 8 significant bits, d * s * quant at most 24: exact in f32.

#include <cstdint>

#include "base/dtype.h"

namespace heddle::cpu {

/// Where the scale of 32 (or 16) weights comes from.
enum class Scales : std::uint8_t {
  kF16,      // f16 d, and f16 m with a minimum
  kE8M0,     // a byte e: d = 2^(e - 128)
  kSuperU8,  // per 256: f16 d, and f16 dmin with a minimum; per part: u8 s, and u8 sm
  kSuperS8,  // per 256: f16 d; per part: s8 s
  kSuperU4,  // per 256: f16 d and dmin; per part: s in the lower, sm in the upper half of a byte
};

/// Quants as the tables of the formats have them; E2M1 numbers are doubled.
struct QuantTable {
  std::int8_t values[16] = {};
};
inline constexpr QuantTable kIq4NlTable = {
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}};
inline constexpr QuantTable kMxfp4Table = {
    {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}};

struct QuantFormat {
  int low_bits = 0;   // of a quant in the first plane: 2, 4 or 8 (then signed)
  int high_bits = 0;  // above those, in a second plane: 0, 1 or 2
  int zero_bits = 0;  // the quant that stands for 0 is 2^zero_bits; 0: quants are what they say
  Scales scales = Scales::kF16;
  bool has_min = false;
  int parts = 1;  // scales per 32 weights: 1 or 2
  const QuantTable* table = nullptr;

  constexpr bool super() const { return scales >= Scales::kSuperU8; }
  constexpr int block() const { return super() ? 256 : 32; }  // weights with one d
  constexpr int zero() const { return zero_bits == 0 ? 0 : 1 << zero_bits; }

  // A block of kRows16 (pack.h), 16 rows:
  constexpr int n_scales() const { return super() ? 8 * parts : scales == Scales::kE8M0 ? 1 : 0; }
  constexpr int d_bytes() const {  // f16 d[16], f16 m or dmin[16]
    return scales == Scales::kE8M0 ? 0 : has_min ? 64 : 32;
  }
  constexpr int min_offset() const {  // u8 sm[n][16], behind u8 s[n][16]
    return d_bytes() + n_scales() * 16;
  }
  constexpr int head_bytes() const {
    return min_offset() + (scales == Scales::kSuperU8 && has_min ? n_scales() * 16 : 0);
  }
  constexpr int low_bytes() const { return 64 * low_bits; }  // of 32 weights of 16 rows
  constexpr int plane_bytes() const { return 64 * (low_bits + high_bits); }
  constexpr int block_bytes() const { return head_bytes() + block() / 32 * plane_bytes(); }
};

/// Of a quantised type (low_bits is 0 for others).
constexpr QuantFormat quant_format(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {4, 0, 3};
    case DType::kQ4_1:
      return {4, 0, 0, Scales::kF16, true};
    case DType::kQ5_0:
      return {4, 1, 4};
    case DType::kQ5_1:
      return {4, 1, 0, Scales::kF16, true};
    case DType::kQ8_0:
      return {8, 0, 0};
    case DType::kQ2_K:
      return {2, 0, 0, Scales::kSuperU4, true, 2};
    case DType::kQ3_K:
      return {2, 1, 2, Scales::kSuperS8, false, 2};
    case DType::kQ4_K:
      return {4, 0, 0, Scales::kSuperU8, true};
    case DType::kQ5_K:
      return {4, 1, 0, Scales::kSuperU8, true};
    case DType::kQ6_K:
      return {4, 2, 5, Scales::kSuperS8, false, 2};
    case DType::kIQ4_NL:
      return {4, 0, 0, Scales::kF16, false, 1, &kIq4NlTable};
    case DType::kMXFP4:
      return {4, 0, 0, Scales::kE8M0, false, 1, &kMxfp4Table};
    default:
      return {};
  }
}

/// Bit of an element in a 32-bit word of a plane of `bits`-bit quants: element j of the 32 / bits
/// that the word holds. Even elements fill the lower half in order, odd ones the upper half, so
/// that a shift and a mask give the int16 pair (j, j + 1).
constexpr int plane_bit(int bits, int j) {
  return j / 2 * bits + j % 2 * 16;
}

}  // namespace heddle::cpu
