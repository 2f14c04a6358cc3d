#pragma once
// Layers with a sliding window keep of a sequence a ring of its newest blocks, in the sequence's
// state slot, and not the whole context in blocks of the pool.

#include <cstdint>
#include <vector>

#include "engine/engine_options.h"
#include "models/cache_need.h"
#include "models/model_config.h"

namespace heddle {

/// Most tokens of one sequence in a step, in a model with rings: a chunk's keys are all written
/// before the first of its rows reads, so a ring holds a window and a chunk.
inline constexpr std::int64_t kRingChunk = 512;

/// A ring has no more tokens than this, whatever the size of blocks and chunks.
constexpr std::int64_t most_ring_tokens(std::int64_t window) {
  return window + kRingChunk + 128;
}

/// The least context of which a layer with this window keeps rings: three of them, for a sequence
/// and two snapshots, are not more than the context. Neither the size of blocks nor of chunks
/// decides, so that sessions do not depend on them.
constexpr std::int64_t least_ring_context(std::int64_t window) {
  return 3 * most_ring_tokens(window);
}

/// Whether a layer may keep a ring: a token reads the newest `window` keys and no others.
inline bool is_windowed(const PagedKvNeed& need) {
  return need.window > 0 && !need.skips;
}

/// The contexts from which on more layers keep rings, descending.
std::vector<std::int64_t> ring_contexts(const ModelConfig& config);

/// `need` with ring_blocks filled in. Options: context; block_tokens; max_chunk, or where it is 0
/// max_step_tokens, or kRingChunk.
CacheNeed placed(CacheNeed need, const EngineOptions& options);
/// cache_needs() of a model, placed: one for each mixer.
std::vector<CacheNeed> placed_needs(const ModelConfig& config, const EngineOptions& options);

/// The distinct sizes of rings in blocks, ascending: MixerCache::ring counts them.
std::vector<std::int64_t> ring_sizes(const std::vector<CacheNeed>& needs);

}  // namespace heddle
