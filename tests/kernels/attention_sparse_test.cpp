// Paged attention on the CPU with sinks, first keys and block lists: hand-computed cases, every
// variant against dense attention under a boolean mask, and memory that must not be read.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/kernels/attention_sparse_support.h"

namespace heddle {
namespace {

using test::attend;
using test::block_lists;
using test::Cache;
using test::coin;
using test::masked;
using test::Reach;
using test::reaches;
using test::Rows;
using test::rows_of;
using test::same_bits;
using test::Shape;
using test::some_sinks;

constexpr float kInf = std::numeric_limits<float>::infinity();

class AttentionSparse : public test::AttentionOf {
 protected:
  void expect_masked(const Cache& cache, const Rows& rows, const Reach& reach) const {
    const std::int64_t n_keys = *std::max_element(rows.position.begin(), rows.position.end()) + 1;
    EXPECT_TRUE(test::within(attend(GetParam(), cache, rows, 2, std::nullopt, reach),
                             masked(cache, rows, reach),
                             test::bound_for(cache.shape(), n_keys) + test::cap_error(reach)))
        << "window " << reach.window << " first keys " << reach.first_keys << " block "
        << reach.blocks.block << " cap " << reach.soft_cap;
  }
};

// p = exp(x) / (exp(x) + exp(sink)).
TEST_P(AttentionSparse, ASinkTakesItsShareOfOneKey) {
  const Shape shape = {2, 1, 16, 16, DType::kF32};
  Cache cache(shape, {1});
  for (int d = 0; d < 16; ++d) {
    cache.set_k(0, 0, 0, d, d == 0 ? 1.0F : 0.0F);
    cache.set_v(0, 0, 0, d, 1.0F);
  }
  Rows rows = rows_of(shape, 0, 0, 1);
  rows.q[0] = 0.5F;
  rows.q[16] = -3.0F;
  Reach reach;
  reach.sinks = {2.0F, -1.5F};
  const std::vector<float> out = attend(GetParam(), cache, rows, 2, 2.0F, reach);
  EXPECT_NEAR(out[3], std::exp(1.0) / (std::exp(1.0) + std::exp(2.0)), 1e-6);
  EXPECT_NEAR(out[19], std::exp(-6.0) / (std::exp(-6.0) + std::exp(-1.5)), 1e-7);
}

TEST_P(AttentionSparse, SinksOfMinusInfinityAreNone) {
  const Shape shape = {6, 2, 32, 16, DType::kF16};
  const Cache cache(shape, {200});
  const Rows rows = rows_of(shape, 0, 90, 200);
  Reach reach;
  reach.sinks.assign(6, -kInf);
  EXPECT_TRUE(same_bits(attend(GetParam(), cache, rows, 2, std::nullopt, reach),
                        attend(GetParam(), cache, rows)));
}

// A sink far above all scores leaves next to nothing; one with keys of -inf leaves zeros.
TEST_P(AttentionSparse, ASinkMayBeTheLargestOrTheOnlyScore) {
  const Shape shape = {1, 1, 16, 16, DType::kF32};
  Cache cache(shape, {70});
  const Rows rows = rows_of(shape, 0, 69, 70);
  Reach reach;
  reach.sinks = {200.0F};
  for (const float f : attend(GetParam(), cache, rows, 2, std::nullopt, reach)) EXPECT_EQ(f, 0);
  for (int s = 0; s < 70; ++s) cache.set_k(0, s, 0, 0, rows.q[0] > 0 ? -kInf : kInf);
  reach.sinks = {1.0F};
  for (const float f : attend(GetParam(), cache, rows, 2, std::nullopt, reach)) EXPECT_EQ(f, 0);
}

// Equal scores: each result is the mean of the positions seen.
TEST_P(AttentionSparse, FirstKeysStayInSightOfAWindow) {
  const Shape shape = {1, 1, 16, 16, DType::kF32};
  Cache cache(shape, {300});
  for (int s = 0; s < 300; ++s) {
    for (int d = 0; d < 16; ++d) cache.set_v(0, s, 0, d, static_cast<float>(s));
  }
  Rows rows = rows_of(shape, 0, 0, 300);
  std::fill(rows.q.begin(), rows.q.end(), 0.0F);
  for (const auto& [first, window] : {std::pair{4, 10}, std::pair{1, 1}, std::pair{16, 64},
                                      std::pair{70, 100}, std::pair{130, 3}}) {
    Reach reach;
    reach.window = window;
    reach.first_keys = first;
    const std::vector<float> out = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
    for (std::int64_t p = 0; p < 300; ++p) {
      double sum = 0;
      double n = 0;
      for (std::int64_t s = 0; s <= p; ++s) {
        if (s >= first && p - s >= window) continue;
        sum += static_cast<double>(s);
        ++n;
      }
      ASSERT_NEAR(out[static_cast<std::size_t>(p * 16)], sum / n, 1e-5 * (sum / n + 1))
          << first << " " << window << " row " << p;
    }
  }
}

TEST_P(AttentionSparse, RefusesWhatIsNoList) {
  const Shape shape = {2, 2, 16, 16, DType::kF16};
  const Cache cache(shape, {100});
  const Rows rows = rows_of(shape, 0, 99, 100);
  const auto run = [&](std::int64_t block, std::vector<std::int32_t> ids, std::int32_t count,
                       std::int64_t n_lists = 1) {
    Reach reach;
    reach.blocks.block = block;
    reach.blocks.n_lists = n_lists;
    reach.blocks.capacity = static_cast<std::int64_t>(ids.size());
    for (std::int64_t l = 0; l < n_lists; ++l) {
      reach.blocks.ids.insert(reach.blocks.ids.end(), ids.begin(), ids.end());
      reach.blocks.counts.push_back(count);
    }
    attend(GetParam(), cache, rows, 2, std::nullopt, reach);
  };
  EXPECT_NO_THROW(run(32, {0, 2, 3}, 3));
  EXPECT_NO_THROW(run(32, {0, 2, 3}, 3, 2));
  EXPECT_NO_THROW(run(32, {0, 2, 3}, -1));
  EXPECT_THROW(run(32, {0, 2, 3}, 0), Error);  // empty
  EXPECT_THROW(run(32, {0, 2, 3}, 2), Error);  // without its own block
  EXPECT_THROW(run(32, {0, 2, 3}, 4), Error);  // longer than its room
  EXPECT_THROW(run(32, {0, 2, 3}, -2), Error);
  EXPECT_THROW(run(32, {2, 0, 3}, 3), Error);  // not ascending
  EXPECT_THROW(run(32, {2, 2, 3}, 3), Error);
  EXPECT_THROW(run(32, {-1, 2, 3}, 3), Error);
  EXPECT_THROW(run(32, {0, 3, 4}, 3), Error);     // beyond the row
  EXPECT_THROW(run(24, {0, 3, 4}, 3), Error);     // no multiple of 16
  EXPECT_THROW(run(32, {0, 2, 3}, 3, 3), Error);  // neither one list nor one per kv head
}

// Block lists with every other restriction, around the sizes of vector, block and tile.
TEST_P(AttentionSparse, ListsAgreeWithAMask) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Shape shape = {6, 2, 32, dtype == DType::kF32 ? 64 : 16, dtype};
    const Cache cache(shape, {300});
    for (const std::int64_t block : {16, 32, 48, 64, 80, 128, 256}) {
      for (const std::int64_t n_lists : {1, 2}) {
        Rows rows = rows_of(shape, 0, 299, 300);
        rows.add(shape, 0, 100, 160);
        Reach reach;
        reach.blocks = block_lists(rows, block, n_lists, coin);
        expect_masked(cache, rows, reach);
        reach.soft_cap = 3.0F;
        reach.sinks = some_sinks(shape.n_q);
        expect_masked(cache, rows, reach);
        reach.window = 70;
        reach.first_keys = 20;
        expect_masked(cache, rows, reach);
      }
    }
  }
}

