// Paged attention on the CPU with a sliding window or a soft cap: hand-computed cases, every
// variant against ref, freed memory before the window, and bits that do not depend on chunk, batch,
// threads or split.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/kernels/attention_support.h"

namespace heddle {
namespace {

using test::attend;
using test::Cache;
using test::Reach;
using test::Rows;
using test::rows_of;
using test::Shape;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr std::int64_t kWindows[] = {1, 2, 15, 16, 63, 64, 65, 4096};

class AttentionWindow : public test::AttentionOf {};

// Equal scores: each result is the mean of the values seen, which are the positions.
TEST_P(AttentionWindow, WindowDropsTheKeyLeavingIt) {
  const Shape shape = {1, 1, 16, 16, DType::kF32};
  Cache cache(shape, {200});
  for (int s = 0; s < 200; ++s) {
    for (int d = 0; d < 16; ++d) cache.set_v(0, s, 0, d, static_cast<float>(s));
  }
  Rows rows = rows_of(shape, 0, 0, 200);
  std::fill(rows.q.begin(), rows.q.end(), 0.0F);
  for (const std::int64_t window : kWindows) {
    const std::vector<float> out = attend(GetParam(), cache, rows, 2, std::nullopt, {window, 0.0F});
    for (std::int64_t p = 0; p < 200; ++p) {
      const auto first = static_cast<double>(std::max<std::int64_t>(0, p - window + 1));
      const double mean = (first + static_cast<double>(p)) / 2;
      ASSERT_NEAR(out[static_cast<std::size_t>(p * 16)], mean, 1e-5 * (mean + 1))
          << "window " << window << " row " << p;
    }
  }
}

// Scores 2 ln 3 and -2 ln 3 under a cap of 2: 2 tanh(ln 3) = 1.6, and -1.6.
TEST_P(AttentionWindow, SoftCapBendsTheScores) {
  const Shape shape = {1, 1, 16, 16, DType::kF32};
  Cache cache(shape, {2});
  for (int s = 0; s < 2; ++s) {
    for (int d = 0; d < 16; ++d) {
      cache.set_k(0, s, 0, d, d == 0 ? (s == 0 ? 1.0F : -1.0F) : 9.0F);
      cache.set_v(0, s, 0, d, s == 0 ? 1.0F : 0.0F);
    }
  }
  Rows rows = rows_of(shape, 0, 1, 2);
  std::fill(rows.q.begin(), rows.q.end(), 0.0F);
  rows.q[0] = 4 * std::log(3.0F);
  const std::vector<float> out = attend(GetParam(), cache, rows, 2, 0.5F, {0, 2.0F});
  EXPECT_NEAR(out[0], 1 / (1 + std::exp(-3.2)), 1e-6);
}

TEST_P(AttentionWindow, RefusesWhatIsNoWindowAndNoCap) {
  const Shape shape;
  const Cache cache(shape, {4});
  const Rows rows = rows_of(shape, 0, 3, 4);
  for (const Reach& bad : {Reach{-1, 0.0F}, Reach{0, -1.0F}, Reach{0, kInf},
                           Reach{0, std::nanf("")}, Reach{0, 1e-45F}}) {
    EXPECT_THROW(attend(GetParam(), cache, rows, 1, std::nullopt, bad), Error)
        << bad.window << " " << bad.soft_cap;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AttentionWindow, test::all_variants(), test::variant_name);

class AttentionWindowFast : public AttentionWindow {};

TEST_P(AttentionWindowFast, WindowedDecodeAgreesWithRef) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int64_t tokens : {16, 64}) {
      const Shape shape = {6, 2, 32, tokens, dtype};
      for (const std::int32_t depth : {1, 16, 63, 64, 65, 130, 4200}) {
        if (depth == 4200 && (dtype != DType::kF16 || tokens != 16)) continue;
        const Cache cache(shape, {depth}, static_cast<std::uint64_t>(depth));
        for (const std::int64_t window : kWindows) {
          expect_ref(cache, rows_of(shape, 0, depth - 1, depth), depth, {window, 0.0F});
        }
      }
    }
  }
}

