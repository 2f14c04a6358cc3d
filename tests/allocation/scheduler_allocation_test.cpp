// Every allocation inside every call of the scheduler fails once: the call throws, its object is
// as before or can be recovered as its caller would, and what follows is right and complete.

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/scheduler.h"
#include "tests/allocation/failing_new.h"
#include "tests/scheduler/model/fake_decoder.h"

namespace heddle::test {
namespace {

constexpr int kVocab = 5;
constexpr std::int64_t kNew = 6;

SchedulerOptions small_hybrid() {
  return {.max_step_tokens = 12,
          .max_step_outputs = 4,
          .max_running = 3,
          .max_chunk = 6,
          .max_sequence_tokens = 40,
          .block_tokens = 4,
          .n_blocks = 9,
          .n_state_slots = 8,
          .state_block_tokens = 4,
          .n_host_blocks = 8,
          .n_host_slots = 3,
          .snapshot_every = 8};
}

/// The scheduler, the decoder that executes its plans, and what every sequence must say.
class Rig {
 public:
  Rig() : scheduler_(small_hybrid()), decoder_(small_hybrid(), 0) {}

  /// `cut` tokens of one text, then others. With another one's id: a fork of that, if it can be.
  void add(std::int64_t cut, std::int64_t n_prompt, SequenceId fork_of = 0) {
    Text text{.scope = {}, .choice = static_cast<std::uint64_t>(fork_of)};
    for (std::int64_t i = 0; i < n_prompt; ++i) {
      text.push(static_cast<Token>((i < cut ? i * i : i * 3 + cut) % kVocab));
    }
    SequenceRequest request{.prompt = text.tokens,
                            .max_new_tokens = kNew,
                            .snapshot_at = {3},
                            .priority = static_cast<int>(cut % 3),
                            .client = std::string(40, static_cast<char>('a' + n_prompt % 3)),
                            .fork_of = fork_of};
    for (std::int64_t i = 0; i < kNew; ++i) text.push(text.next(kVocab));
    const SequenceId id = guarded([&] { return scheduler_.add(std::move(request)); });
    texts_.emplace(id, std::move(text));
  }
  void plan() {
    plan_ = guarded([&] { return scheduler_.plan(); });
    if (plan_) {
      execute();
    } else {
      decoder_.run_copies(scheduler_.take_copies());
    }
  }
  void commit() {
    if (!plan_) return;
    guarded([&] {
      scheduler_.commit(*plan_, sampled_);
      return true;
    });
    plan_.reset();
    end_complete();
  }
  void preempt(SequenceId id) {
    guarded([&] { return scheduler_.preempt(id); });
  }
  void remove(SequenceId id, bool faulty) {
    guarded([&] {
      scheduler_.remove(id, faulty);
      return true;
    });
    texts_.erase(id);
  }
  void abandon() {
    guarded([&] {
      scheduler_.abandon(*plan_);
      return true;
    });
    plan_.reset();
  }
  void clear() {
    guarded([&] {
      scheduler_.clear_cache();
      return true;
    });
  }
  /// A session of `n` tokens of the common text.
  void adopt(std::int64_t n) {
    Text text;
    for (std::int64_t i = 0; i < n; ++i) text.push(static_cast<Token>(i * i % kVocab));
    const std::vector<std::int64_t> at = {n / 2, n};
    const AdoptedPath a = guarded([&] { return scheduler_.adopt(text.scope, text.tokens, at); });
    for (std::size_t i = 0; i < a.blocks.size(); ++i) {
      const auto begin = static_cast<std::int64_t>(4 * i);
      if (a.blocks[i] < 0) continue;
      decoder_.fill_rows(a.blocks[i], begin, std::min(begin + 4, a.n_tokens), text);
    }
    for (const auto& [index, slot] : a.snapshots) decoder_.fill_state(slot, at[index], text);
  }