// mechanisms-seeds D2: six tokens of four dimensions, here the first four of sixteen; token i is
// held by the n_copies positions from i * n_copies on, which changes no weighted mean.
struct Golden {
  static constexpr Shape kShape = {1, 1, 16, 16, DType::kF32};
  Cache cache{kShape, {96}};
  std::int32_t n_copies;

  explicit Golden(std::int32_t copies) : n_copies(copies) {
    for (int s = 0; s < 96; ++s) {
      for (int a = 0; a < 16; ++a) {
        const int x = 4 * (s / n_copies) + a;
        cache.set_k(0, s, 0, a, a < 4 ? static_cast<float>(std::cos(0.5 * x + 0.3)) : 0.0F);
        cache.set_v(0, s, 0, a, a < 4 ? static_cast<float>(std::sin(0.3 * x + 0.9)) : 0.0F);
      }
    }
  }
  std::vector<float> row(const std::string& variant, std::int32_t i, const Reach& reach) const {
    const std::int32_t position = (i + 1) * n_copies - 1;
    Rows rows = rows_of(kShape, 0, position, position + 1);
    for (int a = 0; a < 16; ++a) {
      rows.q[static_cast<std::size_t>(a)] = static_cast<float>(std::sin(0.7 * (4 * i + a) + 0.1));
    }
    std::vector<float> out = attend(variant, cache, rows, 2, 0.5F, reach);
    out.resize(4);
    return out;
  }
};

