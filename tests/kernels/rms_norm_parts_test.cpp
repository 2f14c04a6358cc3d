// rms_norm on the CPU with groups, segments and without a weight: the formula, every variant
// against ref, and whose bits equal whose.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/cpu_tables.h"
#include "tests/support/compare.h"
#include "tests/support/cpu_variants.h"
#include "tests/support/random.h"

namespace heddle {
namespace {

using testing::ElementsAre;
using testing::FloatEq;

struct Case {
  std::int64_t width = 0;
  int groups = 1;
  int segments = 1;
};
constexpr Case kCases[] = {{1, 1, 1},   {2, 2, 1},     {2, 1, 2},    {8, 1, 8},   {15, 3, 1},
                           {16, 1, 1},  {32, 2, 1},    {34, 2, 1},   {30, 1, 2},  {64, 4, 4},
                           {68, 1, 4},  {136, 1, 8},   {120, 1, 8},  {128, 1, 8}, {2048, 4, 8},
                           {96, 32, 1}, {2048, 16, 1}, {2048, 1, 4}, {3072, 2, 2}};

struct Call {
  std::vector<float> x;
  std::vector<float> weight;    // empty: absent
  std::vector<float> residual;  // empty: absent
  Case shape;
  float eps = 1e-5F;
};

RmsNormArgs args_of(const Call& call, float* out) {
  const auto n = static_cast<std::int64_t>(call.x.size()) / call.shape.width;
  RmsNormArgs args;
  args.x = TensorView(call.x.data(), DType::kF32, {n, call.shape.width});
  args.out = TensorView(out, DType::kF32, {n, call.shape.width});
  if (!call.weight.empty()) {
    args.weight = TensorView(call.weight.data(), DType::kF32, {call.shape.width});
  }
  if (!call.residual.empty()) {
    args.residual = TensorView(call.residual.data(), DType::kF32, {n, call.shape.width});
  }
  args.eps = call.eps;
  args.groups = call.shape.groups;
  args.segments = call.shape.segments;
  return args;
}

std::vector<float> rms_norm(const std::string& variant, const Call& call, int n_threads = 2) {
  std::vector<float> out(call.x.size(), -99.0F);
  test::run_variant(cpu::rms_norm_table(), variant, args_of(call, out.data()), n_threads);
  return out;
}

Call random_call(const Case& shape, std::int64_t n_rows, std::uint64_t seed) {
  test::Random random(seed);
  Call call;
  call.x = random.normals(n_rows * shape.width, 3.0F);
  call.weight = random.normals(shape.width);
  call.shape = shape;
  return call;
}

std::string text(const Case& c) {
  return std::to_string(c.width) + " in " + std::to_string(c.groups) + " groups, " +
         std::to_string(c.segments) + " segments";
}

class RmsNormParts : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
};

TEST_P(RmsNormParts, WithoutWeightIsTheBareNorm) {
  const Call call = {.x = {3, 4, 0, 0}, .weight = {}, .residual = {}, .shape = {2}, .eps = 12.5F};
  EXPECT_THAT(rms_norm(GetParam(), call), ElementsAre(FloatEq(0.6F), FloatEq(0.8F), 0.0F, 0.0F));
}

// mean squares 12.5 and 50 with eps 12.5: the roots are 5 and sqrt 62.5
TEST_P(RmsNormParts, GroupsAreNormalisedEachOnItsOwn) {
  const Call call = {.x = {3, 4, 6, 8},
                     .weight = {1, 2, 3, 4},
                     .residual = {10, 20, 30, 40},
                     .shape = {4, 2, 1},
                     .eps = 12.5F};
  const float root = std::sqrt(62.5F);
  EXPECT_THAT(rms_norm(GetParam(), call),
              ElementsAre(FloatEq(10.6F), FloatEq(21.6F), FloatEq(30 + 18 / root),
                          FloatEq(40 + 32 / root)));
}

// Lanes, the halving tree and the segments' tree add at most width/16 + 7 times; then five
// roundings.
TEST_P(RmsNormParts, AgreesWithRef) {
  for (const Case& shape : kCases) {
    for (const bool weighted : {true, false}) {
      Call call = random_call(shape, 5, 1);
      if (!weighted) call.weight.clear();
      const std::vector<float> expected = rms_norm("ref", call);
      const double c = 6.0 + static_cast<double>(shape.width / shape.groups) / 32;
      EXPECT_TRUE(test::within_bound(rms_norm(GetParam(), call), expected, [&](auto i) {
        return c * test::kEpsF32 * std::abs(expected[i]);
      })) << text(shape);
    }
  }
}

TEST_P(RmsNormParts, MayWriteOverItsInput) {
  for (const Case& shape : kCases) {
    Call call = random_call(shape, 3, 2);
    const std::vector<float> expected = rms_norm(GetParam(), call);
    const RmsNormArgs args = args_of(call, call.x.data());
    test::run_variant(cpu::rms_norm_table(), GetParam(), args);
    EXPECT_TRUE(test::same_bits(call.x, expected)) << text(shape);
  }
}

TEST_P(RmsNormParts, ANonFiniteInputStaysInItsGroup) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const float bad : {kInf, std::numeric_limits<float>::quiet_NaN()}) {
    Call call = random_call({51, 3, 1}, 2, 3);
    const std::vector<float> clean = rms_norm(GetParam(), call);
    call.x[20] = bad;
    const std::vector<float> out = rms_norm(GetParam(), call);
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (i < 17 || i >= 34) {
        EXPECT_EQ(out[i], clean[i]) << i;
      } else if (std::isnan(bad) || i == 20) {
        EXPECT_TRUE(std::isnan(out[i])) << i;
      } else {
        EXPECT_EQ(out[i], 0.0F) << i;
      }
    }
  }
}

