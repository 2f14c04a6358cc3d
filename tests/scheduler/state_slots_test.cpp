// Slots of recurrent states: what a state can and cannot be asked for.

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "base/error.h"
#include "scheduler/scheduler.h"

namespace heddle {
namespace {

constexpr int kBlock = 8;  // tokens after which a state is folded

SchedulerOptions options_with_states(int n_slots) {
  return {.max_step_tokens = 32,
          .max_step_outputs = 16,
          .max_running = n_slots,
          .max_chunk = 32,
          .max_sequence_tokens = 200,
          .block_tokens = 4,
          .n_blocks = 200,
          .n_state_slots = n_slots,
          .state_block_tokens = kBlock};
}

std::vector<Token> prompt_of(int n, int seed) {
  std::vector<Token> prompt;
  for (int i = 0; i < n; ++i) prompt.push_back((seed * 7919 + i * 31) % 1000);
  return prompt;
}

Token next_token(const std::vector<Token>& history) {
  std::uint64_t hash = 17;
  for (const Token t : history) hash = hash * 1000003 + static_cast<std::uint64_t>(t) + 1;
  return static_cast<Token>(hash % 1000);
}

/// A recurrent model without arithmetic: a slot holds what it was fed, the last of it as a tail
/// that may be taken back, all before it folded.
class RecurrentModel {
 public:
  std::vector<Token> run(const BatchPlan& plan) {
    std::vector<Token> sampled;
    std::vector<Token> of_item;
    copy(plan.copies_before);
    for (const BatchPlan::Item& item : plan.items) {
      EXPECT_GE(item.state_slot, 0);
      std::vector<Token>& history = slots_[item.state_slot];
      const auto start = static_cast<std::size_t>(item.start);
      if (start == 0) history.clear();
      EXPECT_LE(start, history.size()) << "the slot lacks tokens";
      EXPECT_GE(start, history.size() / kBlock * kBlock) << "the state cannot go back that far";
      history.resize(start);
      history.insert(history.end(), item.tokens.begin(), item.tokens.end());
      of_item.push_back(next_token(history));
      if (item.sample) sampled.push_back(of_item.back());
    }
    copy(plan.copies_after);
    for (const BatchPlan::Fork& fork : plan.forks) {
      sampled.push_back(of_item.at(static_cast<std::size_t>(fork.item)));
    }
    return sampled;
  }

 private:
  void copy(const std::vector<BatchPlan::Copy>& copies) {
    for (const BatchPlan::Copy& copy : copies) {
      if (copy.what == BatchPlan::Copy::What::kState) {
        slots_[index(copy.to)] = slots_[index(copy.from)];
      }
    }
  }
  static BlockId index(const CachePlace& place) { return place.id + (place.on_host ? 1000 : 0); }

