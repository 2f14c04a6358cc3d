#include "base/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace heddle {
namespace {

TEST(Philox, GivesThePublishedAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t ones = 0xffffffffU;
  EXPECT_EQ(philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformIsTheTop53BitsOfTheBlock) {
  // The block of the all-zero counter: 0x6627e8d5e169c58d >> 11, times 2^-53.
  EXPECT_EQ(philox_uniform(0, 0, 0),
            static_cast<double>(0x6627e8d5e169c58dULL >> 11) * std::ldexp(1.0, -53));
}

TEST(Philox, UniformDependsOnEveryBitOfItsKeys) {
  std::set<double> values = {philox_uniform(0, 0, 0)};
  for (int bit = 0; bit < 64; ++bit) {
    values.insert(philox_uniform(std::uint64_t{1} << bit, 0, 0));
    values.insert(philox_uniform(0, 0, std::uint64_t{1} << bit));
    if (bit < 32) values.insert(philox_uniform(0, std::uint32_t{1} << bit, 0));
  }
  EXPECT_EQ(values.size(), 1U + 64 + 64 + 32);
}

TEST(Philox, UniformFillsItsRangeEvenly) {
  constexpr int kDraws = 64'000;
  constexpr int kBins = 64;
  int bins[kBins] = {};
  double sum = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = philox_uniform(42, 1, static_cast<std::uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    ++bins[static_cast<int>(u * kBins)];
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.005);  // 4 standard deviations: sqrt(1/12/64000) = 0.00114
  double chi2 = 0;
  for (const int b : bins) chi2 += (b - 1000.0) * (b - 1000.0) / 1000.0;
  EXPECT_LT(chi2, 120.0);  // 63 degrees of freedom: mean 63, standard deviation 11.2
  EXPECT_GT(chi2, 25.0);
}

}  // namespace
}  // namespace heddle
