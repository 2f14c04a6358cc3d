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

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh};
constexpr std::int64_t kWidths[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 1536};

std::vector<float> glu(const std::string& variant,
                       Activation activation,
                       const std::vector<float>& gate,
                       const std::vector<float>& up,
                       int n_threads = 2) {
  const auto n = static_cast<std::int64_t>(gate.size());
  std::vector<float> out(gate.size(), -99.0F);
  GluArgs args;
  args.gate = TensorView(gate.data(), DType::kF32, {1, n});
  args.up = TensorView(up.data(), DType::kF32, {1, n});
  args.out = TensorView(out.data(), DType::kF32, {1, n});
  args.activation = activation;
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
}

// 6 ulp, one more for the product; gelu_tanh's argument adds 2 ulp times itself, 8 at gate -3.
TEST_P(Glu, AgreesWithRef) {
  test::Random random(1);
  for (const Activation a : kActivations) {
    for (const std::int64_t n : kWidths) {
      const std::vector<float> gate = random.uniforms(n, -3.0F, 6.0F);
      const std::vector<float> up = random.normals(n);
      const std::vector<float> expected = glu("ref", a, gate, up);
      const double c = a == Activation::kGeluTanh ? 20 : 7;
      EXPECT_TRUE(
          test::within_bound(glu(GetParam(), a, gate, up), expected,
                             [&](auto i) { return c * test::kEpsF32 * std::abs(expected[i]); }))
          << name(a) << " " << n;
    }
  }
}

TEST_P(Glu, SpecialValuesAreThoseOfRef) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> gate = {kInf,  -kInf,   kNan,   1.0F,  1.0F,  0.0F,  -1e30F,
                                   1e30F, -200.0F, 200.0F, -0.0F, 3e38F, -3e38F};
  std::vector<float> up(gate.size(), 1.0F);
  up[3] = kNan;
  up[4] = -kInf;
  up[5] = kInf;
  for (const Activation a : kActivations) {
    const std::vector<float> expected = glu("ref", a, gate, up);
    EXPECT_TRUE(test::within_bound(glu(GetParam(), a, gate, up), expected, [&](auto i) {
      return 8 * test::kEpsF32 * std::abs(expected[i]) + 0x1p-126;
    })) << name(a);
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
  for (const Activation a : kActivations) {
    const std::vector<float> gate = random.normals(30011, 4.0F);
    const std::vector<float> up = random.normals(30011);
    const std::vector<float> all = glu("portable", a, gate, up, 1);
    EXPECT_TRUE(test::same_bits(glu(GetParam(), a, gate, up, 1), all)) << name(a);
    EXPECT_TRUE(test::same_bits(glu(GetParam(), a, gate, up, 3), all)) << name(a);
    const std::vector<float> some_gate(gate.begin() + 2045, gate.begin() + 2052);
    const std::vector<float> some_up(up.begin() + 2045, up.begin() + 2052);
    EXPECT_TRUE(test::same_bits(glu(GetParam(), a, some_gate, some_up), {all.data() + 2045, 7}));
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, GluBits, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
