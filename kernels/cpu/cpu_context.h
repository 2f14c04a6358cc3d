#pragma once
#include <cstddef>
#include <vector>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "kernels/device_caps.h"

namespace heddle {

/// What a CPU kernel runs with: the threads, the processor's abilities and grow-only scratch
/// memory. Owned by the CPU backend; one op runs at a time.
class CpuContext {
 public:
  CpuContext(int n_threads, const DeviceCaps& device_caps)
      : pool(n_threads), caps(device_caps), worker_(static_cast<std::size_t>(pool.size())) {}

  ThreadPool pool;
  const DeviceCaps caps;

  /// At least `bytes`, 64-byte aligned, shared by the op's tasks; contents are undefined. Slot 0,
  /// 1 or 2.
  std::byte* shared(std::size_t bytes, int slot = 0) { return grown(shared_[slot], bytes); }
  /// The same for one worker alone.
  std::byte* worker(int index, std::size_t bytes) {
    return grown(worker_[static_cast<std::size_t>(index)], bytes);
  }
  /// Of all of it.
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const Buffer& buffer : shared_) sum += buffer.bytes();
    for (const Buffer& buffer : worker_) sum += buffer.bytes();
    return sum;
  }

 private:
  static std::byte* grown(Buffer& buffer, std::size_t bytes) {
    if (buffer.bytes() < bytes) buffer = host_buffer(bytes);
    return buffer.data();
  }

  Buffer shared_[3];
  std::vector<Buffer> worker_;
};

}  // namespace heddle
