// Sequences that begin with what another one has computed of the same prompt.

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "scheduler/scheduler.h"

namespace heddle {

/// `s` may begin with what `parent` computes.
bool Scheduler::can_fork(const Sequence& parent, const Sequence& s) const {
  // The cache may have a block of both only with all before it: else it could not evict those.
  return parent.fork_of == 0 && parent.n_generated() == 0 && !s.all_outputs &&
         s.reuse == parent.reuse && s.scope == parent.scope && s.tokens == parent.tokens;
}

/// For items from `first` on that end a prompt.
void Scheduler::begin_forks(BatchPlan& plan, std::size_t first) {
  if (!ends_forks_) return;
  ends_forks_ = false;
  for (std::size_t i = first; i < plan.items.size(); ++i) {
    Sequence& s = sequences_.at(plan.items[i].sequence);
    if (s.forks.empty() || s.n_computed < s.n_prompt) continue;
    for (const SequenceId id : std::exchange(s.forks, {})) {
      Sequence& fork = sequences_.at(id);
      fork.fork_of = 0;
      if (plan.items[i].sample && begin_fork(plan, fork, s)) {
        plan.forks.push_back(
            {.sequence = id, .item = static_cast<std::int32_t>(i), .run = fork.run});
      } else {
        queue_.add(*fork.client, id, fork.priority);
      }
    }
  }
}

/// `s` shares the full blocks of `from`, whose prompt this plan ends, and gets copies of the rest.
bool Scheduler::begin_fork(BatchPlan& plan, Sequence& s, const Sequence& from) {
  if (static_cast<std::int64_t>(running_.size()) == options_.max_running ||
      outputs_left(plan) == 0 || s.max_new_tokens == 0) {
    return false;
  }
  const auto n_full = static_cast<std::size_t>(s.n_prompt / options_.block_tokens);
  std::optional<BlockId> partial;
  if (s.n_prompt % options_.block_tokens != 0) {
    partial = take_block();
    if (!partial) return false;
  }
  if (!take_state(s)) {
    if (partial) pool_.release(*partial);
    return false;
  }
  s.blocks.assign(from.blocks.begin(), from.blocks.begin() + static_cast<std::ptrdiff_t>(n_full));
  for (const BlockId block : s.blocks) pool_.share(block);
  using What = BatchPlan::Copy::What;
  if (partial) {
    plan.copies_after.push_back({What::kBlock, {from.blocks[n_full]}, {*partial}});
    s.blocks.push_back(*partial);
  }
  if (has_states()) plan.copies_after.push_back({What::kState, {from.state_slot}, {s.state_slot}});
  s.n_computed = s.n_prompt;
  s.found = {.n_cached = s.n_prompt, .n_known = s.n_prompt, .miss = ReuseMiss::kNone};
  s.own_from = s.n_prompt;
  if (s.run == 0) stats_.cached_tokens += s.n_prompt;
  if (s.run == 0 && s.counted) {
    stats_.prompt_tokens += s.n_prompt;
    ++stats_.misses[static_cast<std::size_t>(s.found.miss)];
  }
  s.state = SequenceState::kRunning;
  ++s.run;
  s.tokens.push_back(kPendingToken);
  queue_.charge(*s.client, 1);
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &s, older), &s);
  return true;
}

/// Those that wait for its prompt wait for the first of them now.
void Scheduler::release_forks(Sequence& s) {
  std::vector<SequenceId> forks = std::exchange(s.forks, {});
  if (forks.empty()) return;
  Sequence& first = sequences_.at(forks.front());
  first.fork_of = 0;
  first.forks.assign(forks.begin() + 1, forks.end());
  for (const SequenceId id : first.forks) sequences_.at(id).fork_of = first.id;
  queue_.add(*first.client, first.id, first.priority);
}

/// Its blocks are those that it was begun with, now that they are computed.
void Scheduler::commit_fork(Sequence& s, const BatchPlan::Fork& fork, const BatchPlan::Item& item) {
  if (s.run != fork.run || s.state != SequenceState::kRunning) return;
  s.n_valid = s.n_prompt;
  if (!s.reuse) return;
  const auto parent = sequences_.find(item.sequence);
  const bool there = parent != sequences_.end() && parent->second.run == item.run &&
                     parent->second.state == SequenceState::kRunning && parent->second.reuse;
  if (there) {  // a walk along a long prompt less
    const Sequence& from = parent->second;
    s.n_in_cache = std::min(from.n_in_cache, s.n_prompt / options_.block_tokens);
    for (std::size_t i = 0; i < static_cast<std::size_t>(s.n_in_cache); ++i) {
      pool_.share(from.blocks[i]);
      release(s.blocks[i]);
      s.blocks[i] = from.blocks[i];
    }
    s.node = from.node;
    HEDDLE_CHECK(s.n_in_cache == from.n_in_cache);
  }
  store_blocks(s);
}

}  // namespace heddle
