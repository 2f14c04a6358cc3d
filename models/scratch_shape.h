#pragma once
#include "kernels/sizes.h"
#include "models/decoder.h"
#include "models/weight_store.h"

namespace heddle {

/// The largest calls of ops of a model's largest step, as far as config and weights say: threads,
/// sequences and keys are the caller's to fill in.
ScratchShape scratch_shape(const ModelConfig& config,
                           const WeightStore& weights,
                           const DecoderLimits& limits);

}  // namespace heddle
