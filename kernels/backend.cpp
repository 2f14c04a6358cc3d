#include "kernels/backend.h"

#include "base/error.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_ops.h"
#if HEDDLE_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace heddle {

std::unique_ptr<Backend> make_backend(const BackendOptions& options) {
  if (options.device == DeviceKind::kCpu) return cpu::make_cpu_backend(options);
#if HEDDLE_CUDA
  return make_cuda_backend(options);
#else
  throw Error(ErrorKind::kDevice, "this build has no CUDA support");
#endif
}

std::vector<std::pair<std::string, std::vector<std::string>>> list_variants(DeviceKind device) {
  if (device == DeviceKind::kCpu) return cpu::variants();
#if HEDDLE_CUDA
  return list_cuda_variants();
#else
  throw Error(ErrorKind::kDevice, "this build has no CUDA support");
#endif
}

}  // namespace heddle
