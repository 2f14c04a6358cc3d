#include "base/dtype.h"

#include <array>
#include <cctype>

#include "base/error.h"

namespace heddle {
namespace {

constexpr std::array<DTypeInfo, 8> kInfos = {{
    {"F32", 1, 4},
    {"F16", 1, 2},
    {"BF16", 1, 2},
    {"I32", 1, 4},
    {"U8", 1, 1},
    {"Q4_0", 32, 18},  // f16 d, 16 bytes: w = d * (q - 8)
    {"Q4_1", 32, 20},  // f16 d, f16 m, 16 bytes: w = d * q + m
    {"Q8_0", 32, 34},  // f16 d, 32 int8: w = d * q
}};

}  // namespace

const DTypeInfo& info(DType dtype) {
  return kInfos[static_cast<std::size_t>(dtype)];
}

std::optional<DType> parse_dtype(std::string_view text) {
  for (std::size_t i = 0; i < kInfos.size(); ++i) {
    const std::string_view known = kInfos[i].name;
    bool same = known.size() == text.size();
    for (std::size_t c = 0; same && c < text.size(); ++c) {
      same = std::toupper(static_cast<unsigned char>(text[c])) == known[c];
    }
    if (same) return static_cast<DType>(i);
  }
  return std::nullopt;
}

std::int64_t row_bytes(DType dtype, std::int64_t n) {
  const DTypeInfo& d = info(dtype);
  HEDDLE_CHECK(n >= 0 && n % d.block_elements == 0);
  return n / d.block_elements * d.block_bytes;
}

}  // namespace heddle
