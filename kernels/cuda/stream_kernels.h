#pragma once
// Plain streaming kernels, against which the others are measured: what device memory gives to a
// kernel that does nothing else.

#include <cstddef>

#include "kernels/backend.h"

namespace heddle::cuda {

/// Enqueues to[0 .. bytes) = from[0 .. bytes) as a kernel; both 16-byte aligned, bytes a multiple
/// of
/// 16. Moves 2 * bytes.
void stream_copy(Backend& backend, void* to, const void* from, std::size_t bytes);

/// Enqueues a kernel that reads from[0 .. bytes) and writes to sink[0 .. 4) only if a sum of it has
/// a certain value. Moves `bytes`.
void stream_read(Backend& backend, const void* from, std::size_t bytes, void* sink);

}  // namespace heddle::cuda
