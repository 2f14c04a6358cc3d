#include "kernels/cpu/linear_attention_kernels.h"

#if defined(__AVX512F__)
#include "kernels/cpu/linear_attention_impl.h"
#include "kernels/cpu/simd16_avx512.h"

namespace heddle::cpu {

const LinearKernels* linear_kernels_avx512() {
  static constexpr LinearKernels kKernels = linear_kernels<Avx512>();
  return &kKernels;
}

}  // namespace heddle::cpu
#else

namespace heddle::cpu {

const LinearKernels* linear_kernels_avx512() {
  return nullptr;
}

}  // namespace heddle::cpu
#endif
