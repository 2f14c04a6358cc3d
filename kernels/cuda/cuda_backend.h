#pragma once
// The CUDA device as the rest of the program sees it: no CUDA header is needed to include this.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"

namespace heddle {

/// One stream of its own on device `options.cuda_device`. Throws kDevice where there is no driver,
/// no such device, or one that this build has no machine code for; kBadInput for unknown forced ops
/// and variants. Ops without a CUDA kernel, and `pack`, throw kDevice naming themselves.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options);

/// The ops that have CUDA kernels, each with its variants in order of preference.
std::vector<std::pair<std::string, std::vector<std::string>>> list_cuda_variants();

/// One line per device ("0: NVIDIA H100 80GB HBM3, compute capability 9.0, 132 multiprocessors,
/// 79.1 GiB"); empty where there is no device or no driver. Never throws for their absence.
std::vector<std::string> cuda_devices();

}  // namespace heddle
