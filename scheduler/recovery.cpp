// What is left of the scheduler when memory runs out in the middle of a call: the texts.

#include "scheduler/recovery.h"

#include <utility>

namespace heddle {

Scheduler::Recovery::Recovery(Scheduler& scheduler, bool as_it_is) : scheduler_(scheduler) {
  if (scheduler.broken_ && !as_it_is) scheduler.rebuild();
}

Scheduler::Recovery::~Recovery() {
  if (std::uncaught_exceptions() > before_) scheduler_.broken_ = true;
}

/// Everything but the texts is given up: they are computed again, to the same bits. May throw, and
/// is done anew then.
void Scheduler::rebuild() {
  broken_ = true;
  cache_.reset();
  pool_.reset();
  states_.reset();
  queue_.clear();
  running_.clear();
  copies_.clear();
  ends_forks_ = false;
  for (InFlight& flight : in_flight_) {
    flight.lost = true;
    flight.snapshots.clear();
  }
  for (auto& [id, s] : sequences_) {
    while (s.tokens.back() == kPendingToken) s.tokens.pop_back();
    s.n_scored = s.n_delivered;
    s.blocks.clear();
    s.state_slot = -1;
    s.n_computed = s.n_valid = s.n_in_cache = 0;
    s.node = kNoNode;
    s.state = SequenceState::kWaiting;
    s.void_run = s.run;
    s.fork_of = 0;
    s.forks.clear();
    if (s.run > 0) {
      queue_.add_preempted(id);
    } else {
      queue_.add(*s.client, id, s.priority);
    }
  }
  broken_ = false;
}

std::vector<BatchPlan::Copy> Scheduler::take_copies() {
  const Recovery recovery(*this);
  return std::exchange(copies_, {});
}

void Scheduler::clear_cache() {
  const Recovery recovery(*this);
  cache_.clear();
}

CachedPath Scheduler::cached_path(std::string_view scope, std::span<const Token> tokens) const {
  return broken_ ? CachedPath{} : cache_.path(scope, tokens);
}

}  // namespace heddle
