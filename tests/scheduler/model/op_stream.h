#pragma once
// Operation streams of the scheduler's property test: plain bytes, so that random generators,
// libFuzzer and files of found cases feed one interpreter (scheduler_model.h).

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "scheduler/scheduler.h"

namespace heddle::test {

/// One thing that a caller, a device or a fault does. Arguments are taken modulo what they choose
/// from, so every byte string is a valid stream.
struct Op {
  enum Kind : std::uint8_t {
    kAdd,      // source, cut, fresh tokens, new tokens, flags, snapshot_at, choice and forks,
               // priority, client
    kRun,      // n times plan and commit
    kPlan,     // one plan, if fewer than the allowed number are in flight
    kCommit,   // the oldest plan in flight
    kFail,     // plan, but the step fails: how far it got, who ends, what fails behind it, what is
               // planned meanwhile, 7 and 8: copies before and after that it did not get to
    kLate,     // commit, then abandon the same plan: a failure behind the commit; its sequences end
    kRemove,   // which, faulty or not
    kPreempt,  // which
    kSicken,   // which: its rows are wrong from now on, seen at its next sampled row
    kClear,
    kStray,  // calls that must change nothing: removed and unknown ids
    kAdopt,  // a text from elsewhere: source, cut, fresh tokens, scope, positions of states
    kKinds
  };
  std::uint8_t kind = kAdd;
  std::array<std::uint8_t, 9> args = {};
};
inline constexpr std::size_t kOpBytes = 10;
inline constexpr std::size_t kHeaderBytes = 20;

struct OpStream {
  std::array<std::uint8_t, kHeaderBytes> header = {};  // chooses options, see options_of()
  std::vector<Op> ops;
};

/// What the header of a stream chooses.
struct StreamOptions {
  SchedulerOptions scheduler;
  int vocab = 2;   // few tokens: many common prefixes
  int flight = 1;  // plans in flight
  /// Sequences that may run at one time.
  std::int64_t places() const { return std::min(scheduler.max_running, scheduler.max_step_tokens); }
};

OpStream decode(std::span<const std::uint8_t> bytes);  // missing bytes are 0
std::vector<std::uint8_t> encode(const OpStream& stream);
StreamOptions options_of(const OpStream& stream);
OpStream random_stream(std::mt19937& rng, int n_ops);
/// Readable operations, and the hex of the whole stream for tests/fuzz/corpus/scheduler.
std::string describe(const OpStream& stream);

}  // namespace heddle::test
