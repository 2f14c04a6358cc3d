#pragma once
// Room in host memory for what the prefix cache evicts, and when the copies are worth it.

#include <cstdint>

#include "engine/engine_options.h"
#include "models/model_config.h"
#include "models/weight_store.h"

namespace heddle {

struct HostTier {
  std::int64_t n_blocks = 0;
  std::int64_t n_slots = 0;
  /// To the host and back, in tokens that could be computed meanwhile: an estimate from parameters
  /// and bytes, and what devices of this kind compute and copy in a second.
  double block_copy_tokens = 0.0;
  double state_copy_tokens = 0.0;
};

/// For EngineOptions::host_cache bytes: blocks; half of it for states, if there are any, but no
/// more than four for each sequence and 64. `options` with every value filled in.
HostTier host_tier(const ModelConfig& config,
                   const WeightStore& weights,
                   const EngineOptions& options);

}  // namespace heddle
