#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "scheduler/batch_plan.h"
#include "scheduler/fair_queue.h"
#include "scheduler/prefix_cache.h"

namespace heddle {

/// What a caller asks of the scheduler.
struct SequenceRequest {
  std::vector<Token> prompt;        // at least one token
  std::int64_t max_new_tokens = 0;  // 0: only compute the prompt (scoring)
  bool all_outputs = false;         // logits of every prompt row (scoring), not only the last
  std::int64_t outputs_from = 0;    // of these, from this position on; below the prompt's length
  std::string scope = {};           // requests of other scopes share nothing with it
  bool counted = true;              // among the prompts of SchedulerStats
  bool reuse = true;                // find and leave prefixes; never with all_outputs
  /// With reuse. False: what it has computed leaves the cache when it ends, as far as nothing goes
  /// on from it; others may begin with it until then.
  bool leave = true;
  std::vector<std::int64_t> snapshot_at = {};  // positions where other prompts may depart: ends of
                                               // messages; ascending
  int priority = 0;                            // lower goes first; FairQueue says by how much
  std::string client = {};                     // the queue is fair between clients
  /// Another sequence with the same prompt, scope and reuse that has sampled nothing yet: this one
  /// begins at the end of its prompt, with its blocks (copied where both write) and a copy of its
  /// state. Where there is no room for both, or that sequence is gone, it begins as any other does.
  /// 0: none.
  SequenceId fork_of = 0;
};

/// Allowed priorities.
inline constexpr int kMostPriority = 100;

enum class SequenceState : std::uint8_t { kWaiting, kRunning };

/// One stream of tokens; owned and changed by Scheduler alone. Invariants: n_computed <=
/// tokens.size(); the block table covers the computed positions (and those of the step in flight).
struct Sequence {
  // What every step looks at lies together.
  SequenceId id = 0;
  std::vector<Token> tokens = {};  // known tokens, the last may be kPendingToken
  std::vector<BlockId> blocks = {};
  std::int64_t n_prompt = 0;
  std::int64_t max_new_tokens = 0;
  std::int64_t n_computed =
      0;                     // positions whose KV is (or will be, after the step in flight) stored
  std::int64_t n_valid = 0;  // of these, what committed steps have stored
  std::int64_t n_in_cache = 0;    // so many of its blocks are in the cache
  std::int64_t pending_row = -1;  // of the last plan, if its token is pending
  FairQueue::Client* client = nullptr;
  PrefixNode node = kNoNode;  // its last block that is in the cache
  BlockId state_slot = -1;    // of its state; with blocks only
  int run = 0;                // times it was admitted
  int void_run = 0;  // samples of this run and of those before it do not count: a step failed
  SequenceState state = SequenceState::kWaiting;
  bool all_outputs = false;
  bool reuse = false;
  bool leave = true;
  bool counted = true;
  std::vector<SequenceId> forks = {};  // those that wait for this one's prompt
  std::vector<std::int64_t> snapshot_at = {};
  std::int64_t departs = 0;      // found.n_known of the last admission
  std::int64_t n_scored = 0;     // all_outputs: rows whose logits were already delivered
  std::int64_t n_delivered = 0;  // of these, by committed steps
  std::int64_t own_from = 0;     // tokens before it were never computed by this one
  Reuse found = {.miss = ReuseMiss::kDisabled};  // when it was first admitted
  std::string scope = {};
  SequenceId fork_of = 0;  // it waits for that one's prompt
  int priority = 0;
  int preemptions = 0;
  std::int64_t n_generated() const { return static_cast<std::int64_t>(tokens.size()) - n_prompt; }
};

/// Tokens that are known, or pending.
inline std::int64_t length(const Sequence& s) {
  return static_cast<std::int64_t>(s.tokens.size());
}
/// With its last token sampled and not known yet.
inline bool is_pending(const Sequence& s) {
  return s.tokens.back() == kPendingToken;
}
/// Tokens that are known.
inline std::int64_t known(const Sequence& s) {
  return length(s) - (is_pending(s) ? 1 : 0);
}
inline bool older(const Sequence* a, const Sequence* b) {
  return a->id < b->id;
}
inline std::int64_t blocks_for(std::int64_t n_tokens, int block_tokens) {
  return (n_tokens + block_tokens - 1) / block_tokens;
}

}  // namespace heddle
