#include "base/new_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <utility>

#include "base/error.h"

namespace heddle {
namespace {

/// What a link leads to, or the path itself.
std::string target_of(const std::string& path, const std::string& what) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return path;
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (!real) throw bad_input(fmt::format("{}: a link that leads to no file", what));
  return real.get();
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// What has the name already must be a file that may be changed.
void check_old(const std::string& path, const std::string& what) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return;
    throw bad_input(fmt::format("{}: cannot be examined: {}", what, std::strerror(errno)));
  }
  if (S_ISDIR(status.st_mode)) throw bad_input(fmt::format("{}: is a directory", what));
  if (!S_ISREG(status.st_mode)) throw bad_input(fmt::format("{}: not a regular file", what));
  const Descriptor old(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK));
  if (old.get() < 0) {
    throw bad_input(fmt::format("{}: cannot be written: {}", what, std::strerror(errno)));
  }
}

std::string random_name(const std::string& folder) {
  std::random_device device;
  return fmt::format("{}/.heddle-{:08x}{:08x}", folder, device(), device());
}

}  // namespace

NewFile::NewFile(const std::string& path, std::string what, NewFileReaders readers)
    : what_(std::move(what)), target_(target_of(path, what_)), folder_(folder_of(target_)) {
  if (target_.empty() || target_.ends_with('/')) {
    throw bad_input(fmt::format("{}: is no file name", what_));
  }
  check_old(target_, what_);
  const mode_t mode = readers == NewFileReaders::kOwner ? 0600 : 0666;  // less the umask
  // A nameless file gets its name through /proc.
  if (::access("/proc/self/fd", X_OK) == 0) {
    descriptor_ = Descriptor(::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, mode));
  }
  if (descriptor_.get() < 0) {
    temporary_ = random_name(folder_);
    descriptor_ =
        Descriptor(::open(temporary_.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, mode));
  }
  if (descriptor_.get() < 0) {
    const int error = errno;
    temporary_.clear();
    const char* why = std::strerror(error);
    if (error == ENOENT) {  // of the folder, or of a file in one that takes none: /proc
      const bool there = ::access(folder_.c_str(), F_OK) == 0;
      why = there ? "the folder takes no files" : "there is no such folder";
    }
    throw bad_input(fmt::format("{}: no file can be made in {}: {}", what_, folder_, why));
  }
}

NewFile::~NewFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void NewFile::fail(const char* action) const {
  throw runtime_failure(fmt::format("{}: cannot be {}: {}", what_, action, std::strerror(errno)));
}

void NewFile::append(std::span<const std::byte> bytes) {
  overwrite(size_, bytes);
  size_ += bytes.size();
}

void NewFile::overwrite(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n =
        ::pwrite(descriptor_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("written");
    offset += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void NewFile::give_name() {
  const std::string link = fmt::format("/proc/self/fd/{}", descriptor_.get());
  for (;;) {
    const std::string name = random_name(folder_);
    if (::linkat(AT_FDCWD, link.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      temporary_ = name;
      return;
    }
    if (errno != EEXIST) fail("named");
  }
}

void NewFile::publish() {
  struct stat old = {};
  constexpr mode_t kPermissions = 0777;
  if (::stat(target_.c_str(), &old) == 0) {
    // It stays as open to others as it was; where that cannot be, it is the owner's alone.
    [[maybe_unused]] const int ignored = ::fchmod(descriptor_.get(), old.st_mode & kPermissions);
  }
  if (::fsync(descriptor_.get()) != 0) fail("written");
  if (temporary_.empty()) give_name();
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("renamed");
  temporary_.clear();
  // The name, too, outlives a power cut; where a folder cannot be synced it has been tried.
  const Descriptor folder(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() >= 0) ::fsync(folder.get());
}

}  // namespace heddle
