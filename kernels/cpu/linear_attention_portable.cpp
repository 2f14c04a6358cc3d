#include "kernels/cpu/linear_attention_impl.h"
#include "kernels/cpu/linear_attention_kernels.h"
#include "kernels/cpu/simd16_portable.h"

namespace heddle::cpu {

const LinearKernels& linear_kernels_portable() {
  static constexpr LinearKernels kKernels = linear_kernels<Portable>();
  return kKernels;
}

}  // namespace heddle::cpu
