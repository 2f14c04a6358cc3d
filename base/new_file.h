#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/descriptor.h"

namespace heddle {

/// Who may read a file that replaces none.
enum class NewFileReaders {
  kOwner,  // what it holds is private
  kUmask,  // as with any other program's files
};

/// A file that takes its name only once it is whole, in place of an older one of that name. Until
/// publish() it is a nameless file of the same folder (or, where the file system has none, one with
/// a name of its own), so whatever ends the process leaves the old file as it was.
class NewFile {
 public:
  /// Throws kBadInput where no such file can be made: no folder, a folder or another thing that is
  /// no regular file under that name, no permission. A link stays: what it leads to is replaced.
  /// `what` names the file in errors: "out.heddle: session".
  NewFile(const std::string& path,
          std::string what,
          NewFileReaders readers = NewFileReaders::kOwner);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();

  /// At the end, or over what is there at `offset`. Throws kRuntime (disk full).
  void append(std::span<const std::byte> bytes);
  void overwrite(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Bytes on the disk, then the name. Throws kRuntime; the old file is as it was then.
  void publish();

 private:
  [[noreturn]] void fail(const char* action) const;
  void give_name();

  std::string what_;
  std::string target_;
  std::string folder_;
  std::string temporary_;  // its name in the meantime; "": none
  Descriptor descriptor_;
  std::uint64_t size_ = 0;
};

}  // namespace heddle
