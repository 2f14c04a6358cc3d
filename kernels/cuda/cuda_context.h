#pragma once
#include <cuda_runtime_api.h>

#include "kernels/cuda/scratch.h"
#include "kernels/device_caps.h"

namespace heddle {
class Backend;
}

namespace heddle::cuda {

/// What a CUDA kernel's launcher runs with. Owned by the CUDA backend, whose stream it names.
struct CudaContext {
  int device = 0;
  int n_multiprocessors = 0;
  DeviceCaps caps;
  cudaStream_t stream = nullptr;
  Scratch scratch;
};

/// The context of a backend that make_cuda_backend made (checked).
CudaContext& context_of(Backend& backend);

}  // namespace heddle::cuda
