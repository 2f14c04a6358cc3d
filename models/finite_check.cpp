#include "models/finite_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"

namespace heddle {
namespace {

/// Where a block keeps its f16 scales and minima, -1: none; MXFP4 has one byte, an exponent.
struct BlockScales {
  std::array<int, 2> f16 = {-1, -1};
  int exponent = -1;
};

BlockScales block_scales(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
    case DType::kQ5_0:
    case DType::kQ8_0:
    case DType::kIQ4_NL:
      return {{0, -1}, -1};
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {{0, 2}, -1};
    case DType::kQ2_K:
      return {{80, 82}, -1};
    case DType::kQ3_K:
      return {{108, -1}, -1};
    case DType::kQ6_K:
      return {{208, -1}, -1};
    case DType::kMXFP4:
      return {{-1, -1}, 0};
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kI32:
    case DType::kU8:
      break;
  }
  HEDDLE_CHECK(!info(dtype).quantised());
  return {};
}

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

/// All bits of the exponent set: NaN or infinity.
template <typename T>
bool special(const std::byte* from, T exponent) {
  return (load<T>(from) & exponent) == exponent;
}

template <typename T>
std::uint64_t count_special(const std::byte* from, std::int64_t n, T exponent) {
  T count = 0;  // of at most 32767 at a time, so that 16-bit lanes do
  std::uint64_t total = 0;
  for (std::int64_t i = 0; i < n;) {
    const std::int64_t stop = std::min<std::int64_t>(n, i + 32767);
    count = 0;
    for (; i < stop; ++i) {
      count =
          static_cast<T>(count + (special(from + i * std::int64_t{sizeof(T)}, exponent) ? 1 : 0));
    }
    total += count;
  }
  return total;
}

bool bad_block(const BlockScales& scales, const std::byte* block) {
  constexpr std::uint16_t kF16 = 0x7c00;
  bool bad = special(block + scales.f16[0], kF16);
  if (scales.f16[1] >= 0) bad = bad || special(block + scales.f16[1], kF16);
  return bad;
}

/// The largest element of E2M1 is 6: 2^(e - 127) * 6 is beyond f32 from e = 253; 255 is NaN.
bool bad_exponent(const std::byte* exponent) {
  return std::to_integer<int>(*exponent) >= 253;
}

class Scan {
 public:
  Scan(const TensorView& matrix, NonFinite& found)
      : dtype_(matrix.dtype), type_(info(matrix.dtype)), found_(found) {
    if (type_.quantised()) scales_ = block_scales(dtype_);
    found_.blocks = type_.quantised();
  }

  void row(const std::byte* data, std::int64_t n_cols, std::int64_t row) {
    const std::int64_t n = n_cols / type_.block_elements;
    const std::uint64_t count = count_in(data, n);
    if (count == 0) return;
    if (found_.count == 0) {
      found_.row = row;
      std::int64_t first = 0;
      while (count_in(data + first * type_.block_bytes, 1) == 0) ++first;
      found_.column = first * type_.block_elements;
    }
    found_.count += count;
  }

 private:
  /// Among n values or blocks.
  std::uint64_t count_in(const std::byte* data, std::int64_t n) const {
    if (dtype_ == DType::kF32) return count_special<std::uint32_t>(data, n, 0x7f800000U);
    if (dtype_ == DType::kF16) return count_special<std::uint16_t>(data, n, 0x7c00U);
    if (dtype_ == DType::kBF16) return count_special<std::uint16_t>(data, n, 0x7f80U);
    std::uint64_t count = 0;
    for (std::int64_t i = 0; i < n; ++i, data += type_.block_bytes) {
      const bool bad =
          scales_.exponent >= 0 ? bad_exponent(data + scales_.exponent) : bad_block(scales_, data);
      count += bad ? 1 : 0;
    }
    return count;
  }

  DType dtype_;
  const DTypeInfo& type_;
  NonFinite& found_;
  BlockScales scales_;
};

}  // namespace

std::string NonFinite::describe() const {
  const std::string_view what = blocks ? "block" : "value";
  return fmt::format("{} {}{} not finite (the first at row {}, column {})", count, what,
                     count == 1 ? " that is" : "s that are", row, column);
}

void find_nonfinite(const TensorView& matrix,
                    std::int64_t begin,
                    std::int64_t end,
                    NonFinite& found) {
  HEDDLE_CHECK(matrix.rank == 2 && begin >= 0 && end <= matrix.dim(0));
  if (!info(matrix.dtype).quantised() && matrix.dtype != DType::kF32 &&
      matrix.dtype != DType::kF16 && matrix.dtype != DType::kBF16) {
    return;  // integers
  }
  Scan scan(matrix, found);
  const std::int64_t stride = row_bytes(matrix.dtype, matrix.dim(1));
  for (std::int64_t r = begin; r < end; ++r) {
    scan.row(matrix.as<std::byte>() + r * stride, matrix.dim(1), r);
  }
}

}  // namespace heddle
