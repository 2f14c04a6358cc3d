#pragma once
#include <cstdint>

#include "engine/engine_options.h"
#include "engine/host_tier.h"
#include "engine/memory_plan.h"
#include "models/model_config.h"
#include "scheduler/scheduler.h"

namespace heddle {

/// Fills in every derived value. Throws kBadInput naming the option that cannot be, with its range.
EngineOptions completed(EngineOptions options, const ModelConfig& config);

/// The same for the scheduler; `states`: the model has slots, for recurrent states or rings.
/// Options are complete.
SchedulerOptions scheduler_options(const EngineOptions& options, bool states, const HostTier& host);
/// Of the KV cache.
std::int64_t n_blocks(const EngineOptions& options);

/// Throws kBadInput for a size of the snapshots or the host cache that has room for none of them.
void check_cache_memory(const ModelConfig& config, const EngineOptions& options);

/// Throws kMemory for a plan that needs more than the limit, or the machine, has.
void check_memory(const MemoryPlan& plan, const EngineOptions& options);

}  // namespace heddle
