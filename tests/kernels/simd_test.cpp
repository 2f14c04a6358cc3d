// The vector functions under the CPU kernels: accuracy against libm in f64, special values, and the
// same bits on every instruction set.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/half.h"
#include "kernels/cpu/simd16_kernels.h"
#include "tests/support/compare.h"
#include "tests/support/cpu_variants.h"
#include "tests/support/random.h"

namespace heddle {
namespace {

using cpu::BF16;
using cpu::F16;
using cpu::RowKernels;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
// Group of 16 less one, exact, more one; the halves of AVX2's two registers.
constexpr std::int64_t kSizes[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100};

const RowKernels& kernels_of(const std::string& variant) {
  if (variant == "avx512") return *cpu::row_kernels_avx512();
  if (variant == "avx2") return *cpu::row_kernels_avx2();
  return cpu::row_kernels_portable();
}

// |actual - exact| in units of the last place of the exact result as f32.
double ulps(float actual, double exact) {
  const int exponent = std::max(std::ilogb(exact), -126);
  return std::abs(actual - exact) / std::ldexp(1.0, exponent - 23);
}

class Simd : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
  const RowKernels& kernels() const { return kernels_of(GetParam()); }

  using Function = void (*)(const float*, float*, std::int64_t);
  static std::vector<float> map(Function f, const std::vector<float>& x) {
    std::vector<float> y(x.size());
    f(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
    return y;
  }
  std::vector<float> activate(Activation kind, const std::vector<float>& x) const {
    const std::vector<float> one(x.size(), 1.0F);
    std::vector<float> y(x.size());
    kernels().glu({.gate = x.data(),
                   .up = one.data(),
                   .out = y.data(),
                   .n = static_cast<std::int64_t>(x.size()),
                   .activation = kind});
    return y;
  }
};

// Every 1/1000 of the range plus random points, in one vector.
std::vector<float> sweep(float low, float high, std::int64_t n) {
  std::vector<float> x;
  for (std::int64_t i = 0; i <= n; ++i) {
    x.push_back(low + (high - low) * static_cast<float>(i) / static_cast<float>(n));
  }
  test::Random random(7);
  for (std::int64_t i = 0; i < n; ++i) x.push_back(random.uniform(low, high));
  for (int i = 0; i < 30; ++i) x.push_back(std::ldexp(1.0F, -i) * (high > 0 ? high : low));
  return x;
}

TEST_P(Simd, ExpOfNonpositiveIsWithin2Ulp) {
  const std::vector<float> x = sweep(-87.33F, 0.0F, 100000);
  const std::vector<float> y = map(kernels().exp_nonpositive, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_LE(ulps(y[i], std::exp(static_cast<double>(x[i]))), 2.0) << "exp(" << x[i] << ")";
  }
}

TEST_P(Simd, ExpOfNonpositiveHasExactEnds) {
  const std::vector<float> x = {0.0F, -0.0F, -kInf, -87.4F, -1000.0F, -3e38F, kNan, -1e-30F};
  const std::vector<float> y = map(kernels().exp_nonpositive, x);
  EXPECT_EQ(y[0], 1.0F);
  EXPECT_EQ(y[1], 1.0F);
  for (int i = 2; i < 6; ++i) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(y[static_cast<std::size_t>(i)]), 0U) << x[i];
  }
  EXPECT_TRUE(std::isnan(y[6]));
  EXPECT_EQ(y[7], 1.0F);
}

TEST_P(Simd, ExpIsWithin2UlpAndUnderflowsGradually) {
  const std::vector<float> x = sweep(-103.0F, 88.7F, 200000);
  const std::vector<float> y = map(kernels().exp_any, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_LE(ulps(y[i], std::exp(static_cast<double>(x[i]))), 2.0) << "exp(" << x[i] << ")";
  }
}

TEST_P(Simd, ExpOfSpecialValues) {
  const std::vector<float> x = {kInf, -kInf, kNan, 89.0F, 3e38F, -200.0F, 0.0F};
  const std::vector<float> y = map(kernels().exp_any, x);
  EXPECT_EQ(y[0], kInf);
  EXPECT_EQ(y[1], 0.0F);
  EXPECT_TRUE(std::isnan(y[2]));
  EXPECT_EQ(y[3], kInf);
  EXPECT_EQ(y[4], kInf);
  EXPECT_EQ(y[5], 0.0F);
  EXPECT_EQ(y[6], 1.0F);
}

TEST_P(Simd, TanhIsWithin4UlpFromTheTiniestOn) {
  const std::vector<float> x = sweep(-10.0F, 10.0F, 200000);
  const std::vector<float> small = sweep(-0.4F, 0.4F, 100000);
  for (const std::vector<float>& in : {x, small}) {
    const std::vector<float> y = map(kernels().tanh, in);
    for (std::size_t i = 0; i < in.size(); ++i) {
      ASSERT_LE(ulps(y[i], std::tanh(static_cast<double>(in[i]))), 4.0) << "tanh(" << in[i] << ")";
    }
  }
}

