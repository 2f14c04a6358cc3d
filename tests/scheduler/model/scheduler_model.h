#pragma once
// The scheduler's contract as a program: plays an operation stream, executes every plan with a fake
// decoder, and holds scheduler, pools and prefix cache to the invariants I1 - I10 below after each
// operation. Knows their headers and docs/prefix_cache.md, not how they work.
//
// I1  free, used and cached blocks and slots add up.
// I2  no item writes into a block that another running sequence has; no two share a state slot.
// I3  each sequence ends once: it is planned until it is removed, and never again.
// I4  removed and unknown ids can be removed and preempted without effect.
// I5  work without a step in flight gives a plan, a plan has tokens, the oldest running sequence is
//     never a victim, and what is left ends within as many steps as there are tokens.
// I6  who waits is admitted as scheduler/fair_queue.h promises: those that ran before first, oldest
//     first; of one client with equal priority nobody is overtaken, with another one by 16 places a
//     step at most; of several clients the one for which least was computed, 4096 tokens a step.
//     While a client waits others get a bounded number of tokens, however many names they have.
//     And prompts share a step: a later one, or one that waits, gets its part beside a long one.
// I7  every row read, every state read and every token sampled is what the sequence alone gives.
// I8  so also behind a hit: rows of other scopes differ in content. And a hit is as long as
//     docs/prefix_cache.md says while nothing had to make room. What it reports is the one right
//     reason: of every fourth stream all that is kept of all texts is watched for that.
// I9  Outcome::trace is the same for the same stream.
// I10 when all have ended and the cache is cleared, everything is free.

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/scheduler.h"
#include "tests/scheduler/model/fake_decoder.h"
#include "tests/scheduler/model/op_stream.h"

namespace heddle::test {

struct Outcome {
  std::string rule;  // empty: every invariant held
  std::string seen;
  std::size_t op = 0;       // that broke it; the number of operations: the drain after them
  std::uint64_t trace = 0;  // of all plans
  std::int64_t steps = 0;
  std::int64_t ended = 0;
  std::int64_t refused = 0;
  std::int64_t failed = 0;     // steps
  std::int64_t sick = 0;       // sequences
  std::int64_t hits_held = 0;  // prompts whose hit was held to the least that it must be
  std::int64_t forks = 0;      // that began with what another one computed
  std::int64_t from_host = 0;  // copies
  std::int64_t overtaken = 0;  // admissions before one that came earlier
  std::int64_t flooded = 0;    // visitors that came beside what had to end
  std::int64_t adopted = 0;    // tokens
  std::int64_t shared = 0;     // steps in which a later prompt had to get its part
  std::int64_t evicted = 0;    // prompts that had to be told that more was there
  std::int64_t found = 0;  // tokens of texts that the cache named and whose content was compared
  SchedulerStats stats;
};

/// `broken_copy`: see FakeDecoder.
Outcome replay(const OpStream& stream, std::int64_t broken_copy = 0);

class SchedulerModel {
 public:
  SchedulerModel(const StreamOptions& options, std::int64_t broken_copy);
  void apply(const Op& op);
  /// Ends everything, asks for every text once more, ends that, and wants all memory back.
  void drain();
  /// Those that live end, too, while others come in their place without end.
  void flood();
  const Outcome& outcome() const { return outcome_; }

 private:
  /// What the contract lets a sequence's owner know.
  struct Tracked {
    Text text;  // all of it, known from the start: sampling is a function of the text
    std::int64_t n_prompt = 0;
    std::int64_t max_new = 0;
    bool all_outputs = false;
    bool shares = true;  // finds and leaves prefixes
    bool counted = true;
    int priority = 0;
    std::string client = {};
    bool ran = false;
    bool complete = false;        // max_new == 0: its prompt was computed
    int run = 0;                  // the newest that was planned
    std::int64_t begin = 0;       // where that began
    std::int64_t planned = 0;     // and how far it is
    std::int64_t valid = 0;       // and how far with committed steps
    std::int64_t known = 0;       // tokens whose ids commits have told
    std::int64_t scored = 0;      // rows whose logits were planned (all_outputs)
    int void_run = 0;             // a step with this run failed
    int awaiting = 0;             // failed steps in flight
    std::int64_t sick_from = -1;  // rows from here on are wrong
  };
  struct Flight {
    BatchPlan plan;
    std::vector<Token> sampled = {};
    std::vector<SequenceId> sampled_by = {};
    std::vector<char> sound = {};          // of each item and fork: no step before it has failed
    std::vector<SequenceId> dragged = {};  // in a step behind it, on what it has spoilt
    bool failed = false;
    bool end_them = false;  // its sequences are removed then, as the engine does
    bool all_fail = false;  // steps behind it do too
  };
  /// What ended or lost its blocks, and how much of it was computed.
  struct Remembered {
    Text text;
    std::int64_t valid = 0;
    std::int64_t state = 0;  // position of the snapshot at its end; 0: none
  };
  /// What the cache has of a text, and what of it has gone to make room.
  struct Watched {
    std::int64_t known = 0;
    std::set<std::int64_t> states = {};
    std::int64_t lost = 0;  // most that was known before
    std::set<std::int64_t> lost_states = {};
  };
  struct Before {  // plan()
    bool running = false;
    SequenceId fork_of = 0;  // it waits for that one's prompt
    int run = 0;
    std::int64_t n_tokens = 0;
    std::int64_t n_computed = 0;
    std::int64_t remaining(const Tracked& t) const {  // the last token of an answer needs no row
      return t.max_new > 0 && n_tokens == t.text.size() ? 0 : n_tokens - n_computed;
    }
  };
  using Befores = std::map<SequenceId, Before>;
  struct Account {  // of a client
    double counter = 0.0;
    double passed = 0.0;  // tokens of others while it waits and none of it begins
    int n_live = 0;
  };

