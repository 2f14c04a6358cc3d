#include "kernels/cpu/pack.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/half.h"
#include "kernels/cpu/quant_blocks.h"

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
    const QuantFormat format = quant_format(dtype);
    QuantBlock block;
    for (std::int64_t b = 0; b < n_cols / format.block(); ++b) {
      read_checkpoint_block(dtype, from + b * type.block_bytes, block);
      write_lane(format, block, group + b * format.block_bytes(), lane);
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

// suffix[i] = the smallest source row among panels i, i+1, ...: rows before it are done once panel
// i - 1 is; the last is n_source.
std::vector<std::int64_t> first_row_needed(const std::vector<std::int32_t>& order,
                                           std::int64_t n_source,
                                           std::int64_t n_rows,
                                           std::int64_t panel_rows,
                                           std::int64_t n_panels) {
  std::vector<std::int64_t> first(static_cast<std::size_t>(n_panels) + 1, n_source);
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

void check_order(const std::vector<std::int32_t>& order, std::int64_t n_rows) {
  std::vector<bool> seen(static_cast<std::size_t>(n_rows), false);
  for (const std::int32_t r : order) {
    HEDDLE_CHECK(r >= 0 && r < n_rows && !seen[static_cast<std::size_t>(r)]);
    seen[static_cast<std::size_t>(r)] = true;
  }
}

}  // namespace

const std::vector<DType>& weight_dtypes() {
  static const std::vector<DType> kTypes = {
      DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0,   DType::kQ4_1,
      DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ2_K,   DType::kQ3_K,
      DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kMXFP4};
  return kTypes;
}

std::int64_t group_bytes(DType dtype, std::int64_t n_cols) {
  if (!info(dtype).quantised()) return kGroupRows * row_bytes(dtype, n_cols);
  const QuantFormat format = quant_format(dtype);
  return n_cols / format.block() * format.block_bytes();
}

PackedMatrix pack(const TensorView& rows,
                  WeightLayout layout,
                  const std::vector<std::int32_t>& row_order,
                  const std::function<void(std::size_t, std::size_t)>& read,
                  ThreadPool& pool) {
  const std::vector<DType>& known = weight_dtypes();
  if (std::find(known.begin(), known.end(), rows.dtype) == known.end()) {
    std::string text =
        "a weight of dtype " + std::string(name(rows.dtype)) + " cannot be used on the CPU; known:";
    for (const DType dtype : known) {
      text += dtype == known.front() ? " " : ", ";
      text += name(dtype);
    }
    throw bad_input(text);
  }
  HEDDLE_CHECK(rows.rank == 2);
  PackedMatrix packed;
  packed.n_rows = row_order.empty() ? rows.dim(0) : static_cast<std::int64_t>(row_order.size());
  packed.n_cols = rows.dim(1);
  packed.dtype = rows.dtype;
  packed.layout = layout;
  const std::int64_t n_rows = packed.n_rows;
  const std::int64_t stride = row_bytes(rows.dtype, packed.n_cols);
  if (!row_order.empty()) check_order(row_order, rows.dim(0));
  const std::int64_t n_groups = (n_rows + kGroupRows - 1) / kGroupRows;
  const std::int64_t group_stride = group_bytes(rows.dtype, packed.n_cols);
  packed.data = host_buffer(static_cast<std::size_t>(
      layout == WeightLayout::kRows ? n_rows * stride : n_groups * group_stride));

  const std::int64_t panel_groups =
      std::max<std::int64_t>(1, kPanelBytes / std::max<std::int64_t>(1, kGroupRows * stride));
  const std::int64_t n_panels = (n_groups + panel_groups - 1) / panel_groups;
  const std::vector<std::int64_t> needed =
      first_row_needed(row_order, rows.dim(0), n_rows, panel_groups * kGroupRows, n_panels);
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
          pack_lane(rows.dtype, source + at * stride, packed.n_cols, target + group * group_stride,
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
  const bool interleaved = matrix.layout == WeightLayout::kRows16;
  const std::int64_t lane = interleaved ? row % kGroupRows : 0;
  const std::byte* from = matrix.data.data();
  from += interleaved ? row / kGroupRows * group_bytes(matrix.dtype, matrix.n_cols)
                      : row * row_bytes(matrix.dtype, matrix.n_cols);
  if (!type.quantised()) {
    const std::int64_t step = (interleaved ? kGroupRows : 1) * type.block_bytes;
    from += lane * type.block_bytes;
    for (std::int64_t k = 0; k < matrix.n_cols; ++k) {
      out[k] = plain_value<T>(matrix.dtype, from + k * step);
    }
    return;
  }
  const QuantFormat format = quant_format(matrix.dtype);
  const std::int64_t step = interleaved ? format.block_bytes() : type.block_bytes;
  QuantBlock block;
  for (std::int64_t k = 0; k < matrix.n_cols; k += format.block(), from += step) {
    if (interleaved) {
      read_lane(format, from, lane, block);
    } else {
      read_checkpoint_block(matrix.dtype, from, block);
    }
    dequantise_block(format, block, out + k);
  }
}

template void dequantise_row(const PackedMatrix&, std::int64_t, float*);
template void dequantise_row(const PackedMatrix&, std::int64_t, double*);

}  // namespace heddle::cpu
