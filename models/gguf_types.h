#pragma once
// The numbers that GGUF files use for value kinds and tensor types.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace heddle {

/// Kind of a metadata value, with the file's numbers.
enum class GgufKind : std::uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

std::optional<GgufKind> gguf_kind(std::uint32_t number);
std::string_view name(GgufKind kind);  // "u32", "string"
/// Bytes of one value; 0 for strings and arrays, whose length the file states.
std::uint64_t fixed_bytes(GgufKind kind);

/// Name of a tensor type, read by us or not ("IQ2_XS"); "" for a number that no version of the
/// format has used.
std::string_view gguf_tensor_type_name(std::uint32_t number);
/// The element type, where this version reads it.
std::optional<DType> gguf_dtype(std::uint32_t number);
/// The number that stands for `dtype` in a file.
std::optional<std::uint32_t> gguf_tensor_type(DType dtype);
/// "F32, F16, BF16, Q4_0, ...": what gguf_dtype gives, for error texts.
std::string gguf_dtype_list();

}  // namespace heddle
