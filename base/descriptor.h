#pragma once
// File descriptors that close themselves, and whole files read through them.

#include <cstddef>
#include <string>
#include <utility>

namespace heddle {

/// Owns a descriptor above 2; -1 is none. Movable.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();
  int get() const { return fd_; }

 private:
  int fd_;
};

/// All that `descriptor` still gives, at most `limit` bytes. `path` names it in errors (kBadInput).
std::string read_descriptor(int descriptor, const std::string& path, std::size_t limit);

}  // namespace heddle
