#include "models/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxEntries = 100'000;
constexpr int kFolderFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

struct Free {
  void operator()(char* text) const { std::free(text); }
};

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string real_path(const std::string& path) {
  const std::unique_ptr<char, Free> real(::realpath(path.c_str(), nullptr));
  return real ? real.get() : "";
}

/// ".../models--ORG--NAME/blobs" for ".../models--ORG--NAME/snapshots/REVISION", else "".
std::string blobs_of(const std::string& real) {
  const fs::path snapshots = fs::path(real).parent_path();
  const fs::path model = snapshots.parent_path();
  if (snapshots.filename() != "snapshots") return "";
  if (model.filename().string().rfind("models--", 0) != 0) return "";
  return (model / "blobs").string();
}

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISLNK(mode)) return "a link to a link";
  return "a device";
}

}  // namespace

bool Folder::plain(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return c == '/' || byte < 0x20 || byte == 0x7f;
  });
}

Folder::Folder(const std::string& path) : path_(without_slashes(path)) {
  if (path.find('\0') != std::string::npos) throw bad_input("a file name contains a NUL byte");
  folder_ = Descriptor(::open(path_.c_str(), kFolderFlags));
  if (folder_.get() < 0) {
    throw bad_input(fmt::format("{}: cannot open the folder: {}", path_, std::strerror(errno)));
  }
  real_path_ = real_path(path_);
  const std::string blobs = blobs_of(real_path_);
  if (blobs.empty()) return;
  // From the descriptor, so that it belongs to the folder that was opened.
  blobs_ = Descriptor(::openat(folder_.get(), "../../blobs", kFolderFlags | O_NOFOLLOW));
  if (blobs_.get() >= 0) blobs_path_ = blobs;
}

std::string Folder::path_of(std::string_view name) const {
  return fmt::format("{}{}{}", path_, path_.back() == '/' ? "" : "/", name);
}

bool Folder::has(const std::string& name) const {
  struct stat status = {};
  return plain(name) && ::fstatat(folder_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
}

std::vector<std::string> Folder::names() const {
  // A descriptor of its own: reading a directory moves the position of the one it uses.
  const int fd = ::openat(folder_.get(), ".", kFolderFlags);
  const std::unique_ptr<DIR, CloseDirectory> entries(fd < 0 ? nullptr : ::fdopendir(fd));
  if (!entries) {
    const int error = errno;
    if (fd >= 0) ::close(fd);
    throw bad_input(fmt::format("{}: cannot list the folder: {}", path_, std::strerror(error)));
  }
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(entries.get())) {
    std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (names.size() == kMaxEntries) {
      throw bad_input(fmt::format("{}: entries of the folder, got more than {}, allowed up to {}",
                                  path_, kMaxEntries, kMaxEntries));
    }
    names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

Folder::Target Folder::resolve(const std::string& name, std::string_view area) const {
  std::array<char, PATH_MAX> buffer = {};
  const ssize_t n = ::readlinkat(folder_.get(), name.c_str(), buffer.data(), buffer.size());
  if (n < 0) return {folder_.get(), name};  // no link
  const std::string text(buffer.data(), static_cast<std::size_t>(n));
  const fs::path target = (fs::path(real_path_) / text).lexically_normal();
  const std::string parent = target.parent_path().string();
  std::string file = target.filename().string();
  if (plain(file) && parent == real_path_) return {folder_.get(), std::move(file)};
  if (plain(file) && !blobs_path_.empty() && parent == blobs_path_) {
    return {blobs_.get(), std::move(file)};
  }
  throw bad_input(fmt::format("{}: {}: got a link to {}, allowed links to files of this folder",
                              path_of(name), area, quote_text(text, 256)));
}

Descriptor Folder::open(const std::string& name, std::string_view area) const {
  if (!plain(name)) {
    throw bad_input(fmt::format("{}: {}: file name, got {}, allowed names without '/'", path_, area,
                                quote_text(name)));
  }
  const Target target = resolve(name, area);
  // Looked at before it is opened: opening a device may do something.
  struct stat status = {};
  if (::fstatat(target.folder, target.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    throw bad_input(errno == ENOENT ? fmt::format("{}: no such file", path_of(name))
                                    : fmt::format("{}: {}", path_of(name), std::strerror(errno)));
  }
  const auto check_kind = [&] {
    if (S_ISREG(status.st_mode)) return;
    throw bad_input(fmt::format("{}: {}: got {}, allowed a regular file", path_of(name), area,
                                kind_of(status.st_mode)));
  };
  check_kind();
  Descriptor file(
      ::openat(target.folder, target.name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW));
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    throw bad_input(fmt::format("{}: cannot open: {}", path_of(name), std::strerror(errno)));
  }
  check_kind();  // it may have been exchanged in between
  return file;
}

MappedFile Folder::map(const std::string& name, std::string_view area) const {
  return {open(name, area), path_of(name)};
}

std::string Folder::read(const std::string& name, std::size_t limit, std::string_view area) const {
  return read_descriptor(open(name, area).get(), path_of(name), limit);
}

}  // namespace heddle
