#include "scheduler/prefix_cache.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace heddle {
namespace {

using Tokens = std::vector<Token>;
constexpr int kBlock = 4;

Tokens counting(Token first, std::int64_t n) {
  Tokens tokens;
  for (std::int64_t i = 0; i < n; ++i) tokens.push_back(first + static_cast<Token>(i));
  return tokens;
}

Tokens joined(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// A cache over its pools, and what a sequence does with it.
struct Fixture {
  explicit Fixture(bool states = false, int n_blocks = 64, int n_states = 16)
      : blocks(n_blocks),
        slots(n_states),
        cache({.block_tokens = kBlock, .states = states, .state_block_tokens = 2, .key = {1, 2}},
              blocks,
              slots) {}

  /// A sequence that computed `tokens` and ended; snapshots at `positions`.
  void store(const Tokens& tokens,
             const std::vector<std::int64_t>& positions = {},
             std::string_view scope = "") {
    PrefixNode node = cache.root(scope);
    for (std::size_t begin = 0; begin < tokens.size(); begin += kBlock) {
      const std::size_t n = std::min<std::size_t>(kBlock, tokens.size() - begin);
      std::optional<BlockId> block;
      while (!(block = blocks.allocate())) ASSERT_TRUE(cache.evict_block());
      node = cache.insert(node, std::span(tokens).subspan(begin, n), *block);
      held.push_back(*block);
      for (const std::int64_t p : positions) {
        const auto position = static_cast<std::size_t>(p);
        if (position <= begin || position > begin + n) continue;
        std::optional<BlockId> slot;
        while (!(slot = slots.allocate())) ASSERT_TRUE(cache.evict_snapshot());
        if (!cache.add_snapshot(node, p, *slot)) slots.release(*slot);
      }
    }
    for (const BlockId block : held) {
      blocks.release(block);
      cache.released(block);
    }
    held.clear();
    cache.check();
  }
  Reuse reuse(const Tokens& tokens, std::string_view scope = "") {
    return cache.match(scope, tokens).reuse;
  }

  BlockPool blocks, slots;
  PrefixCache cache;
  std::vector<BlockId> held;
};

void expect(const Reuse& got, std::int64_t cached, std::int64_t known, ReuseMiss miss) {
  EXPECT_EQ(got.n_cached, cached);
  EXPECT_EQ(got.n_known, known);
  EXPECT_EQ(name(got.miss), name(miss));
}

TEST(PrefixCache, EmptyOneKnowsNothing) {
  Fixture f;
  expect(f.reuse(counting(1, 9)), 0, 0, ReuseMiss::kNoPrefix);
  expect(f.reuse(counting(1, 9), "salt"), 0, 0, ReuseMiss::kScope);
  expect(f.reuse({7}), 0, 0, ReuseMiss::kTooShort);
}

TEST(PrefixCache, ReusesAllButTheLastTokenOfWhatIsThere) {
  Fixture f;
  f.store(counting(1, 11));
  expect(f.reuse(counting(1, 11)), 10, 11, ReuseMiss::kNone);
  expect(f.reuse(counting(1, 8)), 7, 8, ReuseMiss::kNone);
  expect(f.reuse(counting(1, 3)), 2, 3, ReuseMiss::kNone);
  expect(f.reuse(counting(1, 20)), 11, 11, ReuseMiss::kDiverged);
}

TEST(PrefixCache, DivergesAtAnExactToken) {
  Fixture f;
  f.store(counting(1, 11));
  for (std::int64_t at = 1; at < 11; ++at) {
    const Tokens prompt = joined(counting(1, at), counting(100, 6));
    expect(f.reuse(prompt), at, at, ReuseMiss::kDiverged);
    const PrefixCache::Match match = f.cache.match("", prompt);
    EXPECT_EQ(match.path.size(), static_cast<std::size_t>(at / kBlock));
    EXPECT_EQ(match.partial.id >= 0, at % kBlock != 0);
  }
}

TEST(PrefixCache, TheBlockToCopyHoldsTheTokens) {
  Fixture f;
  f.store(counting(1, 6));
  f.store(joined(counting(1, 4), counting(50, 3)));
  const PrefixCache::Match first = f.cache.match("", joined(counting(1, 6), {9}));
  const PrefixCache::Match second =
      f.cache.match("", joined(joined(counting(1, 4), {50, 51}), {9}));
  EXPECT_EQ(first.path, second.path);
  EXPECT_NE(first.partial, second.partial);
}

TEST(PrefixCache, ScopesSeeNothingOfEachOther) {
  Fixture f;
  f.store(counting(1, 11), {}, "a");
  expect(f.reuse(counting(1, 11), "b"), 0, 0, ReuseMiss::kScope);
  expect(f.reuse(counting(1, 11)), 0, 0, ReuseMiss::kNoPrefix);
  expect(f.reuse(counting(1, 11), "a"), 10, 11, ReuseMiss::kNone);
}

TEST(PrefixCache, EqualBlocksAreKeptOnce) {
  Fixture f;
  f.store(counting(1, 8));
  f.store(joined(counting(1, 8), counting(30, 4)));
  EXPECT_EQ(f.cache.stats().blocks, 3);
  EXPECT_EQ(f.blocks.n_free(), 64 - 3);
}

TEST(PrefixCache, AnEndIsAbsorbedByWhatGoesOnFromIt) {
  Fixture f(true);
  f.store(counting(1, 6), {6});
  EXPECT_EQ(f.cache.stats().blocks, 2);
  f.store(counting(1, 12), {12});
  EXPECT_EQ(f.cache.stats().blocks, 3);
  EXPECT_EQ(f.cache.stats().snapshots, 2);
  expect(f.reuse(joined(counting(1, 6), {99, 98})), 6, 6, ReuseMiss::kDiverged);
  f.store(counting(1, 5));  // known already
  EXPECT_EQ(f.cache.stats().blocks, 3);
}

TEST(PrefixCache, StatesAreReusedFromTheLastSnapshotThatServes) {
  Fixture f(true);
  f.store(counting(1, 20), {7, 16});
  expect(f.reuse(counting(1, 30)), 16, 20, ReuseMiss::kNoSnapshot);
  expect(f.reuse(joined(counting(1, 16), {99, 98})), 16, 16, ReuseMiss::kDiverged);
  // A state of 16 tokens cannot go back to 15: block of 2. One of 7 can go back to 6.
  expect(f.reuse(joined(counting(1, 15), {99, 98})), 7, 15, ReuseMiss::kNoSnapshot);
  expect(f.reuse(joined(counting(1, 6), {99, 98})), 6, 6, ReuseMiss::kDiverged);
  expect(f.reuse(joined(counting(1, 5), {99, 98})), 0, 5, ReuseMiss::kNoSnapshot);
  expect(f.reuse(counting(1, 8)), 7, 8, ReuseMiss::kNone);
}

TEST(PrefixCache, AStateAtABlocksBeginServesWhatDivergesThere) {
  Fixture f(true);
  f.store(counting(1, 9), {9});  // the state at 8 and one more token
  expect(f.reuse(joined(counting(1, 8), {99, 98})), 8, 8, ReuseMiss::kDiverged);
}

TEST(PrefixCache, EvictsWhatWasNotUsedForLong) {
  Fixture f(false, 4);
  f.store(counting(1, 8));
  f.store(counting(100, 8));
  f.reuse(counting(1, 8));
  f.store(counting(200, 4));
  expect(f.reuse(counting(1, 8)), 7, 8, ReuseMiss::kNone);
  expect(f.reuse(counting(100, 8)), 4, 4, ReuseMiss::kEvicted);
  EXPECT_EQ(f.cache.stats().evicted_blocks, 1);
}

TEST(PrefixCache, NeverEvictsWhatASequenceUses) {
  Fixture f(false, 2);
  f.store(counting(1, 4));
  const PrefixCache::Match match = f.cache.match("", counting(1, 9));
  f.blocks.share(f.cache.place(match.path[0]).id);
  const BlockId used = f.cache.place(match.path[0]).id;
  EXPECT_FALSE(f.cache.evict_block());
  f.cache.check();
  f.blocks.release(used);
  f.cache.released(used);
  EXPECT_TRUE(f.cache.evict_block());
  EXPECT_EQ(f.blocks.n_free(), 2);
}

TEST(PrefixCache, ASnapshotGoesWithItsBlock) {
  Fixture f(true);
  f.store(counting(1, 8), {8});
  EXPECT_EQ(f.slots.n_free(), 15);
  EXPECT_TRUE(f.cache.evict_block());
  EXPECT_EQ(f.slots.n_free(), 16);
  f.cache.check();
}

TEST(PrefixCache, EvictsTheSnapshotThatSavesLeast) {
  Fixture f(true, 64, 3);
  f.store(counting(1, 40), {16, 18, 40});
  f.store(counting(100, 8), {8});  // 18 saves 2 tokens beside 16
  EXPECT_EQ(f.cache.stats().evicted_snapshots, 1);
  expect(f.reuse(joined(counting(1, 19), {99})), 16, 19, ReuseMiss::kEvicted);
  expect(f.reuse(counting(1, 42)), 40, 40, ReuseMiss::kDiverged);
  expect(f.reuse(counting(100, 10)), 8, 8, ReuseMiss::kDiverged);
}

TEST(PrefixCache, WhatWasEvictedIsToldOfPartOfABlockAndOfAWholeScope) {
  Fixture f(false, 2);
  f.store(counting(1, 3), {}, "a");  // shorter than a block
  f.store(counting(50, 8));          // and nothing of that scope is left
  expect(f.reuse(counting(1, 3), "a"), 0, 0, ReuseMiss::kEvicted);
  expect(f.reuse(joined(counting(1, 2), {99, 98}), "a"), 0, 0, ReuseMiss::kEvicted);
  expect(f.reuse({99, 98}, "a"), 0, 0, ReuseMiss::kScope);
  expect(f.reuse(counting(1, 3), "b"), 0, 0, ReuseMiss::kScope);
  expect(f.reuse(counting(1, 3)), 0, 0, ReuseMiss::kNoPrefix);
  f.store(counting(70, 6));  // now 50 .. 57 has gone, and 74, 75 goes behind it
  f.store(counting(90, 3));
  expect(f.reuse(counting(50, 3)), 0, 0, ReuseMiss::kEvicted);
  expect(f.reuse(joined(counting(70, 5), {99, 98})), 4, 4, ReuseMiss::kEvicted);
  expect(f.reuse(joined(counting(70, 4), {99, 98})), 4, 4, ReuseMiss::kDiverged);
}

TEST(PrefixCache, WhatIsThereAgainWasNotEvicted) {
  Fixture f(false, 2);
  f.store(counting(1, 6));
  f.store(counting(50, 8));
  f.store(counting(1, 6));
  expect(f.reuse(counting(1, 9)), 6, 6, ReuseMiss::kDiverged);
  f.cache.clear();
  expect(f.reuse(counting(1, 9)), 0, 0, ReuseMiss::kNoPrefix);
}

TEST(PrefixCache, AnEvictedStateIsToldToThoseThatItWouldServe) {
  Fixture f(true, 64, 2);
  f.store(counting(1, 40), {17, 40});
  f.store(counting(100, 40), {39});  // 17 saves the fewest
  EXPECT_EQ(f.cache.stats().evicted_snapshots, 1);
  expect(f.reuse(joined(counting(1, 18), {99, 98})), 0, 18, ReuseMiss::kEvicted);
  expect(f.reuse(joined(counting(1, 16), {99, 98})), 0, 16, ReuseMiss::kEvicted);
  expect(f.reuse(joined(counting(1, 15), {99, 98})), 0, 15, ReuseMiss::kNoSnapshot);
  expect(f.reuse(joined(counting(100, 30), {9})), 0, 30, ReuseMiss::kNoSnapshot);
}

TEST(LostPrefixes, RemembersTheLastOfThem) {
  LostPrefixes lost(10 * LostPrefixes::bytes_of(4));
  const Hash128 before{1, 2};
  for (Token i = 0; i < 12; ++i) lost.add(before, LostPrefixes::kBlock, counting(100 * i, 4));
  lost.add(before, LostPrefixes::kBlock, counting(1100, 4));  // it knows that one
  EXPECT_EQ(lost.size(), 10U);
  const auto common = [&](const Tokens& tokens, std::int64_t group = LostPrefixes::kBlock) {
    return lost.common(before, group, tokens);
  };
  EXPECT_EQ(common(counting(100, 4)), 0);
  EXPECT_EQ(common(counting(200, 4)), 4);
  EXPECT_EQ(common(joined(counting(1100, 2), {7, 8})), 2);
  EXPECT_EQ(common(counting(1100, 9)), 4);
  EXPECT_EQ(common(counting(200, 4), 3), -1);
  EXPECT_EQ(lost.common({2, 1}, LostPrefixes::kBlock, counting(200, 4)), -1);
  lost.clear();
  EXPECT_EQ(common(counting(200, 4)), -1);
}

TEST(PrefixCache, ABlockWithTheOnlyStateOfALongTextIsWorthMoreThanOthers) {
  Fixture f(true, 20);
  for (Token i = 0; i < 9; ++i) f.store(counting(1000 * i, 4));
  f.store(counting(1, 42), {42});  // evicts none: 9 + 11 blocks
  EXPECT_EQ(f.cache.stats().evicted_blocks, 0);
  f.store(counting(20000, 12));
  EXPECT_EQ(f.cache.stats().evicted_blocks, 3);
  expect(f.reuse(counting(1, 50)), 42, 42, ReuseMiss::kDiverged);
}

/// One that was there before and is behind it saves that much less, as the next use of it shows.
TEST(PrefixCache, AStateInTheMiddleOfATextTakesOverWhatTheNextOneSaved) {
  for (const auto& [n, middle] : {std::pair(40, 36), std::pair(5000, 3000)}) {
    Fixture f(true, 4000);
    f.store(counting(1, n), {4, n});
    f.store(counting(1, middle), {middle});
    expect(f.reuse(counting(1, n + 1)), n, n, ReuseMiss::kNone);
    f.cache.check();
    ASSERT_TRUE(f.cache.evict_snapshot());  // the one at 4
    ASSERT_TRUE(f.cache.evict_snapshot());  // the last: it saves n - middle, the other one more
    expect(f.reuse(counting(1, n + 1)), middle, n, ReuseMiss::kEvicted);
  }
}

TEST(PrefixCache, ClearGivesEverythingBack) {
  Fixture f(true);
  f.store(counting(1, 20), {7, 16}, "a");
  f.store(counting(1, 20), {20});
  f.cache.clear();
  f.cache.check();
  EXPECT_EQ(f.blocks.n_free(), 64);
  EXPECT_EQ(f.slots.n_free(), 16);
  expect(f.reuse(counting(1, 9), "a"), 0, 0, ReuseMiss::kScope);
}

/// What the cache promises, from a list of all that was stored: nothing was evicted.
Reuse expected(const std::vector<std::pair<Tokens, std::vector<std::int64_t>>>& stored,
               const Tokens& prompt,
               bool states) {
  Reuse best;
  const auto most = static_cast<std::int64_t>(prompt.size()) - 1;
  for (const auto& [tokens, positions] : stored) {
    const auto n = static_cast<std::int64_t>(
        std::mismatch(tokens.begin(), tokens.end(), prompt.begin(), prompt.end()).first -
        tokens.begin());
    best.n_known = std::max(best.n_known, n);
    if (!states) best.n_cached = std::max(best.n_cached, std::min(n, most));
    for (const std::int64_t p : positions) {
      const std::int64_t served = std::min({p, n, most});
      if (served >= p / 2 * 2) best.n_cached = std::max(best.n_cached, served);
    }
  }
  return best;
}

TEST(PrefixCache, FindsWhatAListOfAllTextsWouldFind) {
  for (const bool states : {false, true}) {
    for (std::uint32_t seed = 0; seed < 300; ++seed) {
      std::mt19937 random(seed);
      const auto draw = [&](int n) {
        return static_cast<int>(random() % static_cast<unsigned>(n));
      };
      Fixture f(states, 400, 200);
      std::vector<std::pair<Tokens, std::vector<std::int64_t>>> stored;
      for (int step = 0; step < 24; ++step) {
        Tokens tokens;
        if (!stored.empty() && draw(4) > 0) {
          tokens = stored[static_cast<std::size_t>(draw(static_cast<int>(stored.size())))].first;
          tokens.resize(static_cast<std::size_t>(1 + draw(static_cast<int>(tokens.size()))));
        }
        for (int n = 2 + draw(12); n > 0; --n) tokens.push_back(draw(2));
        const Reuse got = f.reuse(tokens);
        const Reuse want = expected(stored, tokens, states);
        ASSERT_EQ(got.n_cached, want.n_cached) << "seed " << seed << " step " << step;
        ASSERT_EQ(got.n_known, want.n_known) << "seed " << seed << " step " << step;
        if (draw(2) == 0) continue;
        std::vector<std::int64_t> positions;
        for (int n = draw(3); states && n > 0; --n) {
          positions.push_back(1 + draw(static_cast<int>(tokens.size())));
        }
        f.store(tokens, positions);
        stored.emplace_back(tokens, positions);
      }
    }
  }
}

}  // namespace
}  // namespace heddle
