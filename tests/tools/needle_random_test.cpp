// Draws of the needle's prompts: the same for ever, and apart from each other.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "tools/needle/random.h"

namespace heddle::needle {
namespace {

using ::testing::ElementsAre;

std::vector<std::uint64_t> first_bits(std::uint64_t seed, std::string_view purpose, int n) {
  Random random(seed, purpose);
  std::vector<std::uint64_t> draws;
  for (int i = 0; i < n; ++i) draws.push_back(random.bits());
  return draws;
}

/// Prompts are made of these: other numbers are other prompts, and rows of old runs are worth
/// nothing (kPromptsVersion).
TEST(NeedleRandom, FirstDrawsStayWhatTheyAre) {
  EXPECT_THAT(first_bits(0, "", 3),
              ElementsAre(1516682388902162446U, 1998518536253457505U, 2766381039788802998U));
  EXPECT_THAT(first_bits(7, "niah number 4096 0 keys", 3),
              ElementsAre(14675006176901085620U, 13019281096113375403U, 8698818151722572152U));
  Random random(1, "below");
  std::vector<std::uint64_t> draws;
  for (const std::uint64_t n : {2U, 10U, 1000U, 1'000'000U}) draws.push_back(random.below(n));
  EXPECT_THAT(draws, ElementsAre(0, 1, 174, 817465));
  std::vector<int> items(8);
  std::iota(items.begin(), items.end(), 0);
  Random(1, "shuffle").shuffle(items);
  EXPECT_THAT(items, ElementsAre(6, 7, 4, 3, 5, 0, 1, 2));
}

TEST(NeedleRandom, SameSeedAndPurposeDrawTheSame) {
  EXPECT_EQ(first_bits(5, "keys", 100), first_bits(5, "keys", 100));
}

TEST(NeedleRandom, EverySeedAndPurposeHasDrawsOfItsOwn) {
  std::set<std::uint64_t> seen;
  std::size_t n = 0;
  const auto take = [&](std::uint64_t seed, std::string_view purpose) {
    for (const std::uint64_t draw : first_bits(seed, purpose, 50)) seen.insert(draw);
    n += 50;
  };
  for (std::uint64_t seed = 0; seed < 50; ++seed) take(seed, "keys");
  take(UINT64_MAX, "keys");
  take(std::uint64_t{1} << 32, "keys");
  // Purposes that differ in an end, in padding or in eight bytes' places.
  using namespace std::string_view_literals;
  for (const std::string_view purpose :
       {""sv, "\0"sv, "\0\0"sv, "k"sv, "key"sv, "keys "sv, "keys\0"sv, "Keys"sv, "12345678"sv,
        "12345678\0"sv, "1234567812345678"sv, "12345679"sv, "21345678"sv}) {
    take(0, purpose);
  }
  EXPECT_EQ(seen.size(), n);
}

TEST(NeedleRandom, DrawsOfOneDoNotMoveThoseOfAnother) {
  Random a(1, "a");
  Random b(1, "b");
  std::vector<std::uint64_t> of_b;
  for (int i = 0; i < 20; ++i) {
    for (int k = 0; k < i; ++k) a.bits();
    of_b.push_back(b.bits());
  }
  EXPECT_EQ(of_b, first_bits(1, "b", 20));
}

TEST(NeedleRandom, BelowStaysBelow) {
  Random random(3, "bounds");
  for (const std::uint64_t n :
       {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{3}, std::uint64_t{50'000},
        std::uint64_t{1} << 32, (std::uint64_t{1} << 63) + 1, UINT64_MAX}) {
    for (int i = 0; i < 200; ++i) ASSERT_LT(random.below(n), n);
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(random.below(1), 0U);
}

/// Pearson's statistic of equal shares: its mean is n - 1, its deviation sqrt(2 (n - 1)).
double chi_square(const std::vector<int>& counts) {
  const double expected =
      std::accumulate(counts.begin(), counts.end(), 0.0) / static_cast<double>(counts.size());
  double sum = 0.0;
  for (const int n : counts) sum += (n - expected) * (n - expected) / expected;
  return sum;
}

TEST(NeedleRandom, BelowIsUniform) {
  Random random(11, "uniform");
  for (const std::uint64_t n : {2U, 3U, 7U, 10U, 100U}) {
    std::vector<int> counts(n);
    for (int i = 0; i < 20'000; ++i) ++counts[random.below(n)];
    const double degrees = static_cast<double>(n - 1);
    EXPECT_LT(chi_square(counts), degrees + 4.0 * std::sqrt(2.0 * degrees) + 4.0) << n;
  }
  // Where 2^64 is no multiple of n by far, a plain remainder would draw the lower third twice.
  const std::uint64_t n = UINT64_MAX / 3 * 2;
  std::vector<int> counts(2);
  for (int i = 0; i < 20'000; ++i) ++counts[random.below(n) < n / 2 ? 0 : 1];
  EXPECT_LT(chi_square(counts), 10.0);
}

TEST(NeedleRandom, UniformLiesInItsRange) {
  Random random(2, "range");
  double low = 1e9;
  double high = -1e9;
  double sum = 0.0;
  for (int i = 0; i < 10'000; ++i) {
    const double draw = random.uniform(-2.0, 6.0);
    low = std::min(low, draw);
    high = std::max(high, draw);
    sum += draw;
  }
  EXPECT_GE(low, -2.0);
  EXPECT_LT(high, 6.0);
  EXPECT_LT(low, -1.98);
  EXPECT_GT(high, 5.98);
  EXPECT_NEAR(sum / 10'000, 2.0, 0.1);
}

TEST(NeedleRandom, ShufflesKeepWhatTheyShuffleAndReachEveryOrder) {
  Random random(4, "orders");
  std::map<std::vector<int>, int> orders;
  for (int i = 0; i < 6000; ++i) {
    std::vector<int> items = {1, 2, 3};
    random.shuffle(items);
    ++orders[items];
  }
  ASSERT_EQ(orders.size(), 6U);
  for (const auto& [order, n] : orders) {
    EXPECT_THAT(order, ::testing::UnorderedElementsAre(1, 2, 3));
    EXPECT_NEAR(n, 1000, 150);
  }
  std::vector<int> none;
  random.shuffle(none);
  EXPECT_TRUE(none.empty());
}

}  // namespace
}  // namespace heddle::needle
