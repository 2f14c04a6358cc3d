#include "models/gguf_types.h"

#include <array>
#include <utility>

namespace heddle {
namespace {

struct KindInfo {
  std::string_view name;
  std::uint64_t bytes = 0;
};

constexpr std::array<KindInfo, 13> kKinds = {{{"u8", 1},
                                              {"i8", 1},
                                              {"u16", 2},
                                              {"i16", 2},
                                              {"u32", 4},
                                              {"i32", 4},
                                              {"f32", 4},
                                              {"bool", 1},
                                              {"string", 0},
                                              {"array", 0},
                                              {"u64", 8},
                                              {"i64", 8},
                                              {"f64", 8}}};

// Gaps are numbers that were withdrawn before files with them spread.
constexpr std::array<std::string_view, 42> kTensorTypes = {
    "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
    "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
    "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
    "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
    "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
    "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4",    "Q1_0"};

constexpr std::array<std::pair<std::uint32_t, DType>, 15> kRead = {{{0, DType::kF32},
                                                                    {1, DType::kF16},
                                                                    {30, DType::kBF16},
                                                                    {2, DType::kQ4_0},
                                                                    {3, DType::kQ4_1},
                                                                    {6, DType::kQ5_0},
                                                                    {7, DType::kQ5_1},
                                                                    {8, DType::kQ8_0},
                                                                    {10, DType::kQ2_K},
                                                                    {11, DType::kQ3_K},
                                                                    {12, DType::kQ4_K},
                                                                    {13, DType::kQ5_K},
                                                                    {14, DType::kQ6_K},
                                                                    {20, DType::kIQ4_NL},
                                                                    {39, DType::kMXFP4}}};

}  // namespace

std::optional<GgufKind> gguf_kind(std::uint32_t number) {
  if (number >= kKinds.size()) return std::nullopt;
  return static_cast<GgufKind>(number);
}

std::string_view name(GgufKind kind) {
  return kKinds[static_cast<std::size_t>(kind)].name;
}

std::uint64_t fixed_bytes(GgufKind kind) {
  return kKinds[static_cast<std::size_t>(kind)].bytes;
}

std::string_view gguf_tensor_type_name(std::uint32_t number) {
  return number < kTensorTypes.size() ? kTensorTypes[number] : std::string_view();
}

std::optional<DType> gguf_dtype(std::uint32_t number) {
  for (const auto& [id, dtype] : kRead) {
    if (id == number) return dtype;
  }
  return std::nullopt;
}

std::optional<std::uint32_t> gguf_tensor_type(DType dtype) {
  for (const auto& [id, known] : kRead) {
    if (known == dtype) return id;
  }
  return std::nullopt;
}

std::string gguf_dtype_list() {
  std::string list;
  for (const auto& [id, dtype] : kRead) {
    if (!list.empty()) list += ", ";
    list += name(dtype);
  }
  return list;
}

}  // namespace heddle
