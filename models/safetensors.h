#pragma once
// The safetensors container: 8 bytes of header length, a JSON header, the tensors' bytes. Nothing
// in the bytes is trusted; the header is read more strictly than the format's own library does.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace heddle {

/// What a file may hold at most; far above every published model.
struct SafetensorsLimits {
  static constexpr std::uint64_t kHeaderBytes = 100'000'000;  // the format's own
  static constexpr std::uint64_t kTensors = 131'072;
  static constexpr std::uint64_t kNameBytes = 1024;
  static constexpr int kRank = 8;
};

/// One tensor; the ranges of all tensors, in order, fill the file from the header to its end.
struct SafetensorsTensor {
  std::string name;
  std::string_view dtype_name;  // "BF16", "I64"; a constant
  std::optional<DType> dtype;   // where kernels read it: F32, F16, BF16
  int rank = 0;                 // 0: one number
  std::array<std::int64_t, SafetensorsLimits::kRank> dims = {};
  std::uint64_t offset = 0;  // from the start of the file
  std::uint64_t bytes = 0;
};

/// The validated header of one file. Immutable; owns what it tells.
class SafetensorsDirectory {
 public:
  /// Throws kBadInput, one line that starts with `source`; what follows is "header_length: ...",
  /// "header_json...: ...", "dtype: ...", "shape: ...", "size_overflow: ..." or "tensor_range:
  /// ...". Time and memory are bounded by SafetensorsLimits, whatever the size of the file.
  static SafetensorsDirectory parse(std::span<const std::byte> file, std::string source);

  const std::string& source() const { return source_; }
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }  // by offset
  std::uint64_t header_bytes() const { return header_bytes_; }  // with the length's 8 bytes

 private:
  friend class SafetensorsParser;
  std::string source_;
  std::vector<SafetensorsTensor> tensors_;
  std::uint64_t header_bytes_ = 0;
};

}  // namespace heddle