  std::map<BlockId, std::vector<Token>> slots_;
};

std::vector<Token> expected_answer(std::vector<Token> tokens, int n_new) {
  std::vector<Token> answer;
  for (int i = 0; i < n_new; ++i) {
    answer.push_back(next_token(tokens));
    tokens.push_back(answer.back());
  }
  return answer;
}

std::vector<Token> answer_of(const Sequence& s) {
  return {s.tokens.begin() + s.n_prompt, s.tokens.end()};
}

/// Steps until the sequence has all its tokens.
void finish(Scheduler& scheduler, RecurrentModel& model, SequenceId id) {
  while (scheduler.find(id)->n_generated() < scheduler.find(id)->max_new_tokens) {
    const auto plan = scheduler.plan();
    ASSERT_TRUE(plan.has_value());
    scheduler.commit(*plan, model.run(*plan));
    scheduler.check();
  }
}

TEST(StateSlots, EveryRunningSequenceHasItsOwn) {
  Scheduler scheduler(options_with_states(3));
  RecurrentModel model;
  std::vector<SequenceId> ids;
  for (int i = 0; i < 7; ++i) {
    ids.push_back(scheduler.add({.prompt = prompt_of(5 + 9 * i, i), .max_new_tokens = 20}));
  }
  for (int i = 0; i < 7; ++i) {
    const SequenceId id = ids[static_cast<std::size_t>(i)];
    finish(scheduler, model, id);
    EXPECT_EQ(answer_of(*scheduler.find(id)), expected_answer(prompt_of(5 + 9 * i, i), 20));
    scheduler.remove(id);
  }
  EXPECT_EQ(scheduler.stats().free_state_slots + scheduler.stats().cache.snapshots, 3);
}

TEST(StateSlots, APreemptedSequenceStartsAgainFromNothing) {
  Scheduler scheduler(options_with_states(2));
  RecurrentModel model;
  const SequenceId id = scheduler.add({.prompt = prompt_of(20, 1), .max_new_tokens = 20});
  for (int i = 0; i < 5; ++i) {
    const auto plan = scheduler.plan();
    scheduler.commit(*plan, model.run(*plan));
  }
  ASSERT_TRUE(scheduler.preempt(id));
  EXPECT_EQ(scheduler.find(id)->state_slot, -1);
  finish(scheduler, model, id);
  EXPECT_EQ(answer_of(*scheduler.find(id)), expected_answer(prompt_of(20, 1), 20));
}

/// Cached rows of a prompt that agrees with `agree` tokens of one of 26 that was computed before.
Reuse found(int agree, int n_slots = 4) {
  SchedulerOptions options = options_with_states(n_slots);
  options.max_running = 1;
  options.snapshot_every = 0;
  Scheduler scheduler(options);
  RecurrentModel model;
  const SequenceId id = scheduler.add({.prompt = prompt_of(26, 1), .max_new_tokens = 1});
  finish(scheduler, model, id);
  scheduler.remove(id);
  std::vector<Token> prompt = prompt_of(26, 1);
  prompt.resize(static_cast<std::size_t>(agree));
  for (int i = 0; i < 12; ++i) prompt.push_back(999);
  const SequenceId next = scheduler.add({.prompt = prompt, .max_new_tokens = 10});
  finish(scheduler, model, next);
  EXPECT_EQ(answer_of(*scheduler.find(next)), expected_answer(prompt, 10));
  return scheduler.find(next)->found;
}

TEST(StateSlots, AStateGoesBackWithinItsTailOnly) {
  EXPECT_EQ(found(26).n_cached, 26);
  EXPECT_EQ(found(25).n_cached, 25);
  EXPECT_EQ(found(24).n_cached, 24);  // the last fold
  EXPECT_EQ(found(23).n_cached, 0);
  EXPECT_EQ(found(23).n_known, 23);
  EXPECT_EQ(name(found(23).miss), "no_snapshot");
  EXPECT_EQ(found(3).n_cached, 0);
}

TEST(StateSlots, TheOnlySlotIsTheCachesUntilASequenceNeedsIt) {
  EXPECT_EQ(found(26, 1).n_cached, 26);
}

TEST(StateSlots, SnapshotsLieWhereTheyWereAskedForAndWherePromptsPart) {
  SchedulerOptions options = options_with_states(12);
  options.max_running = 1;
  options.snapshot_every = 40;
  Scheduler scheduler(options);
  RecurrentModel model;
  const auto run = [&](std::vector<Token> prompt, std::vector<std::int64_t> at = {}) {
    const SequenceId id =
        scheduler.add({.prompt = prompt, .max_new_tokens = 3, .snapshot_at = std::move(at)});
    finish(scheduler, model, id);
    EXPECT_EQ(answer_of(*scheduler.find(id)), expected_answer(prompt, 3));
    const Reuse reuse = scheduler.find(id)->found;
    scheduler.remove(id);
    return reuse;
  };
  Token other = 2000;
  const auto parting = [&](int at) {
    std::vector<Token> prompt = prompt_of(at, 1);
    for (int i = 0; i < 9; ++i) prompt.push_back(++other);
    return prompt;
  };
  run(prompt_of(101, 1), {21});
  EXPECT_EQ(run(parting(21)).n_cached, 21);    // asked for
  EXPECT_EQ(run(parting(80)).n_cached, 80);    // the grid
  EXPECT_EQ(run(parting(101)).n_cached, 101);  // the prompt's end
  EXPECT_EQ(run(parting(70)).n_cached, 40);
  EXPECT_EQ(run(parting(70)).n_cached, 70);  // where the one before parted
}

TEST(StateSlots, AFaultySequenceLeavesNoState) {
  SchedulerOptions options = options_with_states(8);
  options.max_running = 1;
  Scheduler scheduler(options);
  RecurrentModel model;
  const auto fail = [&](std::vector<Token> prompt) {
    const SequenceId id = scheduler.add({.prompt = std::move(prompt), .max_new_tokens = 5});
    const auto plan = scheduler.plan();
    scheduler.commit(*plan, model.run(*plan));
    scheduler.remove(id, true);
    scheduler.check();
  };
  fail({1, 2, 3});  // less than a block
  EXPECT_EQ(scheduler.stats().cache.blocks, 0);
  EXPECT_EQ(scheduler.stats().cache.snapshots, 0);

  const SequenceId healthy = scheduler.add({.prompt = prompt_of(20, 1), .max_new_tokens = 1});
  finish(scheduler, model, healthy);
  scheduler.remove(healthy);
  std::vector<Token> departing = prompt_of(8, 1);
  for (int i = 0; i < 5; ++i) departing.push_back(2000 + i);
  fail(departing);  // it puts a state where it departs, on a block that is older
  departing.back() = 3000;
  const SequenceId next = scheduler.add({.prompt = departing, .max_new_tokens = 1});
  scheduler.plan();
  EXPECT_EQ(scheduler.find(next)->found.n_cached, 0);
  EXPECT_EQ(scheduler.find(next)->found.n_known, 8);
}

TEST(StateSlots, WhatIsEvictedComesBackFromTheHost) {
  for (const int n_host : {0, 60}) {
    SchedulerOptions options = options_with_states(2);
    options.n_blocks = 30;
    options.n_host_blocks = n_host;
    options.n_host_slots = n_host;
    Scheduler scheduler(options);
    RecurrentModel model;
    const auto serve = [&](int salt) {
      const SequenceId id = scheduler.add({.prompt = prompt_of(100, salt), .max_new_tokens = 3});
      finish(scheduler, model, id);
      EXPECT_EQ(answer_of(*scheduler.find(id)), expected_answer(prompt_of(100, salt), 3));
      const Reuse found = scheduler.find(id)->found;
      scheduler.remove(id);
      return found;
    };
    serve(1);
    serve(2);  // the pool has room for one
    const Reuse found = serve(1);
    EXPECT_EQ(found.n_cached, n_host > 0 ? 99 : 0);
    EXPECT_EQ(found.miss, n_host > 0 ? ReuseMiss::kNone : ReuseMiss::kEvicted);
    EXPECT_EQ(scheduler.stats().cache.moved_blocks > 0, n_host > 0);
  }
}

TEST(StateSlots, ThereAreAtLeastAsManyAsRunningSequences) {
  SchedulerOptions options = options_with_states(4);
  options.n_state_slots = 3;
  EXPECT_THROW(Scheduler{options}, Error);
}

}  // namespace
}  // namespace heddle
