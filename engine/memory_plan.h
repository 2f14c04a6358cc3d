#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine_options.h"
#include "models/checkpoint.h"
#include "models/decoder.h"

namespace heddle {

/// Keys and values of layers that keep them alike.
struct KvGroup {
  enum class Kind {
    kFull,        // every token reads all keys, or may choose among all
    kWindowed,    // a token reads `window` keys, which are fewer than the context's
    kCompressed,  // means of keys beside those of full layers
  };
  Kind kind = Kind::kFull;
  std::int64_t window = 0;
  int layers = 0;
  double bytes_per_token = 0.0;          // in blocks of the pool, which keep all tokens
  std::uint64_t bytes_per_sequence = 0;  // in rings (engine/cache_rings.h), however long it is
  std::uint64_t bytes = 0;               // of all tokens, and of all sequences
};
/// "full", "windowed", "compressed keys"
std::string_view name(KvGroup::Kind kind);

/// Bytes that a model will take, from shapes alone: nothing is read or allocated to know it, and
/// what is admitted by it does not run out of memory. Not counted: the process itself with its
/// tokenizer, which is there before the plan is made, and a few KiB for each buffer.
struct MemoryPlan {
  std::uint64_t weights = 0;      // as packed
  std::uint64_t kv = 0;           // of sequences: whole blocks, compressed keys included, and rings
  std::uint64_t state = 0;        // recurrent states of all sequences
  std::uint64_t snapshots = 0;    // states and rings kept of prefixes
  std::uint64_t host_cache = 0;   // of blocks and states that had to leave the others
  std::uint64_t activations = 0;  // of the largest step, logits included
  std::uint64_t kernel_scratch = 0;    // grows with use
  std::uint64_t bookkeeping = 0;       // tokens, block tables, a step's arrays, copies of logits
  std::uint64_t host_bookkeeping = 0;  // of bookkeeping, what goes with host_cache
  std::uint64_t workspace() const { return activations + kernel_scratch + bookkeeping; }
  std::uint64_t total() const {
    return weights + kv + state + snapshots + host_cache + workspace();
  }

  std::uint64_t kv_bytes_per_token = 0;         // in blocks: what grows with the context
  std::uint64_t window_bytes_per_sequence = 0;  // in rings, of a snapshot too
  std::uint64_t state_bytes_per_sequence = 0;   // recurrent, of a snapshot too
  std::vector<KvGroup> kv_groups;               // their bytes add up to kv
  std::string describe() const;                 // one line with units
};

/// Tokens of the KV cache where the options leave it open; context is filled in.
std::int64_t derived_kv_tokens(const EngineOptions& options);

/// More slots than anybody has use for.
inline constexpr std::uint64_t kMostSnapshots = 65536;

/// Snapshots that the options stand for, unless they say a number or bytes: an eighth of the KV
/// cache's bytes, from 4 to 32; of these in a model with rings at most so many, but 2, that theirs
/// take no more than what rings save. The size of blocks and chunks decides nothing. context and
/// kv_tokens are filled in.
std::int64_t snapshot_slots(const ModelConfig& config, const EngineOptions& options);

MemoryPlan plan_memory(const ModelConfig& config,
                       const WeightStore& weights,
                       const EngineOptions& options);

/// What memory of so many bytes has room for; 0: not even for one.
struct MemoryFit {
  std::int64_t max_context = 0;    // of options.max_sequences sequences, each of so many tokens
  std::int64_t max_sequences = 0;  // of options.context tokens each
};
MemoryFit what_fits(const ModelConfig& config,
                    const WeightStore& weights,
                    const EngineOptions& options,
                    std::uint64_t memory);

/// Allowed by Engine::load.
inline constexpr std::int64_t kMostSequences = 4096;
inline constexpr std::int64_t kMostKvTokens = (std::int64_t{1} << 31) - 64;

/// Rows and logits of the largest step.
DecoderLimits decoder_limits(const EngineOptions& options);

/// "12.3 MiB", "4.0 GiB"
std::string memory_text(std::uint64_t bytes);

/// Bytes free for a new process: MemAvailable, and what every cgroup above this process leaves
/// (file cache counts as free, it is given back on demand); the smallest.
std::uint64_t available_memory();

}  // namespace heddle
