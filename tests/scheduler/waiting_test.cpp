// A sequence that finds no room: what it costs, and does, while it waits.

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "scheduler/scheduler.h"

namespace heddle {
namespace {

std::vector<Token> prompt_of(int n, int seed) {
  std::vector<Token> prompt;
  for (int i = 0; i < n; ++i) prompt.push_back((seed * 7919 + i * 31) % 1000);
  return prompt;
}

std::vector<Token> joined(std::vector<Token> a, const std::vector<Token>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class WaitingForRoom : public testing::Test {
 protected:
  explicit WaitingForRoom(int n_state_slots = 0)
      : scheduler_({.max_step_tokens = 64,
                    .max_step_outputs = 64,
                    .max_running = 8,
                    .max_chunk = 64,
                    .max_sequence_tokens = 400,
                    .block_tokens = 4,
                    .n_blocks = 100,
                    .n_state_slots = n_state_slots}) {}

  SequenceId add(const std::vector<Token>& prompt, std::int64_t max_new) {
    return scheduler_.add({.prompt = prompt, .max_new_tokens = max_new});
  }
  bool runs(SequenceId id) const { return scheduler_.find(id)->state == SequenceState::kRunning; }
  std::int64_t lookups() const { return scheduler_.stats().cache.lookups; }
  void step() {
    const std::optional<BatchPlan> plan = scheduler_.plan();
    ASSERT_TRUE(plan.has_value());
    scheduler_.commit(*plan, std::vector<Token>(static_cast<std::size_t>(plan->n_samples), 7));
    for (const BatchPlan::Item& item : plan->items) {
      const Sequence& s = *scheduler_.find(item.sequence);
      if (s.n_generated() == s.max_new_tokens) scheduler_.remove(s.id);
    }
    scheduler_.check();
  }
  /// Computed and kept, in use by nobody.
  void keep(const std::vector<Token>& prompt) {
    const SequenceId id = add(prompt, 1);
    while (scheduler_.find(id) != nullptr) step();
  }

  Scheduler scheduler_;
};

TEST_F(WaitingForRoom, ItsTokensAreLookedUpOnce) {
  const SequenceId runs_long = add(prompt_of(300, 1), 90);
  step();
  const SequenceId waits = add(joined(prompt_of(200, 1), prompt_of(190, 2)), 1);
  while (scheduler_.find(runs_long)->n_generated() < 2) step();
  const std::int64_t before = lookups();
  for (int i = 0; i < 50; ++i) step();
  EXPECT_FALSE(runs(waits));
  EXPECT_LE(lookups() - before, 1);
  while (!runs(waits)) step();
  EXPECT_EQ(scheduler_.find(waits)->found.n_cached, 200);
}

/// The step in which the last block that it lacks is released is the one that lets it in.
TEST_F(WaitingForRoom, ItBeginsInTheStepThatHasRoom) {
  add(prompt_of(200, 1), 9);
  const SequenceId other = add(prompt_of(120, 2), 60);
  while (scheduler_.find(other)->n_generated() < 2) step();
  const SequenceId waits = add(prompt_of(270, 3), 1);
  for (int i = 0; i < 20; ++i) step();
  ASSERT_FALSE(runs(waits));
  scheduler_.remove(other);
  step();
  EXPECT_TRUE(runs(waits));
}

/// Another one computes what it begins with, so that it lacks less.
TEST_F(WaitingForRoom, ItFindsWhatOthersHaveComputedMeanwhile) {
  const SequenceId same = add(prompt_of(320, 1), 60);
  step();
  const SequenceId waits = add(joined(prompt_of(320, 1), prompt_of(40, 2)), 20);
  step();
  ASSERT_FALSE(runs(waits));
  for (int i = 0; i < 6 && !runs(waits); ++i) step();
  ASSERT_TRUE(runs(waits)) << "10 blocks of its own, beside 80 of the other one";
  EXPECT_TRUE(runs(same));
  EXPECT_GE(scheduler_.find(waits)->found.n_cached, 280);
}

TEST_F(WaitingForRoom, WhatItFoundIsNotKeptAsIfItWereUsed) {
  const std::vector<Token> known = prompt_of(100, 1);
  const std::vector<Token> newer = prompt_of(140, 2);
  keep(known);
  keep(newer);
  add(prompt_of(100, 3), 140);
  for (int i = 0; i < 5; ++i) step();
  const SequenceId waits = add(joined(known, prompt_of(260, 9)), 1);
  while (scheduler_.stats().cache.evicted_blocks < 10) step();
  ASSERT_FALSE(runs(waits));
  EXPECT_LT(scheduler_.cached_path("", known).n_tokens, 100);
  EXPECT_EQ(scheduler_.cached_path("", newer).n_tokens, 140);
}

class WaitingForRoomWithStates : public WaitingForRoom {
 protected:
  WaitingForRoomWithStates() : WaitingForRoom(16) {}
};

/// A state on its way is as good as tokens.
TEST_F(WaitingForRoomWithStates, ItFindsStatesThatOthersHaveLeftMeanwhile) {
  const SequenceId same = add(prompt_of(320, 1), 60);
  step();
  const SequenceId waits = add(joined(prompt_of(320, 1), prompt_of(40, 2)), 20);
  step();
  ASSERT_FALSE(runs(waits));
  for (int i = 0; i < 6 && !runs(waits); ++i) step();
  ASSERT_TRUE(runs(waits));
  EXPECT_TRUE(runs(same));
  EXPECT_EQ(scheduler_.find(waits)->found.n_cached, 320);
}

}  // namespace
}  // namespace heddle
