#include "scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace heddle {
namespace {

using testing::HasSubstr;

SchedulerOptions small_options() {
  return {.max_step_tokens = 32,
          .max_step_outputs = 16,
          .max_running = 4,
          .max_chunk = 32,
          .max_sequence_tokens = 200,
          .block_tokens = 4,
          .n_blocks = 60};
}

std::vector<Token> prompt_of(int n, int seed) {
  std::vector<Token> prompt;
  for (int i = 0; i < n; ++i) prompt.push_back((seed * 7919 + i * 31) % 1000);
  return prompt;
}

/// A model without arithmetic: the next token is a hash of all before it. It also keeps what was
/// written to every cache slot, and checks that each row finds its whole history in its block
/// table.
class FakeModel {
 public:
  explicit FakeModel(int block_tokens) : block_tokens_(block_tokens) {}

  std::vector<Token> run(const BatchPlan& plan) {
    std::vector<Token> sampled;
    std::vector<Token> of_item;
    copy(plan.copies_before);
    for (const BatchPlan::Item& item : plan.items) {
      for (std::size_t i = 0; i < item.tokens.size(); ++i) {
        Token token = item.tokens[i];
        if (token == kPendingToken) {
          EXPECT_EQ(i + 1, item.tokens.size());
          token = last_sampled_.at(static_cast<std::size_t>(item.pending_row));
        }
        slots_[slot(item, item.start + static_cast<std::int64_t>(i))] = token;
      }
      const std::int64_t end = item.start + static_cast<std::int64_t>(item.tokens.size());
      std::uint64_t hash = 17;
      for (std::int64_t p = 0; p < end; ++p) {
        const auto it = slots_.find(slot(item, p));
        EXPECT_TRUE(it != slots_.end());
        hash = hash * 1000003 + static_cast<std::uint64_t>(it->second) + 1;
      }
      of_item.push_back(static_cast<Token>(hash % 1000));
      if (item.sample) sampled.push_back(of_item.back());
    }
    copy(plan.copies_after);
    for (const BatchPlan::Fork& fork : plan.forks) {
      sampled.push_back(of_item.at(static_cast<std::size_t>(fork.item)));
    }
    last_sampled_ = sampled;
    return sampled;
  }

 private:
  void copy(const std::vector<BatchPlan::Copy>& copies) {
    for (const BatchPlan::Copy& copy : copies) {
      if (copy.what != BatchPlan::Copy::What::kBlock) continue;
      for (int i = 0; i < block_tokens_; ++i) {
        const auto from = slots_.find(base(copy.from) + i);
        if (from != slots_.end()) slots_[base(copy.to) + i] = from->second;
      }
    }
  }

  std::int64_t slot(const BatchPlan::Item& item, std::int64_t position) const {
    return std::int64_t{item.block_table[static_cast<std::size_t>(position / block_tokens_)]} *
               block_tokens_ +
           position % block_tokens_;
  }

  /// Blocks of the host lie behind all others.
  std::int64_t base(const CachePlace& place) const {
    return (std::int64_t{place.id} + (place.on_host ? 1000000 : 0)) * block_tokens_;
  }

