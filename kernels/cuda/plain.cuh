#pragma once
// For first correct kernels: the element type is a run-time value, so that one instantiation
// serves every dtype.

#include "kernels/cuda/convert.cuh"

namespace heddle::cuda {

/// Element i as float; dtype is F32, F16 or BF16.
__device__ inline float load_any(const void* from, DType dtype, std::int64_t i) {
  if (dtype == DType::kF32) return static_cast<const float*>(from)[i];
  if (dtype == DType::kF16) return to_f32(static_cast<const __half*>(from)[i]);
  return to_f32(static_cast<const __nv_bfloat16*>(from)[i]);
}

__device__ inline void store_any(void* to, DType dtype, std::int64_t i, float x) {
  if (dtype == DType::kF32) {
    static_cast<float*>(to)[i] = x;
  } else if (dtype == DType::kF16) {
    static_cast<__half*>(to)[i] = from_f32<__half>(x);
  } else {
    static_cast<__nv_bfloat16*>(to)[i] = from_f32<__nv_bfloat16>(x);
  }
}

}  // namespace heddle::cuda
