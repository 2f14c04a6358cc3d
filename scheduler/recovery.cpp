// What is left of the scheduler when a step fails, or memory runs out in the middle of a call: the
// texts.

#include "scheduler/recovery.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/error.h"

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
  refused_ = {};
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

void Scheduler::abandon(const BatchPlan& plan) {
  // Or it was committed, and what came after failed.
  const auto it = std::find_if(in_flight_.begin(), in_flight_.end(),
                               [&](const InFlight& f) { return f.step == plan.step; });
  const bool uncommitted = it != in_flight_.end() && !it->lost;
  if (it != in_flight_.end()) in_flight_.erase(it);
  if (broken_) return;  // nothing of it will count
  const Recovery recovery(*this);
  try {
    void_plan(plan, uncommitted);
  } catch (const std::bad_alloc&) {
    broken_ = true;
  }
}

void Scheduler::void_plan(const BatchPlan& plan, bool uncommitted) {
  const bool moved = std::ranges::any_of(
      plan.copies_before, [](const BatchPlan::Copy& copy) { return copy.to.on_host; });
  // What the step behind it begins with what failed is void as well.
  const auto in_plan = [&](SequenceId id) {
    return std::ranges::any_of(plan.items, [id](const auto& item) { return item.sequence == id; });
  };
  std::vector<SequenceId> dragged;
  for (const InFlight& behind : in_flight_) {
    for (const auto& [from, fork] : behind.forks) {
      if (in_plan(from)) dragged.push_back(fork);
    }
  }
  for (const BatchPlan::Item& item : plan.items) {
    if (uncommitted && item.snapshot >= 0) states_.release(item.snapshot);
    const auto it = sequences_.find(item.sequence);
    if (it != sequences_.end() && item.n_outputs > 0) {  // nobody has seen these logits
      Sequence& s = it->second;
      s.n_scored = std::min(s.n_scored, item.end() - item.n_outputs);
      s.n_delivered = std::min(s.n_delivered, s.n_scored);
    }
    void_samples(item.sequence);
  }
  for (const BatchPlan::Fork& fork : plan.forks) void_samples(fork.sequence);
  for (const SequenceId fork : dragged) void_samples(fork);
  if (!uncommitted || !moved) return;
  // What was to go to the host may not be there, and the step behind may have read it.
  while (!running_.empty()) void_samples(running_.back()->id);
  cache_.clear_host();
}

/// Of a step that failed, and of the step behind it too: it computes on what failed.
void Scheduler::void_samples(SequenceId id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return;
  Sequence& s = it->second;
  while (!s.tokens.empty() && is_pending(s)) s.tokens.pop_back();
  s.void_run = s.run;
  preempt(id);
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
