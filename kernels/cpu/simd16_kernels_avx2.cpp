#include "kernels/cpu/simd16_kernels.h"

#if defined(__AVX2__)
#include "kernels/cpu/simd16_avx2.h"
#include "kernels/cpu/simd16_kernels_impl.h"

namespace heddle::cpu {

const RowKernels* row_kernels_avx2() {
  static constexpr RowKernels kKernels = row_kernels<Avx2>();
  return &kKernels;
}

}  // namespace heddle::cpu
#else

namespace heddle::cpu {

const RowKernels* row_kernels_avx2() {
  return nullptr;
}

}  // namespace heddle::cpu
#endif
