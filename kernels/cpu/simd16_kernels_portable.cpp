#include "kernels/cpu/simd16_kernels.h"
#include "kernels/cpu/simd16_kernels_impl.h"
#include "kernels/cpu/simd16_portable.h"

namespace heddle::cpu {

const RowKernels& row_kernels_portable() {
  static constexpr RowKernels kKernels = row_kernels<Portable>();
  return kKernels;
}

}  // namespace heddle::cpu
