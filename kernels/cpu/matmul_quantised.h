// The matmul loops over quantised weights, written once over a vector type V (matmul_impl.h, which
// includes this, says what V is) and a QuantFormat.
//
// Exactness: |x| <= 32767 and quants below 8 bits are at most 32 from their zero, so the integer
// sum of 16 products is at most 16 * 32 * 32767 < 2^24, as is that of 32 products of 4 bits: their
// conversion to f32 is exact. Sums of 32 products of 5 bits (Q5_K) stay below 2^25, of 8 bits
// (Q8_0, IQ4_NL) below 2^27: they fit int32 and the conversion rounds to even. Those of K types are
// shifted by at most kMaxShift before it: 32 * 31 * 32767 * 2^6 < 2^31.

#pragma once
#include <utility>  // std::integer_sequence, a type

#include "kernels/cpu/quant_formats.h"

namespace heddle::cpu {
namespace {

// The int16 pair k = 2 kPair, 2 kPair + 1 of 16 rows, before its zero is subtracted.
template <typename V, DType T, int kPair>
HEDDLE_INLINE typename V::I weight_pair(const std::byte* planes, const typename V::I& table) {
  constexpr QuantFormat kF = quant_format(T);
  constexpr int kPerWord = 16 / kF.low_bits;
  constexpr int kAt = kPair % kPerWord;
  const typename V::I word = V::load_i(planes + kPair / kPerWord * 64);
  if constexpr (kF.low_bits == 8) {
    return kAt == 0 ? V::low_bytes(word) : V::high_bytes(word);
  } else if constexpr (kF.table != nullptr) {
    // Four nibbles at a time become four bytes, in the order of an 8-bit word.
    const typename V::I bytes = V::lookup(table, V::template nibbles<4 * (kAt % 2)>(word));
    return kAt < 2 ? V::low_bytes(bytes) : V::high_bytes(bytes);
  } else {
    const typename V::I low = V::template field<kF.low_bits, kF.low_bits * kAt>(word);
    if constexpr (kF.high_bits == 0) {
      return low;
    } else {
      constexpr int kHighPerWord = 16 / kF.high_bits;
      constexpr int kShift = kPair % kHighPerWord * kF.high_bits - kF.low_bits;
      constexpr std::uint32_t kMask = ((1U << kF.high_bits) - 1) << kF.low_bits;
      const std::byte* const high = planes + kF.low_bytes() + kPair / kHighPerWord * 64;
      return V::template merge<kShift, kMask * 0x10001U>(low, V::load_i(high));
    }
  }
}

// Calls use(pair, w) for the pairs of part kPart, as many parts as the format has in 32 weights.
template <typename V, DType T, int kPart, typename Use>
HEDDLE_INLINE void for_each_pair(const std::byte* planes,
                                 const typename V::I& table,
                                 const Use& use) {
  constexpr int kPairs = 16 / quant_format(T).parts;
  [&]<int... kPair>(std::integer_sequence<int, kPair...>) __attribute__((always_inline)) {
    (use(kPair, weight_pair<V, T, kPart * kPairs + kPair>(planes, table)), ...);
  }
  (std::make_integer_sequence<int, kPairs>());
}

// d and minimum of part `i` of a block, whose own are d and m.
template <typename V, DType T>
HEDDLE_INLINE typename V::F part_scale(const std::byte* block, int i, const typename V::F& d) {
  constexpr QuantFormat kF = quant_format(T);
  const std::byte* const s = block + kF.d_bytes() + i * 16;
  if constexpr (kF.scales == Scales::kSuperU8) return V::mul(d, V::load_u8(s));
  if constexpr (kF.scales == Scales::kSuperS8) return V::mul(d, V::load_s8(s));
  if constexpr (kF.scales == Scales::kSuperU4) return V::mul(d, V::load_low_u4(s));
  return d;
}
template <typename V, DType T>
HEDDLE_INLINE typename V::F part_min(const std::byte* block, int i, const typename V::F& m) {
  constexpr QuantFormat kF = quant_format(T);
  if constexpr (kF.scales == Scales::kSuperU8) {
    return V::mul(m, V::load_u8(block + kF.min_offset() + i * 16));
  } else if constexpr (kF.scales == Scales::kSuperU4) {
    return V::mul(m, V::load_high_u4(block + kF.d_bytes() + i * 16));
  } else {
    return m;
  }
}

// C columns of a tile of x, at one block of 32 k.
struct XBlock {
  const std::int16_t* q = nullptr;          // [C][32]
  const float* d = nullptr;                 // [C]
  const std::int32_t* shift = nullptr;      // [C]
  const float* sum = nullptr;               // [C][parts]
  const std::int32_t* minus_sum = nullptr;  // [C][parts]
};

// The exact sums of part kPart.
template <typename V, DType T, int C, int kPart>
HEDDLE_INLINE void integer_sums(const std::byte* planes,
                                const typename V::I& table,
                                const XBlock& x,
                                typename V::I (&result)[C]) {
  using I = typename V::I;
  constexpr QuantFormat kF = quant_format(T);
  constexpr int kPartK = 32 / kF.parts;
  // Two chains per sum where registers allow: integer addition may be reordered.
  constexpr int kChains = C <= 2 ? 2 : 1;
  I sum[C][kChains];
  for (int c = 0; c < C; ++c) {
    if constexpr (kF.zero() != 0) {
      sum[c][0] = V::template shift_left<kF.zero_bits>(V::set_i(x.minus_sum[c * kF.parts + kPart]));
    } else {
      sum[c][0] = V::zero_i();
    }
    if constexpr (kChains == 2) sum[c][1] = V::zero_i();
  }
  const std::int16_t* const q = x.q + kPart * kPartK;
  for_each_pair<V, T, kPart>(
      planes, table, [&](int pair, const I& w) __attribute__((always_inline)) {
        for (int c = 0; c < C; ++c) {
          I& chain = sum[c][pair % kChains];
          chain = V::dot(chain, w, V::set_pair(q + c * kBlockK + 2 * pair));
        }
      });
  for (int c = 0; c < C; ++c) {
    result[c] = sum[c][0];
    if constexpr (kChains == 2) result[c] = V::add_i(sum[c][0], sum[c][1]);
  }
}

// The next 32 k of a tile of `width` columns.
HEDDLE_INLINE void advance(XBlock& x, int width, int parts) {
  x.q += width * kBlockK;
  x.d += width;
  x.shift += width;
  x.sum += width * parts;
  x.minus_sum += width * parts;
}

// Adds 32 k to the sums of C columns; block and index name the scales. Blocks of 256 leave the d of
// x, which they have in common, to the caller.
template <typename V, DType T, int C>
HEDDLE_INLINE void add_block(const std::byte* block,
                             int index,
                             const typename V::F& d,
                             const typename V::F& m,
                             const typename V::I& table,
                             const XBlock& x,
                             typename V::F (&acc)[C]) {
  using F = typename V::F;
  using I = typename V::I;
  constexpr QuantFormat kF = quant_format(T);
  const std::byte* const planes = block + kF.head_bytes() + index * kF.plane_bytes();
  I sum[C];
  integer_sums<V, T, C, 0>(planes, table, x, sum);
  const F scale = part_scale<V, T>(block, index * kF.parts, d);
  for (int c = 0; c < C; ++c) {
    if constexpr (kF.super()) {
      acc[c] = V::fma(V::to_float(V::shift_left_by(sum[c], x.shift + c)), scale, acc[c]);
    } else {
      acc[c] = V::fma(V::to_float(sum[c]), V::mul(scale, V::set(x.d[c])), acc[c]);
    }
  }
  if constexpr (kF.parts == 2) {
    integer_sums<V, T, C, 1>(planes, table, x, sum);
    const F second = part_scale<V, T>(block, index * 2 + 1, d);
    for (int c = 0; c < C; ++c) {
      acc[c] = V::fma(V::to_float(V::shift_left_by(sum[c], x.shift + c)), second, acc[c]);
    }
  }
  if constexpr (kF.has_min) {
    for (int part = 0; part < kF.parts; ++part) {
      const F min = part_min<V, T>(block, index * kF.parts + part, m);
      for (int c = 0; c < C; ++c) {
        acc[c] = V::fma(min, V::set(x.sum[c * kF.parts + part]), acc[c]);
      }
    }
  }
}

// Columns [first, first + C) of the tile.
template <typename V, DType T, int C>
void quantised_tile(
    const std::byte* block, std::int64_t n_blocks, const XTile& x, int first, const OutTile& out) {
  using F = typename V::F;
  constexpr QuantFormat kF = quant_format(T);
  const typename V::I table = V::table(kF.table);
  const XSums& sums = kF.parts == 1 ? x.per_32 : x.per_16;
  XBlock at = {x.q + first * kBlockK, x.d + first, x.shift + first, sums.sum + first * kF.parts,
               sums.minus_sum + first * kF.parts};
  Parts<C> parts;
  const std::int64_t segment_blocks = n_blocks / out.segments;
  for (int s = 0; s < out.segments; ++s) {
    F acc[C];
    for (int c = 0; c < C; ++c) acc[c] = V::zero();
    for (std::int64_t b = 0; b < segment_blocks; b += kF.block() / kBlockK) {
      F d = V::zero();
      F m = V::zero();
      if constexpr (kF.scales == Scales::kE8M0) {
        d = V::load_e8m0(block);
      } else {
        d = V::load_f16(block);
      }
      if constexpr (kF.has_min) m = V::load_f16(block + 32);
      if constexpr (kF.has_min && kF.super()) m = V::sub(V::zero(), m);
      if constexpr (kF.super()) {
        F sum[C];
        for (int c = 0; c < C; ++c) sum[c] = V::zero();
        for (int i = 0; i < kF.block() / kBlockK; ++i) {
          add_block<V, T, C>(block, i, d, m, table, at, sum);
          advance(at, x.width, kF.parts);
        }
        for (int c = 0; c < C; ++c) acc[c] = V::fma(sum[c], V::set(at.d[c - x.width]), acc[c]);
      } else {
        add_block<V, T, C>(block, 0, d, m, table, at, acc);
        advance(at, x.width, kF.parts);
      }
      block += kF.block_bytes();
    }
    for (int c = 0; c < C; ++c) V::store(parts.sum[s][c], acc[c]);
  }
  OutTile columns = out;
  if (out.rows != nullptr) {
    columns.rows += first;
  } else {
    columns.out += first * out.stride;
    if (out.residual != nullptr) columns.residual += first * out.stride;
  }
  finish<V, C>(parts, columns);
}

// Types of which every width is compiled; the others take a tile in steps of these.
constexpr bool common(DType dtype) {
  return dtype == DType::kQ4_0 || dtype == DType::kQ4_1 || dtype == DType::kQ8_0 ||
         dtype == DType::kQ4_K || dtype == DType::kQ6_K;
}

template <typename V, DType T>
void quantised_group(const std::byte* group,
                     std::int64_t n_blocks,
                     const XTile& x,
                     const OutTile& out) {
  if constexpr (common(T)) {
    with_width<V::kMaxWidth>(x.width,
                             [&]<int C>() { quantised_tile<V, T, C>(group, n_blocks, x, 0, out); });
  } else {
    int first = 0;
    const auto take = [&]<int C>() {
      if constexpr (C <= V::kMaxWidth) {
        for (; x.width - first >= C; first += C) {
          quantised_tile<V, T, C>(group, n_blocks, x, first, out);
        }
      }
    };
    take.template operator()<12>();
    take.template operator()<4>();
    take.template operator()<2>();
    take.template operator()<1>();
  }
}

/// std::integer_sequence takes integers only (GCC 13 checks).
template <DType... kTypes>
struct DTypes {};

template <typename V>
void quantised(DType dtype,
               const std::byte* group,
               std::int64_t n_blocks,
               const XTile& x,
               const OutTile& out) {
  [&]<DType... kTypes>(DTypes<kTypes...>) {
    ((dtype == kTypes ? quantised_group<V, kTypes>(group, n_blocks, x, out) : void()), ...);
  }
  (DTypes<DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ2_K,
          DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kMXFP4>());
}

}  // namespace
}  // namespace heddle::cpu
