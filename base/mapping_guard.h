#pragma once
// A mapped file that another program shortens ends the reader with SIGBUS. The guard turns that
// into an error line and an exit code.

#include <cstddef>
#include <memory>

namespace heddle {

/// Makes SIGBUS in a MappedFile's memory print "error: FILE: was shortened or replaced while it was
/// being read" to standard error and end the process with exit code 1; SIGBUS elsewhere keeps its
/// meaning. For programs, not libraries: it is a setting of the whole process. Call it once, before
/// threads are started.
void install_mapping_guard();

/// Names a range of memory for the guard as long as it lives. Made by MappedFile. Thread safe.
class GuardedMapping {
 public:
  GuardedMapping() = default;
  GuardedMapping(const void* data, std::size_t size, const char* path);
  GuardedMapping(GuardedMapping&& other) noexcept;
  GuardedMapping& operator=(GuardedMapping&& other) noexcept;
  ~GuardedMapping();

 private:
  std::size_t slot_ = kNone;
  std::unique_ptr<char[]> path_;  // stays where it is when this object moves
  static constexpr std::size_t kNone = ~std::size_t{0};
};

}  // namespace heddle
