// rms_norm on the CPU: the formula, every variant against ref, and bits that depend on the row
// only. Groups, segments and the absent weight: rms_norm_parts_test.cpp.

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

constexpr std::int64_t kWidths[] = {1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 575, 576, 577, 2048};

std::vector<float> rms_norm(const std::string& variant,
                            const std::vector<float>& x,
                            const std::vector<float>& weight,
                            float eps,
                            int n_threads = 2,
                            const std::vector<float>* residual = nullptr) {
  const auto width = static_cast<std::int64_t>(weight.size());
  const auto n = static_cast<std::int64_t>(x.size()) / width;
  std::vector<float> out(x.size(), -99.0F);
  RmsNormArgs args;
  args.x = TensorView(x.data(), DType::kF32, {n, width});
  args.weight = TensorView(weight.data(), DType::kF32, {width});
  args.out = TensorView(out.data(), DType::kF32, {n, width});
  args.eps = eps;
  if (residual != nullptr) {
    args.residual = TensorView(residual->data(), DType::kF32, {n, width});
  }
  test::run_variant(cpu::rms_norm_table(), variant, args, n_threads);
  return out;
}

class RmsNorm : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
};

TEST_P(RmsNorm, IsTheFormula) {
  // mean square of (3, 4) is 12.5; with eps 12.5 the root is 5
  const std::vector<float> out = rms_norm(GetParam(), {3, 4, 0, 0}, {1, 2}, 12.5F);
  EXPECT_THAT(out, ElementsAre(FloatEq(0.6F), FloatEq(1.6F), 0.0F, 0.0F));
}

// Each lane adds width/16 squares, the tree 4 more, then five roundings; relative to |out|.
TEST_P(RmsNorm, AgreesWithRef) {
  test::Random random(1);
  for (const std::int64_t width : kWidths) {
    const std::vector<float> x = random.normals(5 * width, 3.0F);
    const std::vector<float> weight = random.normals(width);
    const std::vector<float> expected = rms_norm("ref", x, weight, 1e-5F);
    const double c = 4.0 + static_cast<double>(width) / 32;
    EXPECT_TRUE(test::within_bound(rms_norm(GetParam(), x, weight, 1e-5F), expected, [&](auto i) {
      return c * test::kEpsF32 * std::abs(expected[i]);
    })) << width;
  }
}

TEST_P(RmsNorm, AddsTheResidualToTheNorm) {
  const std::vector<float> residual = {10, 20, 30, 40};
  const std::vector<float> out = rms_norm(GetParam(), {3, 4, 0, 0}, {1, 2}, 12.5F, 2, &residual);
  EXPECT_THAT(out, ElementsAre(FloatEq(10.6F), FloatEq(21.6F), 30.0F, 40.0F));
}

// One rounded addition after the norm, for each remainder of a vector; ref adds in f64.
TEST_P(RmsNorm, ResidualIsOneRoundedAddition) {
  test::Random random(5);
  for (const std::int64_t width : kWidths) {
    const std::vector<float> x = random.normals(3 * width, 3.0F);
    const std::vector<float> weight = random.normals(width);
    const std::vector<float> residual = random.normals(3 * width, 2.0F);
    const std::vector<float> norm = rms_norm(GetParam(), x, weight, 1e-5F);
    const std::vector<float> sum = rms_norm(GetParam(), x, weight, 1e-5F, 2, &residual);
    EXPECT_TRUE(test::within_bound(
        sum, rms_norm("ref", x, weight, 1e-5F, 2, &residual),
        [&](auto i) {
          return test::kEpsF32 * ((4.0 + static_cast<double>(width) / 32) * std::abs(norm[i]) +
                                  std::abs(residual[i]));
        }))
        << width;
    if (GetParam() == "ref") continue;
    for (std::size_t i = 0; i < sum.size(); ++i) ASSERT_EQ(sum[i], residual[i] + norm[i]) << width;
  }
}

TEST_P(RmsNorm, ResidualMayBeTheOutput) {
  test::Random random(6);
  const std::vector<float> x = random.normals(3 * 33);
  const std::vector<float> weight = random.normals(33);
  std::vector<float> sum = random.normals(3 * 33);
  const std::vector<float> expected = rms_norm(GetParam(), x, weight, 1e-6F, 2, &sum);
  RmsNormArgs args;
  args.x = TensorView(x.data(), DType::kF32, {3, 33});
  args.weight = TensorView(weight.data(), DType::kF32, {33});
  args.out = args.residual = TensorView(sum.data(), DType::kF32, {3, 33});
  args.eps = 1e-6F;
  test::run_variant(cpu::rms_norm_table(), GetParam(), args);
  EXPECT_TRUE(test::same_bits(sum, expected));
}