TEST_P(Simd, TanhOfSpecialValues) {
  const std::vector<float> x = {kInf, -kInf, kNan, 20.0F, -20.0F, 3e38F, -3e38F, 0.0F};
  const std::vector<float> y = map(kernels().tanh, x);
  EXPECT_EQ(y[0], 1.0F);
  EXPECT_EQ(y[1], -1.0F);
  EXPECT_TRUE(std::isnan(y[2]));
  EXPECT_EQ(y[3], 1.0F);
  EXPECT_EQ(y[4], -1.0F);
  EXPECT_EQ(y[5], 1.0F);
  EXPECT_EQ(y[6], -1.0F);
  EXPECT_EQ(y[7], 0.0F);
}

TEST_P(Simd, SiluIsWithin4Ulp) {
  const std::vector<float> x = sweep(-80.0F, 80.0F, 100000);
  const std::vector<float> y = activate(Activation::kSilu, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    ASSERT_LE(ulps(y[i], v / (1 + std::exp(-v))), 4.0) << "silu(" << x[i] << ")";
  }
}

TEST_P(Simd, GeluIsWithin6UlpFarIntoTheTail) {
  const std::vector<float> x = sweep(-13.0F, 13.0F, 100000);
  const std::vector<float> y = activate(Activation::kGelu, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    const double exact = v / 2 * std::erfc(-v / std::sqrt(2.0));
    if (std::abs(exact) < 0x1p-126) continue;
    ASSERT_LE(ulps(y[i], exact), 6.0) << "gelu(" << x[i] << ")";
  }
}

// The argument 2y carries three roundings, which exp multiplies by |2y|.
TEST_P(Simd, GeluTanhIsWithin4UlpPlusItsArgumentsError) {
  const std::vector<float> x = sweep(-9.0F, 9.0F, 100000);
  const std::vector<float> y = activate(Activation::kGeluTanh, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    const double argument = 2 * std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
    const double exact = v / (1 + std::exp(-argument));
    if (std::abs(exact) < 0x1p-126) continue;
    const double slack = v < 0 ? 2 * std::abs(argument) : 0;
    ASSERT_LE(ulps(y[i], exact), 4.0 + slack) << "gelu_tanh(" << x[i] << ")";
  }
}

// The argument carries the roundings of 1.702 and of the product, which exp multiplies by it.
TEST_P(Simd, QuickGeluIsWithin4UlpPlusItsArgumentsError) {
  const std::vector<float> x = sweep(-50.0F, 50.0F, 100000);
  const std::vector<float> y = activate(Activation::kQuickGelu, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    const double slack = v < 0 ? 2 * std::abs(1.702 * v) : 0;
    ASSERT_LE(ulps(y[i], v / (1 + std::exp(-1.702 * v))), 4.0 + slack) << "quick_gelu(" << v << ")";
  }
}

TEST_P(Simd, SigmoidIsWithin4Ulp) {
  const std::vector<float> x = sweep(-100.0F, 100.0F, 100000);
  const std::vector<float> y = activate(Activation::kSigmoid, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    ASSERT_LE(ulps(y[i], 1 / (1 + std::exp(-v))), 4.0) << "sigmoid(" << v << ")";
  }
}

TEST_P(Simd, Elu1IsWithin2Ulp) {
  const std::vector<float> x = sweep(-87.33F, 87.33F, 100000);
  const std::vector<float> y = activate(Activation::kElu1, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    ASSERT_LE(ulps(y[i], v > 0 ? v + 1 : std::exp(v)), 2.0) << "elu1(" << v << ")";
  }
}

TEST_P(Simd, ReluAndIdentityAreExact) {
  const std::vector<float> x = sweep(-10.0F, 10.0F, 1000);
  const std::vector<float> relu = activate(Activation::kRelu, x);
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(relu[i], x[i] > 0 ? x[i] : 0.0F) << x[i];
  EXPECT_TRUE(test::same_bits(activate(Activation::kIdentity, x), x));
}

TEST_P(Simd, HalvesRoundAsTheHostFunctionsDo) {
  test::Random random(11);
  std::vector<float> x;
  for (int i = 0; i < 100000; ++i) {
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random.bits())));
  }
  for (std::uint32_t h = 0; h < 0x10000U; h += 7) {  // exact ties between neighbours
    const float a = f16_to_f32(static_cast<std::uint16_t>(h));
    const float b = f16_to_f32(static_cast<std::uint16_t>(h + 1));
    x.push_back(a + (b - a) / 2);
    x.push_back(std::bit_cast<float>((h << 16) | 0x8000U));
  }
  std::vector<F16> f(x.size());
  std::vector<BF16> b(x.size());
  kernels().to_f16(x.data(), f.data(), static_cast<std::int64_t>(x.size()));
  kernels().to_bf16(x.data(), b.data(), static_cast<std::int64_t>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(f[i].bits, f32_to_f16(x[i])) << std::hexfloat << x[i];
    ASSERT_EQ(b[i].bits, f32_to_bf16(x[i])) << std::hexfloat << x[i];
  }
}

