#include "kernels/cuda/scratch.h"

#include <bit>
#include <string>

#include "base/error.h"
#include "kernels/cuda/cuda_check.h"

namespace heddle::cuda {
namespace {

constexpr std::size_t kLeastBytes = std::size_t{1} << 20;

void free_device(void* data, std::size_t /*bytes*/) noexcept {
  static_cast<void>(cudaFree(data));
}

}  // namespace

std::byte* Scratch::get(std::size_t bytes, cudaStream_t stream) {
  if (!buffers_.empty() && buffers_.back().bytes() >= bytes) return buffers_.back().data();
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  if (status != cudaStreamCaptureStatusNone) {
    throw runtime_failure("internal: " + std::to_string(bytes) +
                          " bytes of scratch memory are asked for first during a capture");
  }
  const std::size_t size = std::bit_ceil(bytes < kLeastBytes ? kLeastBytes : bytes);
  void* data = nullptr;
  const cudaError_t result = cudaMalloc(&data, size);
  if (result == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    throw Error(ErrorKind::kMemory,
                "cannot allocate " + std::to_string(size) + " bytes of CUDA scratch memory");
  }
  check(result, "cudaMalloc");
  buffers_.emplace_back(data, size, free_device);
  return buffers_.back().data();
}

}  // namespace heddle::cuda