  int block_tokens_;
  std::map<std::int64_t, Token> slots_;
  std::vector<Token> last_sampled_;
};

std::vector<Token> expected_answer(std::vector<Token> tokens, int n_new) {
  std::vector<Token> answer;
  for (int i = 0; i < n_new; ++i) {
    std::uint64_t hash = 17;
    for (const Token t : tokens) hash = hash * 1000003 + static_cast<std::uint64_t>(t) + 1;
    answer.push_back(static_cast<Token>(hash % 1000));
    tokens.push_back(answer.back());
  }
  return answer;
}

/// Runs until idle; removes sequences that have all their tokens and returns their answers.
std::map<SequenceId, std::vector<Token>> drain(Scheduler& scheduler,
                                               FakeModel& model,
                                               const std::vector<SequenceId>& ids) {
  std::map<SequenceId, std::vector<Token>> answers;
  while (const auto plan = scheduler.plan()) {
    scheduler.commit(*plan, model.run(*plan));
    scheduler.check();
    for (const SequenceId id : ids) {
      const Sequence* s = scheduler.find(id);
      if (s == nullptr || s->n_generated() < s->max_new_tokens) continue;
      answers[id].assign(s->tokens.begin() + s->n_prompt, s->tokens.end());
      scheduler.remove(id);
    }
  }
  return answers;
}

TEST(Scheduler, AnswerDoesNotDependOnBudgetChunkOrPool) {
  for (const std::int64_t budget : {1, 3, 8, 64}) {
    for (const int n_blocks : {40, 60, 200}) {
      SchedulerOptions options = small_options();
      options.max_step_tokens = budget;
      options.max_chunk = std::max<std::int64_t>(1, budget / 2);
      options.n_blocks = n_blocks;
      options.shuffle_seed = static_cast<std::uint64_t>(n_blocks);
      Scheduler scheduler(options);
      FakeModel model(options.block_tokens);
      std::vector<SequenceId> ids;
      for (int i = 0; i < 9; ++i) {
        ids.push_back(scheduler.add({.prompt = prompt_of(1 + 11 * i, i), .max_new_tokens = 40}));
      }
      const auto answers = drain(scheduler, model, ids);
      for (int i = 0; i < 9; ++i) {
        EXPECT_EQ(answers.at(ids[static_cast<std::size_t>(i)]),
                  expected_answer(prompt_of(1 + 11 * i, i), 40))
            << "budget " << budget << ", blocks " << n_blocks << ", sequence " << i;
      }
      EXPECT_TRUE(scheduler.idle());
      EXPECT_EQ(scheduler.stats().free_blocks + scheduler.stats().cache.blocks, n_blocks);
    }
  }
}

TEST(Scheduler, SmallPoolPreemptsTheYoungestAndLosesNothing) {
  SchedulerOptions options = small_options();
  options.n_blocks = 20;  // 80 tokens for three sequences that end at 60
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  std::vector<SequenceId> ids;
  for (int i = 0; i < 3; ++i) {
    ids.push_back(scheduler.add({.prompt = prompt_of(20, i), .max_new_tokens = 40}));
  }
  const auto answers = drain(scheduler, model, ids);
  EXPECT_GT(scheduler.stats().preemptions, 0);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(answers.at(ids[static_cast<std::size_t>(i)]), expected_answer(prompt_of(20, i), 40));
  }
}

TEST(Scheduler, WhatIsPreemptedMovesToTheHostAndIsNotComputedAgain) {
  SchedulerOptions options = small_options();
  options.n_blocks = 20;
  const auto computed = [&](int n_host, double cost) {
    options.n_host_blocks = n_host;
    options.block_copy_tokens = cost;
    Scheduler scheduler(options);
    FakeModel model(options.block_tokens);
    std::vector<SequenceId> ids;
    for (int i = 0; i < 3; ++i) {
      ids.push_back(scheduler.add({.prompt = prompt_of(20, i), .max_new_tokens = 40}));
    }
    const auto answers = drain(scheduler, model, ids);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(answers.at(ids[static_cast<std::size_t>(i)]),
                expected_answer(prompt_of(20, i), 40));
    }
    EXPECT_GT(scheduler.stats().preemptions, 0);
    const PrefixCacheStats cache = scheduler.stats().cache;
    EXPECT_EQ(cache.moved_blocks > 0, n_host > 0 && cost < 4.0);
    scheduler.clear_cache();
    scheduler.check();
    EXPECT_EQ(scheduler.stats().free_blocks, 20);
    EXPECT_EQ(scheduler.stats().cache.host_blocks, 0);
    return scheduler.stats().computed_tokens;
  };
  EXPECT_EQ(computed(100, 0.0), 3 * 59);
  EXPECT_GT(computed(0, 0.0), 3 * 59);
  EXPECT_GT(computed(100, 1000.0), 3 * 59) << "copies that cost more than to compute again";
}

TEST(Scheduler, OldestRunningSequenceIsNeverAVictim) {
  SchedulerOptions options = small_options();
  options.n_blocks = 20;
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  const SequenceId oldest = scheduler.add({.prompt = prompt_of(20, 0), .max_new_tokens = 40});
  for (int i = 1; i < 4; ++i) scheduler.add({.prompt = prompt_of(20, i), .max_new_tokens = 40});
  while (const auto plan = scheduler.plan()) {
    scheduler.commit(*plan, model.run(*plan));
    const Sequence* s = scheduler.find(oldest);
    if (s->n_generated() == 40) break;
    EXPECT_EQ(s->preemptions, 0);
  }
  EXPECT_EQ(scheduler.find(oldest)->n_generated(), 40);
}

