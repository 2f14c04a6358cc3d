#include "engine/cache_rings.h"

#include <algorithm>
#include <functional>

#include "kernels/api/linear_attention.h"
#include "models/decoder.h"

namespace heddle {
namespace {

static_assert(16 % kLinearBlock == 0);

std::int64_t ring_blocks(std::int64_t window, const EngineOptions& o) {
  std::int64_t chunk = o.max_chunk > 0 ? o.max_chunk : o.max_step_tokens;
  chunk = chunk > 0 ? std::min(chunk, kRingChunk) : kRingChunk;
  // From the first key of the chunk's first row to the chunk's last key, wherever blocks begin. A
  // sequence that goes back from a snapshot stays in the block of the snapshot's last key: it goes
  // no further than to a multiple of kLinearBlock, and that divides block_tokens.
  const std::int64_t distance = window - 1 + chunk - 1;
  return (distance + o.block_tokens - 1) / o.block_tokens + 1;
}

}  // namespace

std::vector<std::int64_t> ring_contexts(const ModelConfig& config) {
  std::vector<std::int64_t> contexts;
  for (const CacheNeed& need : cache_needs(config)) {
    for (const PagedKvNeed& kv : need.paged) {
      if (is_windowed(kv)) contexts.push_back(least_ring_context(kv.window));
    }
  }
  std::sort(contexts.begin(), contexts.end(), std::greater<>());
  contexts.erase(std::unique(contexts.begin(), contexts.end()), contexts.end());
  return contexts;
}

CacheNeed placed(CacheNeed need, const EngineOptions& options) {
  for (PagedKvNeed& kv : need.paged) {
    const bool ring = is_windowed(kv) && options.context >= least_ring_context(kv.window);
    kv.ring_blocks = ring ? ring_blocks(kv.window, options) : 0;
  }
  return need;
}

std::vector<CacheNeed> placed_needs(const ModelConfig& config, const EngineOptions& options) {
  std::vector<CacheNeed> needs = cache_needs(config);
  for (CacheNeed& need : needs) need = placed(std::move(need), options);
  return needs;
}

std::vector<std::int64_t> ring_sizes(const std::vector<CacheNeed>& needs) {
  std::vector<std::int64_t> sizes;
  for (const CacheNeed& need : needs) {
    for (const PagedKvNeed& kv : need.paged) {
      if (kv.ring_blocks > 0) sizes.push_back(kv.ring_blocks);
    }
  }
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

}  // namespace heddle
