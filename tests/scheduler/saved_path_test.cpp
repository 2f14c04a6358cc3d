// What a session file needs: the path of a text that is there, and room for one that is not.

#include <gtest/gtest.h>

#include <numeric>
#include <stdexcept>
#include <vector>

#include "scheduler/scheduler.h"

namespace heddle {
namespace {

using Tokens = std::vector<Token>;
using Positions = std::vector<std::int64_t>;
constexpr int kBlock = 4;

Tokens counting(Token first, std::int64_t n) {
  Tokens tokens(static_cast<std::size_t>(n));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

SchedulerOptions options(int n_blocks, int n_slots) {
  return {.max_step_tokens = 64,
          .max_step_outputs = 64,
          .max_running = 2,
          .max_chunk = 64,
          .max_sequence_tokens = 1000,
          .block_tokens = kBlock,
          .n_blocks = n_blocks,
          .n_state_slots = n_slots,
          .state_block_tokens = 2,
          .snapshot_every = 8,
          .cache_key = {3, 4}};
}

/// Computes the prompt and `n_new` tokens, all of them 7.
SequenceId run(Scheduler& scheduler, const Tokens& prompt, std::int64_t n_new = 1) {
  const SequenceId id = scheduler.add({.prompt = prompt, .max_new_tokens = n_new});
  while (scheduler.find(id)->n_generated() < n_new) {
    const auto plan = scheduler.plan();
    if (!plan) throw std::runtime_error("no plan");
    Tokens sampled;
    for (const auto& item : plan->items) {
      if (item.sample) sampled.push_back(7);
    }
    scheduler.commit(*plan, sampled);
    scheduler.check();
  }
  return id;
}

std::int64_t found(const Scheduler& scheduler, SequenceId id) {
  return scheduler.find(id)->found.n_cached;
}

Positions positions(const CachedPath& path) {
  Positions positions;
  for (const auto& snapshot : path.snapshots) positions.push_back(snapshot.position);
  return positions;
}

TEST(SavedPath, IsWhatWasComputed) {
  Scheduler scheduler(options(64, 12));
  const Tokens prompt = counting(10, 18);
  EXPECT_EQ(scheduler.cached_path("", prompt).n_tokens, 0);
  scheduler.remove(run(scheduler, prompt, 3));
  Tokens all = prompt;
  all.insert(all.end(), {7, 7, 7});
  const CachedPath path = scheduler.cached_path("", all);
  EXPECT_EQ(path.n_tokens, 20);  // the last one was sampled, not computed
  EXPECT_EQ(path.blocks.size(), 5U);
  EXPECT_EQ(positions(path), (Positions{8, 16, 18, 20}));
  EXPECT_EQ(scheduler.cached_path("other", all).n_tokens, 0);
  EXPECT_EQ(scheduler.cached_path("", counting(11, 18)).n_tokens, 0);
}

TEST(SavedPath, EndsInsideABlockWhereTheTextDeparts) {
  Scheduler scheduler(options(64, 12));
  scheduler.remove(run(scheduler, counting(10, 19)));
  Tokens departing = counting(10, 17);
  departing.push_back(999);
  const CachedPath path = scheduler.cached_path("", departing);
  EXPECT_EQ(path.n_tokens, 17);
  EXPECT_EQ(path.blocks.size(), 5U);
  // The state after 19 tokens serves 18 and 19 alone: its tail begins at 18.
  EXPECT_EQ(positions(path), (Positions{8, 16}));
  // At 18 it does.
  EXPECT_EQ(positions(scheduler.cached_path("", counting(10, 18))), (Positions{8, 16, 18}));
}

TEST(SavedPath, AdoptedTextsAreFound) {
  for (const std::int64_t n : {1, 3, 4, 5, 8, 23}) {
    Scheduler scheduler(options(64, 12));
    const Tokens tokens = counting(10, n);
    const Positions at = {n};
    const AdoptedPath adopted = scheduler.adopt("", tokens, at);
    scheduler.check();
    EXPECT_EQ(adopted.n_tokens, n);
    EXPECT_EQ(adopted.blocks.size(), static_cast<std::size_t>((n + kBlock - 1) / kBlock));
    ASSERT_EQ(adopted.snapshots.size(), 1U);
    const CachedPath path = scheduler.cached_path("", tokens);
    ASSERT_EQ(path.blocks.size(), adopted.blocks.size());
    for (std::size_t i = 0; i < path.blocks.size(); ++i) {
      EXPECT_EQ(path.blocks[i], CachePlace{.id = adopted.blocks[i]});
    }
    EXPECT_EQ(path.snapshots[0].slot, CachePlace{.id = adopted.snapshots[0].slot});
    const SequenceId id = run(scheduler, counting(10, n + 5));
    EXPECT_EQ(found(scheduler, id), n);
    scheduler.remove(id);
    scheduler.check();
  }
}

TEST(SavedPath, WhatIsThereIsNotTakenTwice) {
  Scheduler scheduler(options(64, 12));
  scheduler.remove(run(scheduler, counting(10, 10)));
  const int free = scheduler.stats().free_blocks;
  const Positions at = {8, 10, 18};
  const AdoptedPath adopted = scheduler.adopt("", counting(10, 18), at);
  scheduler.check();
  EXPECT_EQ(adopted.n_tokens, 18);
  ASSERT_EQ(adopted.blocks.size(), 5U);
  EXPECT_EQ(adopted.blocks[0], -1);
  EXPECT_EQ(adopted.blocks[1], -1);
  EXPECT_GE(adopted.blocks[2], 0);  // what was there had fewer tokens
  ASSERT_EQ(adopted.snapshots.size(), 1U);
  EXPECT_EQ(adopted.snapshots[0].index, 2U);
  EXPECT_LE(free - scheduler.stats().free_blocks, 3);
  EXPECT_EQ(scheduler.cached_path("", counting(10, 18)).n_tokens, 18);
}

TEST(SavedPath, TokensWithoutRoomAreLeftOutFromTheEnd) {
  Scheduler scheduler(options(6, 12));
  const SequenceId running = scheduler.add({.prompt = counting(500, 7), .max_new_tokens = 1});
  const auto plan = scheduler.plan();
  const Positions at = {8, 16, 20, 30};
  const AdoptedPath adopted = scheduler.adopt("", counting(10, 30), at);
  EXPECT_EQ(adopted.n_tokens, 16);  // 6 blocks but the running one's 2
  EXPECT_EQ(adopted.blocks.size(), 4U);
  ASSERT_EQ(adopted.snapshots.size(), 2U);
  EXPECT_EQ(adopted.snapshots[1].index, 1U);
  scheduler.check();
  EXPECT_EQ(scheduler.adopt("", counting(900, 5), {}).n_tokens, 0);  // evicts nothing
  scheduler.check();
  EXPECT_EQ(scheduler.cached_path("", counting(10, 30)).n_tokens, 16);
  scheduler.commit(*plan, {7});
  scheduler.remove(running);
  // But whoever computes takes what it needs.
  const SequenceId next = run(scheduler, counting(700, 20));
  EXPECT_EQ(scheduler.find(next)->n_generated(), 1);
}

TEST(SavedPath, StatesWithoutSlotsAreThoseThatSaveLeast) {
  const auto kept = [](int n_slots, const Positions& at) {
    Scheduler scheduler(options(64, n_slots));
    const AdoptedPath adopted = scheduler.adopt("", counting(10, 100), at);
    scheduler.check();
    EXPECT_EQ(scheduler.stats().free_state_slots,
              n_slots - static_cast<int>(adopted.snapshots.size()));
    Positions positions;
    for (const auto& snapshot : adopted.snapshots) positions.push_back(at[snapshot.index]);
    return positions;
  };
  // Two slots are for sequences.
  EXPECT_EQ(kept(5, {40, 42, 80, 100}), (Positions{40, 80, 100}));
  EXPECT_EQ(kept(4, {40, 42, 80, 100}), (Positions{80, 100}));
  EXPECT_EQ(kept(3, {40, 42, 80, 100}), (Positions{100}));
  EXPECT_EQ(kept(2, {40, 42, 80, 100}), Positions{});
  EXPECT_EQ(kept(3, {2}), (Positions{2}));
}

TEST(SavedPath, ManyStatesAreChosenFromInTime) {
  constexpr std::int64_t kMany = 200'000;  // quadratic work would take minutes
  Scheduler scheduler(options(kMany / kBlock, 5));
  Positions at(kMany);
  std::iota(at.begin(), at.end(), 1);
  const AdoptedPath adopted = scheduler.adopt("", counting(10, kMany), at);
  ASSERT_EQ(adopted.snapshots.size(), 3U);
  EXPECT_EQ(adopted.snapshots.back().index, at.size() - 1);
  scheduler.check();
}

TEST(SavedPath, WithoutACacheNothingIsTaken) {
  SchedulerOptions off = options(64, 12);
  off.prefix_cache = false;
  Scheduler scheduler(off);
  EXPECT_EQ(scheduler.adopt("", counting(10, 30), Positions{30}).n_tokens, 0);
  scheduler.check();
}

}  // namespace
}  // namespace heddle
