#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "kernels/backend.h"

namespace heddle {

/// Everything that decides how a model is loaded and run. Zero means "derived", and
/// Engine::options() tells the value that was taken.
struct EngineOptions {
  std::string model;  // path of a checkpoint (names are resolved by the caller)
  /// In place of `model`: a config.json in Heddle's own format; weights are random then, and only
  /// the first `layers` layers are made (0: all).
  std::string model_config;
  int layers = 0;
  std::string attention;  // models/attention_mode.h; "": as trained
  BackendOptions backend;
  std::int64_t context = 0;          // tokens of the longest sequence; 0: the checkpoint's
  bool any_context = false;          // benchmarks may go past the checkpoint's context
  std::int64_t max_sequences = 1;    // sequences that run at one time
  std::int64_t max_step_tokens = 0;  // 0: 512
  std::int64_t max_chunk = 0;     // most prompt tokens of one sequence per step; 0: max_step_tokens
  std::optional<DType> kv_dtype;  // F32, F16, BF16; default F16; F32 if every op is forced to ref
  int block_tokens = 16;          // 16, 32, 64
  std::int64_t kv_tokens = 0;     // capacity of the KV pool; 0: context * max_sequences, and
                                  // with verify_cache room for one more
  bool prefix_cache = true;       // begin behind what earlier requests have computed
  std::int64_t snapshots = -1;    // states kept for that; -1: of snapshot_memory
  std::uint64_t snapshot_memory = 0;  // bytes; 0: by the size of the KV cache
  std::uint64_t host_cache = 0;  // bytes of host memory for what the prefix cache must evict, and
                                 // for preempted sequences
  /// Share of the answers behind a cached prefix that are computed again, cold, when nothing else
  /// is to be done, [0, 1]: a difference in a bit (on devices but the CPU: in a logit, more than
  /// rounding explains) is logged, counted (EngineStats::verify) and empties the cache.
  double verify_cache = 0.0;
  std::uint64_t verify_seed = 0;       // of the draw, with the prompt; 0: a random one
  std::function<double()> clock = {};  // seconds, for deadlines; empty: the steady clock
  std::uint64_t shuffle_blocks = 0;    // tests: seed of a shuffled block order; 0: off
  std::uint64_t random_chunks = 0;     // tests: seed of chunk sizes up to max_chunk; 0: off
  int leaked_blocks = 0;               // tests: cache blocks that are never free; 0: off
  std::uint64_t memory_limit = 0;      // bytes; 0: what the machine has free
  bool allow_nonfinite = false;        // load weights with NaN and infinities, with a warning
};

}  // namespace heddle
