#include "base/dtype.h"

#include <array>
#include <cctype>

#include "base/error.h"

namespace heddle {
namespace {

constexpr std::array<DTypeInfo, 17> kInfos = {{
    {"F32", 1, 4},
    {"F16", 1, 2},
    {"BF16", 1, 2},
    {"I32", 1, 4},
    {"U8", 1, 1},
    // d and m are f16; w of one element:
    {"Q4_0", 32, 18},  // d, 4-bit q: w = d * (q - 8)
    {"Q4_1", 32, 20},  // d, m, 4-bit q: w = d * q + m
    {"Q5_0", 32, 22},  // d, 5-bit q: w = d * (q - 16)
    {"Q5_1", 32, 24},  // d, m, 5-bit q: w = d * q + m
    {"Q8_0", 32, 34},  // d, int8 q: w = d * q
    // with a scale s (and a minimum m) for every 16 or 32 elements:
    {"Q2_K", 256, 84},   // d, dmin, 4-bit s and m per 16, 2-bit q: w = d * s * q - dmin * m
    {"Q3_K", 256, 110},  // d, 6-bit s per 16, 3-bit q: w = d * (s - 32) * (q - 4)
    {"Q4_K", 256, 144},  // d, dmin, 6-bit s and m per 32, 4-bit q: w = d * s * q - dmin * m
    {"Q5_K", 256, 176},  // d, dmin, 6-bit s and m per 32, 5-bit q: w = d * s * q - dmin * m
    {"Q6_K", 256, 210},  // d, int8 s per 16, 6-bit q: w = d * s * (q - 32)
    {"IQ4_NL", 32, 18},  // d, 4-bit q: w = d * (one of 16 fixed integers)
    {"MXFP4", 32, 17},   // 8-bit e, 4-bit q: w = 2^(e - 127) * (E2M1 number q)
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
