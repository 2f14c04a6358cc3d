// The arrays of a step, and the tables of rings: page state slot * ring + block mod ring.

#include "engine/batch_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace heddle {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

std::vector<std::int32_t> values(const TensorView& view) {
  const auto* const begin = view.as<const std::int32_t>();
  return {begin, begin + view.elements()};
}

class BatchBuilderTest : public testing::Test {
 protected:
  const ForwardBatch& fill(std::vector<std::int64_t> rings, std::int64_t max_blocks = 8) {
    builder_ = std::make_unique<BatchBuilder>(BatchCapacity{.max_tokens = 64,
                                                            .max_sequences = 3,
                                                            .max_outputs = 64,
                                                            .max_blocks = max_blocks,
                                                            .block_tokens = 16,
                                                            .rings = std::move(rings)},
                                              *backend_);
    return builder_->fill(plan_);
  }

  /// Tokens [start, start + n) of a sequence with blocks 100, 101, ...
  void add(std::int64_t start, std::int64_t n, BlockId state_slot, std::int64_t n_outputs = 0) {
    auto& tokens = tokens_.emplace_back(static_cast<std::size_t>(n), 7);
    auto& blocks = blocks_.emplace_back();
    while (std::ssize(blocks) * 16 < start + n) {
      blocks.push_back(static_cast<BlockId>(100 + blocks.size()));
    }
    BatchPlan::Item item;
    item.sequence = std::ssize(tokens_);
    item.start = start;
    item.tokens = tokens;
    item.block_table = blocks;
    item.state_slot = state_slot;
    item.n_outputs = n_outputs;
    plan_.items.push_back(item);
    plan_.n_tokens += n;
    plan_.n_outputs += n_outputs;
  }

  /// Block b's entry in the table of sequence s.
  static std::int32_t entry(const PageIds& pages, std::int64_t s, std::int64_t b) {
    return values(pages.block_tables)[static_cast<std::size_t>(s * pages.block_tables.dim(1) + b)];
  }

  std::unique_ptr<Backend> backend_ = make_backend({.threads = 1});
  std::unique_ptr<BatchBuilder> builder_;
  std::vector<std::vector<Token>> tokens_;
  std::vector<std::vector<BlockId>> blocks_;
  BatchPlan plan_;
};

TEST_F(BatchBuilderTest, RowsOfItemsLieOneAfterTheOther) {
  tokens_.reserve(2);
  blocks_.reserve(2);
  add(14, 4, -1, 1);
  add(3, 1, -1, 1);
  const ForwardBatch& batch = fill({});
  EXPECT_THAT(values(batch.positions), ElementsAre(14, 15, 16, 17, 3));
  EXPECT_THAT(values(batch.sequence), ElementsAre(0, 0, 0, 0, 1));
  EXPECT_THAT(values(batch.pool.slots), ElementsAre(1614, 1615, 1616, 1617, 1603));
  EXPECT_THAT(values(batch.output_rows), ElementsAre(3, 4));
  EXPECT_THAT(values(batch.state_slots), ElementsAre(-1, -1));
  EXPECT_EQ(entry(batch.pool, 0, 1), 101);
  EXPECT_EQ(entry(batch.pool, 1, 0), 100);
  EXPECT_TRUE(batch.rings.empty());
  EXPECT_EQ(&batch.pages(-1), &batch.pool);
}

TEST_F(BatchBuilderTest, RingsAreCountedFromTheStateSlot) {
  tokens_.reserve(2);
  blocks_.reserve(2);
  add(30, 4, 2);   // blocks 1 and 2
  add(111, 2, 0);  // blocks 6 and 7
  const ForwardBatch& batch = fill({3, 5});
  const PageIds& three = batch.pages(0);
  EXPECT_THAT(values(three.slots),
              ElementsAre(7 * 16 + 14, 7 * 16 + 15, 8 * 16, 8 * 16 + 1, 15, 1 * 16));
  for (std::int64_t b = 0; b <= 2; ++b) EXPECT_EQ(entry(three, 0, b), 2 * 3 + b);
  for (std::int64_t b = 5; b <= 7; ++b) EXPECT_EQ(entry(three, 1, b), b % 3);
  const PageIds& five = batch.pages(1);
  for (std::int64_t b = 0; b <= 2; ++b) EXPECT_EQ(entry(five, 0, b), 2 * 5 + b);
  for (std::int64_t b = 3; b <= 7; ++b) EXPECT_EQ(entry(five, 1, b), b % 5);
  EXPECT_EQ(entry(batch.pool, 1, 7), 107) << "the pool's is not touched by it";
}

TEST_F(BatchBuilderTest, NoTwoBlocksThatAreReadShareAPage) {
  for (std::int64_t end = 1; end <= 128; ++end) {
    tokens_.clear();
    blocks_.clear();
    plan_ = {};
    add(end - 1, 1, 1);
    const ForwardBatch& batch = fill({4});
    std::vector<std::int32_t> pages;
    const std::int64_t last = (end - 1) / 16;
    for (std::int64_t b = std::max<std::int64_t>(0, last - 3); b <= last; ++b) {
      pages.push_back(entry(batch.pages(0), 0, b));
      EXPECT_GE(pages.back(), 4);
      EXPECT_LT(pages.back(), 8);
    }
    std::sort(pages.begin(), pages.end());
    EXPECT_EQ(std::unique(pages.begin(), pages.end()), pages.end()) << end;
  }
}

TEST_F(BatchBuilderTest, AChunkThatARingCannotHoldIsRefused) {
  add(0, 33, 0);
  EXPECT_THROW(fill({2}), Error);
  EXPECT_NO_THROW(fill({3}));
}

TEST_F(BatchBuilderTest, ARingNeedsAStateSlot) {
  add(0, 3, -1);
  EXPECT_NO_THROW(fill({}));
  EXPECT_THROW(fill({3}), Error);
}

}  // namespace
}  // namespace heddle