TEST(Scheduler, StepMixesADecodeRowWithAPromptChunk) {
  SchedulerOptions options = small_options();
  options.max_step_tokens = 8;
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  scheduler.add({.prompt = prompt_of(3, 0), .max_new_tokens = 20});
  scheduler.add({.prompt = prompt_of(50, 1), .max_new_tokens = 5});
  auto plan = scheduler.plan();
  scheduler.commit(*plan, model.run(*plan));
  plan = scheduler.plan();
  ASSERT_EQ(plan->items.size(), 2U);
  EXPECT_EQ(plan->items[0].tokens.size(), 1U);
  EXPECT_EQ(plan->items[0].n_outputs, 1);
  EXPECT_EQ(plan->items[1].tokens.size(), 7U);
  EXPECT_EQ(plan->items[1].n_outputs, 0);
  EXPECT_EQ(plan->n_tokens, 8);
}

TEST(Scheduler, WhatIsHeldSitsTheStepOutAndGoesOnLater) {
  SchedulerOptions options = small_options();
  options.n_blocks = 8;  // too few for both: one is preempted while it is held
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  const std::vector<Token> prompts[] = {prompt_of(5, 1), prompt_of(6, 2)};
  const SequenceId first = scheduler.add({.prompt = prompts[0], .max_new_tokens = 14});
  const SequenceId second = scheduler.add({.prompt = prompts[1], .max_new_tokens = 14});
  const SequenceId both[] = {first, second};
  std::map<SequenceId, std::vector<Token>> answers;
  for (int step = 0; !scheduler.idle(); ++step) {
    ASSERT_LT(step, 300);
    std::vector<SequenceId> held;
    if (step > 0 && step % 3 != 0) held = {step % 2 == 0 ? first : second};
    if (step > 0 && step % 5 == 0) held = {first, second};
    std::map<SequenceId, int> runs;  // of those that run
    for (const SequenceId id : both) {
      const Sequence* s = scheduler.find(id);
      if (s != nullptr && s->state == SequenceState::kRunning) runs[id] = s->run;
    }
    const auto plan = scheduler.plan(held);
    scheduler.check();
    if (!plan) {
      EXPECT_FALSE(held.empty());
      continue;
    }
    for (const BatchPlan::Item& item : plan->items) {
      const auto run = runs.find(item.sequence);
      const bool begins = run == runs.end() || run->second != scheduler.find(item.sequence)->run;
      EXPECT_TRUE(begins || std::ranges::find(held, item.sequence) == held.end());
    }
    scheduler.commit(*plan, model.run(*plan));
    for (const SequenceId id : both) {
      const Sequence* s = scheduler.find(id);
      if (s == nullptr || s->n_generated() < 14) continue;
      answers[id] = {s->tokens.begin() + s->n_prompt, s->tokens.end()};
      scheduler.remove(id);
    }
  }
  EXPECT_GT(scheduler.stats().preemptions, 0);
  EXPECT_EQ(answers.at(first), expected_answer(prompts[0], 14));
  EXPECT_EQ(answers.at(second), expected_answer(prompts[1], 14));
}

TEST(Scheduler, LongPromptDoesNotStarveDecodingSequences) {
  SchedulerOptions options = small_options();
  options.max_step_tokens = 8;
  options.n_blocks = 400;
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  scheduler.add({.prompt = prompt_of(190, 0), .max_new_tokens = 5});
  auto plan = scheduler.plan();
  scheduler.commit(*plan, model.run(*plan));
  const SequenceId chat = scheduler.add({.prompt = prompt_of(1, 1), .max_new_tokens = 50});
  // The old prompt takes whole steps until it ends; then both decode.
  int steps = 0;
  while (scheduler.find(chat)->n_generated() < 2 && steps < 60) {
    plan = scheduler.plan();
    scheduler.commit(*plan, model.run(*plan));
    ++steps;
  }
  EXPECT_LE(steps, 30);
  // A younger prompt must not take a decoding sequence's row.
  scheduler.add({.prompt = prompt_of(150, 2), .max_new_tokens = 5});
  for (int i = 0; i < 10; ++i) {
    const std::int64_t before = scheduler.find(chat)->n_generated();
    plan = scheduler.plan();
    scheduler.commit(*plan, model.run(*plan));
    EXPECT_EQ(scheduler.find(chat)->n_generated(), before + 1);
  }
}