TEST_P(Simd, EveryHalfWidensAsTheHostFunctionsDo) {
  std::vector<F16> f(0x10000);
  std::vector<BF16> b(0x10000);
  for (std::uint32_t i = 0; i < 0x10000U; ++i) {
    f[i].bits = b[i].bits = static_cast<std::uint16_t>(i);
  }
  std::vector<float> from_f(0x10000);
  std::vector<float> from_b(0x10000);
  kernels().from_f16(f.data(), from_f.data(), 0x10000);
  kernels().from_bf16(b.data(), from_b.data(), 0x10000);
  for (std::uint32_t i = 0; i < 0x10000U; ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(from_f[i]),
              std::bit_cast<std::uint32_t>(f16_to_f32(static_cast<std::uint16_t>(i))));
    ASSERT_EQ(std::bit_cast<std::uint32_t>(from_b[i]),
              std::bit_cast<std::uint32_t>(bf16_to_f32(static_cast<std::uint16_t>(i))));
  }
}

TEST_P(Simd, NothingBeyondTheEndIsReadOrWritten) {
  for (const std::int64_t n : kSizes) {
    std::vector<float> x(static_cast<std::size_t>(n), -0.5F);  // the sanitizer watches reads
    std::vector<float> y(static_cast<std::size_t>(n) + 32, 7.0F);
    kernels().exp_any(x.data(), y.data(), n);
    for (std::size_t i = 0; i < y.size(); ++i) {
      ASSERT_EQ(y[i] == 7.0F, i >= static_cast<std::size_t>(n)) << n << ": " << i;
    }
    std::vector<F16> h(static_cast<std::size_t>(n) + 32, F16{0x1234});
    kernels().to_f16(x.data(), h.data(), n);
    for (std::size_t i = 0; i < h.size(); ++i) {
      ASSERT_EQ(h[i].bits == 0x1234, i >= static_cast<std::size_t>(n)) << n << ": " << i;
    }
  }
}

TEST_P(Simd, BitsAreThoseOfThePortableForm) {
  const RowKernels& portable = cpu::row_kernels_portable();
  test::Random random(3);
  for (const std::int64_t n : kSizes) {
    const std::vector<float> x = random.normals(n, 6.0F);
    const std::vector<float> up = random.normals(n);
    std::vector<float> a(x.size());
    std::vector<float> b(x.size());
    for (const Activation kind : kAllActivations) {
      cpu::GluRow row = {
          .gate = x.data(), .up = up.data(), .out = a.data(), .n = n, .activation = kind};
      kernels().glu(row);
      row.out = b.data();
      portable.glu(row);
      ASSERT_TRUE(test::same_bits(a, b)) << n;
    }
    kernels().exp_any(x.data(), a.data(), n);
    portable.exp_any(x.data(), b.data(), n);
    ASSERT_TRUE(test::same_bits(a, b)) << n;
    kernels().tanh(x.data(), a.data(), n);
    portable.tanh(x.data(), b.data(), n);
    ASSERT_TRUE(test::same_bits(a, b)) << n;
    if (n == 0) continue;
    const auto scan_a = kernels().scan(x.data(), n);
    const auto scan_b = portable.scan(x.data(), n);
    ASSERT_EQ(scan_a.max, scan_b.max);
    ASSERT_EQ(scan_a.argmax, scan_b.argmax);
    const auto sums_a = kernels().exp_sums(x.data(), n, scan_a.max, 0.7F, a.data());
    const auto sums_b = portable.exp_sums(x.data(), n, scan_a.max, 0.7F, b.data());
    ASSERT_EQ(sums_a.lanes, sums_b.lanes);
    ASSERT_EQ(sums_a.grid, sums_b.grid);
    ASSERT_TRUE(test::same_bits(a, b)) << n;
  }
}

TEST_P(Simd, ScanFindsTheFirstMaximumAndEveryNan) {
  for (const std::int64_t n : kSizes) {
    for (std::int64_t at = 0; at < n; ++at) {
      std::vector<float> x(static_cast<std::size_t>(n), -kInf);
      x[static_cast<std::size_t>(at)] = 2.5F;
      x.back() = 2.5F;  // a tie further on
      const auto scan = kernels().scan(x.data(), n);
      ASSERT_EQ(scan.max, 2.5F);
      ASSERT_EQ(scan.argmax, at);
      ASSERT_FALSE(scan.nan);
      x[static_cast<std::size_t>(at)] = kNan;
      ASSERT_TRUE(kernels().scan(x.data(), n).nan) << n << ": " << at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, Simd, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
