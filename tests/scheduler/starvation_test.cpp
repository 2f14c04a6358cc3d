// Nobody waits forever: random traffic of clients without end, each with a name that nobody has
// seen before, past some that stay.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/scheduler.h"
#include "tests/support/sanitizers.h"

namespace heddle {
namespace {

/// A server under more load than it can take. Held to the contract alone (scheduler/fair_queue.h):
/// while a client waits and has no admission, others get no more than so many tokens for each
/// client that is present as it can owe and its priority is worth.
class Flood {
 public:
  struct Traffic {
    int max_running = 1;
    int priorities = 1;    // drawn from 0 .. this - 1
    int stayers = 2;       // clients that come again
    int most_waiting = 6;  // of all
    int most_prompt = 60;
  };

  Flood(const Traffic& traffic, unsigned seed)
      : traffic_(traffic), rng_(seed), scheduler_(options(traffic)) {}

  /// The longest wait of any, in parts of what is allowed; above 1 the contract is broken.
  double worst(int n_steps) {
    double worst = 0.0;
    for (int step = 0; step < n_steps; ++step) {
      come();
      const std::optional<BatchPlan> plan = scheduler_.plan();
      if (!plan) return 1e9;
      for (const BatchPlan::Item& item : plan->items) {
        Asked& asked = asked_.at(item.sequence);
        compute(asked.client, item.end() - item.start);
        if (std::exchange(asked.began, true)) continue;
        passed_[asked.client] = 0.0;
      }
      scheduler_.commit(*plan, std::vector<Token>(static_cast<std::size_t>(plan->n_samples), 5));
      end();
      for (const auto& [client, tokens] : passed_) {
        if (waits(client)) worst = std::max(worst, tokens / most_passed());
      }
    }
    return worst;
  }

 private:
  static constexpr std::int64_t kContext = 128;
  struct Asked {
    std::string client;
    bool began = false;
  };

  static SchedulerOptions options(const Traffic& traffic) {
    return {.max_step_tokens = 48,
            .max_step_outputs = 16,
            .max_running = traffic.max_running,
            .max_chunk = 48,
            .max_sequence_tokens = kContext,
            .block_tokens = 8,
            .n_blocks = 64,
            .prefix_cache = false};
  }

  double most_passed() const {
    const double range =
        static_cast<double>((traffic_.priorities - 1) * FairQueue::kPriorityTokens);
    const double present = traffic_.most_waiting + traffic_.max_running;
    return present * (3 * kContext + 2 * range) + 3.0 * traffic_.max_running * kContext;
  }

  bool waits(const std::string& client) const {
    return std::ranges::any_of(asked_, [&](const auto& entry) {
      return entry.second.client == client && !entry.second.began;
    });
  }

  void compute(const std::string& by, std::int64_t n) {
    for (auto& [client, tokens] : passed_) {
      if (client != by && waits(client)) tokens += static_cast<double>(n);
    }
  }

  int drawn(int n) { return static_cast<int>(rng_() % static_cast<unsigned>(n)); }

  void come() {
    while (true) {
      const auto n_waiting =
          std::ranges::count_if(asked_, [](const auto& entry) { return !entry.second.began; });
      if (n_waiting >= traffic_.most_waiting) return;
      const int who = drawn(3 * traffic_.stayers + 3);
      std::string client = "stays " + std::to_string(who);
      if (who >= traffic_.stayers || waits(client)) client = std::to_string(n_names_++);
      SequenceRequest request;
      request.prompt.assign(
          static_cast<std::size_t>(1 + drawn(who == 0 ? 100 : traffic_.most_prompt)), 1);
      request.max_new_tokens = 1 + drawn(8);
      request.client = client;
      request.priority = drawn(traffic_.priorities);
      if (!waits(client)) passed_[client] = 0.0;
      asked_[scheduler_.add(std::move(request))] = {client};
    }
  }

  void end() {
    std::erase_if(asked_, [&](const auto& entry) {
      const Sequence& s = *scheduler_.find(entry.first);
      if (!entry.second.began || s.n_generated() < s.max_new_tokens) return false;
      scheduler_.remove(entry.first);
      return true;
    });
    std::erase_if(passed_, [&](const auto& entry) { return !waits(entry.first); });
  }

  Traffic traffic_;
  std::mt19937 rng_;
  Scheduler scheduler_;
  std::map<SequenceId, Asked> asked_;
  std::map<std::string, double> passed_;  // tokens of others since it waits without an admission
  int n_names_ = 0;
};

TEST(SchedulerStarvation, NoClientIsPassedWithoutEndByNewOnes) {
  constexpr int kSteps = test::kSanitized ? 5'000 : 30'000;
  for (const int max_running : {1, 4}) {
    for (const int priorities : {1, 2, 3}) {
      for (const int most_waiting : {4, 12}) {
        Flood flood(
            {.max_running = max_running, .priorities = priorities, .most_waiting = most_waiting},
            static_cast<unsigned>(priorities));
        const double worst = flood.worst(kSteps);
        EXPECT_LE(worst, 1.0) << max_running << " run, " << priorities << " priorities, "
                              << most_waiting << " wait";
      }
    }
  }
}

/// How many others with new names are served before a client that waits, with this priority or
/// after it was served so many tokens. -1: it starves.
int others_before(int priority, std::int64_t served_before) {
  SchedulerOptions options{.max_step_tokens = 512,
                           .max_step_outputs = 64,
                           .max_running = 1,
                           .max_chunk = 512,
                           .max_sequence_tokens = 8192,
                           .n_blocks = 512,
                           .prefix_cache = false};
  Scheduler scheduler(options);
  int n_names = 0;
  const auto add = [&](const std::string& client, std::int64_t n, int its_priority) {
    SequenceRequest request;
    request.prompt.assign(static_cast<std::size_t>(n), 1);
    request.max_new_tokens = 1;
    request.client = client;
    request.priority = its_priority;
    return scheduler.add(std::move(request));
  };
  const SequenceId first = served_before > 0 ? add("x", served_before, 0) : 0;
  add(std::to_string(n_names++), 16, 0);
  SequenceId waits = first == 0 ? add("x", 16, priority) : 0;
  add(std::to_string(n_names++), 16, 0);
  for (int others = 0; others < 100'000;) {
    const std::optional<BatchPlan> plan = scheduler.plan();
    std::vector<SequenceId> ended;
    for (const BatchPlan::Item& item : plan->items) {
      if (item.sample) ended.push_back(item.sequence);
    }
    scheduler.commit(*plan, std::vector<Token>(static_cast<std::size_t>(plan->n_samples), 5));
    for (const SequenceId id : ended) {
      scheduler.remove(id);
      if (id == waits) return others;
      if (id == first) {
        waits = add("x", 16, priority);
      } else {
        ++others;
        add(std::to_string(n_names++), 16, 0);
      }
    }
  }
  return -1;
}

TEST(SchedulerStarvation, APriorityIsWorthItsTokensAndNoMore) {
  for (const int priority : {1, 2}) {
    const int others = others_before(priority, 0);
    EXPECT_GT(others, priority * 256) << "its step is worth 4096 tokens of 17";
    EXPECT_LE(others, priority * 3 * 256) << "for each of the three that are present";
  }
}

TEST(SchedulerStarvation, WhoHasHadMuchComesAgain) {
  const int others = others_before(0, 4000);
  EXPECT_GT(others, 0);
  EXPECT_LE(others, 3 * 4000 / 16);
}

}  // namespace
}  // namespace heddle
