#pragma once
// WeightLayout::kRows in device memory: the checkpoint's rows, each on a 16-byte boundary.

#include <cstdint>

#include "base/dtype.h"

namespace heddle::cuda {

/// Bytes from one row of `n_cols` elements to the next.
inline std::int64_t weight_row_stride(DType dtype, std::int64_t n_cols) {
  return (row_bytes(dtype, n_cols) + 15) / 16 * 16;
}

}  // namespace heddle::cuda