TEST(Scheduler, HostMayRunOneStepBehindWithPendingTokens) {
  SchedulerOptions options = small_options();
  options.n_blocks = 24;  // also under preemption
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  std::vector<SequenceId> ids;
  for (int i = 0; i < 4; ++i) {
    ids.push_back(scheduler.add({.prompt = prompt_of(5 + i, i), .max_new_tokens = 30}));
  }
  std::map<SequenceId, std::vector<Token>> answers;
  std::optional<std::pair<BatchPlan, std::vector<Token>>> in_flight;
  bool saw_pending = false;
  while (true) {
    auto plan = scheduler.plan();
    std::optional<std::pair<BatchPlan, std::vector<Token>>> next;
    if (plan) {
      for (const auto& item : plan->items) saw_pending |= item.pending_row >= 0;
      next.emplace(*plan, model.run(*plan));
    }
    if (in_flight) scheduler.commit(in_flight->first, in_flight->second);
    if (!in_flight && !next) break;
    in_flight = std::move(next);
    scheduler.check();
    for (const SequenceId id : ids) {
      const Sequence* s = scheduler.find(id);
      if (s == nullptr || s->n_generated() < 30 || s->tokens.back() == kPendingToken) continue;
      answers[id].assign(s->tokens.begin() + s->n_prompt, s->tokens.end());
      scheduler.remove(id);
    }
  }
  EXPECT_TRUE(saw_pending);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(answers.at(ids[static_cast<std::size_t>(i)]),
              expected_answer(prompt_of(5 + i, i), 30));
  }
}

TEST(Scheduler, ScoringRequestGetsEveryRowOnceAlsoWhenPreempted) {
  SchedulerOptions options = small_options();
  options.max_step_outputs = 6;
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  const SequenceId id = scheduler.add({.prompt = prompt_of(50, 3), .all_outputs = true});
  std::vector<std::int64_t> rows;
  int steps = 0;
  while (const auto plan = scheduler.plan()) {
    EXPECT_LE(plan->n_outputs, 6);
    for (const auto& item : plan->items) {
      const std::int64_t end = item.start + static_cast<std::int64_t>(item.tokens.size());
      for (std::int64_t r = end - item.n_outputs; r < end; ++r) rows.push_back(r);
      EXPECT_FALSE(item.sample);
    }
    scheduler.commit(*plan, model.run(*plan));
    if (++steps == 4) {
      EXPECT_TRUE(scheduler.preempt(id));
    }
    if (scheduler.find(id)->n_computed == 50) scheduler.remove(id);
  }
  std::vector<std::int64_t> all(50);
  for (int i = 0; i < 50; ++i) all[static_cast<std::size_t>(i)] = i;
  EXPECT_EQ(rows, all);
}

TEST(Scheduler, ASecondTurnBeginsBehindTheFirst) {
  const SchedulerOptions options = small_options();
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  const SequenceId id = scheduler.add({.prompt = prompt_of(10, 0), .max_new_tokens = 5});
  std::vector<Token> second = prompt_of(10, 0);
  const std::vector<Token> answer = drain(scheduler, model, {id}).at(id);
  second.insert(second.end(), answer.begin(), answer.end());
  second.insert(second.end(), {5, 6, 7});
  const std::int64_t computed = scheduler.stats().computed_tokens;
  const SequenceId next = scheduler.add({.prompt = second, .max_new_tokens = 8});
  EXPECT_EQ(drain(scheduler, model, {next}).at(next), expected_answer(second, 8));
  EXPECT_EQ(scheduler.stats().cached_tokens, 14);  // the last was never computed
  EXPECT_EQ(scheduler.stats().computed_tokens - computed, 18 - 14 + 7);
  std::vector<Token> diverging = second;
  diverging[6] = 999;
  const SequenceId other = scheduler.add({.prompt = diverging, .max_new_tokens = 3});
  EXPECT_EQ(drain(scheduler, model, {other}).at(other), expected_answer(diverging, 3));
  EXPECT_EQ(scheduler.stats().cached_tokens, 14 + 6);
}

TEST(Scheduler, CachedBlocksGiveWayToWorkAndAreComputedAgain) {
  SchedulerOptions options = small_options();
  options.n_blocks = 12;
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  const SequenceId first = scheduler.add({.prompt = prompt_of(30, 0), .max_new_tokens = 1});
  drain(scheduler, model, {first});
  const SequenceId big = scheduler.add({.prompt = prompt_of(40, 1), .max_new_tokens = 5});
  EXPECT_EQ(drain(scheduler, model, {big}).at(big), expected_answer(prompt_of(40, 1), 5));
  const SequenceId again = scheduler.add({.prompt = prompt_of(30, 0), .max_new_tokens = 4});
  EXPECT_EQ(drain(scheduler, model, {again}).at(again), expected_answer(prompt_of(30, 0), 4));
  EXPECT_GT(scheduler.stats().cache.evicted_blocks, 0);
}

