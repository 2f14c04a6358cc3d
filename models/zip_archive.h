#pragma once
// The zip container as torch.save writes it: entries stored without compression, sizes of any
// length (zip64). Nothing in the bytes is trusted; what the central directory and an entry's own
// header say must agree. Checksums are not compared: that would read every weight once more, and
// torch.save can leave them out.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace heddle {

/// What an archive may hold at most; far above every published model.
struct ZipLimits {
  static constexpr std::uint64_t kEntries = 200'000;
  static constexpr std::uint64_t kNameBytes = 1024;
};

struct ZipEntry {
  std::string name;
  std::uint64_t offset = 0;  // of its bytes, from the start of the file
  std::uint64_t bytes = 0;
};

/// The validated directory of one file. Immutable; owns what it tells.
class ZipArchive {
 public:
  /// Throws kBadInput, one line: "SOURCE: zip_archive: WHAT, got X, allowed Y". Names are unique,
  /// and the entries' headers and bytes lie before the directory without sharing a byte.
  static ZipArchive parse(std::span<const std::byte> file, std::string source);

  const std::string& source() const { return source_; }
  const std::vector<ZipEntry>& entries() const { return entries_; }  // by offset
  const ZipEntry* find(std::string_view name) const;                 // nullptr: none

 private:
  friend class ZipParser;
  std::string source_;
  std::vector<ZipEntry> entries_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

}  // namespace heddle
