#include "base/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace heddle {
namespace {

Descriptor open_for_reading(const std::string& path) {
  if (path.find('\0') != std::string::npos) throw bad_input("a file name contains a NUL byte");
  const int fd =
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO must not hang us
  if (fd < 0) {
    throw bad_input(errno == ENOENT
                        ? fmt::format("{}: no such file", path)
                        : fmt::format("{}: cannot open: {}", path, std::strerror(errno)));
  }
  return Descriptor(fd);
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ > 2) ::close(fd_);
}

MappedFile::MappedFile(const std::string& path) : MappedFile(open_for_reading(path), path) {}

MappedFile::MappedFile(const Descriptor& descriptor, const std::string& path) : path_(path) {
  struct stat status = {};
  if (::fstat(descriptor.get(), &status) != 0) {
    throw bad_input(fmt::format("{}: cannot be examined", path));
  }
  if (S_ISDIR(status.st_mode)) throw bad_input(fmt::format("{}: is a directory", path));
  if (!S_ISREG(status.st_mode)) throw bad_input(fmt::format("{}: not a regular file", path));
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    throw Error(error == ENOMEM ? ErrorKind::kMemory : ErrorKind::kBadInput,
                fmt::format("{}: cannot be mapped: {}", path, std::strerror(error)));
  }
  data_ = static_cast<const std::byte*>(data);
  guard_ = GuardedMapping(data_, size_, path.c_str());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      guard_(std::move(other.guard_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(guard_, other.guard_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  guard_ = GuardedMapping();  // before another mapping can take the addresses
  ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::size_t offset, std::size_t length) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t begin = (offset + page - 1) / page * page;
  const std::size_t end = (offset + length) / page * page;
  if (begin < end && end <= size_) {
    ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
  }
}

std::string read_descriptor(int descriptor, const std::string& path, std::size_t limit) {
  std::string text;
  std::array<char, 65536> chunk;
  while (true) {
    const ssize_t n = ::read(descriptor, chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {  // a pipe whose writer is slow: `-f <(command)`
      pollfd waiting = {descriptor, POLLIN, 0};
      ::poll(&waiting, 1, -1);
      continue;
    }
    if (n < 0) throw bad_input(fmt::format("{}: cannot be read: {}", path, std::strerror(errno)));
    if (n == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(n));
    if (text.size() > limit) {
      throw bad_input(fmt::format("{}: larger than {} bytes, the most that is read", path, limit));
    }
  }
}

std::string read_file(const std::string& path, std::size_t limit) {
  if (path == "-") return read_descriptor(0, path, limit);
  return read_descriptor(open_for_reading(path).get(), path, limit);
}

}  // namespace heddle
