#include "kernels/cpu/attention_impl.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/simd16_portable.h"

namespace heddle::cpu {

const AttentionKernels& attention_kernels_portable() {
  static constexpr AttentionKernels kKernels = attention_kernels<Portable>();
  return kKernels;
}

}  // namespace heddle::cpu