TEST(Scheduler, ScopesAndWhatOptsOutShareNothing) {
  const SchedulerOptions options = small_options();
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  const auto cached = [&](SequenceRequest request) {
    const std::int64_t before = scheduler.stats().cached_tokens;
    const SequenceId id = scheduler.add(std::move(request));
    drain(scheduler, model, {id});
    return scheduler.stats().cached_tokens - before;
  };
  EXPECT_EQ(cached({.prompt = prompt_of(20, 0), .max_new_tokens = 1, .scope = "a"}), 0);
  EXPECT_EQ(cached({.prompt = prompt_of(20, 0), .max_new_tokens = 1, .scope = "b"}), 0);
  EXPECT_EQ(cached({.prompt = prompt_of(20, 0), .max_new_tokens = 1, .scope = "a"}), 19);
  EXPECT_EQ(cached({.prompt = prompt_of(20, 0), .max_new_tokens = 1, .scope = "a", .reuse = false}),
            0);
}

TEST(Scheduler, WhatIsNotToBeLeftIsGoneWithItsSequenceButForWhatItFound) {
  const SchedulerOptions options = small_options();
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  std::vector<Token> branch = prompt_of(40, 0);
  const auto cached = [&](std::vector<Token> prompt, bool leave) {
    const std::int64_t before = scheduler.stats().cached_tokens;
    const SequenceId id =
        scheduler.add({.prompt = std::move(prompt), .max_new_tokens = 2, .leave = leave});
    drain(scheduler, model, {id});
    scheduler.check();
    return scheduler.stats().cached_tokens - before;
  };
  EXPECT_EQ(cached(prompt_of(20, 0), true), 0);
  const std::int64_t n_free = scheduler.stats().free_blocks;
  EXPECT_GT(cached(branch, false), 0);
  EXPECT_EQ(scheduler.stats().free_blocks, n_free);
  EXPECT_LE(cached(branch, true), 20);
  EXPECT_EQ(cached(branch, true), 39);
  EXPECT_EQ(cached(prompt_of(20, 0), true), 19);
}

TEST(Scheduler, WhatAFaultySequenceComputedIsNotReused) {
  const SchedulerOptions options = small_options();
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  const SequenceId id = scheduler.add({.prompt = prompt_of(20, 0), .max_new_tokens = 5});
  for (int i = 0; i < 3; ++i) {
    const auto plan = scheduler.plan();
    scheduler.commit(*plan, model.run(*plan));
  }
  scheduler.remove(id, true);
  scheduler.check();
  EXPECT_EQ(scheduler.stats().free_blocks, options.n_blocks);
  scheduler.add({.prompt = prompt_of(20, 0), .max_new_tokens = 1});
  scheduler.plan();
  EXPECT_EQ(scheduler.stats().cached_tokens, 0);
}

TEST(Scheduler, AFailedStepVoidsTheOneBehindIt) {
  const SchedulerOptions options = small_options();
  for (const bool both : {false, true}) {
    Scheduler scheduler(options);
    FakeModel model(options.block_tokens);
    const SequenceId id = scheduler.add({.prompt = prompt_of(6, 0), .max_new_tokens = 8});
    auto plan = scheduler.plan();
    scheduler.commit(*plan, model.run(*plan));
    const auto failed = scheduler.plan();
    const auto behind = scheduler.plan();
    scheduler.abandon(*failed);
    if (both) {
      scheduler.abandon(*behind);
    } else {
      scheduler.commit(*behind, {9});
    }
    scheduler.check();
    EXPECT_EQ(drain(scheduler, model, {id}).at(id), expected_answer(prompt_of(6, 0), 8));
  }
}