const std::vector<float> kSoftmaxRow2 = {0.214296F, 0.043226F, -0.131706F, -0.294872F};
const std::vector<float> kSoftmaxRow5 = {-0.032893F, 0.007667F, 0.047542F, 0.083170F};
const std::vector<float> kNeighbourhoodRow5 = {-0.570357F, -0.558474F, -0.496704F, -0.390565F};

// Generalised neighbourhood attention of 4 keys in groups of 2 queries: the first key of a group's
// last query holds for all of it, so row 5 sees keys 2 to 5 and row 2 keys 0 to 2.
TEST_P(AttentionSparse, NeighbourhoodsAreTheGoldenVectors) {
  const Golden once(1);
  EXPECT_TRUE(test::within(once.row(GetParam(), 2, {}), kSoftmaxRow2, 2e-6));
  EXPECT_TRUE(test::within(once.row(GetParam(), 5, {}), kSoftmaxRow5, 2e-6));
  Reach window;
  window.window = 3;
  EXPECT_TRUE(test::within(once.row(GetParam(), 2, window), kSoftmaxRow2, 2e-6));
  window.window = 4;
  EXPECT_TRUE(test::within(once.row(GetParam(), 5, window), kNeighbourhoodRow5, 2e-6));

  const Golden blocks(16);
  Reach listed;
  listed.blocks.block = 16;
  listed.blocks.capacity = 4;
  listed.blocks.counts = {3};
  listed.blocks.ids = {0, 1, 2, -1};
  EXPECT_TRUE(test::within(blocks.row(GetParam(), 2, listed), kSoftmaxRow2, 2e-6));
  listed.blocks.counts = {4};
  listed.blocks.ids = {2, 3, 4, 5};
  EXPECT_TRUE(test::within(blocks.row(GetParam(), 5, listed), kNeighbourhoodRow5, 2e-6));
}

INSTANTIATE_TEST_SUITE_P(Variants, AttentionSparse, test::all_variants(), test::variant_name);

class AttentionSparseFast : public AttentionSparse {};

TEST_P(AttentionSparseFast, MixedCallAgreesWithAMask) {
  const Shape shape = {6, 2, 32, 16, DType::kF16};
  const Cache cache(shape, test::kMixedLengths);
  const Rows rows = test::mixed_rows(shape);
  for (const Reach& reach : reaches(rows, shape)) expect_masked(cache, rows, reach);
}

