#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace heddle {

struct SchedulerStats;

/// What EngineOptions::verify_cache has found so far.
struct CacheCheckStats {
  std::int64_t checked = 0;     // hits that were computed again, cold
  std::int64_t rows = 0;        // and their rows of logits that were compared
  std::int64_t mismatches = 0;  // hits of which a row differed
  std::int64_t skipped = 0;     // chosen, but not computed again: no room, or that failed
  std::int64_t pending = 0;     // not computed again yet
};

struct EngineStats {
  double load_s = 0.0;
  // Since the engine was loaded.
  std::int64_t steps = 0;
  std::int64_t computed_tokens = 0;  // rows through the decoder, those computed again included
  std::int64_t prompt_tokens = 0;    // of requests that have begun
  std::int64_t cached_tokens = 0;    // of these, what the prefix cache had
  std::int64_t replayed_tokens = 0;  // and what was computed again for want of a state
  std::int64_t preemptions = 0;
  std::int64_t evicted_blocks = 0;  // of cached prefixes
  std::int64_t evicted_snapshots = 0;
  std::int64_t moved_blocks = 0;  // to host memory
  std::int64_t moved_snapshots = 0;
  std::int64_t returned_blocks = 0;  // from there to a request that goes on behind them
  std::int64_t returned_snapshots = 0;
  /// Requests that have begun, by why not more of their prompt was reused (ReuseReport::reason):
  /// every reason, in the order of ReuseMiss.
  std::vector<std::pair<std::string_view, std::int64_t>> not_reused = {};
  CacheCheckStats verify = {};
  // Now.
  std::int64_t waiting = 0;  // requests; preempted ones too
  std::int64_t running = 0;
  std::int64_t kv_blocks = 0;  // in use by requests, kept of prefixes alone, or free
  std::int64_t kv_blocks_used = 0;
  std::int64_t kv_blocks_cached = 0;
  std::int64_t kv_blocks_free = 0;
  std::int64_t state_slots = 0;  // in use by requests, snapshots, or free
  std::int64_t state_slots_used = 0;
  std::int64_t snapshots = 0;
  std::int64_t state_slots_free = 0;
  std::int64_t host_blocks = 0;  // of cached prefixes and preempted requests, in host memory
  std::int64_t host_snapshots = 0;
};

/// What the scheduler knows of it.
EngineStats engine_stats(const SchedulerStats& s);
/// A few lines for a person.
std::string describe(const EngineStats& stats);
/// A JSON object with a number for each field; `not_reused` and `verify` are objects of such.
std::string to_json(const EngineStats& stats);

}  // namespace heddle
