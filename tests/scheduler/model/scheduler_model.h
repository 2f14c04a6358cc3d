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
// I6  no waiting sequence is overtaken by one that came later and has not run yet (K = 0); one that
//     ran before and lost its blocks comes first.
// I7  every row read, every state read and every token sampled is what the sequence alone gives.
// I8  so also behind a hit: rows of other scopes differ in content. And a hit is as long as
//     docs/prefix_cache.md says while nothing had to make room.
// I9  Outcome::trace is the same for the same stream.
// I10 when all have ended and the cache is cleared, everything is free.

#include <cstdint>
#include <deque>
#include <map>
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
  const Outcome& outcome() const { return outcome_; }

 private:
  /// What the contract lets a sequence's owner know.
  struct Tracked {
    Text text;  // all of it, known from the start: sampling is a function of the text
    std::int64_t n_prompt = 0;
    std::int64_t max_new = 0;
    bool all_outputs = false;
    bool shares = true;  // finds and leaves prefixes
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
  struct Before {  // plan()
    bool running = false;
    bool forks = false;  // waits for another's prompt
    int run = 0;
    std::int64_t n_tokens = 0;
    std::int64_t n_computed = 0;
  };

  // scheduler_model.cpp: what happens
  void add(const Op& op);
  SequenceId submit(SequenceRequest request, std::uint64_t choice);
  bool plan_step(bool fails, const Op& op);
  void execute(Flight& flight, int mode);
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
  void run_out();
  SequenceId pick(std::uint8_t which) const;  // 0: nothing lives
  std::int64_t last_sound(std::int64_t sick_from) const;
  bool meets_sick(const Text& text) const;
  void remember(const Tracked& t, bool ends, SequenceId id);

  // scheduler_rules.cpp: what must hold
  std::map<SequenceId, Before> look() const;
  void check_plan(const BatchPlan& plan, const std::map<SequenceId, Before>& before);
  void check_item(const BatchPlan::Item& item, const Before& before);
  void check_forks(const BatchPlan& plan, const std::map<SequenceId, Before>& before);
  void check_admission(const BatchPlan::Item& item, const Before& before);
  void check_tokens(const BatchPlan::Item& item, const Before& before) const;
  void check_outputs(const BatchPlan::Item& item, const Before& before);
  void check_writes(const BatchPlan& plan) const;
  void check_slots(const BatchPlan& plan) const;
  void check_order(const BatchPlan& plan, const std::map<SequenceId, Before>& before);
  void check_decoding(const BatchPlan& plan, const std::map<SequenceId, Before>& before) const;
  void check_hit(const Tracked& t, const Sequence& s);
  void check_reason(const Tracked& t, const Sequence& s) const;
  void check_memory() const;
  void audit() const;
  bool tainted(SequenceId id, int run) const;
  void trace(const BatchPlan& plan);

  StreamOptions options_;
  Scheduler scheduler_;
  FakeDecoder decoder_;
  std::map<SequenceId, Tracked> live_;
  std::vector<SequenceId> gone_;
  std::vector<Text> texts_;  // of all requests, to ask for them again
  std::vector<Remembered> remembered_;
  std::deque<Flight> flights_;
  bool lossless_ = true;         // nothing had to leave the cache
  bool slots_lossless_ = true;   // nor a snapshot for want of a slot
  bool anything_valid_ = false;  // a step of a sharing sequence was committed
  std::int64_t last_step_ = -1;
  std::int64_t computed_ = 0;
  Outcome outcome_;
};

}  // namespace heddle::test
