#include "scheduler/block_pool.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"

namespace heddle {
namespace {

TEST(BlockPool, HandsOutEveryBlockOnceThenNone) {
  BlockPool pool(5);
  std::set<BlockId> seen;
  for (int i = 0; i < 5; ++i) seen.insert(pool.allocate().value());
  EXPECT_EQ(seen, (std::set<BlockId>{0, 1, 2, 3, 4}));
  EXPECT_FALSE(pool.allocate().has_value());
  pool.check();
}

TEST(BlockPool, SharedBlockIsFreeOnlyAfterItsLastOwner) {
  BlockPool pool(1);
  const BlockId block = pool.allocate().value();
  pool.share(block);
  pool.release(block);
  EXPECT_EQ(pool.n_free(), 0);
  EXPECT_FALSE(pool.allocate().has_value());
  pool.release(block);
  EXPECT_EQ(pool.n_free(), 1);
  pool.check();
}

TEST(BlockPool, ReleasingAFreeBlockIsAnError) {
  BlockPool pool(2);
  const BlockId block = pool.allocate().value();
  pool.release(block);
  EXPECT_THROW(pool.release(block), Error);
  EXPECT_THROW(pool.share(block), Error);
  EXPECT_THROW(pool.release(7), Error);
}

TEST(BlockPool, SeedShufflesTheOrderButLosesNoBlock) {
  BlockPool plain(64);
  BlockPool shuffled(64, 5);
  std::set<BlockId> seen;
  int moved = 0;
  for (int i = 0; i < 64; ++i) {
    const BlockId block = shuffled.allocate().value();
    moved += block != plain.allocate().value() ? 1 : 0;
    seen.insert(block);
  }
  EXPECT_EQ(seen.size(), 64U);
  EXPECT_GT(moved, 32);
}

}  // namespace
}  // namespace heddle
