// Random operation streams against the scheduler's contract (model/scheduler_model.h). A stream
// that breaks it is shrunk and printed; those that once did are in tests/fuzz/corpus/scheduler.

#include "tests/scheduler/model/scheduler_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/scheduler/model/shrink.h"
#include "tests/support/sanitizers.h"

namespace heddle::test {
namespace {

/// What a failing stream comes down to, as text.
std::string smallest(const OpStream& stream, const Outcome& outcome) {
  const OpStream small =
      shrink(stream, [&](const OpStream& s) { return replay(s).rule == outcome.rule; });
  return describe(small) + replay(small).seen;
}

std::vector<std::uint8_t> bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Each of four takes a quarter of the steps; ctest runs them side by side.
class RandomStreams : public testing::TestWithParam<unsigned> {};

TEST_P(RandomStreams, KeepTheContract) {
  constexpr std::int64_t kSteps = kSanitized ? 20'000 : 260'000;
  Outcome sum;
  std::mt19937 rng(GetParam());
  for (int n = 0; sum.steps < kSteps; ++n) {
    const OpStream stream = random_stream(rng, 200);
    const Outcome o = replay(stream);
    ASSERT_EQ(o.rule, "") << "stream " << n << ", operation " << o.op << ": " << o.seen << '\n'
                          << smallest(stream, o);
    if (n % 16 == 0) {
      ASSERT_EQ(replay(stream).trace, o.trace) << "I9: the same stream, stream " << n;
    }
    sum.steps += o.steps;
    sum.ended += o.ended;
    sum.refused += o.refused;
    sum.failed += o.failed;
    sum.sick += o.sick;
    sum.hits_held += o.hits_held;
    sum.forks += o.forks;
    sum.from_host += o.from_host;
    sum.overtaken += o.overtaken;
    sum.flooded += o.flooded;
    sum.adopted += o.adopted;
    sum.shared += o.shared;
    sum.found += o.found;
    sum.evicted += o.evicted;
    sum.stats.cache.moved_blocks += o.stats.cache.moved_blocks;
    sum.stats.cache.moved_snapshots += o.stats.cache.moved_snapshots;
    sum.stats.cached_tokens += o.stats.cached_tokens;
    sum.stats.replayed_tokens += o.stats.replayed_tokens;
    sum.stats.preemptions += o.stats.preemptions;
    sum.stats.cache.evicted_blocks += o.stats.cache.evicted_blocks;
    sum.stats.cache.evicted_snapshots += o.stats.cache.evicted_snapshots;
  }
  // That the streams reach all of it, in shares of the steps.
  const auto reached = [&](std::int64_t n, std::int64_t share) { EXPECT_GT(n * share, sum.steps); };
  reached(sum.ended, 20);
  reached(sum.refused, 100);
  reached(sum.failed, 500);
  reached(sum.sick, 1000);
  reached(sum.hits_held, 500);
  reached(sum.forks, 500);
  reached(sum.from_host, 500);
  reached(sum.overtaken, 50);
  reached(sum.flooded, 100);
  reached(sum.adopted, 20);
  reached(sum.shared, 50);
  reached(sum.found, 2);
  reached(sum.evicted, 500);
  reached(sum.stats.cache.moved_blocks, 100);
  reached(sum.stats.cache.moved_snapshots, 100);
  reached(sum.stats.cached_tokens, 10);
  reached(sum.stats.replayed_tokens, 10);
  reached(sum.stats.preemptions, 200);
  reached(sum.stats.cache.evicted_blocks, 10);
  reached(sum.stats.cache.evicted_snapshots, 10);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomStreams, testing::Values(1, 2, 3, 4));

TEST(SchedulerModel, FoundCasesAndSeedsHold) {
  int n = 0;
  const std::filesystem::path folder = HEDDLE_SOURCE_DIR "/tests/fuzz/corpus/scheduler";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const Outcome o = replay(decode(bytes_of(entry.path())));
    EXPECT_EQ(o.rule, "") << entry.path() << ": " << o.seen;
    ++n;
  }
  EXPECT_GE(n, 8);
}

TEST(SchedulerModel, StreamsAreTheirBytes) {
  std::mt19937 rng(7);
  const OpStream stream = random_stream(rng, 50);
  const std::vector<std::uint8_t> bytes = encode(stream);
  EXPECT_EQ(bytes.size(), kHeaderBytes + 50 * kOpBytes);
  EXPECT_EQ(encode(decode(bytes)), bytes);
  const std::vector<std::uint8_t> cut(bytes.begin(), bytes.end() - 3);
  EXPECT_EQ(decode(cut).ops.size(), 50U);
  EXPECT_EQ(decode({}).ops.size(), 0U);
}

/// The 7th copy of a block or state goes wrong: it is seen, and little is needed to show it.
TEST(SchedulerModel, AFailingStreamIsShrunk) {
  std::mt19937 rng(11);
  int shown = 0;
  for (int n = 0; shown < 5; ++n) {
    ASSERT_LT(n, 200);
    const OpStream stream = random_stream(rng, 200);
    const Outcome broken = replay(stream, 7);
    if (broken.rule.empty()) continue;  // fewer copies, or nobody read it
    ASSERT_TRUE(broken.rule.starts_with("content")) << broken.seen;
    const auto fails = [&](const OpStream& s) { return replay(s, 7).rule == broken.rule; };
    const OpStream small = shrink(stream, fails);
    EXPECT_TRUE(fails(small));
    EXPECT_LE(small.ops.size(), 12U) << describe(small);
    for (std::size_t i = 0; i < small.ops.size(); ++i) {
      OpStream without = small;
      without.ops.erase(without.ops.begin() + static_cast<std::ptrdiff_t>(i));
      EXPECT_FALSE(fails(without)) << "operation " << i << " is not needed\n" << describe(small);
    }
    ++shown;
  }
}

}  // namespace
}  // namespace heddle::test
