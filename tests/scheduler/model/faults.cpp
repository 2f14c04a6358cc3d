// Steps that fail, and sequences that compute wrongly.

#include <algorithm>

#include "tests/scheduler/model/scheduler_model.h"

namespace heddle::test {

void SchedulerModel::failed(const Flight& flight) {
  watch(false);
  scheduler_.abandon(flight.plan);
  watch(true);
  lossless_ =
      lossless_ && scheduler_.stats().cache.evicted_blocks == 0;  // what is on the host goes
  for (const BatchPlan::Item& item : flight.plan.items) {
    const auto it = live_.find(item.sequence);
    if (it == live_.end()) continue;
    Tracked& t = it->second;
    --t.awaiting;
    t.valid = 0;
    const std::int64_t end_row = item.start + static_cast<std::int64_t>(item.tokens.size());
    if (t.all_outputs && item.n_outputs > 0)
      t.scored = std::min(t.scored, end_row - item.n_outputs);
    if (flight.end_them) end(item.sequence, true);
  }
  for (const SequenceId id : flight.dragged) {
    const auto it = live_.find(id);
    if (it == live_.end()) continue;
    --it->second.awaiting;
    it->second.valid = 0;
  }
  for (const BatchPlan::Fork& fork : flight.plan.forks) {
    const auto it = live_.find(fork.sequence);
    if (it == live_.end()) continue;
    --it->second.awaiting;
    it->second.valid = 0;
    if (flight.end_them) end(fork.sequence, true);
  }
}

/// What the engine does when something throws behind the commit.
void SchedulerModel::late_failure() {
  if (flights_.empty() || flights_.front().failed) return;
  const BatchPlan plan = flights_.front().plan;
  scheduler_.commit(plan, flights_.front().sampled);
  flights_.pop_front();
  watch(false);
  scheduler_.abandon(plan);
  watch(true);
  for (const BatchPlan::Item& item : plan.items) {
    if (live_.contains(item.sequence)) end(item.sequence, true);
  }
  for (const BatchPlan::Fork& fork : plan.forks) {
    if (live_.contains(fork.sequence)) end(fork.sequence, true);
  }
}

/// Only where no other sequence can have found its wrong rows before they are seen to be wrong.
void SchedulerModel::sicken(SequenceId id) {
  Tracked& t = live_.at(id);
  if (!t.shares || t.max_new == 0 || t.sick_from >= 0 || t.awaiting > 0) return;
  const std::int64_t from = t.planned;
  if (from >= t.text.size()) return;
  for (const auto& [other, o] : live_) {
    if (other == id || !o.shares || o.text.scope != t.text.scope) continue;
    if (common_prefix(o.text, t.text) > last_sound(from)) return;
  }
  t.sick_from = from;
}

/// A wrong state may be found by who goes back in it, too.
std::int64_t SchedulerModel::last_sound(std::int64_t sick_from) const {
  const SchedulerOptions& o = options_.scheduler;
  // The decoder spoils a state as a whole, also what of it was folded before.
  return o.n_state_slots == 0 ? sick_from
                              : sick_from / o.state_block_tokens * o.state_block_tokens - 1;
}

bool SchedulerModel::meets_sick(const Text& text) const {
  return std::ranges::any_of(live_, [&](const auto& entry) {
    const Tracked& t = entry.second;
    return t.sick_from >= 0 && t.text.scope == text.scope &&
           common_prefix(t.text, text) > last_sound(t.sick_from);
  });
}

}  // namespace heddle::test