  /// As the engine: a step whose commit failed is abandoned and its sequences end.
  void recover() {
    if (!plan_) return;
    const BatchPlan plan = *plan_;
    abandon();
    for (const BatchPlan::Item& item : plan.items) remove(item.sequence, true);
    for (const BatchPlan::Fork& fork : plan.forks) remove(fork.sequence, true);
  }
  /// The rest of the work and a request more; then all memory is back.
  void finish() {
    scheduler_.check();
    commit();
    add(6, 11);
    for (int i = 0; i < 200 && !scheduler_.idle(); ++i) {
      plan();
      commit();
      scheduler_.check();
    }
    EXPECT_TRUE(scheduler_.idle());
    EXPECT_EQ(scheduler_.stats().clients, 0);
    EXPECT_TRUE(texts_.empty());
    scheduler_.clear_cache();
    scheduler_.check();
    EXPECT_EQ(scheduler_.stats().cache.host_blocks, 0);
    EXPECT_EQ(scheduler_.stats().free_blocks, small_hybrid().n_blocks);
    EXPECT_EQ(scheduler_.stats().free_state_slots, small_hybrid().n_state_slots);
  }
  /// The `nth` allocation of the scheduler's next call fails.
  void fail_next(std::int64_t nth) { fail_ = nth; }
  bool has_failed() const { return failed_; }

 private:
  struct Noted {
    const FailNth& fail;
    bool& failed;
    ~Noted() { failed = fail.failed(); }
  };
  template <typename Call>
  auto guarded(const Call& call) -> decltype(call()) {
    if (fail_ == 0) return call();
    const FailNth fail(std::exchange(fail_, 0));
    const Noted noted{fail, failed_};
    return call();
  }
  void execute() {
    sampled_.clear();
    decoder_.run_copies(plan_->copies_before);
    for (const BatchPlan::Item& item : plan_->items) {
      const Text& text = texts_.at(item.sequence);
      decoder_.run_item(item, text);
      const std::size_t end = static_cast<std::size_t>(item.start) + item.tokens.size();
      if (item.sample) sampled_.push_back(text.tokens[end]);
    }
    decoder_.run_copies(plan_->copies_after);
    for (const BatchPlan::Fork& fork : plan_->forks) {
      const BatchPlan::Item& item = plan_->items[static_cast<std::size_t>(fork.item)];
      sampled_.push_back(texts_.at(fork.sequence)
                             .tokens[static_cast<std::size_t>(item.start) + item.tokens.size()]);
    }
  }
  void end_complete() {
    for (auto it = texts_.begin(); it != texts_.end();) {
      const Sequence* s = scheduler_.find(it->first);
      if (s == nullptr || std::ssize(s->tokens) < it->second.size()) {
        ++it;
        continue;
      }
      EXPECT_EQ(s->tokens, it->second.tokens);
      scheduler_.remove(it->first);
      it = texts_.erase(it);
    }
  }

