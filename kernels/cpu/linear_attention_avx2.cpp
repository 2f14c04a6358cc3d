#include "kernels/cpu/linear_attention_kernels.h"

#if defined(__AVX2__)
#include "kernels/cpu/linear_attention_impl.h"
#include "kernels/cpu/simd16_avx2.h"

namespace heddle::cpu {

const LinearKernels* linear_kernels_avx2() {
  static constexpr LinearKernels kKernels = linear_kernels<Avx2>();
  return &kKernels;
}

}  // namespace heddle::cpu
#else

namespace heddle::cpu {

const LinearKernels* linear_kernels_avx2() {
  return nullptr;
}

}  // namespace heddle::cpu
#endif
