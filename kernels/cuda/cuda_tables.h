#pragma once
// The variant table of every op that has CUDA kernels, each defined in the .cu of its op. The
// fastest is first, `plain` last.

#include "kernels/api/activation.h"
#include "kernels/api/rms_norm.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/variant.h"

namespace heddle::cuda {

template <typename Args>
using Table = VariantTable<Args, CudaContext>;

const Table<RmsNormArgs>& rms_norm_table();
const Table<GluArgs>& glu_table();

}  // namespace heddle::cuda