TEST_P(AttentionSparseFast, ContextsShorterThanABlock) {
  const Shape shape = {3, 1, 16, 16, DType::kF16};
  for (const std::int32_t n : {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129}) {
    const Cache cache(shape, {n});
    const Rows rows = rows_of(shape, 0, 0, n);
    Reach reach;
    for (const std::int64_t block : {64, 128}) {
      reach.blocks = block_lists(rows, block, 1, coin);
      expect_masked(cache, rows, reach);
    }
  }
}

// Keys in groups of 16 that no row with an active head sees: NaN in their place, no cache block.
TEST_P(AttentionSparseFast, NothingThatNoRowSeesIsRead) {
  for (const bool with_mask : {false, true}) {
    for (const auto& [first, end] :
         {std::pair{499, 500}, std::pair{480, 500}, std::pair{380, 500}}) {
      const Shape shape = {4, 2, 32, 32, DType::kF16};
      Rows rows = rows_of(shape, 0, first, end);
      if (with_mask) {  // of kv head 1 all heads are off, of kv head 0 every other one
        for (std::int64_t t = 0; t < rows.n(); ++t) {
          const bool odd = t % 2 != 0;
          for (const bool on : {odd, !odd, false, false}) rows.mask.push_back(on ? 1 : 0);
        }
      }
      for (Reach reach : reaches(rows, shape)) {
        if (reach.blocks.block != 0) {  // the same list for all rows, so that something is unseen
          const auto in = [](std::int64_t, std::int64_t list, std::int64_t b) {
            return coin(0, list, b);
          };
          reach.blocks = block_lists(rows, reach.blocks.block, reach.blocks.n_lists, in);
        }
        Cache cache(shape, {500});
        const std::vector<float> clean = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
        const auto seen = [&](std::int64_t s, std::int64_t g) {
          if (with_mask && g == 1) return false;
          for (std::int64_t t = 0; t < rows.n(); ++t) {
            const std::int64_t p = rows.position[static_cast<std::size_t>(t)];
            const bool near = reach.window == 0 || p - s < reach.window || s < reach.first_keys;
            if (s <= p && near && reach.blocks.has(t, g, s)) return true;
          }
          return false;
        };
        std::int64_t n_lost = 0;
        for (std::int64_t block = 0; block < 500; block += 32) {
          bool lost = true;
          for (std::int64_t group = block; group < std::min<std::int64_t>(500, block + 32);
               group += 16) {
            for (std::int64_t g = 0; g < shape.n_kv; ++g) {
              bool unseen = true;
              for (std::int64_t s = group; s < group + 16; ++s) unseen = unseen && !seen(s, g);
              lost = lost && unseen;
              for (std::int64_t s = group; unseen && s < std::min<std::int64_t>(500, group + 16);
                   ++s) {
                for (std::int64_t d = 0; d < shape.dim; ++d) {
                  cache.set_k(0, s, g, d, std::nanf(""));
                  cache.set_v(0, s, g, d, std::nanf(""));
                }
              }
            }
          }
          if (lost) cache.lose(0, block);
          n_lost += lost ? 1 : 0;
        }
        if (reach.window != 0 || reach.blocks.n_lists == 1) {
          EXPECT_TRUE(reach.blocks.block == 0 || n_lost > 0);
        }
        ASSERT_TRUE(same_bits(attend(GetParam(), cache, rows, 2, std::nullopt, reach), clean))
            << "mask " << with_mask << " rows from " << first << " block " << reach.blocks.block
            << " window " << reach.window;
      }
    }
  }
}