TEST_P(AttentionWindowFast, WindowedPrefillAgreesWithRef) {
  for (const std::int64_t group : {1, 2, 3, 8}) {
    for (const std::int32_t n : {15, 64, 65, 200}) {
      const Shape shape = {group * 2, 2, 16, 32, DType::kF16};
      const Cache cache(shape, {n + 5});
      for (const std::int64_t window : kWindows) {
        expect_ref(cache, rows_of(shape, 0, 5, n + 5), n + 5, {window, 0.0F});
      }
    }
  }
}

TEST_P(AttentionWindowFast, CappedScoresAgreeWithRef) {
  for (const float cap : {1.0F, 30.0F, 50.0F}) {
    for (const std::int64_t dim : {96, 256}) {
      const Shape shape = {4, 2, dim, 16, DType::kF16};
      const Cache cache(shape, {150});
      for (const std::int64_t window : {0, 63, 4096}) {
        expect_ref(cache, rows_of(shape, 0, 149, 150), 150, {window, cap});
        expect_ref(cache, rows_of(shape, 0, 0, 150), 150, {window, cap});
      }
    }
  }
}

TEST_P(AttentionWindowFast, WindowedMixedCallAgreesWithRef) {
  const Shape shape = {6, 2, 32, 16, DType::kF16};
  const Cache cache(shape, test::kMixedLengths);
  const Rows rows = test::mixed_rows(shape);
  for (const std::int64_t window : kWindows) {
    expect_ref(cache, rows, 300, {window, 0.0F});
    expect_ref(cache, rows, 300, {window, 30.0F});
  }
}

// Keys and values before the window may be NaN, their blocks may be anyone's or nobody's.
TEST_P(AttentionWindowFast, NothingBeforeTheWindowIsRead) {
  for (const std::int64_t tokens : {16, 32, 64}) {
    for (const std::int64_t window : {1, 2, 15, 16, 63, 64, 65, 130}) {
      const Shape shape = {6, 2, 32, tokens, DType::kF16};
      for (const auto& [first, end] :
           {std::pair{499, 500}, std::pair{497, 500}, std::pair{470, 500}, std::pair{300, 500}}) {
        Cache cache(shape, {500, 16});
        const Rows rows = rows_of(shape, 0, first, end);
        const Reach reach = {window, 30.0F};
        const std::vector<float> expected = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
        const std::int64_t seen = std::max<std::int64_t>(0, first - window + 1);
        cache.free_before(0, seen);
        ASSERT_TRUE(
            test::same_bits(attend(GetParam(), cache, rows, 2, std::nullopt, reach), expected))
            << "tokens " << tokens << " window " << window << " rows from " << first;
        cache.reuse_before(0, seen, 1);
        ASSERT_TRUE(
            test::same_bits(attend(GetParam(), cache, rows, 2, std::nullopt, reach), expected))
            << "tokens " << tokens << " window " << window << " rows from " << first;
      }
    }
  }
}

// A NaN that a row no longer sees leaves it alone, though rows beside it in the call see it.
TEST_P(AttentionWindowFast, ANanInOneRowsWindowStaysThere) {
  const Shape shape = {3, 1, 16, 16, DType::kF32};
  for (const std::int64_t window : {2, 15, 40, 64, 100}) {
    Cache cache(shape, {200});
    const Rows rows = rows_of(shape, 0, 0, 200);
    const Reach reach = {window, 0.0F};
    const std::vector<float> clean = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
    cache.set_v(0, 70, 0, 3, std::nanf(""));
    cache.set_k(0, 71, 0, 3, std::nanf(""));
    const std::vector<float> out = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(out.size()); ++i) {
      const std::int64_t p = i / (3 * 16);
      const bool sees_v = p >= 70 && p < 70 + window && i % 16 == 3;
      const bool sees_k = p >= 71 && p < 71 + window;
      const auto at = static_cast<std::size_t>(i);
      if (sees_v || sees_k) {
        ASSERT_TRUE(std::isnan(out[at])) << "window " << window << " row " << p;
      } else {
        ASSERT_EQ(out[at], clean[at]) << "window " << window << " row " << p;
      }
    }
  }
}