  Scheduler scheduler_;
  FakeDecoder decoder_;
  std::map<SequenceId, Text> texts_;
  std::optional<BatchPlan> plan_;
  std::vector<Token> sampled_;
  std::int64_t fail_ = 0;
  bool failed_ = false;
};

struct Call {
  std::string name;
  std::function<void(Rig&)> run;
};

std::vector<Call> scenario() {
  const auto add = [](std::int64_t cut, std::int64_t n) {
    return Call{"add", [=](Rig& r) { r.add(cut, n); }};
  };
  const auto fork = [](std::int64_t cut, std::int64_t n, SequenceId of) {
    return Call{"add", [=](Rig& r) { r.add(cut, n, of); }};
  };
  const Call adopt{"adopt", [](Rig& r) { r.adopt(14); }};
  const Call clear{"clear", [](Rig& r) { r.clear(); }};
  const Call plan{"plan", [](Rig& r) { r.plan(); }};
  const Call commit{"commit", [](Rig& r) { r.commit(); }};
  const Call abandon{"abandon", [](Rig& r) { r.abandon(); }};
  const auto preempt = [](SequenceId id) {
    return Call{"preempt", [=](Rig& r) { r.preempt(id); }};
  };
  const auto remove = [](SequenceId id, bool faulty) {
    return Call{faulty ? "remove faulty" : "remove", [=](Rig& r) { r.remove(id, faulty); }};
  };
  return {add(14, 14),
          plan,
          commit,
          plan,
          commit,
          plan,
          commit,
          add(9, 15),
          plan,
          commit,
          preempt(1),
          plan,
          commit,
          plan,
          commit,
          remove(1, false),
          add(6, 20),
          plan,
          commit,
          plan,
          abandon,
          plan,
          commit,
          add(14, 16),
          plan,
          commit,
          remove(3, true),
          add(14, 25),
          add(2, 25),
          plan,
          commit,
          plan,
          commit,
          plan,
          commit,
          plan,
          commit,
          adopt,
          add(14, 14),
          fork(14, 14, 7),
          fork(14, 14, 7),
          plan,
          commit,
          preempt(8),
          plan,
          commit,
          remove(7, false),
          plan,
          abandon,
          clear,
          plan,
          commit,
          adopt,
          plan,
          commit};
}

/// Plays the calls before number `k`, then that one with its `nth` allocation failing, then the
/// rest of the work. False: it has fewer allocations.
bool survive(const std::vector<Call>& calls, std::size_t k, std::int64_t nth) {
  Rig rig;
  for (std::size_t i = 0; i < k; ++i) calls[i].run(rig);
  rig.fail_next(nth);
  bool thrown = false;
  try {
    calls[k].run(rig);
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  rig.fail_next(0);
  const std::string& name = calls[k].name;
  if (thrown) {
    EXPECT_TRUE(name != "remove" && name != "remove faulty" && name != "abandon") << name;
    if (name == "commit") rig.recover();
    if (name != "add" && name != "commit") calls[k].run(rig);
  }
  rig.finish();
  return rig.has_failed();
}

/// By the name of the call.
class SchedulerAllocation : public testing::TestWithParam<const char*> {};

TEST_P(SchedulerAllocation, EachFailureIsSurvived) {
  const std::vector<Call> calls = scenario();
  int failures = 0;
  for (std::size_t k = 0; k < calls.size(); ++k) {
    if (calls[k].name != GetParam()) continue;
    for (std::int64_t nth = 1;; ++nth) {
      SCOPED_TRACE("call " + std::to_string(k) + ", allocation " + std::to_string(nth));
      ASSERT_LT(nth, 2000);
      const std::int64_t before = n_allocated();
      bool failed = false;
      try {
        failed = survive(calls, k, nth);
      } catch (const std::exception& e) {
        FAIL() << e.what();
      }
      EXPECT_EQ(n_allocated(), before) << "something leaks";
      if (!failed) break;
      ++failures;
    }
  }
  EXPECT_GE(failures, 1);
  RecordProperty("failures", failures);
}

INSTANTIATE_TEST_SUITE_P(Calls,
                         SchedulerAllocation,
                         testing::Values("add",
                                         "plan",
                                         "commit",
                                         "abandon",
                                         "preempt",
                                         "remove",
                                         "remove faulty",
                                         "adopt",
                                         "clear"));

TEST(SchedulerAllocation, AStepInFlightDoesNotCountThen) {
  Scheduler scheduler(small_hybrid());
  const SequenceId id = scheduler.add({.prompt = {1, 2, 3, 4, 5}, .max_new_tokens = 3});
  const std::optional<BatchPlan> in_flight = scheduler.plan();
  ASSERT_TRUE(in_flight.has_value());
  ASSERT_EQ(in_flight->n_samples, 1);
  {
    const FailNth fail(1);
    EXPECT_THROW(scheduler.plan(), std::bad_alloc);
  }
  scheduler.commit(*in_flight, {7});
  EXPECT_EQ(scheduler.find(id)->tokens, std::vector<Token>({1, 2, 3, 4, 5}));
  EXPECT_EQ(scheduler.stats().running, 0);
  const std::optional<BatchPlan> again = scheduler.plan();
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->items.at(0).start, 0);
  EXPECT_EQ(again->n_tokens, 5);
  scheduler.check();
}

}  // namespace
}  // namespace heddle::test
