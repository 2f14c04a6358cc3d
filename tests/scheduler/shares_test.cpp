// What each sequence gets of a step: tokens, and rows with logits.

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "scheduler/scheduler.h"

namespace heddle {
namespace {

SchedulerOptions options_for(std::int64_t max_running) {
  return {.max_step_tokens = 64,
          .max_step_outputs = 16,
          .max_running = max_running,
          .max_chunk = 64,
          .max_sequence_tokens = 2000,
          .n_blocks = 1000};
}

std::vector<Token> prompt_of(int n, int seed) {
  std::vector<Token> prompt;
  for (int i = 0; i < n; ++i) prompt.push_back((seed * 7919 + i * 31) % 1000);
  return prompt;
}

/// Rows that each got in one step; what has all its tokens ends.
std::map<SequenceId, std::int64_t> step(Scheduler& scheduler) {
  std::map<SequenceId, std::int64_t> rows;
  const std::optional<BatchPlan> plan = scheduler.plan();
  if (!plan) return rows;
  for (const BatchPlan::Item& item : plan->items) rows[item.sequence] = item.end() - item.start;
  scheduler.commit(*plan, std::vector<Token>(static_cast<std::size_t>(plan->n_samples), 7));
  for (const auto& [id, n] : rows) {
    const Sequence& s = *scheduler.find(id);
    const bool scored = s.max_new_tokens == 0 && s.n_computed == s.n_prompt;
    if (scored || (s.max_new_tokens > 0 && s.n_generated() == s.max_new_tokens)) {
      scheduler.remove(id);
    }
  }
  scheduler.check();
  return rows;
}

TEST(SchedulerShares, AShortPromptDoesNotWaitForOneThatIsScored) {
  for (const std::int64_t answer : {0, 5}) {  // prompt_logprobs: it goes on then
    Scheduler scheduler(options_for(4));
    scheduler.add({.prompt = prompt_of(1500, 1), .max_new_tokens = answer, .all_outputs = true});
    step(scheduler);
    const SequenceId chat = scheduler.add({.prompt = prompt_of(5, 2), .max_new_tokens = 3});
    EXPECT_EQ(step(scheduler)[chat], 5);
    EXPECT_EQ(step(scheduler)[chat], 1);
  }
}

TEST(SchedulerShares, AScoredPromptAloneHasAllRows) {
  Scheduler scheduler(options_for(4));
  const SequenceId id = scheduler.add({.prompt = prompt_of(1500, 1), .all_outputs = true});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(step(scheduler)[id], 16);
}

/// However many there are: each that runs gets on in each step, and one that waits is admitted.
TEST(SchedulerShares, ScoredPromptsLeaveARowForEachThatFollows) {
  SchedulerOptions options = options_for(16);
  options.max_step_tokens = 256;
  Scheduler scheduler(options);
  std::vector<SequenceId> ids;
  for (int i = 0; i < 15; ++i) {
    ids.push_back(scheduler.add({.prompt = prompt_of(1500, i), .all_outputs = i % 8 != 7}));
    for (int k = 0; k < 3; ++k) {
      const std::map<SequenceId, std::int64_t> rows = step(scheduler);
      for (const SequenceId id : ids) EXPECT_TRUE(rows.contains(id)) << id << " of " << ids.size();
    }
  }
  const SequenceId last = scheduler.add({.prompt = prompt_of(3, 99), .max_new_tokens = 9});
  EXPECT_EQ(step(scheduler)[last], 3);
}

TEST(SchedulerShares, ScoredPromptsThatComeTogetherAreAllAdmitted) {
  Scheduler scheduler(options_for(16));
  std::vector<SequenceId> ids;
  for (int i = 0; i < 16; ++i) {
    ids.push_back(scheduler.add({.prompt = prompt_of(100, i), .all_outputs = true}));
  }
  for (int i = 0; i < 16; ++i) step(scheduler);
  EXPECT_EQ(scheduler.stats().waiting, 0);
}

/// Rows of a step that are fewer than what could run: then fewer run.
TEST(SchedulerShares, EachThatGeneratesHasItsRowInEveryStep) {
  SchedulerOptions options = options_for(4);
  options.max_step_tokens = 2;
  Scheduler scheduler(options);
  std::map<SequenceId, std::int64_t> last;  // step in which each had a row
  std::map<SequenceId, std::int64_t> n;
  const SequenceId first = scheduler.add({.prompt = prompt_of(2, 0), .max_new_tokens = 20});
  for (int i = 0; i < 3; ++i) {
    scheduler.add({.prompt = prompt_of(2, 0), .max_new_tokens = 20, .fork_of = first});
    scheduler.add({.prompt = prompt_of(2, 1 + i), .max_new_tokens = 20});
  }
  for (std::int64_t at = 0; !scheduler.idle(); ++at) {
    ASSERT_LT(at, 200);
    for (const auto& [id, rows] : step(scheduler)) {
      if (n[id]++ > 0) {
        EXPECT_EQ(last.at(id), at - 1) << "sequence " << id << " was left out";
      }
      last[id] = at;
    }
    EXPECT_LE(scheduler.stats().running, 2);
  }
}

}  // namespace
}  // namespace heddle
