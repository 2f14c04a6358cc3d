#pragma once
#include <cstddef>
#include <span>
#include <string>

#include "base/descriptor.h"
#include "base/mapping_guard.h"

namespace heddle {

/// A regular file mapped read-only. Movable. The mapping stays valid when the path is renamed; when
/// the file is shortened, reading it ends the process (see mapping_guard.h).
class MappedFile {
 public:
  /// Throws kBadInput: "PATH: no such file", "PATH: is a directory", "PATH: not a regular file",
  /// ...
  explicit MappedFile(const std::string& path);
  /// A file that is open already; `path` names it in errors.
  MappedFile(const Descriptor& descriptor, const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  /// Tells the system that these pages are not needed soon (they can be read again); whole pages
  /// inside the range only.
  void release(std::size_t offset, std::size_t length) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  GuardedMapping guard_;
};

/// The whole of a (small) file or of standard input ("-"), at most `limit` bytes. Throws kBadInput.
std::string read_file(const std::string& path, std::size_t limit = std::size_t{1} << 30);

}  // namespace heddle
