#pragma once
// Element types of tensors, block-quantised ones included. Names and block layouts of the quantised
// types are those of the GGUF format.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace heddle {

enum class DType : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  kI32,
  kU8,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kMXFP4
};

/// A type is stored in blocks of `block_elements` along the last dimension, `block_bytes` each;
/// plain types have blocks of one element.
struct DTypeInfo {
  std::string_view name;  // "F32", "Q4_1"
  std::int64_t block_elements = 1;
  std::int64_t block_bytes = 0;
  bool quantised() const { return block_elements > 1; }
};

const DTypeInfo& info(DType dtype);
inline std::string_view name(DType dtype) {
  return info(dtype).name;
}
std::optional<DType> parse_dtype(std::string_view name);  // "f16" or "F16"

/// Bytes of a row of `n` elements; n must be a multiple of the block (checked).
std::int64_t row_bytes(DType dtype, std::int64_t n);

}  // namespace heddle
