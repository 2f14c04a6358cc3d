// Who comes first, and who gets a part of a step.

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "scheduler/fair_queue.h"
#include "tests/scheduler/model/require.h"
#include "tests/scheduler/model/scheduler_model.h"

namespace heddle::test {

void SchedulerModel::enter(const std::string& client) {
  Account& account = accounts_[client];
  if (account.n_live++ > 0) return;
  std::optional<std::int64_t> least;  // of the others that are here
  for (const auto& [name, other] : accounts_) {
    if (&other == &account || other.n_live == 0) continue;
    least = std::min(least.value_or(other.counter), other.counter);
  }
  floor_ = std::max(floor_, least.value_or(floor_));
  account.counter = std::max(account.counter, floor_);
}

void SchedulerModel::leave(const std::string& client) {
  --accounts_.at(client).n_live;
}

/// I5: the oldest is none.
void SchedulerModel::check_victims(const Befores& before) {
  bool oldest = true;
  for (const auto& [id, b] : before) {
    if (!b.running) continue;
    const Sequence& s = *scheduler_.find(id);
    const bool lost = s.state != SequenceState::kRunning || s.run != b.run;
    require(!oldest || !lost, "I5 oldest", "sequence {} lost its blocks", id);
    oldest = false;
    const Tracked& t = live_.at(id);
    if (!lost || !t.shares || t.sick_from >= 0 || b.run <= t.void_run) continue;
    remembered_.push_back({t.text, t.valid, 0});
  }
}

/// I6, as a plan goes on: rows of those that run, forks of these, then one admission after another.
void SchedulerModel::check_order(const BatchPlan& plan, const Befores& before) {
  std::set<SequenceId> waiting;  // for others' prompts: no
  for (const auto& [id, b] : before) {
    const Sequence& s = *scheduler_.find(id);
    const bool victim = b.running && (s.state != SequenceState::kRunning || s.run != b.run);
    if (victim || (!b.running && !b.forks)) waiting.insert(id);
  }
  const auto charge = [this](SequenceId id, std::int64_t n) {
    accounts_.at(live_.at(id).client).counter += n;
  };
  const auto admitted = [&](const BatchPlan::Item& item) {
    return !before.at(item.sequence).running || before.at(item.sequence).run != item.run;
  };
  const std::int64_t n_old = std::ranges::find_if(plan.items, admitted) - plan.items.begin();
  const auto charge_forks = [&](bool of_old) {
    for (const BatchPlan::Fork& fork : plan.forks) {
      if ((fork.item < n_old) == of_old) charge(fork.sequence, 1);
    }
  };
  for (std::int64_t i = 0; i < std::ssize(plan.items); ++i) {
    const BatchPlan::Item& item = plan.items[static_cast<std::size_t>(i)];
    require(live_.contains(item.sequence), "I3 one end", "{} is planned", item.sequence);
    if (i == n_old) charge_forks(true);
    if (i >= n_old) {
      require(admitted(item), "plan", "{} runs, and comes behind {}", item.sequence,
              plan.items[static_cast<std::size_t>(n_old)].sequence);
      check_front(item.sequence, waiting, before);
      waiting.erase(item.sequence);
      const Tracked& t = live_.at(item.sequence);
      if (!t.ran) charge(item.sequence, t.n_prompt - item.start);
    }
    if (item.sample) charge(item.sequence, 1);
  }
  if (n_old == std::ssize(plan.items)) charge_forks(true);
  charge_forks(false);
}

/// `id` may be the next of those that wait.
void SchedulerModel::check_front(SequenceId id,
                                 const std::set<SequenceId>& waiting,
                                 const Befores& before) {
  const Tracked& t = live_.at(id);
  using Rank = std::pair<std::int64_t, SequenceId>;
  const auto place = [this](SequenceId w) {
    return Rank(w + live_.at(w).priority * FairQueue::kPriorityRequests, w);
  };
  const auto rank = [this](SequenceId w) {
    const Tracked& other = live_.at(w);
    return Rank(accounts_.at(other.client).counter + other.priority * FairQueue::kPriorityTokens,
                w);
  };
  std::map<std::string, Rank> heads;
  for (const SequenceId w : waiting) {
    const Tracked& other = live_.at(w);
    if (w == id) continue;
    if (other.ran) {
      require(t.ran && id < w, "I6 order", "{} came before {}, which ran already", id, w);
    } else if (!t.ran) {
      if (w < id) ++outcome_.overtaken;
      const auto head = heads.try_emplace(other.client, place(w)).first;
      head->second = std::min(head->second, place(w));
    }
  }
  if (t.ran) return;
  // One that has just left another's prompt may be its client's first.
  for (const auto& [w, b] : before) {
    if (b.forks && live_.at(w).client != t.client) heads.erase(live_.at(w).client);
  }
  for (const auto& [client, head] : heads) {
    if (client == t.client) {
      require(place(id) < head, "I6 order", "{} came before {}", id, head.second);
    } else {
      require(rank(id) < rank(head.second), "I6 fair", "{} came before {}: {} and {} tokens", id,
              head.second, accounts_.at(t.client).counter, accounts_.at(client).counter);
    }
  }
}

/// Each prompt takes half of what is left if others follow: the next one has its part, and so has
/// one that waits and has room.
void SchedulerModel::check_share(const BatchPlan& plan, const Befores& before, int free_blocks) {
  const SchedulerOptions& o = options_.scheduler;
  const SchedulerStats after = scheduler_.stats();
  std::int64_t budget = o.max_step_tokens;
  std::int64_t n_running = 0;
  SequenceId youngest = 0;
  for (const auto& [id, b] : before) {
    n_running += b.running ? 1 : 0;
    if (b.running && b.remaining(live_.at(id)) == 1) --budget;
    const Sequence& s = *scheduler_.find(id);
    if (b.running && s.state == SequenceState::kRunning && s.run == b.run) youngest = id;
  }
  const auto planned = [&plan](SequenceId id) {
    return std::ranges::any_of(plan.items, [id](const auto& item) { return item.sequence == id; });
  };
  int n_prompts = 0;
  bool waits = false;
  bool newly = false;  // some wait since this plan, and may come first: there was no room for them
  bool scores = false;
  std::int64_t most = 0;  // blocks for any that waits
  for (const auto& [id, b] : before) {
    const Tracked& t = live_.at(id);
    const Sequence& s = *scheduler_.find(id);
    if (!b.running && !b.forks) {
      waits = true;
      if (b.remaining(t) == 0) return;  // nobody passes it
      most = std::max(most, (b.n_tokens + o.block_tokens - 1) / o.block_tokens);
    }
    const bool lost = b.running && (s.state != SequenceState::kRunning || s.run != b.run);
    const bool left = b.forks && s.fork_of == 0 && s.state == SequenceState::kWaiting;
    newly = newly || lost || left;
    if (lost || !b.running || b.remaining(t) < 2) continue;
    scores = scores || t.all_outputs;
    if (budget >> n_prompts > o.block_tokens && !scores &&
        (id != youngest || after.free_blocks > 0)) {
      require(planned(id), "I6 share", "prompt {} of {} has nothing of {} tokens", n_prompts, id,
              budget);
      outcome_.shared += n_prompts > 0 ? 1 : 0;
    }
    ++n_prompts;
  }
  const bool admits = std::ranges::any_of(plan.items, [&](const auto& item) {
    return !before.at(item.sequence).running || before.at(item.sequence).run != item.run;
  });
  const std::int64_t rows = o.max_step_outputs - plan.n_outputs - std::ssize(plan.forks);
  if (!waits || newly || admits || n_running >= o.max_running || after.running >= o.max_running ||
      std::min(free_blocks, after.free_blocks) < most || rows < 1 ||
      (o.n_state_slots > 0 && after.free_state_slots == 0)) {
    return;
  }
  if (budget >> std::max(0, n_prompts - 1) <= o.block_tokens || budget >> n_prompts < 1) return;
  throw Violation("I6 share", fmt::format("nobody is admitted of those that wait, {} of {} tokens "
                                          "are planned, {} blocks are free",
                                          plan.n_tokens, o.max_step_tokens, after.free_blocks));
}

}  // namespace heddle::test
