#include "engine/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "engine/cache_storage.h"
#include "models/decoder.h"

namespace heddle {
namespace {

std::string amount(std::uint64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  return mib < 10240 ? fmt::format("{:.1f} MiB", mib) : fmt::format("{:.1f} GiB", mib / 1024);
}

/// The value of a "MemAvailable:   123 kB" line in bytes, or the largest number.
std::uint64_t meminfo(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  std::string name;
  std::string unit;
  std::uint64_t value = 0;
  while (file >> name >> value) {
    if (name == key + ":") return value * 1024;
    std::getline(file, unit);
  }
  return std::numeric_limits<std::uint64_t>::max();
}

std::uint64_t cgroup_free() {
  std::ifstream max_file("/sys/fs/cgroup/memory.max");
  std::ifstream used_file("/sys/fs/cgroup/memory.current");
  std::uint64_t limit = 0;
  std::uint64_t used = 0;
  if (!(max_file >> limit) || !(used_file >> used)) {
    return std::numeric_limits<std::uint64_t>::max();  // "max": no limit
  }
  return limit > used ? limit - used : 0;
}

}  // namespace

std::string MemoryPlan::describe() const {
  return fmt::format("{}: weights {}, KV cache {} ({} bytes a token), activations {}",
                     amount(total()), amount(weights), amount(kv), kv_bytes_per_token,
                     amount(activations));
}

MemoryPlan plan_memory(const ModelConfig& config,
                       const WeightStore& weights,
                       const EngineOptions& options) {
  MemoryPlan plan;
  for (const StoredTensor& tensor : weights.tensors()) {
    plan.weights += static_cast<std::uint64_t>(tensor.view.bytes());
  }
  const DType kv_dtype = options.kv_dtype.value_or(DType::kF16);
  const std::int64_t context = options.context > 0 ? options.context : config.context;
  const std::int64_t kv_tokens =
      options.kv_tokens > 0 ? options.kv_tokens : context * options.max_sequences;
  plan.kv_bytes_per_token = kv_bytes_per_token(cache_needs(config), kv_dtype);
  plan.kv = plan.kv_bytes_per_token * static_cast<std::uint64_t>(kv_tokens);
  plan.activations = activation_bytes(config, decoder_limits(options));
  return plan;
}

DecoderLimits decoder_limits(const EngineOptions& options) {
  return {.max_tokens = options.max_step_tokens > 0 ? options.max_step_tokens : 512,
          .max_outputs = std::max<std::int64_t>(options.max_sequences, 64)};
}

std::uint64_t available_memory() {
  return std::min(meminfo("MemAvailable"), cgroup_free());
}

}  // namespace heddle
