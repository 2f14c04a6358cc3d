#pragma once
// Every call of the CUDA runtime goes through check(): a failure is an Error, never ignored.

#include <cuda_runtime_api.h>

#include <string>

#include "base/error.h"

namespace heddle::cuda {

/// "cudaMemcpyAsync: invalid argument (cudaErrorInvalidValue)"
inline std::string error_text(cudaError_t status, const char* call) {
  return std::string(call) + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) +
         ")";
}

/// Throws kDevice unless `status` is success; `call` names what returned it. The runtime's
/// remembered error is cleared, so that a later launch check does not report it a second time.
inline void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw Error(ErrorKind::kDevice, error_text(status, call));
}

/// After a kernel launch: reports a refused launch; faults inside the kernel show at the next
/// synchronisation.
inline void check_launch(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) throw Error(ErrorKind::kDevice, error_text(status, kernel));
}

}  // namespace heddle::cuda
