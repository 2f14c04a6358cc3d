// What the scheduler tells of itself, and its invariants.

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "scheduler/scheduler.h"

namespace heddle {

/// For the error of a step that computes nothing.
std::string Scheduler::describe() const {
  const SchedulerStats s = stats();
  return fmt::format(
      "{} sequences wait, {} run, {} of {} cache blocks and {} of {} state slots are "
      "free, {} blocks and {} states are kept of prefixes",
      s.waiting, s.running, s.free_blocks, pool_.n_blocks(), s.free_state_slots, states_.n_blocks(),
      s.cache.blocks, s.cache.snapshots);
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.waiting = static_cast<int>(sequences_.size() - running_.size());
  stats.running = static_cast<int>(running_.size());
  stats.clients = static_cast<int>(queue_.n_clients());
  stats.cache = cache_.stats();
  stats.blocks = pool_.n_blocks();
  stats.free_blocks = pool_.n_free();
  stats.used_blocks = stats.blocks - stats.free_blocks - pool_.n_idle();
  stats.state_slots = states_.n_blocks();
  stats.free_state_slots = states_.n_free();
  return stats;
}

void Scheduler::check() const {
  if (broken_) return;  // until the next call
  pool_.check();
  states_.check();
  cache_.check();
  std::vector<int> blocks(static_cast<std::size_t>(pool_.n_blocks()));
  std::vector<int> slots(static_cast<std::size_t>(states_.n_blocks()));
  cache_.count_owned(blocks, slots);
  for (const InFlight& flight : in_flight_) {
    for (const BlockId slot : flight.snapshots) ++slots[static_cast<std::size_t>(slot)];
  }
  std::size_t n_forks = 0;
  for (const auto& [id, s] : sequences_) {
    for (const SequenceId fork : s.forks) HEDDLE_CHECK(sequences_.at(fork).fork_of == id);
    n_forks += s.forks.size();
    for (const BlockId block : s.blocks) ++blocks[static_cast<std::size_t>(block)];
    if (s.state_slot >= 0) ++slots[static_cast<std::size_t>(s.state_slot)];
    HEDDLE_CHECK(s.n_valid <= s.n_computed && s.n_computed <= length(s));
    HEDDLE_CHECK(has_states() ? s.n_computed == 0 || s.state_slot >= 0 : s.state_slot < 0);
    HEDDLE_CHECK((s.state == SequenceState::kRunning) == !s.blocks.empty());
    HEDDLE_CHECK(blocks_for(s.n_computed, options_.block_tokens) <=
                 static_cast<std::int64_t>(s.blocks.size()));
  }
  for (BlockId i = 0; i < pool_.n_blocks(); ++i) {
    HEDDLE_CHECK(pool_.references(i) == blocks[static_cast<std::size_t>(i)]);
  }
  for (BlockId i = 0; i < states_.n_blocks(); ++i) {
    HEDDLE_CHECK(states_.references(i) == slots[static_cast<std::size_t>(i)]);
  }
  HEDDLE_CHECK(std::is_sorted(running_.begin(), running_.end(), older));
  HEDDLE_CHECK(sequences_.size() == running_.size() + queue_.size() + n_forks);
}

}  // namespace heddle
