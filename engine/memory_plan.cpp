#include "engine/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

#include "engine/cache_storage.h"
#include "models/decoder.h"

namespace heddle {
namespace {

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

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
  return kUnlimited;
}

/// The number in a file, or the largest ("max", or no such file).
std::uint64_t number_in(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t value = 0;
  return file >> value ? value : kUnlimited;
}

/// File cache of a cgroup, from its memory.stat.
std::uint64_t file_cache(const std::string& folder) {
  std::ifstream file(folder + "/memory.stat");
  std::string name;
  std::uint64_t value = 0;
  std::uint64_t sum = 0;
  while (file >> name >> value) {
    if (name == "active_file" || name == "inactive_file") sum += value;
  }
  return sum;
}

std::uint64_t free_in(const std::string& folder, const char* limit_name, const char* used_name) {
  const std::uint64_t limit = number_in(folder + "/" + limit_name);
  const std::uint64_t used = number_in(folder + "/" + used_name);
  if (limit == kUnlimited || used == kUnlimited) return kUnlimited;
  const std::uint64_t held = used - std::min(used, file_cache(folder));
  return limit > held ? limit - held : 0;
}

/// The smallest of this process's cgroup and all above it; version 2 and the memory group of 1.
std::uint64_t cgroup_free() {
  std::uint64_t least = kUnlimited;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && controllers != "memory") continue;
    const std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    for (std::string path = line.substr(second + 1);; path.erase(path.rfind('/'))) {
      const std::string folder = root + (path == "/" ? "" : path);
      least = std::min(least,
                       unified ? free_in(folder, "memory.max", "memory.current")
                               : free_in(folder, "memory.limit_in_bytes", "memory.usage_in_bytes"));
      if (path.rfind('/') == std::string::npos) break;
    }
  }
  return least;
}

}  // namespace

std::string memory_text(std::uint64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  return mib < 10240 ? fmt::format("{:.1f} MiB", mib) : fmt::format("{:.1f} GiB", mib / 1024);
}

std::string MemoryPlan::describe() const {
  std::string text =
      fmt::format("{}: weights {}, KV cache {} ({} bytes a token)", memory_text(total()),
                  memory_text(weights), memory_text(kv), kv_bytes_per_token);
  if (state > 0) {
    text += fmt::format(", recurrent states {} ({} a sequence)", memory_text(state),
                        memory_text(state_bytes_per_sequence));
    if (snapshots > 0) text += fmt::format(", snapshots of states {}", memory_text(snapshots));
  }
  return text + fmt::format(", activations {}", memory_text(activations));
}

MemoryPlan plan_memory(const ModelConfig& config,
                       const WeightStore& weights,
                       const EngineOptions& options) {
  MemoryPlan plan;
  for (const StoredTensor& tensor : weights.tensors()) {
    if (!tensor.foreign.empty()) continue;  // never packed
    plan.weights += static_cast<std::uint64_t>(tensor.view.bytes());
  }
  const DType kv_dtype = options.kv_dtype.value_or(DType::kF16);
  const std::int64_t context = options.context > 0 ? options.context : config.context;
  const std::int64_t kv_tokens =
      options.kv_tokens > 0 ? options.kv_tokens : context * options.max_sequences;
  const std::vector<CacheNeed> needs = cache_needs(config);
  const double per_token = kv_bytes_per_token(needs, kv_dtype, options.block_tokens);
  plan.kv_bytes_per_token = static_cast<std::uint64_t>(std::ceil(per_token));
  plan.kv = static_cast<std::uint64_t>(std::ceil(per_token * static_cast<double>(kv_tokens)));
  plan.state_bytes_per_sequence = state_bytes(needs);
  plan.state = plan.state_bytes_per_sequence * static_cast<std::uint64_t>(options.max_sequences);
  plan.snapshots = plan.state_bytes_per_sequence *
                   static_cast<std::uint64_t>(std::max<std::int64_t>(0, options.snapshots));
  EngineOptions sized = options;
  sized.context = context;
  plan.activations = activation_bytes(config, decoder_limits(sized));
  return plan;
}

DecoderLimits decoder_limits(const EngineOptions& options) {
  return {.max_tokens = options.max_step_tokens > 0 ? options.max_step_tokens : 512,
          .max_outputs = std::max<std::int64_t>(options.max_sequences, 64),
          .max_positions = (options.context + options.block_tokens - 1) / options.block_tokens *
                           options.block_tokens};
}

std::uint64_t available_memory() {
  return std::min(meminfo("MemAvailable"), cgroup_free());
}

}  // namespace heddle