TEST_P(RmsNormParts, RefusesPartsThatAreNotWhole) {
  const auto run = [&](std::int64_t width, int groups, int segments) {
    rms_norm(GetParam(), random_call({width, groups, segments}, 2, 4));
  };
  EXPECT_NO_THROW(run(24, 3, 8));
  EXPECT_THROW(run(24, 5, 1), Error);
  EXPECT_THROW(run(24, 0, 1), Error);
  EXPECT_THROW(run(24, -1, 1), Error);
  EXPECT_THROW(run(24, 1, 3), Error);
  EXPECT_THROW(run(24, 1, 0), Error);
  EXPECT_THROW(run(48, 1, 16), Error);
  EXPECT_THROW(run(24, 6, 8), Error);
  EXPECT_THROW(run(20, 1, 8), Error);
}

INSTANTIATE_TEST_SUITE_P(Variants, RmsNormParts, test::all_variants(), test::variant_name);

class RmsNormPartsBits : public RmsNormParts {};

TEST_P(RmsNormPartsBits, AreThoseOfThePortableFormWhateverTheBatchAndThreads) {
  for (const Case& shape : kCases) {
    Call call = random_call(shape, 40, 5);
    call.residual = test::Random(6).normals(40 * shape.width);
    const std::vector<float> all = rms_norm("portable", call, 1);
    EXPECT_TRUE(test::same_bits(rms_norm(GetParam(), call, 1), all)) << text(shape);
    EXPECT_TRUE(test::same_bits(rms_norm(GetParam(), call, 3), all)) << text(shape);
    const auto row = [&](const std::vector<float>& v) {
      return std::vector<float>(v.begin() + 31 * shape.width, v.begin() + 32 * shape.width);
    };
    Call one = call;
    one.x = row(call.x);
    one.residual = row(call.residual);
    EXPECT_TRUE(test::same_bits(rms_norm(GetParam(), one), row(all))) << text(shape);
  }
}

TEST_P(RmsNormPartsBits, WithoutWeightAreThoseOfAWeightOfOnes) {
  for (const Case& shape : kCases) {
    Call call = random_call(shape, 3, 7);
    call.weight.assign(call.weight.size(), 1.0F);
    const std::vector<float> ones = rms_norm(GetParam(), call);
    call.weight.clear();
    EXPECT_TRUE(test::same_bits(rms_norm(GetParam(), call), ones)) << text(shape);
  }
}