// Of 32 blocks a row of PowerAttention reads 8; spoiling any of them shows, spoiling others not.
TEST_P(AttentionSparseFast, DecodeReadsTheBlocksOfItsListAndNoOthers) {
  const Shape shape = {2, 1, 16, 16, DType::kF32};
  const Rows rows = rows_of(shape, 0, 2047, 2048);
  Reach reach;
  reach.blocks = block_lists(rows, 64, 1, [](std::int64_t p, std::int64_t, std::int64_t b) {
    const std::int64_t d = p / 64 - b;
    return b == 0 || d < 5 || (d & (d - 1)) == 0;
  });
  ASSERT_EQ(reach.blocks.counts[0], 8);
  const Cache cache(shape, {2048});
  const std::vector<float> clean = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
  std::int64_t n_read = 0;
  for (std::int64_t b = 0; b < 32; ++b) {
    Cache spoiled = cache;
    spoiled.poison(0, b * 64, (b + 1) * 64);
    const std::vector<float> out = attend(GetParam(), spoiled, rows, 2, std::nullopt, reach);
    const bool read = !same_bits(out, clean);
    EXPECT_EQ(read, reach.blocks.has(0, 0, b * 64)) << b;
    n_read += read ? 1 : 0;
  }
  EXPECT_EQ(n_read, 8);
}

// No cache block exists any more, which a lookup of any would not survive.
TEST_P(AttentionSparseFast, AllHeadsMaskedReadNothing) {
  const Shape shape = {4, 2, 16, 16, DType::kF16};
  for (const std::int32_t first : {499, 300}) {
    Cache cache(shape, {500});
    for (std::int64_t s = 0; s < 500; s += shape.tokens) cache.lose(0, s);
    Rows rows = rows_of(shape, 0, first, 500);
    rows.mask.assign(static_cast<std::size_t>(rows.n() * shape.n_q), 0);
    for (const Reach& reach : reaches(rows, shape)) {
      for (const float f : attend(GetParam(), cache, rows, 2, std::nullopt, reach)) {
        ASSERT_EQ(f, 0.0F);
      }
    }
    for (const float f : attend(GetParam(), cache, rows)) ASSERT_EQ(f, 0.0F);
  }
}

TEST_P(AttentionSparseFast, MaskedHeadsWithLists) {
  const Shape shape = {6, 2, 16, 16, DType::kF16};
  const Cache cache(shape, {300});
  Rows rows = rows_of(shape, 0, 150, 300);
  for (const Reach& reach : reaches(rows, shape)) {
    rows.mask.clear();
    const std::vector<float> all = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
    test::Random random(5);
    for (std::int64_t i = 0; i < rows.n() * shape.n_q; ++i) {
      rows.mask.push_back(static_cast<std::uint8_t>(random.integer(0, 3) == 0));
    }
    const std::vector<float> some = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
    for (std::size_t i = 0; i < some.size(); ++i) {
      ASSERT_EQ(some[i], rows.mask[i / 16] != 0 ? all[i] : 0.0F) << i;
    }
  }
}

// Pieces of 24 pairs begin and end inside a group of 32 heads; those without the one head that is
// on have no tiles to list.
TEST_P(AttentionSparseFast, OneHeadOfAWideGroup) {
  for (const Shape& shape :
       {Shape{32, 1, 16, 16, DType::kF16}, Shape{25, 1, 16, 16, DType::kF16},
        Shape{96, 2, 16, 16, DType::kF16}, Shape{32, 4, 16, 16, DType::kF16}}) {
    const Cache cache(shape, {800});
    for (const std::int32_t n : {2, 3, 5, 7, 64}) {
      Rows rows = rows_of(shape, 0, 800 - n, 800);
      for (const Reach& reach : reaches(rows, shape)) {
        rows.mask.clear();
        const std::vector<float> all = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
        for (std::int64_t i = 0; i < rows.n() * shape.n_q; ++i) {
          const bool on = i % shape.n_q == i / shape.n_q * 7 % shape.n_q;
          rows.mask.push_back(static_cast<std::uint8_t>(on));
        }
        const std::vector<float> one = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
        for (std::size_t i = 0; i < one.size(); ++i) {
          ASSERT_EQ(one[i], rows.mask[i / 16] != 0 ? all[i] : 0.0F) << i << " of " << n << " rows";
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AttentionSparseFast, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
