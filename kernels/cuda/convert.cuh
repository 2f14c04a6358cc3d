#pragma once
// Element types on the device: F32 <-> float, __half, __nv_bfloat16, rounding to nearest even as
// base/half.h does.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "base/dtype.h"

namespace heddle::cuda {

__device__ __forceinline__ float to_f32(float x) {
  return x;
}
__device__ __forceinline__ float to_f32(__half x) {
  return __half2float(x);
}
__device__ __forceinline__ float to_f32(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

template <typename T>
__device__ __forceinline__ T from_f32(float x);
template <>
__device__ __forceinline__ float from_f32<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __half from_f32<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_f32<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

/// Calls f.operator()<T>() with the C++ type of a floating dtype; false for any other.
template <typename F>
bool with_float_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kF32:
      f.template operator()<float>();
      return true;
    case DType::kF16:
      f.template operator()<__half>();
      return true;
    case DType::kBF16:
      f.template operator()<__nv_bfloat16>();
      return true;
    default:
      return false;
  }
}

}  // namespace heddle::cuda
