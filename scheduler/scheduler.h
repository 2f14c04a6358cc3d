#pragma once
// Who computes which tokens in the next step: continuous batching under a token budget, prefill
// chunks and decode rows mixed freely, blocks allocated as sequences grow.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/batch_plan.h"
#include "scheduler/block_pool.h"
#include "scheduler/sequence.h"

namespace heddle {

struct SchedulerOptions {
  std::int64_t max_step_tokens = 512;    // token budget of one step
  std::int64_t max_running = 64;         // sequences with blocks at one time
  std::int64_t max_chunk = 512;          // most tokens of one sequence in one step
  std::int64_t max_sequence_tokens = 0;  // context limit, prompt and generated together
  int block_tokens = 16;
  int n_blocks = 0;
  /// Tests: hand out blocks in a shuffled order (the layout must not change any bit). 0: off.
  std::uint64_t shuffle_seed = 0;
};

struct SchedulerStats {
  std::int64_t steps = 0;
  std::int64_t computed_tokens = 0;
  std::int64_t preemptions = 0;
  int waiting = 0;
  int running = 0;
  int free_blocks = 0;
};

/// Policy. Running sequences come first, oldest first, each with what it still has to compute (one
/// row for a decoding one); what is left of the budget goes to waiting sequences in arrival order.
/// If no block is free, the youngest running sequence is preempted: its blocks are dropped and it
/// waits at the front to be computed again (same tokens, so same bits). The oldest running sequence
/// is never a victim, so every step makes progress.
///
/// Pending tokens: plan() may be called again before commit() of the plan in flight (one step
/// ahead); a sequence whose newest token is unknown is then planned with kPendingToken.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  /// Throws kBadInput if the request can never fit: "prompt of 9000 and 100 new tokens need 9100,
  /// the context is 8192"; likewise for blocks of the pool.
  SequenceId add(SequenceRequest request);

  /// nullopt: nothing to compute now.
  std::optional<BatchPlan> plan();

  /// The only place where a Sequence advances. `sampled[i]` belongs to the i-th item of `plan` with
  /// `sample`; sequences that were removed meanwhile are skipped. Plans are committed in order.
  void commit(const BatchPlan& plan, const std::vector<Token>& sampled);

  /// Ends a sequence in any state and frees its blocks; unknown or finished ids are ignored. With a
  /// step in flight the blocks are freed when that step commits.
  void remove(SequenceId id);

  /// Drops a running sequence's blocks; it is computed again later (tests of "preempted =
  /// uninterrupted"). False if it is not running.
  bool preempt(SequenceId id);

  const Sequence* find(SequenceId id) const;  // nullptr if unknown
  SchedulerStats stats() const;
  bool idle() const;
  /// Invariants of pool and tables; throws kRuntime (tests, idle checks).
  void check() const;

 private:
  struct InFlight;
  // ...
};

}  // namespace heddle
