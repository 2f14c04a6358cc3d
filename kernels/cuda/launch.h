#pragma once
// What launchers share: grids from shapes, and the shape checks of ops that only our models reach.

#include <cstdint>
#include <initializer_list>

#include "base/error.h"
#include "base/tensor_view.h"

namespace heddle::cuda {

/// Blocks for n items; a grid's first dimension holds 2^31 - 1.
inline unsigned blocks_for(std::int64_t n, std::int64_t per_block) {
  const std::int64_t blocks = (n + per_block - 1) / per_block;
  HEDDLE_CHECK(blocks >= 0 && blocks <= 0x7fffffff);
  return static_cast<unsigned>(blocks);
}

/// Whether the view is that shape and dtype, in device memory.
inline bool is_view(const TensorView& v, DType dtype, std::initializer_list<std::int64_t> shape) {
  if (v.rank != static_cast<int>(shape.size()) || v.dtype != dtype) return false;
  if (v.device != DeviceKind::kCuda) return false;
  int i = 0;
  for (const std::int64_t d : shape) {
    if (v.dim(i++) != d) return false;
  }
  return true;
}
inline bool is_f32(const TensorView& v, std::initializer_list<std::int64_t> shape) {
  return is_view(v, DType::kF32, shape);
}
inline bool is_i32(const TensorView& v, std::initializer_list<std::int64_t> shape) {
  return is_view(v, DType::kI32, shape);
}
inline bool same_f32(const TensorView& a, const TensorView& b) {
  return a.rank == b.rank && a.dims == b.dims && a.dtype == DType::kF32 && b.dtype == DType::kF32 &&
         a.device == DeviceKind::kCuda && b.device == DeviceKind::kCuda;
}

/// For variants that take every call within the op's contract.
template <typename Args, typename Caps>
bool accepts_all(const Args& /*args*/, const Caps& /*caps*/) {
  return true;
}

}  // namespace heddle::cuda
