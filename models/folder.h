#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/descriptor.h"
#include "base/mapped_file.h"

namespace heddle {

/// The folder of a model, opened once: nothing outside it is ever read. Files are opened relative
/// to its descriptor by plain names, must be regular files, and a link is followed only if it names
/// a file of the folder itself. A snapshot in a cache of the Hugging Face hub
/// (models--ORG--NAME/snapshots/REVISION, whose files are links into models--ORG--NAME/blobs)
/// counts as one folder with its blobs. Movable.
///
/// Errors are kBadInput: "FOLDER/NAME: AREA: WHAT, got X, allowed Y", where the caller says AREA.
class Folder {
 public:
  explicit Folder(const std::string& path);

  const std::string& path() const { return path_; }  // without a slash at the end
  std::string path_of(std::string_view name) const;  // for error texts
  bool has(const std::string& name) const;           // an entry of any kind
  /// All entries, sorted; "." and ".." are none.
  std::vector<std::string> names() const;
  MappedFile map(const std::string& name, std::string_view area) const;
  std::string read(const std::string& name, std::size_t limit, std::string_view area) const;

  /// True for a name that stands for an entry of a folder: not empty, ".", "..", without '/' and
  /// without control characters.
  static bool plain(std::string_view name);

 private:
  struct Target {  // where the bytes of an entry are
    int folder = -1;
    std::string name;
  };
  Descriptor open(const std::string& name, std::string_view area) const;
  Target resolve(const std::string& name, std::string_view area) const;

  std::string path_;
  Descriptor folder_;
  std::string real_path_;
  std::string blobs_path_;  // "" unless this is a snapshot of a hub cache
  Descriptor blobs_;
};

}  // namespace heddle
