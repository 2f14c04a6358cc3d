// Decay slopes of linear attention: the tables of the published checkpoints.

#include "models/slopes.h"

#include <gtest/gtest.h>

namespace heddle {
namespace {

TEST(Slopes, APowerOfTwoOfHeadsIsGeometric) {
  const std::vector<double> slopes = alibi_slopes(64);
  ASSERT_EQ(slopes.size(), 64U);
  EXPECT_NEAR(slopes[0], 0.917, 5e-4);
  EXPECT_NEAR(slopes[1], 0.841, 5e-4);
  EXPECT_EQ(slopes[63], 0.00390625);
  EXPECT_EQ(alibi_slopes(8), (std::vector<double>{0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625,
                                                  0.0078125, 0.00390625}));
  EXPECT_EQ(alibi_slopes(1), std::vector<double>{0.00390625});
}

TEST(Slopes, OtherNumbersTakeEverySecondOfTheNextPower) {
  const std::vector<double> slopes = alibi_slopes(40);
  ASSERT_EQ(slopes.size(), 40U);
  EXPECT_EQ(slopes[31], 0.00390625);
  const double rest[] = {0.917, 0.771, 0.648, 0.545, 0.4585, 0.3856, 0.3242, 0.2726};
  for (std::size_t i = 0; i < 8; ++i) EXPECT_NEAR(slopes[32 + i], rest[i], 5e-4);
}

TEST(Slopes, LayersScaleThemFromOneToAlmostNothing) {
  const std::vector<double> table = {0.5};
  EXPECT_FLOAT_EQ(layer_slopes(table, 0, 5)[0], 0.5F * 1.00001F);
  EXPECT_FLOAT_EQ(layer_slopes(table, 2, 5)[0], 0.5F * 0.50001F);
  EXPECT_FLOAT_EQ(layer_slopes(table, 4, 5)[0], 0.5e-5F);
  EXPECT_FLOAT_EQ(layer_slopes(table, 0, 1)[0], 0.5F * 1.00001F);
}

TEST(Slopes, TheOffsetOfBailingsCodeCountsLayersFromMinusOne) {
  const std::vector<double> table = {0.5};
  EXPECT_FLOAT_EQ(layer_slopes(table, 0, 5, 1)[0], 0.5F * 1.25001F);
  EXPECT_FLOAT_EQ(layer_slopes(table, 4, 5, 1)[0], 0.5F * 0.25001F);
}

}  // namespace
}  // namespace heddle
