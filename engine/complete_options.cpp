#include "engine/complete_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "base/error.h"
#include "engine/cache_rings.h"
#include "engine/cache_storage.h"
#include "engine/require_between.h"
#include "kernels/api/linear_attention.h"

namespace heddle {
namespace {

/// Of the prefix cache's hashes: nobody can know it.
std::array<std::uint64_t, 2> random_key() {
  std::random_device device;
  const auto word = [&] { return std::uint64_t{device()} << 32 | device(); };
  return {word(), word()};
}

/// Memory that was asked for and has no room for anything would be taken for nothing.
void require_room(std::string_view option,
                  std::uint64_t got,
                  std::uint64_t least,
                  std::string_view of_what) {
  if (got == 0 || got >= least) return;
  throw bad_input(fmt::format("{}: got {} ({} bytes), allowed: 0, or {} ({} bytes) and more, {}",
                              option, memory_text(got), got, memory_text(least), least, of_what));
}

}  // namespace

EngineOptions completed(EngineOptions o, const ModelConfig& config) {
  if (o.context == 0) o.context = config.context;
  constexpr std::int64_t kMostContext = std::int64_t{1} << 30;
  const std::int64_t most = o.any_context ? kMostContext : config.context;
  if (o.context < 1 || o.context > most) {
    throw bad_input(
        fmt::format("context of {} tokens: the checkpoint was trained for {}, allowed: "
                    "1 .. {}",
                    o.context, config.context, config.context));
  }
  require_between("max_sequences", o.max_sequences, 1, kMostSequences);
  if (o.max_step_tokens == 0) o.max_step_tokens = std::max<std::int64_t>(512, o.max_sequences);
  require_between("max_step_tokens", o.max_step_tokens, 1, 65536);
  if (o.max_chunk == 0) o.max_chunk = o.max_step_tokens;
  require_between("max_chunk", o.max_chunk, 1, o.max_step_tokens);
  if (o.block_tokens != 16 && o.block_tokens != 32 && o.block_tokens != 64) {
    throw bad_input(fmt::format("block_tokens is {}, allowed: 16, 32, 64", o.block_tokens));
  }
  const std::vector<std::int64_t> rings = ring_sizes(placed_needs(config, o));
  if (!rings.empty()) o.max_chunk = std::min(o.max_chunk, kRingChunk);
  if (!o.kv_dtype) {
    const auto all = o.backend.forced.find("all");
    const bool oracle = all != o.backend.forced.end() && all->second == "ref";
    o.kv_dtype = oracle ? DType::kF32 : DType::kF16;
  }
  if (*o.kv_dtype != DType::kF32 && *o.kv_dtype != DType::kF16 && *o.kv_dtype != DType::kBF16) {
    throw bad_input(fmt::format("KV dtype {}: allowed: f32, f16, bf16", name(*o.kv_dtype)));
  }
  // NaN is refused too.
  if (!(o.verify_cache >= 0.0 && o.verify_cache <= 1.0)) {
    throw bad_input(fmt::format("verify_cache is {}, allowed: [0, 1]", o.verify_cache));
  }
  if (o.verify_seed == 0) o.verify_seed = random_key()[0];
  check_cache_memory(config, o);
  if (o.kv_tokens == 0) o.kv_tokens = derived_kv_tokens(o);
  o.snapshots = snapshot_slots(config, o);
  require_between("snapshots", o.snapshots, 0, static_cast<std::int64_t>(kMostSnapshots));
  // slots are int32
  require_between("kv_tokens", o.kv_tokens, 1, kMostKvTokens);
  if (!rings.empty()) {
    require_between("snapshots", o.snapshots, 0,
                    kMostKvTokens / (rings.back() * o.block_tokens) - o.max_sequences);
  }
  return o;
}

void check_cache_memory(const ModelConfig& config, const EngineOptions& o) {
  if (!o.prefix_cache) return;
  const std::vector<CacheNeed> needs = placed_needs(config, o);
  const DType kv_dtype = o.kv_dtype.value_or(DType::kF16);
  const std::uint64_t state = state_bytes(needs) + ring_bytes(needs, kv_dtype, o.block_tokens);
  const std::uint64_t block = kv_block_bytes(needs, kv_dtype, o.block_tokens);
  if (state > 0) {
    require_room("--snapshot-memory", o.snapshot_memory, state, "which one snapshot takes");
  }
  if (state == 0 || block == 0) {
    require_room("--host-cache", o.host_cache, state + block,
                 state > 0 ? "which one snapshot takes" : "which one KV block takes");
  } else {  // half of it is for states
    require_room("--host-cache", o.host_cache, 2 * std::max(state, block),
                 "so that each half has room for one snapshot or one KV block");
  }
}

void check_memory(const MemoryPlan& plan, const EngineOptions& options) {
  const bool limited = options.memory_limit > 0;
  const std::uint64_t room = limited ? options.memory_limit : available_memory();
  if (plan.total() <= room) return;
  // What was asked for beside the model goes first.
  const auto fits_without = [&](std::uint64_t bytes) { return plan.total() - bytes <= room; };
  const std::string_view remedy =
      plan.host_cache > 0 && fits_without(plan.host_cache + plan.host_bookkeeping)
          ? "a smaller --host-cache lowers it"
      : options.snapshot_memory > 0 && fits_without(plan.snapshots)
          ? "a smaller --snapshot-memory lowers it"
      : plan.weights + plan.activations < room ? "a smaller --ctx or fewer sequences lower it"
      : plan.weights < room                    ? "a smaller --max-step-tokens lowers it"
                                               : "the weights alone do not fit";
  throw Error(ErrorKind::kMemory, fmt::format("memory: needs {}; {} {}; {}", plan.describe(),
                                              limited ? "the memory limit allows" : "free are",
                                              memory_text(room), remedy));
}

std::int64_t n_blocks(const EngineOptions& o) {
  return (o.kv_tokens + o.block_tokens - 1) / o.block_tokens;
}

SchedulerOptions scheduler_options(const EngineOptions& o, bool states, const HostTier& host) {
  return {.max_step_tokens = o.max_step_tokens,
          .max_step_outputs = decoder_limits(o).max_outputs,
          .max_running = o.max_sequences,
          .max_chunk = o.max_chunk,
          .max_sequence_tokens = o.context,
          .block_tokens = o.block_tokens,
          .n_blocks = static_cast<int>(n_blocks(o)),
          .n_state_slots = states ? static_cast<int>(o.max_sequences + o.snapshots) : 0,
          .state_block_tokens = static_cast<int>(kLinearBlock),
          .prefix_cache = o.prefix_cache,
          .n_host_blocks = static_cast<int>(host.n_blocks),
          .n_host_slots = static_cast<int>(host.n_slots),
          .block_copy_tokens = host.block_copy_tokens,
          .state_copy_tokens = host.state_copy_tokens,
          .cache_key = random_key(),
          .shuffle_seed = o.shuffle_blocks,
          .chunk_seed = o.random_chunks,
          .leaked_blocks = o.leaked_blocks};
}

}  // namespace heddle
