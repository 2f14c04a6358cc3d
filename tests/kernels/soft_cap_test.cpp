// soft_cap on the CPU: values, every variant against ref, and bits that depend on the element only.
// The accuracy of tanh itself is in simd_test.cpp.

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

std::vector<float> soft_cap(const std::string& variant,
                            std::vector<float> x,
                            float cap,
                            int n_threads = 2) {
  SoftCapArgs args;
  args.x = TensorView(x.data(), DType::kF32, {1, static_cast<std::int64_t>(x.size())});
  args.cap = cap;
  test::run_variant(cpu::soft_cap_table(), variant, args, n_threads);
  return x;
}

class SoftCap : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
};

TEST_P(SoftCap, HasTheKnownValues) {
  const std::vector<float> out = soft_cap(GetParam(), {0, 30, -15, 1e-6F, 3000, -3000}, 30);
  EXPECT_EQ(out[0], 0.0F);
  EXPECT_NEAR(out[1], 22.8478246767, 4e-6);
  EXPECT_NEAR(out[2], -13.8635147178, 3e-6);
  EXPECT_NEAR(out[3], 1e-6, 3e-13);
  EXPECT_EQ(out[4], 30.0F);
  EXPECT_EQ(out[5], -30.0F);
}

// Relative to the result: tanh 4 ulp, two products and the rounded 1 / cap. And within cap * 2^-21.
TEST_P(SoftCap, AgreesWithRef) {
  test::Random random(1);
  for (const float cap : {1.0F, 30.0F, 50.0F}) {
    for (const std::int64_t n : {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 30011}) {
      std::vector<float> x = random.normals(n, 2 * cap);
      for (std::size_t i = 0; i < x.size(); i += 3) x[i] *= 1e-3F;
      const std::vector<float> expected = soft_cap("ref", x, cap);
      const std::vector<float> actual = soft_cap(GetParam(), x, cap);
      EXPECT_TRUE(test::within_bound(actual, expected,
                                     [&](auto i) {
                                       return std::min(6 * test::kEpsF32 * std::abs(expected[i]),
                                                       cap * 0x1p-21);
                                     }))
          << cap << " " << n;
    }
  }
}

TEST_P(SoftCap, SpecialValuesAreThoseOfRef) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {kInf, -kInf, std::numeric_limits<float>::quiet_NaN(), 3e38F,
                                -3e38F};
  EXPECT_TRUE(test::within(soft_cap(GetParam(), x, 50), soft_cap("ref", x, 50), 0));
}

TEST_P(SoftCap, RefusesACapThatIsNotPositiveAndFinite) {
  for (const float cap :
       {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::nanf(""), 1e-45F}) {
    EXPECT_THROW(soft_cap(GetParam(), {1.0F}, cap), Error) << cap;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, SoftCap, test::all_variants(), test::variant_name);

class SoftCapBits : public SoftCap {};

TEST_P(SoftCapBits, DependOnTheElementOnly) {
  const std::vector<float> x = test::Random(3).normals(30011, 40.0F);
  const std::vector<float> all = soft_cap("portable", x, 30, 1);
  EXPECT_TRUE(test::same_bits(soft_cap(GetParam(), x, 30, 1), all));
  EXPECT_TRUE(test::same_bits(soft_cap(GetParam(), x, 30, 3), all));
  const std::vector<float> some(x.begin() + 2045, x.begin() + 2052);
  EXPECT_TRUE(test::same_bits(soft_cap(GetParam(), some, 30), {all.data() + 2045, 7}));
}

INSTANTIATE_TEST_SUITE_P(Variants, SoftCapBits, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
