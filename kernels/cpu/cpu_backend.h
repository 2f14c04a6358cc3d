#pragma once
#include <memory>

#include "kernels/backend.h"

namespace heddle::cpu {

/// Runs every op at once on the caller's and the pool's threads, so the stream is always drained.
/// Throws kBadInput for a thread count outside 0 .. 1024 and for unknown forced variants.
std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);

}  // namespace heddle::cpu
