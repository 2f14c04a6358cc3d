#include "base/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace heddle {
namespace {

/// The value of a finite f16 pattern, from the definition of the format.
double f16_value(std::uint16_t h) {
  const int exponent = (h >> 10) & 0x1f;
  const int mantissa = h & 0x3ff;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (h & 0x8000) != 0 ? -magnitude : magnitude;
}

bool is_f16_nan(std::uint16_t h) {
  return (h & 0x7fff) > 0x7c00;
}

TEST(Half, EveryF16PatternHasItsValue) {
  for (std::uint32_t i = 0; i <= 0xffff; ++i) {
    const auto h = static_cast<std::uint16_t>(i);
    const float f = f16_to_f32(h);
    if (is_f16_nan(h)) {
      ASSERT_TRUE(std::isnan(f)) << std::hex << i;
    } else if ((h & 0x7fff) == 0x7c00) {
      ASSERT_TRUE(std::isinf(f)) << std::hex << i;
    } else {
      ASSERT_EQ(static_cast<double>(f), f16_value(h)) << std::hex << i;
    }
    ASSERT_EQ(std::signbit(f), (h & 0x8000) != 0) << std::hex << i;
  }
}

TEST(Half, EveryF16PatternSurvivesTheRoundTrip) {
  for (std::uint32_t i = 0; i <= 0xffff; ++i) {
    const auto h = static_cast<std::uint16_t>(i);
    const std::uint16_t quiet = is_f16_nan(h) ? static_cast<std::uint16_t>(h | 0x200) : h;
    ASSERT_EQ(f32_to_f16(f16_to_f32(h)), quiet) << std::hex << i;
  }
}

TEST(Half, F16RoundsToNearestAndTiesToEvenBetweenAllNeighbours) {
  for (std::uint16_t h = 0; h < 0x7bff; ++h) {  // 0x7bff is the largest finite value
    const auto low = f16_to_f32(h);
    const auto high = f16_to_f32(static_cast<std::uint16_t>(h + 1));
    const float middle = (low + high) / 2;  // exact: f32 has room for it
    const auto even = static_cast<std::uint16_t>(h % 2 == 0 ? h : h + 1);
    ASSERT_EQ(f32_to_f16(middle), even) << std::hex << h;
    ASSERT_EQ(f32_to_f16(-middle), even | 0x8000) << std::hex << h;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0F)), h) << std::hex << h;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, high)), h + 1) << std::hex << h;
  }
}

TEST(Half, F16OverflowsAtTheMiddleAboveItsLargestValue) {
  EXPECT_EQ(f32_to_f16(65504.0F), 0x7bff);
  EXPECT_EQ(f32_to_f16(std::nextafter(65520.0F, 0.0F)), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(f32_to_f16(-65520.0F), 0xfc00);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::max()), 0x7c00);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::infinity()), 0x7c00);
  EXPECT_EQ(f32_to_f16(-std::numeric_limits<float>::infinity()), 0xfc00);
}

TEST(Half, F16UnderflowsToZeroBelowHalfTheSmallestSubnormal) {
  EXPECT_EQ(f32_to_f16(0x1p-24F), 1);
  EXPECT_EQ(f32_to_f16(0x1p-25F), 0);  // the tie goes to the even zero
  EXPECT_EQ(f32_to_f16(std::nextafter(0x1p-25F, 1.0F)), 1);
  EXPECT_EQ(f32_to_f16(-0x1p-25F), 0x8000);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(f32_to_f16(-0.0F), 0x8000);
}

TEST(Half, F16KeepsTheTopOfANansPayloadAndMakesItQuiet) {
  EXPECT_EQ(f32_to_f16(std::bit_cast<float>(0x7f800001U)), 0x7e00);
  EXPECT_EQ(f32_to_f16(std::bit_cast<float>(0xffc00000U)), 0xfe00);
  EXPECT_EQ(f32_to_f16(std::bit_cast<float>(0x7fa0a000U)), 0x7f05);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(f16_to_f32(0x7c01)), 0x7fc02000U);
}

TEST(Half, EveryBf16PatternSurvivesTheRoundTrip) {
  for (std::uint32_t i = 0; i <= 0xffff; ++i) {
    const auto h = static_cast<std::uint16_t>(i);
    const bool nan = (h & 0x7fff) > 0x7f80;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(bf16_to_f32(h)), i << 16);
    ASSERT_EQ(f32_to_bf16(bf16_to_f32(h)), nan ? (h | 0x40) : h) << std::hex << i;
  }
}

TEST(Half, Bf16RoundsToNearestAndTiesToEvenBetweenAllNeighbours) {
  for (std::uint32_t h = 0; h < 0x7f7f; ++h) {  // up to the largest finite value
    const std::uint32_t middle = h << 16 | 0x8000U;
    const std::uint32_t even = h + h % 2;
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(middle)), even) << std::hex << h;
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(middle | 0x80000000U)), even | 0x8000U);
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(middle - 1)), h) << std::hex << h;
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(middle + 1)), h + 1) << std::hex << h;
  }
}

TEST(Half, Bf16OverflowsAndKeepsNans) {
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x7f7f7fffU)), 0x7f7f);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x7f800001U)), 0x7fc0);  // low payload bits only
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0xffffffffU)), 0xffff);
}

}  // namespace
}  // namespace heddle
