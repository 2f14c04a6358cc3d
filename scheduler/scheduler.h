#pragma once
// Who computes which tokens in the next step: continuous batching under a token budget, prompt
// chunks and decode rows mixed freely, blocks allocated as sequences grow.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/batch_plan.h"
#include "scheduler/block_pool.h"
#include "scheduler/sequence.h"

namespace heddle {

struct SchedulerOptions {
  std::int64_t max_step_tokens = 512;    // token budget of one step
  std::int64_t max_step_outputs = 512;   // rows with logits of one step; at least max_running
  std::int64_t max_running = 64;         // sequences that compute at one time; no more than
                                         // max_step_tokens do
  std::int64_t max_chunk = 512;          // most tokens of one sequence in one step
  std::int64_t max_sequence_tokens = 0;  // context limit, prompt and generated together
  int block_tokens = 16;
  int n_blocks = 0;
  int n_state_slots = 0;  // of states; 0: the model has none, else at least max_running:
                          // those beyond are for snapshots
  /// A state can go back to any position from its last multiple of this on, and no further.
  int state_block_tokens = 1;
  bool prefix_cache = true;
  int n_host_blocks = 0;  // PrefixCacheOptions: room in host memory
  int n_host_slots = 0;
  double block_copy_tokens = 0.0;
  double state_copy_tokens = 0.0;
  std::int64_t snapshot_every = 1024;           // tokens from snapshot to snapshot; 0: at ends only
  std::array<std::uint64_t, 2> cache_key = {};  // PrefixCacheOptions
  int few_children = 16;                        // PrefixCacheOptions
  std::uint64_t shuffle_seed = 0;               // BlockPool
  std::uint64_t chunk_seed = 0;  // tests: other than 0, chunks of random size up to max_chunk
  int leaked_blocks = 0;         // tests: so many belong to nobody and are never free, as if lost
};

struct SchedulerStats {
  std::int64_t steps = 0;
  std::int64_t computed_tokens = 0;  // rows planned, recomputed ones included
  std::int64_t cached_tokens = 0;    // prompt rows that did not have to be computed
  std::int64_t replayed_tokens = 0;  // prompt rows computed again for want of a state
  std::int64_t preemptions = 0;
  std::int64_t returned_blocks = 0;     // copied from the host to a sequence that goes on there
  std::int64_t returned_snapshots = 0;  // states, likewise
  std::int64_t prompt_tokens = 0;       // of sequences that have begun
  std::array<std::int64_t, kReuseMisses> misses = {};  // these sequences by their ReuseMiss
  int waiting = 0;
  int running = 0;
  int clients = 0;  // that these are of
  int blocks = 0;
  int used_blocks = 0;  // owned by sequences
  int free_blocks = 0;  // owned by nobody; what is neither belongs to the cache alone
  int state_slots = 0;
  int free_state_slots = 0;
  PrefixCacheStats cache;
};

/// What adopt() has room for. Its blocks and slots are the prefix cache's already, so the caller
/// fills them before the next plan().
struct AdoptedPath {
  struct Snapshot {
    std::size_t index = 0;  // among those offered
    BlockId slot = -1;
  };
  std::int64_t n_tokens = 0;        // from the begin
  std::vector<BlockId> blocks;      // of these tokens, ascending; -1: was there, nothing to fill
  std::vector<Snapshot> snapshots;  // ascending
};

/// Policy. Running sequences come first, oldest first: each decoding one is certain of its row, and
/// each prompt takes what is left of the budget (tokens, and rows with logits if it is scored), or
/// half of it if others follow: a short prompt does not wait for a long one. Then waiting
/// sequences, as FairQueue orders them, if blocks for all their known tokens are free. If a running
/// sequence finds no free block, cached prefixes that nobody uses lose theirs first, then the
/// youngest running sequence is preempted: it waits at the front, and its blocks and state are such
/// a prefix now, which moves to host memory where that is cheaper than to compute it again, else
/// goes (same tokens, so the same bits). The oldest is never a victim, so every step makes
/// progress. Owned by the engine thread.
///
/// Reuse: what committed steps have computed is in the prefix cache, block by block; a sequence
/// that is admitted begins behind the longest prefix that it finds there. States (recurrent ones,
/// windows): a sequence holds one slot for as long as it holds blocks. Snapshots are copies of it
/// at the end of the prompt, at `snapshot_at`, every `snapshot_every` tokens and where a prompt
/// departs from what is known; at the end of a sequence its slot itself becomes one.
///
/// Forks: sequences that were added with `fork_of` begin in the step that ends the prompt.
///
/// Pending tokens: plan() may be called once more before commit() of the plan in flight (the host
/// runs one step behind a device); the newest token of a sequence is then kPendingToken. A device
/// executes steps in order, so a block freed while a step that uses it is in flight may be handed
/// out at once.
///
/// Memory: a call that throws std::bad_alloc changes no text. add() has added nothing then; after
/// any other one the cache is empty, all sequences wait to be computed again, and steps in flight
/// do not count. remove() and abandon() do what they are to do, and give the cache up instead.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  /// Throws kBadInput if the request can never fit, with both numbers: "prompt of 9000 tokens and
  /// 100 new ones need 9100, the context has 8192"; likewise for the pool's capacity.
  SequenceId add(SequenceRequest request);

  /// nullopt: nothing can be computed now (idle, or all depends on the steps in flight or is held).
  /// Running sequences among `held` sit this step out; they keep what they have.
  std::optional<BatchPlan> plan(std::span<const SequenceId> held = {});

