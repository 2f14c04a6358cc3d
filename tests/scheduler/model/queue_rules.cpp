// Who comes first, and who gets a part of a step.

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "scheduler/fair_queue.h"
#include "tests/scheduler/model/require.h"
#include "tests/scheduler/model/scheduler_model.h"

namespace heddle::test {

void SchedulerModel::enter(const std::string& client) {
  ++accounts_[client].n_live;
}

void SchedulerModel::leave(const std::string& client) {
  Account& account = accounts_.at(client);
  if (--account.n_live == 0) account.passed = 0.0;
}

/// Who has nothing waiting has saved nothing up.
void SchedulerModel::asks(SequenceId id, std::set<SequenceId>& waiting) {
  const std::string& client = live_.at(id).client;
  const bool waits = std::ranges::any_of(
      waiting, [&](SequenceId w) { return !live_.at(w).ran && live_.at(w).client == client; });
  waiting.insert(id);
  if (waits) return;
  Account& account = accounts_.at(client);
  account.counter = std::max(account.counter, now_);
  account.passed = 0.0;
}

/// Tokens that are computed for it: of each, all that are present would have had an equal part.
void SchedulerModel::charge(SequenceId id, std::int64_t n, const std::set<SequenceId>& waiting) {
  std::int64_t present = 0;
  for (const auto& [name, account] : accounts_) present += account.n_live > 0 ? 1 : 0;
  most_present_ = std::max(most_present_, present);
  Account& mine = accounts_.at(live_.at(id).client);
  now_ += static_cast<double>(n) / static_cast<double>(present);
  mine.counter = std::min(mine.counter + static_cast<double>(n),
                          now_ + static_cast<double>(options_.scheduler.max_sequence_tokens));
  std::set<Account*> passed;
  for (const SequenceId w : waiting) {
    if (!live_.at(w).ran) passed.insert(&accounts_.at(live_.at(w).client));
  }
  passed.erase(&mine);
  for (Account* account : passed) account->passed += static_cast<double>(n);
}

/// Those that wait for a place, not for another's prompt.
std::set<SequenceId> SchedulerModel::waiting() const {
  std::set<SequenceId> waiting;
  for (const auto& [id, t] : live_) {
    const Sequence* s = scheduler_.find(id);
    if (s != nullptr && s->state == SequenceState::kWaiting && s->fork_of == 0) waiting.insert(id);
  }
  return waiting;
}

/// I6: while a client waits and none of its sequences begins, others get so much and no more.
void SchedulerModel::check_passed() const {
  const SchedulerOptions& o = options_.scheduler;
  const auto longest = static_cast<double>(o.max_sequence_tokens);
  const double priorities =
      static_cast<double>((most_priority_ - least_priority_) * FairQueue::kPriorityTokens);
  const double allowed = static_cast<double>(most_present_) * (3 * longest + 2 * priorities) +
                         3.0 * static_cast<double>(options_.places()) * longest;
  for (const auto& [client, account] : accounts_) {
    require(account.passed <= allowed, "I6 bound",
            "client '{}' waits, and {} tokens of others passed it: at most {}", client,
            account.passed, allowed);
  }
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
    if (victim || (!b.running && b.fork_of == 0)) waiting.insert(id);
  }
  const auto admitted = [&](const BatchPlan::Item& item) {
    return !before.at(item.sequence).running || before.at(item.sequence).run != item.run;
  };
  const std::int64_t n_old = std::ranges::find_if(plan.items, admitted) - plan.items.begin();
  const auto begun = [&plan](SequenceId id) {
    return std::ranges::any_of(plan.forks, [id](const auto& fork) { return fork.sequence == id; });
  };
  // In their order: those that begin, and those that wait from now on.
  const auto forks_of = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const BatchPlan::Item& item = plan.items[static_cast<std::size_t>(i)];
      for (const auto& [id, b] : before) {
        if (b.fork_of != item.sequence) continue;
        if (begun(id)) {
          charge(id, 1, waiting);
        } else if (scheduler_.find(id)->fork_of == 0) {
          asks(id, waiting);
        }
      }
    }
  };
  for (std::int64_t i = 0; i < std::ssize(plan.items); ++i) {
    const BatchPlan::Item& item = plan.items[static_cast<std::size_t>(i)];
    require(live_.contains(item.sequence), "I3 one end", "{} is planned", item.sequence);
    if (i == n_old) forks_of(0, n_old);
    if (i >= n_old) {
      require(admitted(item), "plan", "{} runs, and comes behind {}", item.sequence,
              plan.items[static_cast<std::size_t>(n_old)].sequence);
      check_front(item.sequence, waiting);
      waiting.erase(item.sequence);
      const Tracked& t = live_.at(item.sequence);
      if (!t.ran) {
        accounts_.at(t.client).passed = 0.0;
        charge(item.sequence, t.n_prompt - item.start, waiting);
      }
    }
    if (item.sample) charge(item.sequence, 1, waiting);
  }
  if (n_old == std::ssize(plan.items)) forks_of(0, n_old);
  forks_of(n_old, std::ssize(plan.items));
  check_passed();
}

