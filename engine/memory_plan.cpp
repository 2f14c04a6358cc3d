#include "engine/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

#include "engine/batch_builder.h"
#include "engine/cache_check.h"
#include "engine/cache_rings.h"
#include "engine/cache_storage.h"
#include "engine/host_tier.h"
#include "models/mixers/mixer.h"
#include "models/scratch_shape.h"
#include "scheduler/prefix_cache.h"

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

std::uint64_t unsigned_of(std::int64_t n) {
  return static_cast<std::uint64_t>(n);
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

bool is_vector(const StoredTensor& tensor) {
  const std::string_view name = tensor.name;
  return name.ends_with("bias") ||
         (tensor.view.rank < 2 && name.find("norm") != std::string_view::npos);
}

/// Every matrix padded to what kernels read (one row to sixteen), every vector in f32.
std::uint64_t weight_bytes(const WeightStore& weights) {
  std::uint64_t bytes = 0;
  for (const StoredTensor& tensor : weights.tensors()) {
    if (!tensor.foreign.empty()) continue;  // never packed
    const TensorView& view = tensor.view;
    if (view.rank == 0 || is_vector(tensor)) {
      bytes += unsigned_of(view.elements()) * sizeof(float);
      continue;
    }
    const std::int64_t rows = view.rank < 2 ? 1 : view.dim(view.rank - 2);
    const std::int64_t cols = view.dim(view.rank - 1);
    const std::int64_t matrices = view.elements() / std::max<std::int64_t>(1, rows * cols);
    bytes += unsigned_of(matrices) * packed_bytes(view.dtype, rows, cols);
  }
  return bytes;
}

/// The zeros of EngineOptions filled in as Engine::load does.
EngineOptions sized(const ModelConfig& config, EngineOptions o) {
  if (o.context == 0) o.context = config.context;
  if (o.kv_tokens == 0) o.kv_tokens = derived_kv_tokens(o);
  o.snapshots = snapshot_slots(config, o);
  return o;
}

std::vector<KvGroup> kv_groups(const ModelConfig& config, const EngineOptions& o, DType kv_dtype) {
  const std::uint64_t n_blocks = unsigned_of(ceil_div(o.kv_tokens, o.block_tokens));
  std::vector<KvGroup> groups;
  const auto add = [&](KvGroup::Kind kind, std::int64_t window, std::uint64_t block_bytes,
                       std::uint64_t ring) {
    auto group = std::find_if(groups.begin(), groups.end(), [&](const KvGroup& g) {
      return g.kind == kind && g.window == window;
    });
    if (group == groups.end()) {
      group = groups.insert(group, KvGroup{.kind = kind, .window = window});
    }
    ++group->layers;
    group->bytes_per_token += static_cast<double>(block_bytes) / o.block_tokens;
    group->bytes_per_sequence += ring;
    group->bytes += n_blocks * block_bytes + unsigned_of(o.max_sequences) * ring;
  };
  for (const LayerSpec& layer : config.layers) {
    for (const MixerSpec& mixer : layer.mixers) {
      const CacheNeed need = placed(cache_need(mixer), o);
      for (const PagedKvNeed& kv : need.paged) {
        const bool windowed = kv.window > 0 && kv.window < o.context;
        CacheNeed alone;
        alone.paged = {kv};
        add(windowed ? KvGroup::Kind::kWindowed : KvGroup::Kind::kFull, windowed ? kv.window : 0,
            kv_block_bytes({alone}, kv_dtype, o.block_tokens),
            ring_bytes({alone}, kv_dtype, o.block_tokens));
      }
      const std::uint64_t compressed = compressed_block_bytes({need}, o.block_tokens);
      if (compressed > 0) add(KvGroup::Kind::kCompressed, 0, compressed, 0);
    }
  }
  std::sort(groups.begin(), groups.end(), [](const KvGroup& a, const KvGroup& b) {
    return a.kind != b.kind ? a.kind < b.kind : a.window < b.window;
  });
  return groups;
}

std::uint64_t kernel_scratch(const ModelConfig& config,
                             const WeightStore& weights,
                             const EngineOptions& o) {
  const DecoderLimits limits = decoder_limits(o);
  ScratchShape shape = scratch_shape(config, weights, limits);
  shape.threads = o.backend.threads;
  shape.n_sequences = std::min(o.max_sequences, limits.max_tokens);
  // sequences may share blocks, so that all their keys are more than the cache's
  shape.n_keys = std::min(o.kv_tokens, o.context) * o.max_sequences;
  return scratch_bytes(shape);
}

/// What the host keeps of requests and of a step.
std::uint64_t bookkeeping(const ModelConfig& config,
                          const EngineOptions& o,
                          std::int64_t n_host_blocks) {
  const DecoderLimits limits = decoder_limits(o);
  const std::int64_t max_blocks = ceil_div(o.context, o.block_tokens);
  const std::uint64_t batch =
      batch_bytes({.max_tokens = limits.max_tokens,
                   .max_sequences = std::min(o.max_sequences, limits.max_tokens),
                   .max_outputs = limits.max_outputs,
                   .max_blocks = max_blocks,
                   .block_tokens = o.block_tokens,
                   .rings = ring_sizes(placed_needs(config, o))});
  // A token as part of a prompt, of a sequence and of a count; a block in the pool and in a table,
  // with its node in the prefix cache and that one's place among others behind the same text; the
  // cache remembers so many evicted ones beside.
  const std::int64_t tokens = o.context * o.max_sequences * 16;
  const std::int64_t n_blocks = ceil_div(o.kv_tokens, o.block_tokens);
  std::int64_t blocks = (n_blocks + n_host_blocks + max_blocks * o.max_sequences) * 8;
  if (o.prefix_cache) {
    blocks += (n_blocks + n_host_blocks) * (512 + 4 * o.block_tokens) +
              static_cast<std::int64_t>(PrefixCacheOptions{}.remembered_bytes);
  }
  const std::int64_t sampled = limits.max_outputs * 8;
  const std::int64_t logits = (o.max_sequences + 1) * config.vocab * 4;  // for their logprobs
  const std::uint64_t checks = o.verify_cache > 0.0 ? kCacheCheckBytes : 0;
  return batch + checks + unsigned_of(tokens + blocks + sampled + logits);
}

/// The largest of least .. most for which `fits`, which no larger one does after one that does not;
/// 0: none.
template <typename Fits>
std::int64_t largest(std::int64_t least, std::int64_t most, const Fits& fits) {
  if (most < least || !fits(least)) return 0;
  std::int64_t low = least;
  std::int64_t high = most + 1;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

/// The largest context up to `most` that fits. Where layers begin to keep rings a longer one may
/// need less than a shorter one.
template <typename Fits>
std::int64_t largest_context(const ModelConfig& config, std::int64_t most, const Fits& fits) {
  std::vector<std::int64_t> begins = ring_contexts(config);
  begins.push_back(1);
  for (const std::int64_t least : begins) {
    if (const std::int64_t context = largest(least, most, fits); context > 0) return context;
    most = std::min(most, least - 1);
  }
  return 0;
}

/// What the rings of a sequence take at most, and what they save where kv_tokens are full.
struct RingBytes {
  double most = 0.0;
  double saved = 0.0;
};

RingBytes ring_bytes_of(const std::vector<CacheNeed>& needs, const EngineOptions& o) {
  RingBytes bytes;
  for (const CacheNeed& need : needs) {
    for (const PagedKvNeed& kv : need.paged) {
      if (kv.ring_blocks == 0) continue;
      const auto token =
          static_cast<double>(row_bytes(o.kv_dtype.value_or(DType::kF16), kv.elements_per_token()));
      const std::int64_t tokens = most_ring_tokens(kv.window);
      bytes.most += token * static_cast<double>(tokens);
      bytes.saved += token * static_cast<double>(o.kv_tokens - o.max_sequences * tokens);
    }
  }
  return bytes;
}

}  // namespace

std::string memory_text(std::uint64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  return mib < 10240 ? fmt::format("{:.1f} MiB", mib) : fmt::format("{:.1f} GiB", mib / 1024);
}

std::string_view name(KvGroup::Kind kind) {
  switch (kind) {
    case KvGroup::Kind::kFull:
      return "full";
    case KvGroup::Kind::kWindowed:
      return "windowed";
    case KvGroup::Kind::kCompressed:
      break;
  }
  return "compressed keys";
}

std::string MemoryPlan::describe() const {
  std::string text =
      fmt::format("{}: weights {}, KV cache {} ({} bytes a token", memory_text(total()),
                  memory_text(weights), memory_text(kv), kv_bytes_per_token);
  if (kv_groups.size() > 1) {
    for (const KvGroup& group : kv_groups) {
      text += fmt::format("{} {} {}", &group == &kv_groups.front() ? ":" : ",", name(group.kind),
                          memory_text(group.bytes));
    }
  }
  if (window_bytes_per_sequence > 0) {
    text += fmt::format("; {} a sequence in windows", memory_text(window_bytes_per_sequence));
  }
  text += ")";
  if (state > 0) {
    text += fmt::format(", recurrent states {} ({} a sequence)", memory_text(state),
                        memory_text(state_bytes_per_sequence));
  }
  if (snapshots > 0) text += fmt::format(", snapshots {}", memory_text(snapshots));
  if (host_cache > 0) text += fmt::format(", host cache {}", memory_text(host_cache));
  return text + fmt::format(", workspace {}", memory_text(workspace()));
}

std::int64_t derived_kv_tokens(const EngineOptions& o) {
  // A cold run beside what it is compared with.
  return o.context * (o.max_sequences + (o.verify_cache > 0.0 ? 1 : 0));
}

std::int64_t snapshot_slots(const ModelConfig& config, const EngineOptions& o) {
  const std::vector<CacheNeed> needs = placed_needs(config, o);
  const DType kv_dtype = o.kv_dtype.value_or(DType::kF16);
  const std::uint64_t slot = state_bytes(needs) + ring_bytes(needs, kv_dtype, o.block_tokens);
  if (!o.prefix_cache || slot == 0) return 0;
  if (o.snapshots >= 0) return o.snapshots;
  if (o.snapshot_memory > 0) {
    return static_cast<std::int64_t>(std::min(o.snapshot_memory / slot, kMostSnapshots));
  }
  const RingBytes rings = ring_bytes_of(needs, o);
  const double kv =
      kv_bytes_per_token(needs, kv_dtype, o.block_tokens) * static_cast<double>(o.kv_tokens) +
      rings.most * static_cast<double>(o.max_sequences);
  const double snapshot = static_cast<double>(state_bytes(needs)) + rings.most;
  const double eighth = std::clamp(kv / 8 / snapshot, 4.0, 32.0);
  const double most = rings.most > 0.0 ? std::max(rings.saved / rings.most, 2.0) : eighth;
  return static_cast<std::int64_t>(std::min(eighth, most));
}

MemoryPlan plan_memory(const ModelConfig& config,
                       const WeightStore& weights,
                       const EngineOptions& options) {
  const EngineOptions o = sized(config, options);
  const DType kv_dtype = o.kv_dtype.value_or(DType::kF16);
  const std::vector<CacheNeed> needs = placed_needs(config, o);
  MemoryPlan plan;
  plan.weights = weight_bytes(weights);
  plan.kv_groups = kv_groups(config, o, kv_dtype);
  for (const KvGroup& group : plan.kv_groups) plan.kv += group.bytes;
  plan.kv_bytes_per_token =
      static_cast<std::uint64_t>(std::ceil(kv_bytes_per_token(needs, kv_dtype, o.block_tokens)));
  plan.window_bytes_per_sequence = ring_bytes(needs, kv_dtype, o.block_tokens);
  plan.state_bytes_per_sequence = state_bytes(needs);
  plan.state = plan.state_bytes_per_sequence * unsigned_of(o.max_sequences);
  plan.snapshots =
      (plan.state_bytes_per_sequence + plan.window_bytes_per_sequence) * unsigned_of(o.snapshots);
  if (o.prefix_cache) plan.host_cache = o.host_cache;
  plan.activations = activation_bytes(config, decoder_limits(o));
  plan.kernel_scratch = kernel_scratch(config, weights, o);
  EngineOptions typed = o;
  typed.kv_dtype = kv_dtype;
  plan.bookkeeping = bookkeeping(config, o, host_tier(config, weights, typed).n_blocks);
  plan.host_bookkeeping = plan.bookkeeping - bookkeeping(config, o, 0);
  return plan;
}

MemoryFit what_fits(const ModelConfig& config,
                    const WeightStore& weights,
                    const EngineOptions& options,
                    std::uint64_t memory) {
  EngineOptions o = sized(config, options);
  o.kv_tokens = 0;
  o.snapshots = options.snapshots;
  const auto fits = [&](std::int64_t context, std::int64_t sequences) {
    EngineOptions tried = o;
    tried.context = context;
    tried.max_sequences = sequences;
    return plan_memory(config, weights, tried).total() <= memory;
  };
  return {.max_context = largest_context(
              config, std::min<std::int64_t>(config.context, kMostKvTokens / o.max_sequences),
              [&](std::int64_t n) { return fits(n, o.max_sequences); }),
          .max_sequences = largest(1, std::min(kMostSequences, kMostKvTokens / o.context),
                                   [&](std::int64_t n) { return fits(o.context, n); })};
}

DecoderLimits decoder_limits(const EngineOptions& options) {
  const std::int64_t tokens = options.max_step_tokens > 0
                                  ? options.max_step_tokens
                                  : std::max<std::int64_t>(512, options.max_sequences);
  return {.max_tokens = tokens,
          .max_outputs = std::max<std::int64_t>(options.max_sequences, 64),
          .max_positions = ceil_div(options.context, options.block_tokens) * options.block_tokens};
}

std::uint64_t available_memory() {
  return std::min(meminfo("MemAvailable"), cgroup_free());
}

}  // namespace heddle
