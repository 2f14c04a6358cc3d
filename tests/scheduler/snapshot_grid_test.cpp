// Where the recurrent states of a long prompt lie when there is room for fewer than snapshot_every
// asks for, and what a late edit costs then.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "scheduler/scheduler.h"

namespace heddle {
namespace {

constexpr std::int64_t kEvery = 64;

SchedulerOptions options_for(std::int64_t n, int n_snapshots) {
  return {.max_step_tokens = 128,
          .max_running = 1,
          .max_chunk = 128,
          .max_sequence_tokens = n + 1,
          .block_tokens = 16,
          .n_blocks = static_cast<int>(2 * n / 16 + 2),
          .n_state_slots = 1 + n_snapshots,
          .state_block_tokens = 16,
          .snapshot_every = kEvery};
}

std::vector<Token> counting(std::int64_t n) {
  std::vector<Token> prompt;
  for (std::int64_t i = 0; i < n; ++i) prompt.push_back(static_cast<Token>(i % 1000));
  return prompt;
}

Reuse run(Scheduler& scheduler, const std::vector<Token>& prompt) {
  const SequenceId id = scheduler.add({.prompt = prompt, .max_new_tokens = 1});
  while (scheduler.find(id)->n_generated() < 1) {
    const std::optional<BatchPlan> plan = scheduler.plan();
    scheduler.commit(*plan, std::vector<Token>(static_cast<std::size_t>(plan->n_samples), 7));
  }
  const Reuse found = scheduler.find(id)->found;
  scheduler.remove(id);
  return found;
}

/// Positions of the states that a prompt of n tokens leaves with so many slots beside its own.
std::vector<std::int64_t> grid(std::int64_t n, int n_snapshots) {
  Scheduler scheduler(options_for(n, n_snapshots));
  run(scheduler, counting(n));
  std::vector<std::int64_t> positions;
  for (const auto& s : scheduler.cached_path("", counting(n)).snapshots) {
    positions.push_back(s.position);
  }
  return positions;
}

std::int64_t widest(const std::vector<std::int64_t>& positions) {
  std::int64_t before = 0;
  std::int64_t most = 0;
  for (const std::int64_t position : positions) {
    most = std::max(most, position - before);
    before = position;
  }
  return most;
}

/// With room for S states of a text of N tokens, neighbours lie 2 N / (S - 1) tokens apart at most,
/// or snapshot_every if that is more, and the newest may be snapshot_every behind that.
TEST(SnapshotGrid, IsThinnedEvenlyWhereThereIsRoomForFewer) {
  for (const int slots : {2, 3, 4, 8, 16, 32}) {
    for (const int segments : {1, 2, 3, 5, 8, 16, 31, 42, 63, 64, 65, 100, 128, 200, 333, 500}) {
      const std::int64_t n = segments * kEvery + 20;
      const std::vector<std::int64_t> positions = grid(n, slots);
      const std::int64_t allowed = std::max(kEvery, 2 * n / (slots - 1)) + kEvery;
      EXPECT_LE(widest(positions), allowed) << slots << " slots, " << segments << " segments";
      EXPECT_GE(std::ssize(positions), std::min(slots, segments));
      EXPECT_EQ(positions.back(), n);
      if (segments < slots) {
        EXPECT_LE(widest(positions), kEvery) << "nothing had to go";
      }
    }
  }
}

/// Another prompt departs near the end of a long one: what it replays is within the bound.
TEST(SnapshotGrid, ALateEditReplaysNoMoreThanTheGapItFallsInto) {
  constexpr int kSlots = 8;
  constexpr std::int64_t kTokens = 100 * kEvery;
  const SchedulerOptions options = options_for(kTokens, kSlots);
  for (const std::int64_t depart : {kTokens - 1, kTokens - 40, kTokens / 2 + 3, kTokens / 8}) {
    Scheduler scheduler(options);
    std::vector<Token> prompt = counting(kTokens);
    run(scheduler, prompt);
    prompt[static_cast<std::size_t>(depart)] = 5000;
    const Reuse found = run(scheduler, prompt);
    EXPECT_GE(found.n_known, depart / 16 * 16);
    EXPECT_LE(found.n_replayed(kTokens), 2 * kTokens / (kSlots - 1) + kEvery) << depart;
  }
}

}  // namespace
}  // namespace heddle
