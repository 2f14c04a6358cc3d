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
    for (const BatchPlan::Item& item : plan.items) {
      EXPECT_GE(item.state_slot, 0);
      std::vector<Token>& history = slots_[item.state_slot];
      const auto start = static_cast<std::size_t>(item.start);
      if (start == 0) history.clear();
      EXPECT_LE(start, history.size()) << "the slot lacks tokens";
      EXPECT_GE(start, history.size() / kBlock * kBlock) << "the state cannot go back that far";
      history.resize(start);
      history.insert(history.end(), item.tokens.begin(), item.tokens.end());
      if (item.sample) sampled.push_back(next_token(history));
    }
    return sampled;
  }

 private:
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
  EXPECT_EQ(scheduler.stats().free_state_slots, 3);
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

TEST(StateSlots, AContinuedSequenceKeepsItsState) {
  Scheduler scheduler(options_with_states(1));
  RecurrentModel model;
  const SequenceId id = scheduler.add({.prompt = prompt_of(20, 1), .max_new_tokens = 7});
  finish(scheduler, model, id);
  std::vector<Token> second = scheduler.find(id)->tokens;
  scheduler.hold(id);
  const std::int64_t computed = scheduler.find(id)->n_computed;
  EXPECT_EQ(computed, 26);  // the last token is never computed
  for (const Token t : prompt_of(9, 2)) second.push_back(t);
  EXPECT_EQ(scheduler.resume(id, {.prompt = second, .max_new_tokens = 10}), computed);
  finish(scheduler, model, id);
  EXPECT_EQ(answer_of(*scheduler.find(id)), expected_answer(second, 10));
}

/// Rows kept when a sequence of 26 computed tokens goes on with a prompt that agrees with `agree`.
std::int64_t kept_rows(int agree) {
  Scheduler scheduler(options_with_states(1));
  RecurrentModel model;
  const SequenceId id = scheduler.add({.prompt = prompt_of(26, 1), .max_new_tokens = 1});
  finish(scheduler, model, id);
  scheduler.hold(id);
  std::vector<Token> prompt = prompt_of(26, 1);
  prompt.resize(static_cast<std::size_t>(agree));
  for (int i = 0; i < 12; ++i) prompt.push_back(999);
  const std::int64_t kept = scheduler.resume(id, {.prompt = prompt, .max_new_tokens = 10});
  scheduler.check();
  finish(scheduler, model, id);
  EXPECT_EQ(answer_of(*scheduler.find(id)), expected_answer(prompt, 10));
  return kept;
}

TEST(StateSlots, AStateGoesBackWithinItsTailOnly) {
  EXPECT_EQ(kept_rows(26), 26);
  EXPECT_EQ(kept_rows(25), 25);
  EXPECT_EQ(kept_rows(24), 24);  // the last fold
  EXPECT_EQ(kept_rows(23), 0);
  EXPECT_EQ(kept_rows(3), 0);
}

TEST(StateSlots, HeldSequencesGiveTheirsToNewOnes) {
  Scheduler scheduler(options_with_states(1));
  RecurrentModel model;
  const SequenceId held = scheduler.add({.prompt = prompt_of(20, 1), .max_new_tokens = 4});
  finish(scheduler, model, held);
  scheduler.hold(held);
  const SequenceId other = scheduler.add({.prompt = prompt_of(30, 2), .max_new_tokens = 4});
  finish(scheduler, model, other);
  EXPECT_EQ(answer_of(*scheduler.find(other)), expected_answer(prompt_of(30, 2), 4));
  EXPECT_EQ(scheduler.find(held)->n_computed, 0);
  EXPECT_EQ(scheduler.find(held)->state_slot, -1);
}

TEST(StateSlots, ThereAreAtLeastAsManyAsRunningSequences) {
  SchedulerOptions options = options_with_states(4);
  options.n_state_slots = 3;
  EXPECT_THROW(Scheduler{options}, Error);
}

}  // namespace
}  // namespace heddle