TEST(Scheduler, ABlockThatWasNeverCopiedIsNotReused) {
  SchedulerOptions options = small_options();
  options.n_blocks = 6;
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  std::vector<SequenceId> ids = {scheduler.add({.prompt = prompt_of(6, 0), .max_new_tokens = 1})};
  drain(scheduler, model, ids);
  ids = {scheduler.add({.prompt = prompt_of(4, 1), .max_new_tokens = 1})};
  drain(scheduler, model, ids);
  std::vector<Token> prompt = prompt_of(6, 0);
  for (int i = 0; i < 16; ++i) prompt.push_back(2000 + i);
  const SequenceId id = scheduler.add({.prompt = prompt, .max_new_tokens = 1});
  const auto plan = scheduler.plan();
  ASSERT_FALSE(plan->copies_before.empty());
  scheduler.abandon(*plan);  // nothing of it was done
  scheduler.remove(id, true);
  const SequenceId again = scheduler.add({.prompt = prompt, .max_new_tokens = 1});
  EXPECT_EQ(drain(scheduler, model, {again}).at(again), expected_answer(prompt, 1));
}

/// Blocks that nobody has and that are not free: a defect that no request can cause. What cannot be
/// planned is an error, not an endless wait, and the scheduler has all its blocks again then.
TEST(Scheduler, AStepWithoutProgressIsAnError) {
  for (const int n_prompt : {150, 40}) {  // never begins; begins and cannot go on
    SchedulerOptions options = small_options();
    options.leaked_blocks = n_prompt == 150 ? 30 : 49;
    Scheduler scheduler(options);
    FakeModel model(options.block_tokens);
    const SequenceRequest request{.prompt = prompt_of(n_prompt, 1), .max_new_tokens = 40};
    const SequenceId stuck = scheduler.add(request);
    const SequenceId behind = scheduler.add({.prompt = prompt_of(8, 2), .max_new_tokens = 2});
    std::string error;
    try {
      for (int steps = 0; steps < 200; ++steps) {
        const std::optional<BatchPlan> plan = scheduler.plan();
        ASSERT_TRUE(plan.has_value()) << "no plan and no error";
        scheduler.commit(*plan, model.run(*plan));
        // It could go on for as long as another one does.
        const Sequence* other = scheduler.find(behind);
        if (other != nullptr && other->n_generated() == 2) scheduler.remove(behind);
      }
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kRuntime);
      error = e.what();
    }
    EXPECT_THAT(error, HasSubstr("no progress: "));
    EXPECT_THAT(error, HasSubstr(" of 60 cache blocks and 0 of 0 state slots are free"));
    scheduler.remove(stuck);
    scheduler.remove(behind);
    EXPECT_TRUE(scheduler.idle());
    const SequenceId again = scheduler.add(request);
    while (scheduler.find(again)->n_generated() < 40) {
      const std::optional<BatchPlan> plan = scheduler.plan();
      ASSERT_TRUE(plan.has_value());
      scheduler.commit(*plan, model.run(*plan));
    }
    scheduler.remove(again);
    scheduler.check();
  }
}

