#pragma once
// What of a text was there already, and why not more.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "scheduler/batch_plan.h"

namespace heddle {

/// Why a prompt was not reused further than it was.
enum class ReuseMiss : std::uint8_t {
  kNone,        // all of it was, but the last token, which gives the first logits
  kNoPrefix,    // nothing that was computed begins like it
  kDiverged,    // what was computed goes on otherwise from Reuse::n_known on, or ends there
  kNoSnapshot,  // keys and values are there up to n_known, a state only up to n_cached
  kEvicted,     // more of it was there, or a state, and had to make room
  kScope,       // nothing is there in this scope
  kTooShort,    // one token
  kDisabled,    // the cache is off, or the request wants logits of every token
};
inline constexpr std::size_t kReuseMisses = static_cast<std::size_t>(ReuseMiss::kDisabled) + 1;
std::string_view name(ReuseMiss miss);  // "none", "no_prefix", "diverged_at", "no_snapshot", ...

/// What a prompt finds. `n_cached` tokens need not be computed; `n_known` (at least n_cached) were
/// computed before: those between are replayed.
struct Reuse {
  std::int64_t n_cached = 0;
  std::int64_t n_known = 0;
  ReuseMiss miss = ReuseMiss::kNone;
  std::int64_t n_replayed(std::int64_t n_prompt) const {
    return std::max<std::int64_t>(0, std::min(n_known, n_prompt - 1) - n_cached);
  }
};

/// Where the first n_tokens of a text lie: what a session file saves.
struct CachedPath {
  struct Snapshot {
    std::int64_t position = 0;
    CachePlace slot;  // the state after `position` tokens; may hold later tokens of the same block
                      // of state_block_tokens
  };
  std::int64_t n_tokens = 0;
  std::vector<CachePlace> blocks;   // ascending; the last may hold more than the text's tokens
  std::vector<Snapshot> snapshots;  // ascending
};

}  // namespace heddle
