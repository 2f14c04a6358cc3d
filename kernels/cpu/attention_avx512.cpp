#include "kernels/cpu/attention_kernels.h"

#if defined(__AVX512F__)
#include "kernels/cpu/attention_impl.h"
#include "kernels/cpu/simd16_avx512.h"

namespace heddle::cpu {

const AttentionKernels* attention_kernels_avx512() {
  static constexpr AttentionKernels kKernels = attention_kernels<Avx512>();
  return &kKernels;
}

}  // namespace heddle::cpu
#else

namespace heddle::cpu {

const AttentionKernels* attention_kernels_avx512() {
  return nullptr;
}

}  // namespace heddle::cpu
#endif