TEST(Scheduler, ImpossibleRequestsAreRefusedWithBothNumbers) {
  SchedulerOptions options = small_options();
  options.n_blocks = 10;
  Scheduler scheduler(options);
  const auto refusal = [&](SequenceRequest request) -> std::string {
    try {
      scheduler.add(std::move(request));
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
      return e.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal({.prompt = {}}), "the prompt has no tokens");
  EXPECT_EQ(refusal({.prompt = prompt_of(150, 0), .max_new_tokens = 51}),
            "prompt of 150 tokens and 51 new ones need 201, the context has 200");
  EXPECT_EQ(refusal({.prompt = prompt_of(41, 0)}),
            "the request needs 11 cache blocks of 4 tokens, the pool has 10");
  EXPECT_THAT(refusal({.prompt = prompt_of(3, 0), .max_new_tokens = INT64_MAX}),
              HasSubstr("the context has 200"));
  EXPECT_TRUE(scheduler.idle());
}

/// The step in which each has its first token.
std::map<SequenceId, int> first_tokens(Scheduler& scheduler, FakeModel& model, int n_steps) {
  std::map<SequenceId, int> first;
  for (int step = 0; step < n_steps; ++step) {
    const auto plan = scheduler.plan();
    if (!plan) break;
    for (const BatchPlan::Item& item : plan->items) {
      if (item.sample) first.emplace(item.sequence, step);
    }
    scheduler.commit(*plan, model.run(*plan));
    scheduler.check();
    for (const auto& [id, when] : first) {
      const Sequence* s = scheduler.find(id);
      if (s != nullptr && s->n_generated() == s->max_new_tokens) scheduler.remove(id);
    }
  }
  return first;
}

TEST(SchedulerOrder, AShortPromptDoesNotWaitForALongOne) {
  SchedulerOptions options = small_options();
  options.max_sequence_tokens = 2000;
  options.n_blocks = 600;
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  const SequenceId long_one = scheduler.add({.prompt = prompt_of(1000, 1), .max_new_tokens = 5});
  first_tokens(scheduler, model, 3);
  const SequenceId short_one = scheduler.add({.prompt = prompt_of(20, 2), .max_new_tokens = 5});
  const auto first = first_tokens(scheduler, model, 100);
  EXPECT_LE(first.at(short_one), 2);
  // Alone it would take 1000 / 32 steps, 3 of which were made before.
  EXPECT_LE(first.at(long_one), 30);
}

TEST(SchedulerOrder, PromptsShareAStepAndNothingOfItIsLeft) {
  SchedulerOptions options = small_options();
  Scheduler scheduler(options);
  for (int i = 0; i < 3; ++i) {
    scheduler.add({.prompt = prompt_of(100, i), .max_new_tokens = 5});
  }
  const auto plan = scheduler.plan();
  ASSERT_EQ(plan->items.size(), 3U);
  EXPECT_EQ(plan->items[0].tokens.size(), 16U);
  EXPECT_EQ(plan->items[1].tokens.size(), 8U);
  EXPECT_EQ(plan->items[2].tokens.size(), 8U);
}

TEST(SchedulerOrder, ClientsGetEqualShares) {
  SchedulerOptions options = small_options();
  options.max_running = 1;
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  std::vector<SequenceId> many;
  for (int i = 0; i < 6; ++i) {
    many.push_back(
        scheduler.add({.prompt = prompt_of(40, i), .max_new_tokens = 5, .client = "many"}));
  }
  const SequenceId one =
      scheduler.add({.prompt = prompt_of(40, 9), .max_new_tokens = 5, .client = "one"});
  std::vector<SequenceId> order;
  while (const auto plan = scheduler.plan()) {
    if (order.empty() || order.back() != plan->items[0].sequence) {
      order.push_back(plan->items[0].sequence);
    }
    scheduler.commit(*plan, model.run(*plan));
    const Sequence* s = scheduler.find(plan->items[0].sequence);
    if (s->n_generated() == s->max_new_tokens) scheduler.remove(s->id);
  }
  EXPECT_EQ(order.at(0), many[0]);
  EXPECT_EQ(order.at(1), one);
  EXPECT_EQ(order.at(2), many[1]);
}

TEST(SchedulerOrder, PriorityGoesFirstButNotForever) {
  SchedulerOptions options = small_options();
  options.max_running = 1;
  Scheduler scheduler(options);
  FakeModel model(options.block_tokens);
  scheduler.add({.prompt = prompt_of(4, 0), .max_new_tokens = 2});
  const SequenceId late =
      scheduler.add({.prompt = prompt_of(4, 1), .max_new_tokens = 2, .priority = 2});
  int served = 0;
  // Each that ends is followed by one that comes.
  scheduler.add({.prompt = prompt_of(4, 2), .max_new_tokens = 2});
  for (bool found = false; !found; ++served) {
    ASSERT_LT(served, 100);
    std::optional<BatchPlan> plan = scheduler.plan();
    const SequenceId id = plan->items[0].sequence;
    found = id == late;
    scheduler.commit(*plan, model.run(*plan));
    while (scheduler.find(id)->n_generated() < 2) {
      plan = scheduler.plan();
      scheduler.commit(*plan, model.run(*plan));
    }
    scheduler.remove(id);
    scheduler.add({.prompt = prompt_of(4, 3 + served), .max_new_tokens = 2});
  }
  EXPECT_EQ(served, 2 * FairQueue::kPriorityRequests + 1);
}

TEST(SchedulerOrder, ACancelledOneThatWaitsIsForgotten) {
  Scheduler scheduler(small_options());
  for (int round = 0; round < 3; ++round) {
    const SequenceId id = scheduler.add({.prompt = prompt_of(9, 1), .max_new_tokens = 2});
    scheduler.remove(id);
    scheduler.remove(id);
    scheduler.check();
  }
  EXPECT_TRUE(scheduler.idle());
  EXPECT_FALSE(scheduler.plan().has_value());
}

TEST(SchedulerForks, ShareThePromptAndWriteApart) {
  for (const int n_prompt : {1, 15, 16, 18, 100}) {
    SchedulerOptions options = small_options();
    options.max_running = 5;
    options.n_blocks = 200;
    Scheduler scheduler(options);
    FakeModel model(options.block_tokens);
    std::vector<SequenceId> ids;
    for (int i = 0; i < 4; ++i) {
      ids.push_back(scheduler.add({.prompt = prompt_of(n_prompt, 1),
                                   .max_new_tokens = 5 + i,
                                   .fork_of = ids.empty() ? 0 : ids[0]}));
    }
    const auto answers = drain(scheduler, model, ids);
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(answers.at(ids[static_cast<std::size_t>(i)]),
                expected_answer(prompt_of(n_prompt, 1), 5 + i));
    }
    // The prompt once, and each answer but its last token.
    EXPECT_EQ(scheduler.stats().computed_tokens, n_prompt + 4 + 5 + 6 + 7);
    EXPECT_TRUE(scheduler.idle());
    EXPECT_EQ(scheduler.stats().free_blocks + scheduler.stats().cache.blocks, 200);
  }
}

