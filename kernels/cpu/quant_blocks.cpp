#include "kernels/cpu/quant_blocks.h"

#include <bit>
#include <cstring>

#include "base/error.h"
#include "base/half.h"

namespace heddle::cpu {
namespace {

template <typename T>
T load(const void* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <typename T>
void store(std::byte* p, T v) {
  std::memcpy(p, &v, sizeof v);
}

// ---- checkpoint blocks; `p` is the block's bytes, `q` the quants

using Bytes = const std::uint8_t*;

// Byte j holds j in its lower half, j + n in its upper half.
void read_nibbles(Bytes p, int n, std::uint8_t* q) {
  for (int j = 0; j < n; ++j) {
    q[j] = p[j] & 15;
    q[j + n] = p[j] >> 4;
  }
}

// Byte 32 h + l holds 128 h + 32 i + l in bits 2 i.
template <typename Use>
void read_crumbs(Bytes p, const Use& use) {
  for (int h = 0; h < 2; ++h) {
    for (int i = 0; i < 4; ++i) {
      for (int l = 0; l < 32; ++l) use(128 * h + 32 * i + l, p[32 * h + l] >> (2 * i) & 3);
    }
  }
}

// Bit i of byte l is the bit of 32 i + l; added with the given weight.
void add_bits_of_32(Bytes p, int weight, std::uint8_t* q) {
  for (int i = 0; i < 8; ++i) {
    for (int l = 0; l < 32; ++l) {
      q[32 * i + l] = static_cast<std::uint8_t>(q[32 * i + l] + (p[l] >> i & 1) * weight);
    }
  }
}

void read_fifth_bits(Bytes p, std::uint8_t* q) {
  const auto word = load<std::uint32_t>(p);
  for (int j = 0; j < 32; ++j) q[j] = static_cast<std::uint8_t>(q[j] | (word >> j & 1) << 4);
}

// Eight 6-bit scales and eight 6-bit minima in 12 bytes.
void read_six_bit_pairs(Bytes p, QuantBlock& block) {
  for (std::size_t j = 0; j < 4; ++j) {
    block.scales[j] = p[j] & 63;
    block.mins[j] = p[j + 4] & 63;
    block.scales[j + 4] = static_cast<std::uint8_t>((p[j + 8] & 15) | p[j] >> 6 << 4);
    block.mins[j + 4] = static_cast<std::uint8_t>(p[j + 8] >> 4 | p[j + 4] >> 6 << 4);
  }
}

// Sixteen 6-bit scales in 12 bytes, 32 standing for 0.
void read_six_bits(Bytes p, QuantBlock& block) {
  for (std::size_t j = 0; j < 16; ++j) {
    const int low = p[j % 8] >> (j / 8 * 4) & 15;
    const int high = p[8 + j % 4] >> (j / 4 * 2) & 3;
    block.scales[j] = static_cast<std::uint8_t>((low | high << 4) - 32);
  }
}

void read_q6_k(Bytes p, QuantBlock& block) {
  std::uint8_t* const q = block.quants.data();
  read_nibbles(p, 64, q);
  read_nibbles(p + 64, 64, q + 128);
  read_crumbs(p + 128,
              [q](int k, int high) { q[k] = static_cast<std::uint8_t>(q[k] | high << 4); });
  std::memcpy(block.scales.data(), p + 192, 16);
  block.d = load<std::uint16_t>(p + 208);
}

void read_q2_k(Bytes p, QuantBlock& block) {
  std::memcpy(block.scales.data(), p, 16);
  read_crumbs(p + 16, [&block](int k, int quant) {
    block.quants[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(quant);
  });
  block.d = load<std::uint16_t>(p + 80);
  block.m = load<std::uint16_t>(p + 82);
}

void read_q3_k(Bytes p, QuantBlock& block) {
  read_crumbs(p + 32, [&block](int k, int quant) {
    block.quants[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(quant);
  });
  add_bits_of_32(p, 4, block.quants.data());
  read_six_bits(p + 96, block);
  block.d = load<std::uint16_t>(p + 108);
}

void read_q4_k_q5_k(Bytes p, bool fifth, QuantBlock& block) {
  block.d = load<std::uint16_t>(p);
  block.m = load<std::uint16_t>(p + 2);
  read_six_bit_pairs(p + 4, block);
  const Bytes low = p + (fifth ? 48 : 16);
  for (int i = 0; i < 4; ++i) read_nibbles(low + 32 * i, 32, block.quants.data() + 64 * i);
  if (fifth) add_bits_of_32(p + 16, 16, block.quants.data());
}

// ---- planes of kRows16

// The values (of `kBits` bits) of bytes 0, 2, 4, 6 side by side.
template <int kBits>
std::uint32_t gather(std::uint64_t bytes) {
  constexpr int kStep = 16 - kBits;
  const std::uint64_t v = bytes & ((1U << kBits) - 1) * 0x0001000100010001U;
  const std::uint64_t all = v | v >> kStep | v >> 2 * kStep | v >> 3 * kStep;
  return static_cast<std::uint32_t>(all & ((std::uint64_t{1} << 4 * kBits) - 1));
}

// One word of a plane from 32 / kBits quants, shifted down by kFrom.
template <int kBits, int kFrom>
std::uint32_t plane_word(const std::uint8_t* q) {
  if constexpr (kBits == 8) {
    const auto v = load<std::uint32_t>(q);  // bytes 0 1 2 3 -> 0 2 1 3
    return (v & 0xFF0000FFU) | (v & 0x0000FF00U) << 8 | (v >> 8 & 0x0000FF00U);
  } else {
    std::uint32_t word = 0;
    for (int i = 0; i < 4 / kBits; ++i) {
      const std::uint64_t v = load<std::uint64_t>(q + 8 * i) >> kFrom;
      word |= (gather<kBits>(v) | gather<kBits>(v >> 8) << 16) << (4 * kBits * i);
    }
    return word;
  }
}

template <int kBits, int kFrom>
void write_plane(const std::uint8_t* q, std::byte* to) {
  for (int c = 0; c < kBits; ++c) store(to + c * 64, plane_word<kBits, kFrom>(q + c * 32 / kBits));
}

// 32 quants of one lane.
void write_planes(const QuantFormat& format, const std::uint8_t* q, std::byte* to) {
  switch (format.low_bits) {
    case 2:
      write_plane<2, 0>(q, to);
      break;
    case 4:
      write_plane<4, 0>(q, to);
      break;
    default:
      write_plane<8, 0>(q, to);
      break;
  }
  to += format.low_bytes();
  if (format.high_bits == 0) return;
  if (format.low_bits == 2) {
    write_plane<1, 2>(q, to);
  } else if (format.high_bits == 1) {
    write_plane<1, 4>(q, to);
  } else {
    write_plane<2, 4>(q, to);
  }
}

unsigned plane_value(int bits, const std::byte* plane, int k) {
  const int per_word = 32 / bits;
  const auto word = load<std::uint32_t>(plane + k / per_word * 64);
  return word >> plane_bit(bits, k % per_word) & ((1U << bits) - 1);
}

float e8m0(std::uint8_t e) {  // 2^(e - 128); the two smallest are subnormal
  return std::bit_cast<float>(e < 2 ? 0x00200000U << e : (e - 1U) << 23);
}

}  // namespace

void read_checkpoint_block(DType dtype, const std::byte* from, QuantBlock& block) {
  const auto* const p = reinterpret_cast<const std::uint8_t*>(from);
  std::uint8_t* const q = block.quants.data();
  const auto d = [&] { block.d = load<std::uint16_t>(p); };
  const auto d_and_m = [&] {
    d();
    block.m = load<std::uint16_t>(p + 2);
  };
  switch (dtype) {
    case DType::kQ4_0:
    case DType::kIQ4_NL:
      d();
      return read_nibbles(p + 2, 16, q);
    case DType::kQ4_1:
      d_and_m();
      return read_nibbles(p + 4, 16, q);
    case DType::kQ5_0:
      d();
      read_nibbles(p + 6, 16, q);
      return read_fifth_bits(p + 2, q);
    case DType::kQ5_1:
      d_and_m();
      read_nibbles(p + 8, 16, q);
      return read_fifth_bits(p + 4, q);
    case DType::kQ8_0:
      d();
      std::memcpy(q, p + 2, 32);
      return;
    case DType::kQ2_K:
      return read_q2_k(p, block);
    case DType::kQ3_K:
      return read_q3_k(p, block);
    case DType::kQ4_K:
      return read_q4_k_q5_k(p, false, block);
    case DType::kQ5_K:
      return read_q4_k_q5_k(p, true, block);
    case DType::kQ6_K:
      return read_q6_k(p, block);
    case DType::kMXFP4:
      block.scales[0] = p[0];
      return read_nibbles(p + 1, 16, q);
    default:
      break;
  }
  HEDDLE_CHECK(quant_format(dtype).low_bits != 0);
}

void write_lane(const QuantFormat& format,
                const QuantBlock& block,
                std::byte* to,
                std::int64_t lane) {
  if (format.d_bytes() > 0) store(to + lane * 2, block.d);
  if (format.has_min) store(to + 32 + lane * 2, block.m);
  for (int i = 0; i < format.n_scales(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    store(to + format.d_bytes() + i * 16 + lane, block.scales[at]);
    if (format.head_bytes() > format.min_offset()) {
      store(to + format.min_offset() + i * 16 + lane, block.mins[at]);
    }
  }
  to += format.head_bytes() + lane * 4;
  for (int k = 0; k < format.block(); k += 32, to += format.plane_bytes()) {
    write_planes(format, block.quants.data() + k, to);
  }
}

void read_lane(const QuantFormat& format,
               const std::byte* from,
               std::int64_t lane,
               QuantBlock& to) {
  if (format.d_bytes() > 0) to.d = load<std::uint16_t>(from + lane * 2);
  if (format.has_min) to.m = load<std::uint16_t>(from + 32 + lane * 2);
  for (int i = 0; i < format.n_scales(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    to.scales[at] = load<std::uint8_t>(from + format.d_bytes() + i * 16 + lane);
    if (format.head_bytes() > format.min_offset()) {
      to.mins[at] = load<std::uint8_t>(from + format.min_offset() + i * 16 + lane);
    }
  }
  from += format.head_bytes() + lane * 4;
  for (int k = 0; k < format.block(); ++k) {
    const std::byte* const planes = from + k / 32 * format.plane_bytes();
    unsigned quant = plane_value(format.low_bits, planes, k % 32);
    if (format.high_bits > 0) {
      const std::byte* const high = planes + format.low_bytes();
      quant |= plane_value(format.high_bits, high, k % 32) << format.low_bits;
    }
    to.quants[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(quant);
  }
}

template <typename T>
void dequantise_block(const QuantFormat& format, const QuantBlock& block, T* out) {
  const T d = format.scales == Scales::kE8M0 ? e8m0(block.scales[0]) : f16_to_f32(block.d);
  const T m = f16_to_f32(block.m);
  const bool packed_min = format.scales == Scales::kSuperU4;
  const int part = 32 / format.parts;
  for (int k = 0; k < format.block(); ++k) {
    const auto at = static_cast<std::size_t>(k);
    const auto scale = static_cast<std::size_t>(k / part);
    int quant = block.quants[at];
    if (format.low_bits == 8) quant = static_cast<std::int8_t>(quant);
    if (format.table != nullptr) quant = format.table->values[quant];
    quant -= format.zero();
    if (!format.super()) {
      out[k] = format.has_min ? d * static_cast<T>(quant) + m : d * static_cast<T>(quant);
      continue;
    }
    int s = block.scales[scale];
    int sm = block.mins[scale];
    if (packed_min) {
      sm = s >> 4;
      s &= 15;
    }
    if (format.scales == Scales::kSuperS8) s = static_cast<std::int8_t>(s);
    const T product = d * static_cast<T>(s) * static_cast<T>(quant);
    out[k] = format.has_min ? product - m * static_cast<T>(sm) : product;
  }
}

template void dequantise_block(const QuantFormat&, const QuantBlock&, float*);
template void dequantise_block(const QuantFormat&, const QuantBlock&, double*);

}  // namespace heddle::cpu
