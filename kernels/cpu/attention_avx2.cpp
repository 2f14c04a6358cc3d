#include "kernels/cpu/attention_kernels.h"

#if defined(__AVX2__)
#include "kernels/cpu/attention_impl.h"
#include "kernels/cpu/simd16_avx2.h"

namespace heddle::cpu {

const AttentionKernels* attention_kernels_avx2() {
  static constexpr AttentionKernels kKernels = attention_kernels<Avx2>();
  return &kKernels;
}

}  // namespace heddle::cpu
#else

namespace heddle::cpu {

const AttentionKernels* attention_kernels_avx2() {
  return nullptr;
}

}  // namespace heddle::cpu
#endif