TEST_P(AttentionWindowFast, MaskedHeadsInAWindow) {
  const Shape shape = {6, 2, 16, 16, DType::kF16};
  const Cache cache(shape, {300});
  for (const std::int64_t window : {1, 16, 65}) {
    Rows rows = rows_of(shape, 0, 100, 300);
    const Reach reach = {window, 50.0F};
    const std::vector<float> all = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
    test::Random random(5);
    for (std::int64_t i = 0; i < rows.n() * shape.n_q; ++i) {
      rows.mask.push_back(static_cast<std::uint8_t>(random.integer(0, 6) == 0));
    }
    const std::vector<float> some = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
    for (std::size_t i = 0; i < some.size(); ++i) {
      ASSERT_EQ(some[i], rows.mask[i / 16] != 0 ? all[i] : 0.0F) << "window " << window << " " << i;
    }
  }
}

TEST_P(AttentionWindowFast, BitsDoNotDependOnTheChunk) {
  for (const std::int64_t window : kWindows) {
    const Shape shape = {6, 2, 48, 16, DType::kF16};
    const Cache cache(shape, {300});
    const Reach reach = {window, window % 2 == 0 ? 30.0F : 0.0F};
    const std::vector<float> whole =
        attend(GetParam(), cache, rows_of(shape, 0, 0, 300), 2, std::nullopt, reach);
    const auto row = static_cast<std::size_t>(shape.n_q * shape.dim);
    for (const std::int32_t chunk : {1, 2, 5, 16, 61, 64, 150}) {
      for (std::int32_t at = 0; at < 300; at += chunk) {
        const std::vector<float> out =
            attend(GetParam(), cache, rows_of(shape, 0, at, std::min(300, at + chunk)), 1,
                   std::nullopt, reach);
        ASSERT_TRUE(
            test::same_bits(out, {whole.data() + static_cast<std::size_t>(at) * row, out.size()}))
            << "window " << window << " chunk " << chunk << " at " << at;
      }
    }
  }
}

// Deep enough that the window's tiles are split over tasks; few rows, so that partials are merged.
TEST_P(AttentionWindowFast, BitsDoNotDependOnThreadsOrTheSplit) {
  const Shape shape = {6, 2, 64, 16, DType::kF16};
  const Cache cache(shape, {2100, 1500});
  for (const std::int64_t window : {700, 1000, 1999}) {
    for (const float cap : {0.0F, 50.0F}) {
      const Reach reach = {window, cap};
      for (const std::int32_t n : {1, 3}) {
        const Rows rows = rows_of(shape, 0, 2100 - n, 2100);
        const std::vector<float> expected = attend(GetParam(), cache, rows, 1, std::nullopt, reach);
        for (const int threads : {2, 3, 5}) {
          ASSERT_TRUE(test::same_bits(attend(GetParam(), cache, rows, threads, std::nullopt, reach),
                                      expected))
              << window << " " << n << " " << threads;
        }
        Rows more = rows_of(shape, 1, 1400, 1500);
        more.add(shape, 0, 2040, 2100);
        const std::vector<float> batch = attend(GetParam(), cache, more, 2, std::nullopt, reach);
        ASSERT_TRUE(test::same_bits(
            {batch.data() + batch.size() - expected.size(), expected.size()}, expected))
            << window << " " << n;
      }
    }
  }
}

TEST_P(AttentionWindowFast, BitsAreThoseOfThePortableForm) {
  expect_bits_of_portable({{0, 30.0F}, {2, 30.0F}, {40, 30.0F}, {65, 30.0F}});
}

// A window that reaches beyond the sequence, and one of all positions, are the plain call.
TEST_P(AttentionWindowFast, BitsOfAWindowThatHoldsAllAreThoseWithoutOne) {
  const Shape shape = {6, 2, 48, 16, DType::kF16};
  const Cache cache(shape, {300});
  const Rows rows = rows_of(shape, 0, 200, 300);
  const std::vector<float> plain = attend(GetParam(), cache, rows);
  for (const std::int64_t window :
       {std::int64_t{300}, std::int64_t{4096}, std::numeric_limits<std::int64_t>::max()}) {
    EXPECT_TRUE(
        test::same_bits(attend(GetParam(), cache, rows, 2, std::nullopt, {window, 0.0F}), plain))
        << window;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AttentionWindowFast, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
