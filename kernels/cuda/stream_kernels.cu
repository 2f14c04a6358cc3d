// Streaming copy and read: 16 bytes to a thread and load, four loads a block apart before the first
// use. Bound: device memory.

#include "base/error.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/stream_kernels.h"

namespace heddle::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 4;
constexpr std::size_t kPerBlock = std::size_t{kThreads} * kLoads;

__global__ void __launch_bounds__(kThreads)
    copy_kernel(uint4* to, const uint4* from, std::size_t n) {
  const std::size_t first = blockIdx.x * kPerBlock + threadIdx.x;
  uint4 v[kLoads];
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    if (first + j * kThreads < n) v[j] = from[first + j * kThreads];
  }
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    if (first + j * kThreads < n) to[first + j * kThreads] = v[j];
  }
}

__global__ void __launch_bounds__(kThreads)
    read_kernel(const uint4* from, std::size_t n, unsigned* sink) {
  const std::size_t first = blockIdx.x * kPerBlock + threadIdx.x;
  unsigned sum = 0;
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    if (first + j * kThreads < n) {
      const uint4 v = from[first + j * kThreads];
      sum += v.x ^ v.y ^ v.z ^ v.w;
    }
  }
  if (sum == 0x9E3779B9U) *sink = sum;
}

unsigned blocks_for(std::size_t bytes) {
  HEDDLE_CHECK(bytes % 16 == 0);
  const std::size_t blocks = (bytes / 16 + kPerBlock - 1) / kPerBlock;
  HEDDLE_CHECK(blocks > 0 && blocks <= 0x7fffffffU);
  return static_cast<unsigned>(blocks);
}

}  // namespace

void stream_copy(Backend& backend, void* to, const void* from, std::size_t bytes) {
  copy_kernel<<<blocks_for(bytes), kThreads, 0, context_of(backend).stream>>>(
      static_cast<uint4*>(to), static_cast<const uint4*>(from), bytes / 16);
  check_launch("stream_copy");
}

void stream_read(Backend& backend, const void* from, std::size_t bytes, void* sink) {
  read_kernel<<<blocks_for(bytes), kThreads, 0, context_of(backend).stream>>>(
      static_cast<const uint4*>(from), bytes / 16, static_cast<unsigned*>(sink));
  check_launch("stream_read");
}

}  // namespace heddle::cuda
