#pragma once
// The GGUF container, versions 2 and 3, little-endian: a directory of typed metadata and tensors
// over the bytes of a file. Nothing in the bytes is trusted, nothing large is copied: texts and
// arrays stay views into the file.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/gguf_types.h"

namespace heddle {

/// What a file may hold at most; far above every published model.
struct GgufLimits {
  static constexpr std::uint64_t kKeys = 16'384;
  static constexpr std::uint64_t kTensors = 65'536;
  static constexpr std::uint64_t kKeyBytes = 256;
  static constexpr std::uint64_t kTensorNameBytes = 128;
  static constexpr std::uint64_t kStrings = 4'194'304;  // elements of all string arrays together
  static constexpr std::uint64_t kMetadataBytes = 128ULL << 20;
  static constexpr std::uint64_t kDim = (1ULL << 31) - 1;
  static constexpr std::uint64_t kMinAlignment = 8;
  static constexpr std::uint64_t kMaxAlignment = 65'536;
};

/// One metadata value. `payload` is a view into the file: the value's bytes, for a string its text,
/// for an array its elements (strings with their 8-byte lengths).
struct GgufEntry {
  std::string_view key;
  GgufKind kind = GgufKind::kU8;
  GgufKind element = GgufKind::kU8;  // of an array
  std::uint64_t count = 0;           // of an array
  std::span<const std::byte> payload;
};

/// One tensor; its byte range lies inside the file and shares no byte with another's.
struct GgufTensor {
  std::string_view name;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<std::int64_t, 4> dims = {0, 0, 0, 0};  // outermost first (files have innermost first)
  std::uint64_t offset = 0;                         // from the start of the file
  std::uint64_t bytes = 0;
};

/// What a file says about the model that it is a part of (keys split.no, split.count,
/// split.tensors.count).
struct GgufSplit {
  std::uint64_t part = 0;       // from 0
  std::uint64_t n_parts = 1;    // 1: the file is a whole model
  std::uint64_t n_tensors = 0;  // of all parts together
};

/// The validated directory of one file. Immutable; views are valid as long as the bytes are.
class GgufDirectory {
 public:
  /// Told which bytes were looked at and are not needed soon, so that mapped pages can be released.
  using Visited = std::function<void(std::size_t begin, std::size_t end)>;

  /// Throws kBadInput, one line that starts with `source`: "gguf_header: WHAT, got X, allowed Y",
  /// "gguf_tensor: ..." or "truncated at byte N: needs M bytes, the file has K". Time and memory
  /// are bounded by GgufLimits, whatever the size of the file.
  static GgufDirectory parse(std::span<const std::byte> file,
                             std::string source,
                             const Visited& visited = nullptr);

  const std::string& source() const { return source_; }
  std::uint32_t version() const { return version_; }
  std::uint64_t alignment() const { return alignment_; }
  const GgufSplit& split() const { return split_; }
  std::span<const std::byte> bytes() const { return file_; }
  const std::vector<GgufEntry>& entries() const { return entries_; }   // in the file's order
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in the file's order
  const GgufEntry* find(std::string_view key) const;                   // nullptr: absent
  const GgufTensor* find_tensor(std::string_view tensor_name) const;   // nullptr: absent

 private:
  friend class GgufParser;
  std::string source_;
  std::span<const std::byte> file_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = 32;
  GgufSplit split_;
  std::vector<GgufEntry> entries_;
  std::vector<GgufTensor> tensors_;
  std::vector<std::uint32_t> by_key_, by_name_;  // sorted positions in entries_, tensors_
};

/// Calls `each(text)` for the elements of an array of strings, in order.
void for_each_string(const GgufEntry& entry, const std::function<void(std::string_view)>& each);

}  // namespace heddle
