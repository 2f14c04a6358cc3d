#include "kernels/cpu/pack.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/half.h"

namespace heddle::cpu {
namespace {

// Source bytes per parallel region: large enough that a barrier costs nothing, small enough that
// pages of a mapped file are given back long before the next tensor.
constexpr std::int64_t kPanelBytes = std::int64_t{4} << 20;

template <typename T>
T load(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <typename T>
void store(std::byte* p, T v) {
  std::memcpy(p, &v, sizeof v);
}

// Where the parts of a quantised block are, in the checkpoint and in a group of kRows16.
struct BlockParts {
  int n_scales;     // f16 values before the quants: d, or d and m
  int n_words;      // 32-bit words of quants per row
  bool nibbles;     // 4-bit quants, else 8-bit
  int nibble_zero;  // what a 4-bit quant stands for when it is 0, negated
};

BlockParts block_parts(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {1, 4, true, 8};
    case DType::kQ4_1:
      return {2, 4, true, 0};
    case DType::kQ8_0:
      return {1, 8, false, 0};
    default:
      break;
  }
  HEDDLE_CHECK(info(dtype).quantised());
  return {};
}

// The nibbles of bytes 0, 2, 4, 6 of `low` (one per byte, the upper four bits clear) go to bits
// 0 .. 15, those of bytes 1, 3, 5, 7 to bits 16 .. 31.
std::uint32_t nibble_word(std::uint64_t low) {
  const auto gather = [](std::uint64_t v) {
    v &= 0x000F000F000F000FU;
    return static_cast<std::uint32_t>((v | v >> 12 | v >> 24 | v >> 36) & 0xFFFFU);
  };
  return gather(low) | gather(low >> 8) << 16;
}

std::uint32_t byte_word(std::uint32_t v) {  // bytes 0 1 2 3 -> 0 2 1 3
  return (v & 0xFF0000FFU) | (v & 0x0000FF00U) << 8 | (v >> 8 & 0x0000FF00U);
}

// One checkpoint block of one row into lane `lane` of a group's block.
void pack_block(const BlockParts& parts, const std::byte* from, std::byte* to, std::int64_t lane) {
  for (int s = 0; s < parts.n_scales; ++s) {
    store(to + s * 32 + lane * 2, load<std::uint16_t>(from + s * 2));
  }
  from += parts.n_scales * 2;
  to += parts.n_scales * 32 + lane * 4;
  if (!parts.nibbles) {
    for (int c = 0; c < 8; ++c) store(to + c * 64, byte_word(load<std::uint32_t>(from + c * 4)));
    return;
  }
  // The checkpoint keeps k = j in the low and k = j + 16 in the high nibble of byte j.
  constexpr std::uint64_t kLow = 0x0F0F0F0F0F0F0F0FU;
  for (int half = 0; half < 2; ++half) {
    const auto bytes = load<std::uint64_t>(from + half * 8);
    store(to + half * 64, nibble_word(bytes & kLow));
    store(to + (half + 2) * 64, nibble_word(bytes >> 4 & kLow));
  }
}

template <typename T>
void interleave_row(const std::byte* from, std::int64_t n, std::byte* to, std::int64_t lane) {
  for (std::int64_t k = 0; k < n; ++k) {
    store(to + (k * kGroupRows + lane) * static_cast<std::int64_t>(sizeof(T)),
          load<T>(from + k * static_cast<std::int64_t>(sizeof(T))));
  }
}

void pack_lane(
    DType dtype, const std::byte* from, std::int64_t n_cols, std::byte* group, std::int64_t lane) {
  const DTypeInfo& type = info(dtype);
  if (type.quantised()) {
    const BlockParts parts = block_parts(dtype);
    for (std::int64_t b = 0; b < n_cols / kBlock; ++b) {
      pack_block(parts, from + b * type.block_bytes, group + b * type.block_bytes * kGroupRows,
                 lane);
    }
  } else if (type.block_bytes == 4) {
    interleave_row<std::uint32_t>(from, n_cols, group, lane);
  } else {
    interleave_row<std::uint16_t>(from, n_cols, group, lane);
  }
}

template <typename T>
T plain_value(DType dtype, const std::byte* p) {
  if (dtype == DType::kF32) return load<float>(p);
  const auto bits = load<std::uint16_t>(p);
  return dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

// Block of one row whose scale s is at scales[s * scale_stride], byte or word quants behind.
template <typename T, typename Quant>
void dequantise_block(const BlockParts& parts,
                      const std::byte* scales,
                      std::int64_t scale_stride,
                      const Quant& quant,
                      T* out) {
  const T d = f16_to_f32(load<std::uint16_t>(scales));
  const bool has_min = parts.n_scales == 2;
  const T m = has_min ? f16_to_f32(load<std::uint16_t>(scales + scale_stride)) : T{0};
  for (int k = 0; k < kBlock; ++k) {
    const T product = d * static_cast<T>(quant(k) - parts.nibble_zero);
    out[k] = has_min ? product + m : product;
  }
}

int row_quant(const BlockParts& parts, const std::byte* q, int k) {
  if (!parts.nibbles) return load<std::int8_t>(q + k);
  const int byte = load<std::uint8_t>(q + k % 16);
  return k < 16 ? byte & 15 : byte >> 4;
}

int lane_quant(const BlockParts& parts, const std::byte* q, int k) {
  if (parts.nibbles) {
    const auto word = load<std::uint32_t>(q + k / 8 * 64);
    return static_cast<int>(word >> (k % 8 / 2 * 4 + k % 2 * 16) & 15U);
  }
  constexpr int kByteOf[4] = {0, 2, 1, 3};
  return load<std::int8_t>(q + k / 4 * 64 + kByteOf[k % 4]);
}

// suffix[i] = the smallest source row among panels i, i+1, ...: rows before it are done once panel
// i - 1 is.
std::vector<std::int64_t> first_row_needed(const std::vector<std::int32_t>& order,
                                           std::int64_t n_rows,
                                           std::int64_t panel_rows,
                                           std::int64_t n_panels) {
  std::vector<std::int64_t> first(static_cast<std::size_t>(n_panels) + 1, n_rows);
  for (std::int64_t p = n_panels - 1; p >= 0; --p) {
    std::int64_t smallest = first[static_cast<std::size_t>(p) + 1];
    for (std::int64_t r = p * panel_rows; r < std::min(n_rows, (p + 1) * panel_rows); ++r) {
      const std::int64_t source = order.empty() ? r : order[static_cast<std::size_t>(r)];
      smallest = std::min(smallest, source);
    }
    first[static_cast<std::size_t>(p)] = smallest;
  }
  return first;
}

void check_permutation(const std::vector<std::int32_t>& order, std::int64_t n_rows) {
  if (order.empty()) return;
  HEDDLE_CHECK(static_cast<std::int64_t>(order.size()) == n_rows);
  std::vector<bool> seen(order.size(), false);
  for (const std::int32_t r : order) {
    HEDDLE_CHECK(r >= 0 && r < n_rows && !seen[static_cast<std::size_t>(r)]);
    seen[static_cast<std::size_t>(r)] = true;
  }
}

}  // namespace

const std::vector<DType>& weight_dtypes() {
  static const std::vector<DType> kTypes = {DType::kF32,  DType::kF16,  DType::kBF16,
                                            DType::kQ4_0, DType::kQ4_1, DType::kQ8_0};
  return kTypes;
}

PackedMatrix pack(const TensorView& rows,
                  WeightLayout layout,
                  const std::vector<std::int32_t>& row_order,
                  const std::function<void(std::size_t, std::size_t)>& read,
                  ThreadPool& pool) {
  const std::vector<DType>& known = weight_dtypes();
  if (std::find(known.begin(), known.end(), rows.dtype) == known.end()) {
    throw bad_input("a weight of dtype " + std::string(name(rows.dtype)) +
                    " cannot be used on the CPU; known: F32, F16, BF16, Q4_0, Q4_1, Q8_0");
  }
  HEDDLE_CHECK(rows.rank == 2);
  PackedMatrix packed;
  packed.n_rows = rows.dim(0);
  packed.n_cols = rows.dim(1);
  packed.dtype = rows.dtype;
  packed.layout = layout;
  const std::int64_t n_rows = packed.n_rows;
  const std::int64_t stride = row_bytes(rows.dtype, packed.n_cols);
  check_permutation(row_order, n_rows);
  const std::int64_t n_groups = (n_rows + kGroupRows - 1) / kGroupRows;
  const std::int64_t stored_rows = layout == WeightLayout::kRows ? n_rows : n_groups * kGroupRows;
  packed.data = host_buffer(static_cast<std::size_t>(stored_rows * stride));

  const std::int64_t panel_groups =
      std::max<std::int64_t>(1, kPanelBytes / std::max<std::int64_t>(1, kGroupRows * stride));
  const std::int64_t n_panels = (n_groups + panel_groups - 1) / panel_groups;
  const std::vector<std::int64_t> needed =
      first_row_needed(row_order, n_rows, panel_groups * kGroupRows, n_panels);
  const auto* const source = rows.as<const std::byte>();
  std::byte* const target = packed.data.data();
  for (std::int64_t p = 0; p < n_panels; ++p) {
    const std::int64_t first_group = p * panel_groups;
    pool.run(std::min(panel_groups, n_groups - first_group), [&](std::int64_t task, int) {
      const std::int64_t group = first_group + task;
      const std::int64_t begin = group * kGroupRows;
      for (std::int64_t r = begin; r < std::min(n_rows, begin + kGroupRows); ++r) {
        const std::int64_t at = row_order.empty() ? r : row_order[static_cast<std::size_t>(r)];
        if (layout == WeightLayout::kRows) {
          std::memcpy(target + r * stride, source + at * stride, static_cast<std::size_t>(stride));
        } else {
          pack_lane(rows.dtype, source + at * stride, packed.n_cols, target + begin * stride,
                    r - begin);
        }
      }
    });
    const std::int64_t done = needed[static_cast<std::size_t>(p)];
    const std::int64_t now = needed[static_cast<std::size_t>(p) + 1];
    if (read && now > done) {
      read(static_cast<std::size_t>(done * stride), static_cast<std::size_t>(now * stride));
    }
  }
  return packed;
}

template <typename T>
void dequantise_row(const PackedMatrix& matrix, std::int64_t row, T* out) {
  const DTypeInfo& type = info(matrix.dtype);
  const std::int64_t stride = row_bytes(matrix.dtype, matrix.n_cols);
  const bool interleaved = matrix.layout == WeightLayout::kRows16;
  const std::int64_t lane = interleaved ? row % kGroupRows : 0;
  const std::byte* from = matrix.data.data() + (row - lane) * stride;
  const std::int64_t step = (interleaved ? kGroupRows : 1) * type.block_bytes;
  if (!type.quantised()) {
    from += lane * type.block_bytes;
    for (std::int64_t k = 0; k < matrix.n_cols; ++k) {
      out[k] = plain_value<T>(matrix.dtype, from + k * step);
    }
    return;
  }
  const BlockParts parts = block_parts(matrix.dtype);
  for (std::int64_t b = 0; b < matrix.n_cols / kBlock; ++b, from += step, out += kBlock) {
    if (interleaved) {
      const std::byte* const q = from + parts.n_scales * 32 + lane * 4;
      dequantise_block(
          parts, from + lane * 2, 32, [&](int k) { return lane_quant(parts, q, k); }, out);
    } else {
      const std::byte* const q = from + parts.n_scales * 2;
      dequantise_block(
          parts, from, 2, [&](int k) { return row_quant(parts, q, k); }, out);
    }
  }
}

template void dequantise_row(const PackedMatrix&, std::int64_t, float*);
template void dequantise_row(const PackedMatrix&, std::int64_t, double*);

}  // namespace heddle::cpu
