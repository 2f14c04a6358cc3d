// The producers of key blocks on the CPU: fixed patterns against their predicate.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/kernels/attention_support.h"

namespace heddle {
namespace {

using List = std::vector<std::int32_t>;

PatternBlocksArgs pattern_of(BlockPattern pattern,
                             std::int64_t block,
                             std::int64_t step,
                             std::int64_t local) {
  PatternBlocksArgs args;
  args.pattern = pattern;
  args.step = step;
  args.local = local;
  args.blocks.block = block;
  return args;
}

/// The lists of the positions, with room for those below n_positions.
std::vector<List> run(const std::string& variant,
                      PatternBlocksArgs args,
                      const std::vector<std::int32_t>& positions,
                      std::int64_t n_positions) {
  const auto n = static_cast<std::int64_t>(positions.size());
  const std::int64_t capacity = pattern_blocks_capacity(args, n_positions);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(n * capacity), -9);
  std::vector<std::int32_t> counts(positions.size(), -9);
  args.positions = TensorView(positions.data(), DType::kI32, {n});
  args.blocks.ids = TensorView(ids.data(), DType::kI32, {n, 1, capacity});
  args.blocks.counts = TensorView(counts.data(), DType::kI32, {n, 1});
  test::run_variant(cpu::pattern_blocks_table(), variant, args);
  std::vector<List> lists;
  for (std::int64_t t = 0; t < n; ++t) {
    const auto first = ids.begin() + t * capacity;
    lists.emplace_back(first, first + counts[static_cast<std::size_t>(t)]);
  }
  return lists;
}

bool visible(const PatternBlocksArgs& args, std::int64_t t, std::int64_t s) {
  const std::int64_t d = t / args.blocks.block - s / args.blocks.block;
  if (d < 0) return false;
  if (args.pattern == BlockPattern::kNeighbourhood) {
    // leader: the last query of t's stride group; all of the group see the window before it
    const std::int64_t stride = args.blocks.block;
    const std::int64_t leader = t / stride * stride + stride - 1;
    return s >= std::max<std::int64_t>(leader - args.local * stride + 1, 0) &&
           s / stride * stride <= t;
  }
  if (d == 0 || s < args.blocks.block) return true;
  switch (args.pattern) {
    case BlockPattern::kStrided:
      return d < 4 || d % args.step == 0;
    case BlockPattern::kDilated:
      return d % args.step == 0 && d < 16 * args.step;
    case BlockPattern::kPower:
      for (std::int64_t power = 1; power <= d; power *= 2) {
        if (d == power) return true;
      }
      return d < args.local;
    case BlockPattern::kNeighbourhood:
      break;
  }
  return false;
}

const PatternBlocksArgs kPatterns[] = {
    pattern_of(BlockPattern::kStrided, 16, 1, 0),
    pattern_of(BlockPattern::kStrided, 16, 3, 0),
    pattern_of(BlockPattern::kStrided, 32, 8, 0),
    pattern_of(BlockPattern::kDilated, 16, 1, 0),
    pattern_of(BlockPattern::kDilated, 16, 2, 0),
    pattern_of(BlockPattern::kDilated, 48, 5, 0),
    pattern_of(BlockPattern::kPower, 16, 0, 1),
    pattern_of(BlockPattern::kPower, 16, 0, 5),
    pattern_of(BlockPattern::kPower, 64, 0, 3),
    pattern_of(BlockPattern::kPower, 16, 0, 8),
    pattern_of(BlockPattern::kPower, 16, 0, 1000),
    pattern_of(BlockPattern::kNeighbourhood, 16, 0, 1),
    pattern_of(BlockPattern::kNeighbourhood, 16, 0, 3),
    pattern_of(BlockPattern::kNeighbourhood, 64, 0, 2),
};

class PatternBlocks : public testing::TestWithParam<std::string> {};

TEST_P(PatternBlocks, AreThoseOfAMaskAtEveryPosition) {
  constexpr std::int32_t kPositions = 1500;
  std::vector<std::int32_t> positions;
  for (std::int32_t p = 0; p < kPositions; ++p) positions.push_back(p);
  for (const PatternBlocksArgs& args : kPatterns) {
    const std::vector<List> lists = run(GetParam(), args, positions, kPositions);
    std::size_t longest = 0;
    for (std::int32_t p = 0; p < kPositions; ++p) {
      List expected;
      for (std::int32_t s = 0; s <= p; s += static_cast<std::int32_t>(args.blocks.block)) {
        if (visible(args, p, s)) {
          expected.push_back(static_cast<std::int32_t>(s / args.blocks.block));
        }
      }
      ASSERT_EQ(lists[static_cast<std::size_t>(p)], expected)
          << "pattern " << static_cast<int>(args.pattern) << " block " << args.blocks.block
          << " step " << args.step << " local " << args.local << " position " << p;
      longest = std::max(longest, expected.size());
    }
    EXPECT_EQ(pattern_blocks_capacity(args, kPositions), longest);
  }
}

// 2503.03588: block 256, five local blocks, powers of two, the first block.
TEST_P(PatternBlocks, PowerAttentionSeesTenBlocksAt32K) {
  const PatternBlocksArgs args = pattern_of(BlockPattern::kPower, 256, 0, 5);
  EXPECT_EQ(pattern_blocks_capacity(args, 32768), 10);
  EXPECT_EQ(pattern_blocks_capacity(args, 131072), 12);
  const std::vector<List> lists =
      run(GetParam(), args, {0, 255, 256, 1535, 1536, 2047, 2048, 32767}, 32768);
  EXPECT_EQ(lists[0], List({0}));
  EXPECT_EQ(lists[1], List({0}));
  EXPECT_EQ(lists[2], List({0, 1}));
  EXPECT_EQ(lists[3], List({0, 1, 2, 3, 4, 5}));  // still all
  EXPECT_EQ(lists[4], List({0, 2, 3, 4, 5, 6}));  // distance 5 is the first hole
  EXPECT_EQ(lists[5], List({0, 3, 4, 5, 6, 7}));
  EXPECT_EQ(lists[6], List({0, 4, 5, 6, 7, 8}));  // block 0 at distance 8
  EXPECT_EQ(lists[7], List({0, 63, 95, 111, 119, 123, 124, 125, 126, 127}));
}

TEST_P(PatternBlocks, NoRowsIsNoWork) {
  EXPECT_TRUE(run(GetParam(), kPatterns[0], {}, 100).empty());
}

TEST_P(PatternBlocks, RefusesSizesThatAreNone) {
  EXPECT_THROW(run(GetParam(), pattern_of(BlockPattern::kPower, 24, 0, 5), {0}, 10), Error);
  EXPECT_THROW(run(GetParam(), pattern_of(BlockPattern::kPower, 0, 0, 5), {0}, 10), Error);
  EXPECT_THROW(run(GetParam(), pattern_of(BlockPattern::kPower, 16, 0, 0), {0}, 10), Error);
  EXPECT_THROW(run(GetParam(), pattern_of(BlockPattern::kStrided, 16, 0, 5), {0}, 10), Error);
  EXPECT_THROW(run(GetParam(), kPatterns[7], {-1}, 10), Error);
  EXPECT_THROW(run(GetParam(), kPatterns[7], {500}, 100), Error);  // no room
}

INSTANTIATE_TEST_SUITE_P(Variants,
                         PatternBlocks,
                         testing::Values(std::string("portable"), std::string("ref")),
                         test::variant_name);

}  // namespace
}  // namespace heddle
