#include "kernels/cpu/simd16_kernels.h"

#if defined(__AVX512F__)
#include "kernels/cpu/simd16_avx512.h"
#include "kernels/cpu/simd16_kernels_impl.h"

namespace heddle::cpu {

const RowKernels* row_kernels_avx512() {
  static constexpr RowKernels kKernels = row_kernels<Avx512>();
  return &kKernels;
}

}  // namespace heddle::cpu
#else

namespace heddle::cpu {

const RowKernels* row_kernels_avx512() {
  return nullptr;
}

}  // namespace heddle::cpu
#endif
