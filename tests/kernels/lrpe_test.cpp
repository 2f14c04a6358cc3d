// lrpe on the CPU: the formula, the relative property, every variant against ref, and bits that
// depend on the row only.

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

using Floats = std::vector<float>;
using Ints = std::vector<std::int32_t>;

struct Heads {
  std::int64_t n_heads = 1;
  Floats theta;  // [n_heads, head_dim]
  std::int64_t head_dim() const { return static_cast<std::int64_t>(theta.size()) / n_heads; }
  std::int64_t row() const { return static_cast<std::int64_t>(theta.size()); }
};

LrpeArgs args_of(const Heads& heads, const Floats& x, const Ints& positions, const Floats& out) {
  const auto n = static_cast<std::int64_t>(positions.size());
  LrpeArgs args;
  args.x = TensorView(x.data(), DType::kF32, {n, heads.n_heads, heads.head_dim()});
  args.theta = TensorView(heads.theta.data(), DType::kF32, {heads.n_heads, heads.head_dim()});
  args.positions = TensorView(positions.data(), DType::kI32, {n});
  args.out = TensorView(out.data(), DType::kF32, {n, heads.n_heads, 2 * heads.head_dim()});
  return args;
}

Floats lrpe(const std::string& variant,
            const Heads& heads,
            const Floats& x,
            const Ints& positions,
            int n_threads = 2) {
  Floats out(2 * x.size(), -99.0F);
  test::run_variant(cpu::lrpe_table(), variant, args_of(heads, x, positions, out), n_threads);
  return out;
}

/// 10000^(-2 i / (n_heads head_dim)) over all heads, as TransNormerLLM begins its training.
Heads transnormer_heads(std::int64_t n_heads, std::int64_t head_dim) {
  Heads heads = {.n_heads = n_heads, .theta = {}};
  const auto d = static_cast<double>(n_heads * head_dim);
  for (std::int64_t i = 0; i < n_heads * head_dim; ++i) {
    heads.theta.push_back(static_cast<float>(std::pow(1e4, -2.0 * static_cast<double>(i) / d)));
  }
  return heads;
}

class Lrpe : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
};

TEST_P(Lrpe, PutsCosinesBeforeSinesHeadByHead) {
  const float quarter = 1.57079632679F;
  const Heads heads = {.n_heads = 2, .theta = {0.0F, quarter, 2 * quarter, 0.5F}};
  const Floats out = lrpe(GetParam(), heads, {1, 2, 3, 4, 5, 6, 7, 8}, {0, 1});
  const Floats expected = {1,  2,
                           0,  0,
                           3,  4,
                           0,  0,  // position 0: x, then zeros
                           5,  0,
                           0,  6,
                           -7, 8 * std::cos(0.5F),
                           0,  8 * std::sin(0.5F)};
  EXPECT_TRUE(test::within(out, expected, 2e-6));
}

// The f32 angle of a late position is not its exact product: that rounding belongs to the op.
TEST_P(Lrpe, AngleIsTheF32Product) {
  const float theta = 0.7F;
  const double angle = 1e6F * theta;
  ASSERT_NE(angle, 1e6 * static_cast<double>(theta));
  const Floats out = lrpe(GetParam(), {.n_heads = 1, .theta = {theta}}, {1}, {1'000'000});
  EXPECT_EQ(out[0], static_cast<float>(std::cos(angle)));
  EXPECT_EQ(out[1], static_cast<float>(std::sin(angle)));
}

// <lrpe(q, t), lrpe(k, s)> = sum q_i k_i cos(theta_i (t - s)). Each factor has two roundings
// (cosine, product): 2 eps of |q_i k_i| for a pair, since |cos cos| + |sin sin| <= 1; a rounded
// angle is off by eps/2 of itself. One eps more for the test's own sums.
TEST_P(Lrpe, DotProductsDependOnTheDistance) {
  constexpr std::int64_t kHeads = 3;
  constexpr std::int64_t kDim = 20;
  const Heads heads = transnormer_heads(kHeads, kDim);
  test::Random random(1);
  const Ints positions = {0, 1, 17, 255, 256, 4000};
  const auto n = static_cast<std::int64_t>(positions.size());
  const Floats q = random.normals(n * heads.row());
  const Floats k = random.normals(n * heads.row());
  const Floats rotated_q = lrpe(GetParam(), heads, q, positions);
  const Floats rotated_k = lrpe(GetParam(), heads, k, positions);
  for (std::int64_t t = 0; t < n; ++t) {
    for (std::int64_t s = 0; s <= t; ++s) {
      for (std::int64_t h = 0; h < kHeads; ++h) {
        double dot = 0;
        const std::int64_t at_q = (t * kHeads + h) * 2 * kDim;
        const std::int64_t at_k = (s * kHeads + h) * 2 * kDim;
        for (std::int64_t i = 0; i < 2 * kDim; ++i) {
          dot += static_cast<double>(rotated_q[static_cast<std::size_t>(at_q + i)]) *
                 rotated_k[static_cast<std::size_t>(at_k + i)];
        }
        double expected = 0;
        double bound = 0;
        for (std::int64_t i = 0; i < kDim; ++i) {
          const double theta = heads.theta[static_cast<std::size_t>(h * kDim + i)];
          const auto at = [&](const Floats& v, std::int64_t row) {
            return v[static_cast<std::size_t>((row * kHeads + h) * kDim + i)];
          };
          const auto position = [&](std::int64_t row) {
            return static_cast<double>(positions[static_cast<std::size_t>(row)]);
          };
          const double term = static_cast<double>(at(q, t)) * at(k, s);
          expected += term * std::cos(theta * (position(t) - position(s)));
          const double angles = theta * (position(t) + position(s));
          bound += std::abs(term) * test::kEpsF32 * (3 + angles / 2);
        }
        EXPECT_NEAR(dot, expected, bound) << t << " " << s << " " << h;
      }
    }
  }
}

