// glu on the CPU: values, every variant against ref, aliasing, and bits that depend on the element
// only. The accuracy of the functions themselves is in simd_test.cpp.

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

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::int64_t kWidths[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 1536};

std::vector<float> glu(const std::string& variant,
                       Activation activation,
                       const std::vector<float>& gate,
                       const std::vector<float>& up,
                       int n_threads = 2,
                       float limit = 0.0F,
                       float up_add = 0.0F) {
  const auto n = static_cast<std::int64_t>(gate.size());
  std::vector<float> out(gate.size(), -99.0F);
  GluArgs args;
  args.gate = TensorView(gate.data(), DType::kF32, {1, n});
  args.up = TensorView(up.data(), DType::kF32, {1, n});
  args.out = TensorView(out.data(), DType::kF32, {1, n});
  args.activation = activation;
  args.limit = limit;
  args.up_add = up_add;
  test::run_variant(cpu::glu_table(), variant, args, n_threads);
  return out;
}

class Glu : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
};

TEST_P(Glu, HasTheKnownValues) {
  const std::vector<float> gate = {0, 1, -1, 2};
  const std::vector<float> up = {5, 2, 2, 1};
  const auto silu = glu(GetParam(), Activation::kSilu, gate, up);
  EXPECT_EQ(silu[0], 0.0F);
  EXPECT_NEAR(silu[1], 1.4621171573, 4e-7);
  EXPECT_NEAR(silu[2], -0.5378828427, 2e-7);
  EXPECT_NEAR(silu[3], 1.7615941560, 4e-7);
  const auto gelu = glu(GetParam(), Activation::kGelu, gate, up);
  EXPECT_EQ(gelu[0], 0.0F);
  EXPECT_NEAR(gelu[1], 1.6826894921, 4e-7);
  EXPECT_NEAR(gelu[2], -0.3173105079, 2e-7);
  EXPECT_NEAR(gelu[3], 1.9544997361, 4e-7);
  const auto tanh = glu(GetParam(), Activation::kGeluTanh, gate, up);
  EXPECT_EQ(tanh[0], 0.0F);
  EXPECT_NEAR(tanh[1], 1.6823839840, 4e-7);
  EXPECT_NEAR(tanh[2], -0.3176160160, 2e-7);
  EXPECT_NEAR(tanh[3], 1.9545976840, 4e-7);
  const auto quick = glu(GetParam(), Activation::kQuickGelu, gate, up);
  EXPECT_EQ(quick[0], 0.0F);
  EXPECT_NEAR(quick[1], 1.6915915319, 4e-7);
  EXPECT_NEAR(quick[2], -0.3084084681, 2e-7);
  EXPECT_NEAR(quick[3], 1.9356586231, 4e-7);
  const auto sigmoid = glu(GetParam(), Activation::kSigmoid, gate, up);
  EXPECT_EQ(sigmoid[0], 2.5F);
  EXPECT_NEAR(sigmoid[1], 1.4621171573, 4e-7);
  EXPECT_NEAR(sigmoid[2], 0.5378828427, 2e-7);
  EXPECT_NEAR(sigmoid[3], 0.8807970780, 2e-7);
  EXPECT_EQ(glu(GetParam(), Activation::kRelu, gate, up), (std::vector<float>{0, 2, 0, 2}));
  const auto elu1 = glu(GetParam(), Activation::kElu1, gate, up);
  EXPECT_EQ(elu1[0], 5.0F);
  EXPECT_EQ(elu1[1], 4.0F);
  EXPECT_NEAR(elu1[2], 0.7357588823, 2e-7);
  EXPECT_EQ(elu1[3], 3.0F);
  EXPECT_EQ(glu(GetParam(), Activation::kIdentity, gate, up), (std::vector<float>{0, 2, -2, 2}));
}

// The argument of these two adds up to 2 ulp times itself: 8 and 10 at gate -3.
double error_in_ulp(Activation a) {
  return a == Activation::kGeluTanh || a == Activation::kQuickGelu ? 20 : 7;
}

// 6 ulp, one more for the product.
TEST_P(Glu, AgreesWithRef) {
  test::Random random(1);
  for (const Activation a : kAllActivations) {
    for (const std::int64_t n : kWidths) {
      const std::vector<float> gate = random.uniforms(n, -3.0F, 6.0F);
      const std::vector<float> up = random.normals(n);
      const std::vector<float> expected = glu("ref", a, gate, up);
      EXPECT_TRUE(test::within_bound(
          glu(GetParam(), a, gate, up), expected,
          [&](auto i) { return error_in_ulp(a) * test::kEpsF32 * std::abs(expected[i]); }))
          << name(a) << " " << n;
    }
  }
}

TEST_P(Glu, LimitsTheGateFromAboveAndUpOnBothSides) {
  const std::vector<float> gate = {2, 4, -5, 1, 1, 3, kInf, -kInf};
  const std::vector<float> up = {1, 1, 1, 4, -9, 3, kInf, -kInf};
  // limit 3: gates 2 3 -5 1 1 3 3 -inf; up + 10: 11 11 11 13 7 13 13 7
  EXPECT_EQ(glu(GetParam(), Activation::kIdentity, gate, up, 2, 3.0F, 10.0F),
            (std::vector<float>{22, 33, -55, 13, 7, 39, 39, -kInf}));
  EXPECT_EQ(glu(GetParam(), Activation::kIdentity, gate, up, 2, 3.0F),
            (std::vector<float>{2, 3, -5, 3, -3, 9, 9, kInf}));
  EXPECT_EQ(glu(GetParam(), Activation::kIdentity, gate, up, 2, 0.0F, 10.0F),
            (std::vector<float>{22, 44, -55, 14, 1, 39, kInf, kInf}));
}

