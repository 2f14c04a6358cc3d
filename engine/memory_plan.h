#pragma once
#include <cstdint>
#include <string>

#include "engine/engine_options.h"
#include "models/checkpoint.h"
#include "models/decoder.h"

namespace heddle {

/// Bytes that a model will take, from shapes alone: nothing is read or allocated to know it.
struct MemoryPlan {
  std::uint64_t weights = 0;
  std::uint64_t kv = 0;
  std::uint64_t state = 0;        // recurrent states of all sequences
  std::uint64_t snapshots = 0;    // states kept of prefixes
  std::uint64_t activations = 0;  // of the largest step, logits included
  std::uint64_t kv_bytes_per_token = 0;
  std::uint64_t state_bytes_per_sequence = 0;
  std::uint64_t total() const { return weights + kv + state + snapshots + activations; }
  std::string describe() const;  // one line with units
};

MemoryPlan plan_memory(const ModelConfig& config,
                       const WeightStore& weights,
                       const EngineOptions& options);

/// Rows and logits of the largest step.
DecoderLimits decoder_limits(const EngineOptions& options);

/// "12.3 MiB", "4.0 GiB"
std::string memory_text(std::uint64_t bytes);

/// Bytes free for a new process: MemAvailable, and what every cgroup above this process leaves
/// (file cache counts as free, it is given back on demand); the smallest.
std::uint64_t available_memory();

}  // namespace heddle
