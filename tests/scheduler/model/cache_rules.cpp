// What the prefix cache must find again, and where it says that it lies.

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tests/scheduler/model/require.h"
#include "tests/scheduler/model/scheduler_model.h"

namespace heddle::test {

/// I8: at least what must be there, and a reason for the rest.
void SchedulerModel::check_hit(const Tracked& t, const Sequence& s) {
  check_reason(t, s);
  require(s.found.n_cached == t.begin, "report", "{} cached, began at {}", s.found.n_cached,
          t.begin);
  if (!t.shares || !lossless_ || scheduler_.stats().free_blocks == 0) return;
  const std::int64_t width = options_.scheduler.block_tokens;
  const std::int64_t fold = options_.scheduler.state_block_tokens;
  std::int64_t known = 0;
  std::int64_t state = 0;
  for (const Remembered& r : remembered_) {
    if (r.text.scope != t.text.scope) continue;
    const std::int64_t common = std::min({common_prefix(r.text, t.text), r.valid, t.n_prompt - 1});
    known = std::max(known, common);
    if (common >= r.state / fold * fold) state = std::max(state, std::min(common, r.state));
  }
  for (const auto& [id, other] : live_) {
    if (&other == &t || !other.shares || other.text.scope != t.text.scope) continue;
    if (other.sick_from >= 0 || other.awaiting > 0) continue;
    const std::int64_t full = std::min(other.valid, other.known) / width * width;
    known = std::max(known, std::min({common_prefix(other.text, t.text), full, t.n_prompt - 1}));
  }
  ++outcome_.hits_held;
  require(s.found.n_known >= known, "I8 hit", "sequence {} knows {} of {}", s.id, s.found.n_known,
          known);
  const bool states = options_.scheduler.n_state_slots > 0;
  // Of a state that can go back over the begin of its block nothing more is promised.
  if (states && (!slots_lossless_ || width % fold != 0)) return;
  const std::int64_t least = states ? state : known;
  require(t.begin >= least, "I8 hit", "sequence {} has {} cached of {}", s.id, t.begin, least);
}

/// What the cache has of all texts; what it has no longer has made room if `evicted`.
void SchedulerModel::watch(bool evicted) {
  if (options_.scheduler.cache_key[0] % 4 != 0 || !options_.scheduler.prefix_cache) return;
  watched_.resize(texts_.size());
  for (std::size_t i = 0; i < texts_.size(); ++i) {
    const CachedPath path = scheduler_.cached_path(texts_[i].scope, texts_[i].tokens);
    Watched& w = watched_[i];
    std::set<std::int64_t> states;
    for (const CachedPath::Snapshot& snapshot : path.snapshots) states.insert(snapshot.position);
    if (path.n_tokens < w.known) {
      if (evicted) {
        w.lost = std::max(w.lost, w.known);
      } else {  // taken out: what was evicted behind it would be of no use alone
        perhaps_lost_.push_back({texts_[i], std::max(w.lost, w.known), 0});
        w.lost = 0;
        w.lost_states.clear();
      }
    }
    for (const std::int64_t position : w.states) {
      if (evicted && !states.contains(position)) w.lost_states.insert(position);
    }
    w.known = path.n_tokens;
    w.states = std::move(states);
  }
}

/// More of the prompt than was found had to make room, or a state behind what was.
bool SchedulerModel::lost_more(const Tracked& t, const Reuse& found) const {
  const std::int64_t fold = options_.scheduler.state_block_tokens;
  for (std::size_t i = 0; i < watched_.size(); ++i) {
    if (texts_[i].scope != t.text.scope) continue;
    const std::int64_t common = std::min(common_prefix(texts_[i], t.text), t.n_prompt - 1);
    if (std::min(common, watched_[i].lost) > found.n_known) return true;
    // Of a state that can go back over the begin of its block nothing is promised.
    if (options_.scheduler.block_tokens % fold != 0) continue;
    for (const std::int64_t position : watched_[i].lost_states) {
      const std::int64_t served = std::min(common, position);
      if (served >= position / fold * fold && served > found.n_cached) return true;
    }
  }
  return false;
}

bool SchedulerModel::perhaps_lost(const Tracked& t, const Reuse& found) const {
  return std::ranges::any_of(perhaps_lost_, [&](const Remembered& r) {
    return r.text.scope == t.text.scope &&
           std::min({common_prefix(r.text, t.text), r.valid, t.n_prompt - 1}) > found.n_cached;
  });
}

void SchedulerModel::check_reason(const Tracked& t, const Sequence& s) {
  const Reuse& r = s.found;
  const auto is = [&](ReuseMiss miss, bool holds) {
    require(holds || r.miss != miss, "report", "sequence {}: {} with {} cached, {} known of {}",
            s.id, name(r.miss), r.n_cached, r.n_known, t.n_prompt);
  };
  require(r.n_cached >= 0 && r.n_cached <= r.n_known && r.n_cached < t.n_prompt, "report",
          "{} cached, {} known of {}", r.n_cached, r.n_known, t.n_prompt);
  require((r.miss == ReuseMiss::kDisabled) == !t.shares, "report", "sequence {}: {}", s.id,
          name(r.miss));
  if (!t.shares) return;
  require((r.miss == ReuseMiss::kTooShort) == (t.n_prompt == 1), "report", "one token: {}",
          name(r.miss));
  require((r.miss == ReuseMiss::kNone) == (t.n_prompt > 1 && r.n_cached == t.n_prompt - 1),
          "report", "sequence {}: {} with {} cached of {}", s.id, name(r.miss), r.n_cached,
          t.n_prompt);
  if (r.miss == ReuseMiss::kNone || r.miss == ReuseMiss::kTooShort) return;
  const bool replays = r.n_cached < std::min(r.n_known, t.n_prompt - 1);
  is(ReuseMiss::kNoSnapshot, options_.scheduler.n_state_slots > 0 && replays);
  is(ReuseMiss::kNoPrefix, r.n_known == 0);
  is(ReuseMiss::kDiverged, r.n_known > 0 && !replays);
  is(ReuseMiss::kScope, r.n_known == 0 && !t.text.scope.empty());
  const PrefixCacheStats cache = scheduler_.stats().cache;
  is(ReuseMiss::kEvicted, cache.evicted_blocks + cache.evicted_snapshots > 0);
  if (watched_.empty()) return;
  const bool lost = lost_more(t, r);
  if (lost) ++outcome_.evicted;
  require(!lost || r.miss == ReuseMiss::kEvicted, "report",
          "sequence {}: {} with {} cached, {} known of {}, and more was evicted", s.id,
          name(r.miss), r.n_cached, r.n_known, t.n_prompt);
  const bool any_state =
      options_.scheduler.n_state_slots > 0 &&
      options_.scheduler.block_tokens % options_.scheduler.state_block_tokens != 0;
  is(ReuseMiss::kEvicted, lost || any_state || perhaps_lost(t, r));
}

/// I7: whatever the cache says to have of a text is that text's, on the device and on the host.
void SchedulerModel::check_found(const Text& text) {
  if (meets_sick(text)) return;
  const std::int64_t width = options_.scheduler.block_tokens;
  const CachedPath path = scheduler_.cached_path(text.scope, text.tokens);
  require(path.n_tokens <= text.size() &&
              std::ssize(path.blocks) == (path.n_tokens + width - 1) / width,
          "path", "{} tokens of {} in {} blocks", path.n_tokens, text.size(), path.blocks.size());
  // Until a failed step is abandoned, what it was to move there may be missing.
  const bool host_lost = std::ranges::any_of(flights_, [](const Flight& flight) {
    return flight.failed &&
           std::ranges::any_of(flight.plan.copies_before,
                               [](const BatchPlan::Copy& copy) { return copy.to.on_host; });
  });
  for (std::int64_t i = 0; i < std::ssize(path.blocks); ++i) {
    const CachePlace& place = path.blocks[static_cast<std::size_t>(i)];
    if (place.on_host && host_lost) continue;
    decoder_.require_rows(place, i * width, std::min(path.n_tokens, (i + 1) * width), text,
                          "cached path");
  }
  std::int64_t last = 0;
  for (const CachedPath::Snapshot& s : path.snapshots) {
    require(s.position > last && s.position <= text.size(), "path", "a state at {} behind {}",
            s.position, last);
    last = s.position;
    if (!s.slot.on_host || !host_lost)
      decoder_.require_state(s.slot, s.position, text, "cached path");
  }
  outcome_.found += path.n_tokens;
  if (!lossless_ || !options_.scheduler.prefix_cache) return;
  for (const Remembered& r : remembered_) {
    if (r.text.scope != text.scope) continue;
    const std::int64_t common = std::min(common_prefix(r.text, text), r.valid);
    require(path.n_tokens >= common, "I8 hit", "of a text {} tokens are there, {} were computed",
            path.n_tokens, common);
  }
}

/// What scheduler.h says of adopt().
void SchedulerModel::check_adopted(const AdoptedPath& adopted,
                                   const Text& text,
                                   const SchedulerStats& before) const {
  const SchedulerOptions& o = options_.scheduler;
  const SchedulerStats after = scheduler_.stats();
  require(
      adopted.n_tokens <= text.size() &&
          std::ssize(adopted.blocks) == (adopted.n_tokens + o.block_tokens - 1) / o.block_tokens,
      "adopt", "{} tokens in {} blocks", adopted.n_tokens, adopted.blocks.size());
  require(o.prefix_cache ? adopted.n_tokens == text.size() || after.free_blocks == 0
                         : adopted.n_tokens == 0,
          "adopt", "{} of {} tokens with {} blocks free", adopted.n_tokens, text.size(),
          after.free_blocks);
  require(after.cache.evicted_blocks == before.cache.evicted_blocks &&
              after.cache.evicted_snapshots == before.cache.evicted_snapshots &&
              after.cache.moved_blocks == before.cache.moved_blocks,
          "adopt", "something had to go");
  std::set<BlockId> blocks;
  for (const BlockId block : adopted.blocks) {
    require(block < 0 || blocks.insert(block).second, "adopt", "block {} twice", block);
  }
  for (const auto& [id, t] : live_) {
    for (const BlockId block : scheduler_.find(id)->blocks) {
      require(!blocks.contains(block), "adopt", "block {} is sequence {}'s", block, id);
    }
  }
  require(adopted.snapshots.empty() || after.free_state_slots >= options_.places() - before.running,
          "adopt", "{} slots are left", after.free_state_slots);
}

}  // namespace heddle::test