TEST(SchedulerForks, ThoseWithoutRoomBeginLater) {
  for (const bool reuse : {true, false}) {
    SchedulerOptions options = small_options();
    options.max_running = 2;
    options.n_blocks = 20;
    Scheduler scheduler(options);
    FakeModel model(options.block_tokens);
    std::vector<SequenceId> ids;
    for (int i = 0; i < 5; ++i) {
      ids.push_back(scheduler.add({.prompt = prompt_of(30, 1),
                                   .max_new_tokens = 9,
                                   .reuse = reuse,
                                   .fork_of = ids.empty() ? 0 : ids[0]}));
    }
    const auto answers = drain(scheduler, model, ids);
    ASSERT_EQ(answers.size(), 5U);
    for (const auto& [id, answer] : answers) {
      EXPECT_EQ(answer, expected_answer(prompt_of(30, 1), 9));
    }
  }
}

TEST(SchedulerForks, OutliveTheSequenceThatTheyWaitFor) {
  Scheduler scheduler(small_options());
  FakeModel model(4);
  std::vector<SequenceId> ids;
  for (int i = 0; i < 4; ++i) {
    ids.push_back(scheduler.add(
        {.prompt = prompt_of(100, 1), .max_new_tokens = 9, .fork_of = ids.empty() ? 0 : ids[0]}));
  }
  const auto plan = scheduler.plan();
  scheduler.commit(*plan, model.run(*plan));
  scheduler.remove(ids[0]);
  scheduler.remove(ids[2]);
  scheduler.check();
  const auto answers = drain(scheduler, model, ids);
  EXPECT_EQ(answers.size(), 2U);
  for (const auto& [id, answer] : answers) {
    EXPECT_EQ(answer, expected_answer(prompt_of(100, 1), 9));
  }
  EXPECT_TRUE(scheduler.idle());
}

TEST(SchedulerForks, AFailedStepBeginsThemAgain) {
  Scheduler scheduler(small_options());
  FakeModel model(4);
  const SequenceId parent = scheduler.add({.prompt = prompt_of(10, 1), .max_new_tokens = 6});
  const SequenceId fork =
      scheduler.add({.prompt = prompt_of(10, 1), .max_new_tokens = 6, .fork_of = parent});
  const auto plan = scheduler.plan();
  ASSERT_EQ(plan->forks.size(), 1U);
  scheduler.abandon(*plan);
  scheduler.check();
  const auto answers = drain(scheduler, model, {parent, fork});
  EXPECT_EQ(answers.at(parent), expected_answer(prompt_of(10, 1), 6));
  EXPECT_EQ(answers.at(fork), expected_answer(prompt_of(10, 1), 6));
}

TEST(SchedulerForks, OtherPromptsAreNoForks) {
  Scheduler scheduler(small_options());
  FakeModel model(4);
  const SequenceId a = scheduler.add({.prompt = prompt_of(10, 1), .max_new_tokens = 6});
  const SequenceId b =
      scheduler.add({.prompt = prompt_of(10, 2), .max_new_tokens = 6, .fork_of = a});
  const SequenceId c =
      scheduler.add({.prompt = prompt_of(10, 1), .max_new_tokens = 6, .scope = "x", .fork_of = a});
  const auto answers = drain(scheduler, model, {a, b, c});
  EXPECT_EQ(answers.at(b), expected_answer(prompt_of(10, 2), 6));
  EXPECT_EQ(answers.at(c), expected_answer(prompt_of(10, 1), 6));
}

}  // namespace
}  // namespace heddle
