#pragma once
// Device memory for what the kernels of one call pass to each other.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

#include "base/buffer.h"

namespace heddle::cuda {

/// Grows and never shrinks. What get() returns is the call's until the next get(), in the order of
/// the stream; memory once handed out lives as long as the object, since captured graphs name it.
class Scratch {
 public:
  /// At least `bytes`, aligned to 256. Throws kRuntime where it would have to grow while the stream
  /// is captured: a call of the same shape must have run before.
  std::byte* get(std::size_t bytes, cudaStream_t stream);

 private:
  std::vector<Buffer> buffers_;  // the last is the largest
};

}  // namespace heddle::cuda