  // scheduler_model.cpp, faults.cpp, endings.cpp: what happens
  void add(const Op& op);
  SequenceId submit(SequenceRequest request, std::uint64_t choice);
  bool visit(int priority);
  bool plan_step(bool fails, const Op& op);
  void execute(Flight& flight, int mode, const Op& op);
  void execute_forks(Flight& flight);
  void drag(SequenceId id, int run);
  bool moves_lost() const;
  void commit_oldest();
  void committed(const BatchPlan::Item& item, bool sick);  // of a sound item
  void committed(const BatchPlan::Fork& fork);
  void failed(const Flight& flight);
  void late_failure();
  void step();
  void end(SequenceId id, bool faulty);
  void end_complete();
  void preempt(SequenceId id);
  void sicken(SequenceId id);
  void stray(const Op& op);
  void adopt(const Op& op);
  Text continued(const Op& op) const;
  void take_copies();
  void count_moves(std::span<const BatchPlan::Copy> copies);
  void run_out();
  SequenceId pick(std::uint8_t which) const;  // 0: nothing lives
  std::int64_t last_sound(std::int64_t sick_from) const;
  bool meets_sick(const Text& text) const;
  void remember(const Tracked& t, bool ends, SequenceId id);

  // scheduler_rules.cpp: what must hold
  Befores look() const;
  void check_plan(const BatchPlan& plan, const Befores& before, int free_blocks);
  void check_item(const BatchPlan::Item& item, const Before& before);
  void check_forks(const BatchPlan& plan, const Befores& before);
  void check_admission(const BatchPlan::Item& item, const Before& before);
  void check_tokens(const BatchPlan::Item& item, const Before& before) const;
  void check_outputs(const BatchPlan::Item& item, const Before& before);
  void check_writes(const BatchPlan& plan) const;
  void check_slots(const BatchPlan& plan) const;
  void check_decoding(const BatchPlan& plan, const Befores& before) const;
  void check_stats() const;
  void begun(const Tracked& t, const Sequence& s);
  void check_memory() const;
  void audit() const;
  bool tainted(SequenceId id, int run) const;
  void trace(const BatchPlan& plan);

  // queue_rules.cpp: who comes first
  void check_victims(const Befores& before);
  void check_order(const BatchPlan& plan, const Befores& before);
  void check_front(SequenceId id, const std::set<SequenceId>& waiting);
  void check_passed() const;
  void check_share(const BatchPlan& plan, const Befores& before, int free_blocks);
  std::set<SequenceId> waiting() const;
  void asks(SequenceId id, std::set<SequenceId>& waiting);
  void charge(SequenceId id, std::int64_t n, const std::set<SequenceId>& waiting);
  void enter(const std::string& client);
  void leave(const std::string& client);

  // cache_rules.cpp: what is found again
  void check_hit(const Tracked& t, const Sequence& s);
  void check_reason(const Tracked& t, const Sequence& s);
  void watch(bool evicted);
  bool lost_more(const Tracked& t, const Reuse& found) const;
  bool perhaps_lost(const Tracked& t, const Reuse& found) const;
  void check_found(const Text& text);
  void check_adopted(const AdoptedPath& adopted,
                     const Text& text,
                     const SchedulerStats& before) const;

  StreamOptions options_;
  Scheduler scheduler_;
  FakeDecoder decoder_;
  std::map<SequenceId, Tracked> live_;
  std::vector<SequenceId> gone_;
  std::vector<Text> texts_;  // of all requests, to ask for them again
  std::vector<Remembered> remembered_;
  std::vector<Watched> watched_;          // of texts_
  std::vector<Remembered> perhaps_lost_;  // preempted and evicted in one call, or taken out
  std::deque<Flight> flights_;
  bool lossless_ = true;        // nothing had to leave the cache
  bool slots_lossless_ = true;  // nor a snapshot for want of a slot
  std::int64_t last_step_ = -1;
  std::int64_t computed_ = 0;
  SchedulerStats told_;  // what SchedulerStats must say of prompts and of moves to the host
  std::map<std::string, Account> accounts_;
  double now_ = 0.0;        // what a client would have that was present all along, at equal parts
  int least_priority_ = 0;  // of all
  int most_priority_ = 0;
  std::int64_t most_present_ = 0;
  std::int64_t n_names_ = 0;  // clients that come once
  Outcome outcome_;
};

}  // namespace heddle::test
