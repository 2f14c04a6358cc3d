#pragma once
// The activations of kernels/api/activation.h on one element, for glu and activate.

#include "kernels/api/activation.h"
#include "kernels/cuda/convert.cuh"

namespace heddle::cuda {

inline constexpr float kSqrtHalf = 0.70710678118654752F;
inline constexpr float kSqrt2OverPi = 0.79788456080286536F;
inline constexpr float kCubic = 0.044715F;
inline constexpr float kQuick = 1.702F;

/// exp(x) and a / b in the accuracy that T can show.
template <typename T>
struct Maths {
  static __device__ __forceinline__ float exp(float x) { return __expf(x); }
  static __device__ __forceinline__ float divide(float a, float b) { return __fdividef(a, b); }
  static __device__ __forceinline__ float gelu(float x) {
    return 0.5F * x * (1.0F + erff(x * kSqrtHalf));
  }
};
template <>
struct Maths<float> {
  static __device__ __forceinline__ float exp(float x) { return expf(x); }
  static __device__ __forceinline__ float divide(float a, float b) { return __fdiv_rn(a, b); }
  static __device__ __forceinline__ float gelu(float x) { return 0.5F * x * erfcf(-x * kSqrtHalf); }
};

/// x times the logistic function of z; NaN for x = z = -inf, as the formula has it.
template <typename T>
__device__ __forceinline__ float times_logistic(float x, float z) {
  return Maths<T>::divide(x, 1.0F + Maths<T>::exp(-z));
}

template <typename T, Activation kActivation>
__device__ __forceinline__ float activate(float x) {
  if constexpr (kActivation == Activation::kSilu) {
    return times_logistic<T>(x, x);
  } else if constexpr (kActivation == Activation::kGelu) {
    return Maths<T>::gelu(x);
  } else if constexpr (kActivation == Activation::kGeluTanh) {
    // (1 + tanh z) / 2 is the logistic function of 2 z.
    return times_logistic<T>(x, 2.0F * kSqrt2OverPi * fmaf(kCubic * x * x, x, x));
  } else if constexpr (kActivation == Activation::kQuickGelu) {
    return times_logistic<T>(x, kQuick * x);
  } else if constexpr (kActivation == Activation::kSigmoid) {
    return times_logistic<T>(1.0F, x);
  } else if constexpr (kActivation == Activation::kRelu) {
    return x < 0.0F ? 0.0F : x;  // a NaN stays
  } else if constexpr (kActivation == Activation::kElu1) {
    return x > 0.0F ? x + 1.0F : Maths<T>::exp(x);
  } else {
    static_assert(kActivation == Activation::kIdentity);
    return x;
  }
}

/// Calls f.operator()<activation>(), so that the choice is made once for many elements.
template <typename F>
__device__ __forceinline__ void with_activation(Activation activation, const F& f) {
  switch (activation) {  // no default: a new activation is a warning here
    case Activation::kSilu:
      f.template operator()<Activation::kSilu>();
      break;
    case Activation::kGelu:
      f.template operator()<Activation::kGelu>();
      break;
    case Activation::kGeluTanh:
      f.template operator()<Activation::kGeluTanh>();
      break;
    case Activation::kQuickGelu:
      f.template operator()<Activation::kQuickGelu>();
      break;
    case Activation::kSigmoid:
      f.template operator()<Activation::kSigmoid>();
      break;
    case Activation::kRelu:
      f.template operator()<Activation::kRelu>();
      break;
    case Activation::kElu1:
      f.template operator()<Activation::kElu1>();
      break;
    case Activation::kIdentity:
      f.template operator()<Activation::kIdentity>();
      break;
  }
}

/// The same straight from the formula in f32.
__device__ inline float activate_plain(Activation activation, float x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1.0F + expf(-x));
    case Activation::kGelu:
      return 0.5F * x * (1.0F + erff(x * kSqrtHalf));
    case Activation::kGeluTanh:
      return 0.5F * x * (1.0F + tanhf(kSqrt2OverPi * (x + kCubic * x * x * x)));
    case Activation::kQuickGelu:
      return x / (1.0F + expf(-kQuick * x));
    case Activation::kSigmoid:
      return 1.0F / (1.0F + expf(-x));
    case Activation::kRelu:
      return x < 0.0F ? 0.0F : x;
    case Activation::kElu1:
      return x > 0.0F ? x + 1.0F : expf(x);
    case Activation::kIdentity:
      break;
  }
  return x;
}

}  // namespace heddle::cuda
