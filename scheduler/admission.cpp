// Who waits is given what the cache has of it, and room.

#include <algorithm>
#include <span>

#include "base/error.h"
#include "scheduler/scheduler.h"

namespace heddle {

/// The next waiting sequence could be admitted.
bool Scheduler::front_has_room() const {
  const std::optional<SequenceId> front = queue_.front();
  if (!front || static_cast<std::int64_t>(running_.size()) >= options_.max_running) return false;
  return pool_.n_free() + pool_.n_idle() >=
         blocks_for(length(sequences_.at(*front)), options_.block_tokens);
}

void Scheduler::admit_waiting(BatchPlan& plan) {
  while (static_cast<std::int64_t>(running_.size()) < options_.max_running &&
         plan.n_tokens < options_.max_step_tokens && outputs_left(plan) > 0) {
    const std::optional<SequenceId> front = queue_.front();
    if (!front || !admit(sequences_.at(*front), plan)) return;
  }
}

bool Scheduler::admit(Sequence& s, BatchPlan& plan) {
  if (remaining(s) == 0 || still_refused(s)) return false;
  const bool share = queue_.size() > 1 && remaining(s) > 1 &&
                     static_cast<std::int64_t>(running_.size()) + 1 < options_.max_running;
  const std::optional<std::size_t> n_copies = start(s);
  const std::int64_t n = n_copies ? chunk_limit(plan, s, 0, share ? 1 : 0) : 0;
  if (n == 0) {
    copies_.resize(copies_.size() - n_copies.value_or(0));
    drop_blocks(s);
    refused_.n_gained = pool_.n_gained();
    return false;
  }
  HEDDLE_CHECK(grow(s, n, plan));
  queue_.remove(*s.client, s.id, s.priority);
  s.state = SequenceState::kRunning;
  // A preempted sequence takes its old place: ids are ages.
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &s, older), &s);
  if (s.run == 0) {
    stats_.cached_tokens += s.found.n_cached;
    stats_.replayed_tokens += s.found.n_replayed(s.n_prompt);
    if (s.counted) {
      stats_.prompt_tokens += s.n_prompt;
      ++stats_.misses[static_cast<std::size_t>(s.found.miss)];
    }
    queue_.charge(*s.client, s.n_prompt - s.found.n_cached);
  }
  ++s.run;
  append_item(plan, s, n);
  return true;
}

/// Gives a waiting sequence what the cache has of it, room for all its known tokens, and a state;
/// the last of copies_ are for it, so many. Nothing: there is no room.
std::optional<std::size_t> Scheduler::start(Sequence& s) {
  refused_ = {};
  PrefixCache::Match match;
  match.reuse.miss = ReuseMiss::kDisabled;
  if (s.reuse) {
    match = cache_.match(s.scope, std::span(s.tokens).first(static_cast<std::size_t>(known(s))));
  }
  // What lies on the host is copied from there; room for others must not be made of it before.
  using What = BatchPlan::Copy::What;
  std::vector<BatchPlan::Copy> copies;
  // First what evictions may make free for the blocks that come after it.
  if (match.partial.id >= 0) copies.push_back({What::kBlock, match.partial, {}});
  if (match.state.id >= 0) copies.push_back({What::kState, match.state, {}});
  for (const PrefixNode node : match.path) {
    const CachePlace place = cache_.place(node);
    if (place.on_host) {
      copies.push_back({.what = What::kBlock, .from = place, .to = {}});
      continue;
    }
    s.blocks.push_back(place.id);
    pool_.share(place.id);
    s.node = node;
  }
  s.n_in_cache = std::ssize(s.blocks);
  for (const BatchPlan::Copy& copy : copies) cache_.hold(copy);
  const bool has_room = take_room(s);
  if (has_room) {
    for (BatchPlan::Copy& copy : copies) {
      copy.to = {.id = copy.what == What::kBlock ? take_block().value() : s.state_slot};
      if (copy.what == What::kBlock) s.blocks.push_back(copy.to.id);
    }
    if (match.partial.id >= 0) {  // lies last
      std::rotate(s.blocks.begin() + s.n_in_cache, s.blocks.begin() + s.n_in_cache + 1,
                  s.blocks.end());
    }
    copies_.insert(copies_.end(), copies.begin(), copies.end());
    if (s.run == 0) s.found = match.reuse;
    s.own_from = s.run == 0 ? match.reuse.n_cached : std::min(s.own_from, match.reuse.n_cached);
    s.departs = match.reuse.n_known;
    s.n_computed = match.reuse.n_cached;
    // What is copied counts once the step is committed.
    s.n_valid = s.n_in_cache * options_.block_tokens;
  }
  for (const BatchPlan::Copy& copy : copies) cache_.release(copy);
  return has_room ? std::optional(copies.size()) : std::nullopt;
}

/// Nothing has changed that could let it in: to look for its tokens again at every step would cost
/// more than the step, and keep what it finds as if it were used.
bool Scheduler::still_refused(const Sequence& s) const {
  return refused_.sequence == s.id && refused_.n_known == known(s) && !running_.empty() &&
         pool_.n_gained() - refused_.n_gained < refused_.n_missing &&
         !(s.reuse && cache_.has_more());
}

/// All known tokens must find room, else one would only push others out.
bool Scheduler::take_room(Sequence& s) {
  const std::int64_t need =
      blocks_for(length(s), options_.block_tokens) - static_cast<std::int64_t>(s.blocks.size());
  while (pool_.n_free() < need && pool_.n_free() + pool_.n_idle() >= need &&
         cache_.evict_block(&copies_)) {
  }
  if (pool_.n_free() < need) {
    const std::int64_t missing = need - pool_.n_free() - pool_.n_idle();
    refused_ = {.sequence = s.id, .n_known = known(s), .n_missing = missing};
    return false;
  }
  return take_state(s);
}

/// True without states, or once the sequence has a slot.
bool Scheduler::take_state(Sequence& s) {
  if (!has_states() || s.state_slot >= 0) return true;
  if (states_.n_free() == 0) cache_.evict_snapshot(&copies_);
  const std::optional<BlockId> slot = states_.allocate();
  if (slot) s.state_slot = *slot;
  return slot.has_value();
}

std::optional<BlockId> Scheduler::take_block() {
  if (pool_.n_free() == 0) cache_.evict_block(&copies_);
  return pool_.allocate();
}

bool Scheduler::grow(Sequence& s, std::int64_t n_tokens, const BatchPlan& plan) {
  const std::int64_t need = blocks_for(s.n_computed + n_tokens, options_.block_tokens);
  while (static_cast<std::int64_t>(s.blocks.size()) < need) {
    if (const std::optional<BlockId> block = take_block()) {
      s.blocks.push_back(*block);
      continue;
    }
    // Only a sequence younger than this one that is not part of the plan may lose its blocks.
    if (running_.empty() || running_.back()->id <= s.id) return false;
    const SequenceId victim = running_.back()->id;
    for (const BatchPlan::Item& item : plan.items) HEDDLE_CHECK(item.sequence != victim);
    preempt(victim);
  }
  return true;
}

}  // namespace heddle