  /// After a plan() that gave nothing: copies that are to be done all the same.
  std::vector<BatchPlan::Copy> take_copies();

  /// The only place where sampled tokens become known. `sampled[i]` belongs to the i-th item of
  /// `plan` with `sample`, then to its forks; sequences removed meanwhile are skipped. Plans are
  /// committed in their order.
  void commit(const BatchPlan& plan, const std::vector<Token>& sampled);

  /// In place of commit() when a step failed: its sequences are computed again or removed by the
  /// caller.
  void abandon(const BatchPlan& plan);

  /// Ends a sequence in any state; unknown ids are ignored. What was computed stays in the cache,
  /// unless it is `faulty`: then its own blocks are taken out.
  void remove(SequenceId id, bool faulty = false);

  /// Drops a running sequence's blocks; it is computed again later. False if it is not running.
  bool preempt(SequenceId id);

  /// Forgets all prefixes that no running sequence uses.
  void clear_cache();

  /// What the cache has of a text (a session to be saved).
  CachedPath cached_path(std::string_view scope, std::span<const Token> tokens) const;
  /// Puts a text that was computed elsewhere into the cache, with states at `snapshots` (positions,
  /// ascending, 1 .. tokens.size()). Takes what is free and evicts nothing: what has no room is
  /// left out, of the tokens the end, of the states those that save the fewest tokens. Slots for
  /// max_running sequences stay free.
  AdoptedPath adopt(std::string_view scope,
                    std::span<const Token> tokens,
                    std::span<const std::int64_t> snapshots);

  const Sequence* find(SequenceId id) const;  // nullptr if unknown
  SchedulerStats stats() const;
  bool idle() const { return sequences_.empty(); }
  /// Invariants of pool, tables and lists; throws kRuntime (tests, idle checks).
  void check() const;

 private:
  class Recovery;
  struct InFlight {
    std::int64_t step = 0;
    std::vector<BlockId> snapshots;
    std::vector<std::pair<SequenceId, SequenceId>> forks;  // what they begin with, and they
    bool lost = false;                                     // rebuilt since: nothing of it counts
  };

  /// The last sequence that found no room: so many blocks too few. Meaningless with `sequence` 0.
  struct Refused {
    SequenceId sequence = 0;
    std::int64_t n_known = 0;  // of its tokens
    std::int64_t n_missing = 0;
    std::int64_t n_gained = 0;  // of the pool, then
  };

  void rebuild();
  void leave_cache(Sequence& s, bool faulty);
  void void_plan(const BatchPlan& plan, bool uncommitted);
  void check_fits(const SequenceRequest& request) const;
  void plan_running(BatchPlan& plan, std::span<const SequenceId> held);
  void admit_waiting(BatchPlan& plan);
  bool admit(Sequence& s, BatchPlan& plan);
  bool front_has_room() const;
  std::int64_t remaining(const Sequence& s) const;
  bool has_states() const { return options_.n_state_slots > 0; }
  bool take_state(Sequence& s);
  std::optional<std::size_t> start(Sequence& s);
  bool still_refused(const Sequence& s) const;
  bool take_room(Sequence& s);
  bool grow(Sequence& s, std::int64_t n_tokens, const BatchPlan& plan);
  std::optional<BlockId> take_block();
  void release(BlockId block);
  void drop_blocks(Sequence& s);
  std::int64_t next_snapshot(const Sequence& s) const;
  void know_token(Sequence* s, int run, std::int64_t position, Token token);
  void commit_item(Sequence* s, const BatchPlan::Item& item, std::int64_t end);
  void commit_fork(Sequence& s, const BatchPlan::Fork& fork, const BatchPlan::Item& item);
  void store_blocks(Sequence& s);
  PrefixNode node_at(Sequence& s, std::int64_t position);
  void store_end(Sequence& s);
  void adopt_snapshots(std::span<const PrefixNode> path,
                       std::span<const std::int64_t> snapshots,
                       AdoptedPath& adopted);
  void append_item(BatchPlan& plan, Sequence& s, std::int64_t n_tokens);
  bool can_fork(const Sequence& parent, const Sequence& s) const;
  void begin_forks(BatchPlan& plan, std::size_t first);
  bool begin_fork(BatchPlan& plan, Sequence& s, const Sequence& from);
  void release_forks(Sequence& s);
  std::int64_t outputs_left(const BatchPlan& plan) const;
  std::int64_t chunk_limit(const BatchPlan& plan,
                           const Sequence& s,
                           std::int64_t reserved,
                           std::int64_t others) const;
  void void_samples(SequenceId id);
  std::string describe() const;

  SchedulerOptions options_;
  BlockPool pool_;
  BlockPool states_;  // its blocks are the state slots
  PrefixCache cache_;
  std::unordered_map<SequenceId, Sequence> sequences_;
  std::vector<Sequence*> running_;  // oldest first
  FairQueue queue_;
  SequenceId next_id_ = 1;
  bool ends_forks_ = false;  // an item of the plan being made ends a prompt that others wait for
  std::vector<InFlight> in_flight_;  // of each uncommitted plan, oldest first
  /// copies_before of the next plan: what was evicted moves even if nothing else is planned.
  std::vector<BatchPlan::Copy> copies_;
  Refused refused_;
  bool broken_ = false;  // a call was cut short: the next one rebuilds
  SchedulerStats stats_;
};

}  // namespace heddle