/// `id` may be the next of those that wait.
void SchedulerModel::check_front(SequenceId id, const std::set<SequenceId>& waiting) {
  const Tracked& t = live_.at(id);
  using Place = std::pair<std::int64_t, SequenceId>;
  const auto place = [this](SequenceId w) {
    return Place(w + live_.at(w).priority * FairQueue::kPriorityRequests, w);
  };
  const auto rank = [this](SequenceId w) {
    const Tracked& other = live_.at(w);
    return accounts_.at(other.client).counter +
           static_cast<double>(other.priority * FairQueue::kPriorityTokens);
  };
  std::map<std::string, Place> heads;
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
  constexpr double kRounding = 0.001;
  for (const auto& [client, head] : heads) {
    const SequenceId w = head.second;
    if (client == t.client) {
      require(place(id) < head, "I6 order", "{} came before {}", id, w);
    } else {
      require(rank(id) <= rank(w) + kRounding, "I6 fair", "{} came before {}: {} and {} tokens", id,
              w, accounts_.at(t.client).counter, accounts_.at(client).counter);
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
  std::int64_t most = 0;  // blocks for any that waits
  for (const auto& [id, b] : before) {
    const Tracked& t = live_.at(id);
    const Sequence& s = *scheduler_.find(id);
    if (!b.running && b.fork_of == 0) {
      waits = true;
      if (b.remaining(t) == 0) return;  // nobody passes it
      most = std::max(most, (b.n_tokens + o.block_tokens - 1) / o.block_tokens);
    }
    const bool lost = b.running && (s.state != SequenceState::kRunning || s.run != b.run);
    const bool left = b.fork_of != 0 && s.fork_of == 0 && s.state == SequenceState::kWaiting;
    newly = newly || lost || left;
    if (lost || !b.running || b.remaining(t) < 2) continue;
    if (budget >> n_prompts > o.block_tokens && (id != youngest || after.free_blocks > 0)) {
      require(planned(id), "I6 share", "prompt {} of {} has nothing of {} tokens", n_prompts, id,
              budget);
      outcome_.shared += n_prompts > 0 ? 1 : 0;
    }
    ++n_prompts;
  }
  const bool admits = std::ranges::any_of(plan.items, [&](const auto& item) {
    return !before.at(item.sequence).running || before.at(item.sequence).run != item.run;
  });
  // No prompt takes the last rows, whatever it wants logits of; forks may.
  const std::int64_t rows = o.max_step_outputs - plan.n_outputs - std::ssize(plan.forks);
  const std::int64_t places = options_.places();
  if (!waits || newly || admits || n_running >= places || after.running >= places ||
      std::min(free_blocks, after.free_blocks) < most || (rows < 1 && !plan.forks.empty()) ||
      (o.n_state_slots > 0 && after.free_state_slots == 0)) {
    return;
  }
  if (budget >> std::max(0, n_prompts - 1) <= o.block_tokens || budget >> n_prompts < 1) return;
  throw Violation("I6 share", fmt::format("nobody is admitted of those that wait, {} of {} tokens "
                                          "are planned, {} blocks are free",
                                          plan.n_tokens, o.max_step_tokens, after.free_blocks));
}

}  // namespace heddle::test