// The cosine is rounded, then the product; ref rounds once.
TEST_P(Lrpe, AgreesWithRef) {
  test::Random random(2);
  for (const std::int64_t head_dim : {1, 15, 16, 17, 63, 64, 65, 128, 130}) {
    const Heads heads = {.n_heads = 3, .theta = random.normals(3 * head_dim)};
    const Ints positions = {0, 1, 100, 131071, 1'000'000};
    const Floats x = random.normals(5 * heads.row());
    const Floats expected = lrpe("ref", heads, x, positions);
    EXPECT_TRUE(test::within_bound(lrpe(GetParam(), heads, x, positions), expected, [&](auto i) {
      return 1.01 * test::kEpsF32 * std::abs(expected[i]);
    })) << head_dim;
  }
}

TEST_P(Lrpe, NonFiniteValuesAreThoseOfRef) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const Heads heads = {.n_heads = 1, .theta = {0.5F, 0.5F, 0.5F, kNan, 0.0F}};
  const Floats x = {kNan, kInf, -kInf, 1.0F, kInf, kNan, kInf, 1.0F, 1.0F, kInf};
  const Floats expected = lrpe("ref", heads, x, {0, 3});
  EXPECT_TRUE(test::within(lrpe(GetParam(), heads, x, {0, 3}), expected, 1e-6));
}

TEST_P(Lrpe, NoRowsIsNoWork) {
  EXPECT_TRUE(lrpe(GetParam(), {.n_heads = 2, .theta = {1, 2}}, {}, {}).empty());
}

TEST_P(Lrpe, RefusesOverlapAndOtherShapes) {
  const Heads heads = {.n_heads = 2, .theta = {1, 2, 3, 4}};
  const Floats x(8, 1.0F);
  Floats out(16);
  const Ints positions = {1, 2};
  const LrpeArgs good = args_of(heads, x, positions, out);
  const auto run = [&](const auto& change) {
    LrpeArgs args = good;
    change(args);
    test::run_variant(cpu::lrpe_table(), GetParam(), args);
  };
  EXPECT_NO_THROW(run([](LrpeArgs&) {}));
  EXPECT_NO_THROW(run([&](LrpeArgs& a) {
    a.x.data = out.data();
    a.x.dims[0] = a.out.dims[0] = a.positions.dims[0] = 1;
    a.out.data = out.data() + 4;
  }));
  EXPECT_THROW(run([&](LrpeArgs& a) { a.x.data = out.data(); }), Error);
  EXPECT_THROW(run([&](LrpeArgs& a) { a.x.data = out.data() + 8; }), Error);
  EXPECT_THROW(run([](LrpeArgs& a) { a.out.dims[2] = 2; }), Error);
  EXPECT_THROW(run([](LrpeArgs& a) { a.theta.dims[0] = 1; }), Error);
  EXPECT_THROW(run([](LrpeArgs& a) { a.positions.dims[0] = 1; }), Error);
  EXPECT_THROW(run([](LrpeArgs& a) { a.positions.dtype = DType::kF32; }), Error);
}

INSTANTIATE_TEST_SUITE_P(Variants, Lrpe, test::all_variants(), test::variant_name);

class LrpeBits : public Lrpe {};

TEST_P(LrpeBits, DependNeitherOnTheBatchNorOnThreads) {
  const Heads heads = transnormer_heads(4, 33);
  Ints positions;
  for (int i = 0; i < 50; ++i) positions.push_back(i * 29);
  const Floats x = test::Random(3).normals(50 * heads.row());
  const Floats all = lrpe("portable", heads, x, positions, 1);
  EXPECT_TRUE(test::same_bits(lrpe(GetParam(), heads, x, positions, 1), all));
  EXPECT_TRUE(test::same_bits(lrpe(GetParam(), heads, x, positions, 3), all));
  const std::int64_t row = heads.row();
  const Floats one(x.begin() + 31 * row, x.begin() + 32 * row);
  EXPECT_TRUE(test::same_bits(lrpe(GetParam(), heads, one, {31 * 29}),
                              {all.data() + 31 * 2 * row, static_cast<std::size_t>(2 * row)}));
}

INSTANTIATE_TEST_SUITE_P(Variants, LrpeBits, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