TEST_P(RmsNorm, RefusesAResidualOfAnotherShape) {
  const std::vector<float> x(6, 1.0F);
  std::vector<float> out(6);
  RmsNormArgs args;
  args.x = TensorView(x.data(), DType::kF32, {2, 3});
  args.weight = TensorView(x.data(), DType::kF32, {3});
  args.out = TensorView(out.data(), DType::kF32, {2, 3});
  CpuContext context(1, detect_cpu());
  const auto* const variant = test::find_variant(cpu::rms_norm_table(), GetParam(), args);
  ASSERT_NE(variant, nullptr);
  args.residual = TensorView(x.data(), DType::kF32, {2, 3});
  EXPECT_NO_THROW(variant->run(args, context));
  args.residual = TensorView(x.data(), DType::kF32, {3, 2});
  EXPECT_THROW(variant->run(args, context), Error);
  args.residual = TensorView(x.data(), DType::kF16, {2, 3});
  EXPECT_THROW(variant->run(args, context), Error);
}

TEST_P(RmsNorm, NonFiniteInputsSpreadAsInRef) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const float bad : {kInf, -kInf, std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::size_t at : {0, 8, 16, 18}) {
      std::vector<float> x(2 * 19, 1.0F);
      x[at] = bad;
      const std::vector<float> weight(19, 2.0F);
      EXPECT_TRUE(test::within(rms_norm(GetParam(), x, weight, 0.0F),
                               rms_norm("ref", x, weight, 0.0F), 1e-6));
    }
  }
}

TEST_P(RmsNorm, ZeroRowWithoutEpsIsNan) {
  const std::vector<float> out =
      rms_norm(GetParam(), std::vector<float>(20), std::vector<float>(20, 1.0F), 0.0F);
  for (const float f : out) EXPECT_TRUE(std::isnan(f));
}

TEST_P(RmsNorm, MayWriteOverItsInput) {
  test::Random random(2);
  std::vector<float> x = random.normals(3 * 33);
  const std::vector<float> weight = random.normals(33);
  const std::vector<float> expected = rms_norm(GetParam(), x, weight, 1e-6F);
  RmsNormArgs args;
  args.x = args.out = TensorView(x.data(), DType::kF32, {3, 33});
  args.weight = TensorView(weight.data(), DType::kF32, {33});
  args.eps = 1e-6F;
  test::run_variant(cpu::rms_norm_table(), GetParam(), args);
  EXPECT_TRUE(test::same_bits(x, expected));
}

TEST_P(RmsNorm, NoRowsIsNoWork) {
  float out = 5.0F;
  const float weight = 1.0F;
  RmsNormArgs args;
  args.x = args.out = TensorView(&out, DType::kF32, {0, 1});
  args.weight = TensorView(&weight, DType::kF32, {1});
  test::run_variant(cpu::rms_norm_table(), GetParam(), args);
  EXPECT_EQ(out, 5.0F);
}

TEST_P(RmsNorm, RejectsNegativeAndInfiniteEps) {
  EXPECT_THROW(rms_norm(GetParam(), {1.0F}, {1.0F}, -1.0F), Error);
  EXPECT_THROW(rms_norm(GetParam(), {1.0F}, {1.0F}, std::numeric_limits<float>::infinity()), Error);
}

INSTANTIATE_TEST_SUITE_P(Variants, RmsNorm, test::all_variants(), test::variant_name);

class RmsNormBits : public RmsNorm {};

TEST_P(RmsNormBits, AreThoseOfThePortableForm) {
  test::Random random(3);
  for (const std::int64_t width : kWidths) {
    const std::vector<float> x = random.normals(2 * width);
    const std::vector<float> weight = random.normals(width);
    EXPECT_TRUE(test::same_bits(rms_norm(GetParam(), x, weight, 1e-5F),
                                rms_norm("portable", x, weight, 1e-5F)))
        << width;
    const std::vector<float> residual = random.normals(2 * width);
    EXPECT_TRUE(test::same_bits(rms_norm(GetParam(), x, weight, 1e-5F, 2, &residual),
                                rms_norm("portable", x, weight, 1e-5F, 2, &residual)))
        << width;
  }
}

TEST_P(RmsNormBits, DependNeitherOnTheBatchNorOnThreads) {
  test::Random random(4);
  const std::vector<float> x = random.normals(200 * 577);
  const std::vector<float> weight = random.normals(577);
  const std::vector<float> all = rms_norm(GetParam(), x, weight, 1e-5F, 1);
  EXPECT_TRUE(test::same_bits(rms_norm(GetParam(), x, weight, 1e-5F, 3), all));
  const std::vector<float> row(x.begin() + 150 * 577, x.begin() + 151 * 577);
  EXPECT_TRUE(
      test::same_bits(rms_norm(GetParam(), row, weight, 1e-5F), {all.data() + 150 * 577, 577}));
}

INSTANTIATE_TEST_SUITE_P(Variants, RmsNormBits, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