TEST_P(RmsNormPartsBits, OfAGroupAreThoseOfItsPartAlone) {
  for (const Case& shape : kCases) {
    const Call call = random_call(shape, 3, 8);
    const std::vector<float> all = rms_norm(GetParam(), call);
    const std::int64_t width = shape.width / shape.groups;
    for (std::int64_t p = 0; p < 3 * shape.groups; ++p) {
      const auto part = [&](const std::vector<float>& v, std::int64_t i) {
        return std::vector<float>(v.begin() + i * width, v.begin() + (i + 1) * width);
      };
      Call alone;
      alone.x = part(call.x, p);
      alone.weight = part(call.weight, p % shape.groups);
      alone.shape = {width, 1, shape.segments};
      ASSERT_TRUE(test::same_bits(rms_norm(GetParam(), alone), part(all, p))) << text(shape);
    }
  }
}

// Squares 16 and halves of 16's last place: beside 16 one half is lost, two that meet first are
// not.
TEST_P(RmsNormPartsBits, SegmentsAreAddedInTheirTree) {
  constexpr float kHalf = 0x1p-20F;
  const auto norm_of_16 = [&](const std::vector<float>& squares, int segments) {
    Call call = {.x = {}, .weight = {}, .residual = {}, .shape = {8, 1, segments}, .eps = 0.0F};
    for (const float s : squares) call.x.push_back(std::sqrt(s));
    return rms_norm(GetParam(), call)[0];
  };
  const auto expected = [](float sum) { return 4.0F * (1.0F / std::sqrt(sum / 8)); };
  const float lost = expected(16);
  const float kept = expected(16 + 2 * kHalf);
  ASSERT_NE(lost, kept);
  EXPECT_EQ(norm_of_16({16, 0, 0, 0, kHalf, 0, kHalf, 0}, 4), kept);  // (0+1) + (2+3)
  EXPECT_EQ(norm_of_16({16, 0, kHalf, 0, kHalf, 0, 0, 0}, 4), lost);
  EXPECT_EQ(norm_of_16({16, 0, kHalf, kHalf, 0, 0, 0, 0}, 8), kept);  // (0+1) + (2+3)
  EXPECT_EQ(norm_of_16({16, 0, 0, 0, kHalf, 0, 0, kHalf}, 8), kept);  // ... + ((4+5)+(6+7))
  EXPECT_EQ(norm_of_16({16, kHalf, kHalf, 0, 0, 0, 0, 0}, 8), lost);
  EXPECT_EQ(norm_of_16({16, 0, kHalf, 0, kHalf, 0, 0, 0}, 8), lost);
}

// Each segment begins its lanes anew: the sum over two segments is the sum of two rows' sums.
TEST_P(RmsNormPartsBits, ASegmentIsSummedAsARowOfItsOwn) {
  test::Random random(9);
  for (const std::int64_t half : {1, 15, 16, 17, 33, 512}) {
    const std::vector<float> x = random.normals(2 * half);
    const auto sum = [](const float* v, std::int64_t n) {
      float lanes[16] = {};
      for (std::int64_t i = 0; i < n; ++i) lanes[i % 16] = std::fma(v[i], v[i], lanes[i % 16]);
      for (int w = 8; w > 0; w /= 2) {
        for (int l = 0; l < w; ++l) lanes[l] += lanes[l + w];
      }
      return lanes[0];
    };
    const float squares = sum(x.data(), half) + sum(x.data() + half, half);
    const float r = 1.0F / std::sqrt(squares / static_cast<float>(2 * half) + 1e-5F);
    std::vector<float> expected;
    for (const float v : x) expected.push_back(v * r);
    const Call call = {.x = x, .weight = {}, .residual = {}, .shape = {2 * half, 1, 2}};
    EXPECT_TRUE(test::same_bits(rms_norm(GetParam(), call), expected)) << half;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, RmsNormPartsBits, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