// gpt-oss: quick_gelu(min(gate, 7)) (clamp(up) + 1), far beyond the limit; one more rounding.
TEST_P(Glu, AgreesWithRefBeyondTheLimit) {
  test::Random random(4);
  for (const Activation a : kAllActivations) {
    for (const std::int64_t n : kWidths) {
      const std::vector<float> gate = random.uniforms(n, -3.0F, 20.0F);
      const std::vector<float> up = random.normals(n, 12.0F);
      const std::vector<float> expected = glu("ref", a, gate, up, 2, 7.0F, 1.0F);
      const std::vector<float> actual = glu(GetParam(), a, gate, up, 2, 7.0F, 1.0F);
      EXPECT_TRUE(test::within_bound(
          actual, expected,
          [&](auto i) { return (error_in_ulp(a) + 1) * test::kEpsF32 * std::abs(expected[i]); }))
          << name(a) << " " << n;
    }
  }
}

TEST_P(Glu, RefusesALimitThatIsNegativeOrNotFinite) {
  for (const float bad : {-1.0F, kInf, kNan}) {
    EXPECT_THROW(glu(GetParam(), Activation::kSilu, {1.0F}, {1.0F}, 2, bad), Error) << bad;
  }
  EXPECT_THROW(glu(GetParam(), Activation::kSilu, {1.0F}, {1.0F}, 2, 1.0F, kNan), Error);
}

TEST_P(Glu, SpecialValuesAreThoseOfRef) {
  const std::vector<float> gate = {kInf,  -kInf,   kNan,   1.0F,  1.0F,  0.0F,  -1e30F,
                                   1e30F, -200.0F, 200.0F, -0.0F, 3e38F, -3e38F};
  std::vector<float> up(gate.size(), 1.0F);
  up[3] = kNan;
  up[4] = -kInf;
  up[5] = kInf;
  for (const Activation a : kAllActivations) {
    for (const float limit : {0.0F, 7.0F}) {
      const std::vector<float> expected = glu("ref", a, gate, up, 2, limit);
      EXPECT_TRUE(test::within_bound(
          glu(GetParam(), a, gate, up, 2, limit), expected,
          [&](auto i) { return 8 * test::kEpsF32 * std::abs(expected[i]) + 0x1p-126; }))
          << name(a) << " " << limit;
    }
  }
}

TEST_P(Glu, MayWriteOverEitherInput) {
  test::Random random(2);
  const std::vector<float> gate = random.normals(5000);
  const std::vector<float> up = random.normals(5000);
  const std::vector<float> expected = glu(GetParam(), Activation::kSilu, gate, up);
  for (const bool over_gate : {true, false}) {
    std::vector<float> g = gate;
    std::vector<float> u = up;
    GluArgs args;
    args.gate = TensorView(g.data(), DType::kF32, {5, 1000});
    args.up = TensorView(u.data(), DType::kF32, {5, 1000});
    args.out = over_gate ? args.gate : args.up;
    test::run_variant(cpu::glu_table(), GetParam(), args);
    EXPECT_TRUE(test::same_bits(over_gate ? g : u, expected));
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, Glu, test::all_variants(), test::variant_name);

class GluBits : public Glu {};

TEST_P(GluBits, DependOnTheElementOnly) {
  test::Random random(3);
  for (const Activation a : kAllActivations) {
    for (const float limit : {0.0F, 3.0F}) {
      const float up_add = limit / 2;
      const std::vector<float> gate = random.normals(30011, 4.0F);
      const std::vector<float> up = random.normals(30011);
      const std::vector<float> all = glu("portable", a, gate, up, 1, limit, up_add);
      EXPECT_TRUE(test::same_bits(glu(GetParam(), a, gate, up, 1, limit, up_add), all)) << name(a);
      EXPECT_TRUE(test::same_bits(glu(GetParam(), a, gate, up, 3, limit, up_add), all)) << name(a);
      const std::vector<float> some_gate(gate.begin() + 2045, gate.begin() + 2052);
      const std::vector<float> some_up(up.begin() + 2045, up.begin() + 2052);
      EXPECT_TRUE(test::same_bits(glu(GetParam(), a, some_gate, some_up, 2, limit, up_add),
                                  {all.data() + 2045, 7}));
    }
  }
}

TEST_P(GluBits, KeepTheSignOfZeroWithoutUpAdd) {
  const std::vector<float> out =
      glu(GetParam(), Activation::kIdentity, {1, 1, -1}, {-0.0F, 0.0F, 0.0F});
  EXPECT_TRUE(test::same_bits(out, std::vector<float>{-0.0F, 0.0F, -0.0F}));
}

INSTANTIATE_TEST_SUITE_P(Variants, GluBits, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
