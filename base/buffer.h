#pragma once
#include <cstddef>
#include <utility>

namespace heddle {

/// Owns one allocation, on the host or on a device; movable, frees itself. Who made it
/// (host_buffer, Backend::allocate) decides how it is freed.
class Buffer {
 public:
  using Free = void (*)(void* data, std::size_t bytes) noexcept;

  Buffer() = default;
  Buffer(void* data, std::size_t bytes, Free free) : data_(data), bytes_(bytes), free_(free) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer taken(std::move(other));
    swap(taken);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr) free_(data_, bytes_);
  }

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(free_, other.free_);
  }

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Free free_ = nullptr;
};

/// kHuge: memory that is read as a whole. kSparse: memory that fills up with use, like a cache; a
/// small page is committed when it is first touched, so what is never used costs nothing.
enum class HostPages { kHuge, kSparse };

/// Zeroed host memory aligned to 64 bytes; from 2 MiB on aligned to 2 MiB. Throws kMemory.
Buffer host_buffer(std::size_t bytes, HostPages pages = HostPages::kHuge);

}  // namespace heddle
