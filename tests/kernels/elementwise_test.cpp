// activate, add_scaled, log_scale and scale_heads on the CPU: values by hand, every variant against
// ref, aliasing, and bits that depend on the row only. The activations' accuracy is in
// simd_test.cpp.

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

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::int64_t kWidths[] = {1, 7, 8, 9, 15, 16, 17, 31, 33, 576, 4095, 4096, 4097};

TensorView rows(const Floats& v, std::int64_t width) {
  const auto n = static_cast<std::int64_t>(v.size());
  return {v.data(), DType::kF32, {n / width, width}};
}

TensorView view(const Floats& v) {
  return {v.data(), DType::kF32, {static_cast<std::int64_t>(v.size())}};
}

Floats row_of(const Floats& v, std::int64_t row, std::int64_t width) {
  return {v.begin() + row * width, v.begin() + (row + 1) * width};
}

class PerVariant : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
};

// ---- activate

Floats activate(const std::string& variant, Activation a, const Floats& x, int n_threads = 2) {
  Floats out(x.size(), -99.0F);
  const ActivateArgs args = {.x = view(x), .out = view(out), .activation = a};
  test::run_variant(cpu::activate_table(), variant, args, n_threads);
  return out;
}

class Activate : public PerVariant {};

TEST_P(Activate, HasTheKnownValues) {
  EXPECT_EQ(activate(GetParam(), Activation::kRelu, {-1, 0, 2}), (Floats{0, 0, 2}));
  EXPECT_EQ(activate(GetParam(), Activation::kIdentity, {-1, 0, 2}), (Floats{-1, 0, 2}));
  const Floats elu1 = activate(GetParam(), Activation::kElu1, {-1, 0, 2});
  EXPECT_NEAR(elu1[0], 0.3678794412, 1e-7);
  EXPECT_EQ(elu1[1], 1.0F);
  EXPECT_EQ(elu1[2], 3.0F);
  const Floats sigmoid = activate(GetParam(), Activation::kSigmoid, {-1, 0, 2});
  EXPECT_NEAR(sigmoid[0], 0.2689414214, 1e-7);
  EXPECT_EQ(sigmoid[1], 0.5F);
  EXPECT_NEAR(sigmoid[2], 0.8807970780, 2e-7);
  EXPECT_NEAR(activate(GetParam(), Activation::kSilu, {2})[0], 1.7615941560, 4e-7);
}

// As glu without the product; two arguments carry 2 ulp times themselves, up to 10 at -3.
TEST_P(Activate, AgreesWithRef) {
  test::Random random(1);
  for (const Activation a : kAllActivations) {
    for (const std::int64_t n : kWidths) {
      const Floats x = random.uniforms(n, -3.0F, 6.0F);
      const Floats expected = activate("ref", a, x);
      const double c = a == Activation::kGeluTanh || a == Activation::kQuickGelu ? 20 : 6;
      EXPECT_TRUE(
          test::within_bound(activate(GetParam(), a, x), expected,
                             [&](auto i) { return c * test::kEpsF32 * std::abs(expected[i]); }))
          << name(a) << " " << n;
    }
  }
}

TEST_P(Activate, SpecialValuesAreThoseOfRef) {
  const Floats x = {kInf, -kInf, kNan, 0.0F, -0.0F, 3e38F, -3e38F, 200.0F, -200.0F};
  for (const Activation a : kAllActivations) {
    EXPECT_TRUE(test::within(activate(GetParam(), a, x), activate("ref", a, x), 0x1p-126))
        << name(a);
  }
}

TEST_P(Activate, MayWriteOverItsInputOfAnyShape) {
  Floats x = test::Random(2).normals(2 * 3 * 5 * 7);
  const Floats expected = activate(GetParam(), Activation::kSigmoid, x);
  ActivateArgs args;
  args.x = args.out = TensorView(x.data(), DType::kF32, {2, 3, 5, 7});
  args.activation = Activation::kSigmoid;
  test::run_variant(cpu::activate_table(), GetParam(), args);
  EXPECT_TRUE(test::same_bits(x, expected));
}

TEST_P(Activate, RefusesAnOutputOfAnotherShape) {
  const Floats x(6);
  ActivateArgs args = {.x = rows(x, 2), .out = rows(x, 3)};
  EXPECT_THROW(test::run_variant(cpu::activate_table(), GetParam(), args), Error);
  args.out = args.x;
  args.out.dtype = DType::kF16;
  EXPECT_THROW(test::run_variant(cpu::activate_table(), GetParam(), args), Error);
}

INSTANTIATE_TEST_SUITE_P(Variants, Activate, test::all_variants(), test::variant_name);

class ActivateBits : public PerVariant {};

TEST_P(ActivateBits, DependOnTheElementOnly) {
  const Floats x = test::Random(3).normals(30011, 4.0F);
  for (const Activation a : kAllActivations) {
    const Floats all = activate("portable", a, x, 1);
    EXPECT_TRUE(test::same_bits(activate(GetParam(), a, x, 1), all)) << name(a);
    EXPECT_TRUE(test::same_bits(activate(GetParam(), a, x, 3), all)) << name(a);
    const Floats some(x.begin() + 2045, x.begin() + 2052);
    EXPECT_TRUE(test::same_bits(activate(GetParam(), a, some), {all.data() + 2045, 7}));
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, ActivateBits, test::fast_variants(), test::variant_name);

// ---- add_scaled

struct Sum {
  Floats x;
  Floats y;  // empty: absent
  Floats c;  // empty: absent
  std::int64_t width = 1;
  float a = 1.0F;
  float b = 1.0F;
};

AddScaledArgs args_of(const Sum& s, const Floats& out) {
  AddScaledArgs args;
  args.x = rows(s.x, s.width);
  if (!s.y.empty()) args.y = rows(s.y, s.width);
  if (!s.c.empty()) args.c = view(s.c);
  args.out = rows(out, s.width);
  args.a = s.a;
  args.b = s.b;
  return args;
}

Floats add_scaled(const std::string& variant, const Sum& s, int n_threads = 2) {
  Floats out(s.x.size(), -99.0F);
  test::run_variant(cpu::add_scaled_table(), variant, args_of(s, out), n_threads);
  return out;
}

Sum random_sum(std::int64_t n_rows, std::int64_t width, std::uint64_t seed) {
  test::Random random(seed);
  Sum s;
  s.x = random.normals(n_rows * width, 3.0F);
  s.y = random.normals(n_rows * width, 2.0F);
  s.c = random.normals(n_rows);
  s.width = width;
  s.a = 0.7F;
  s.b = -1.3F;
  return s;
}

class AddScaled : public PerVariant {};

TEST_P(AddScaled, IsTheFormula) {
  Sum s = {.x = {1, 2, 3, 4}, .y = {10, 20, 30, 40}, .c = {2, 0.5F}, .width = 2, .a = 3, .b = 0.5F};
  EXPECT_EQ(add_scaled(GetParam(), s), (Floats{13, 26, 16.5F, 22}));
  s.c.clear();
  EXPECT_EQ(add_scaled(GetParam(), s), (Floats{8, 16, 24, 32}));
  s.y.clear();
  EXPECT_EQ(add_scaled(GetParam(), s), (Floats{3, 6, 9, 12}));
}

// a x and b c are rounded once, the fused sum once; ref rounds once in all.
TEST_P(AddScaled, AgreesWithRef) {
  for (const std::int64_t width : kWidths) {
    Sum s = random_sum(3, width, 1);
    for (const int absent : {0, 1, 2}) {
      if (absent > 0) s.c.clear();
      if (absent > 1) s.y.clear();
      const Floats expected = add_scaled("ref", s);
      EXPECT_TRUE(test::within_bound(
          add_scaled(GetParam(), s), expected,
          [&](auto i) {
            const double c = s.c.empty() ? 1 : s.c[i / static_cast<std::size_t>(width)];
            const double term = s.y.empty() ? 0 : s.b * c * s.y[i];
            return test::kEpsF32 / 2 * 1.01 *
                   (std::abs(s.a * s.x[i]) + std::abs(term) + 2 * std::abs(expected[i]));
          }))
          << width << " " << absent;
    }
  }
}

TEST_P(AddScaled, MayWriteOverEitherInput) {
  const Sum s = random_sum(5, 1001, 2);
  const Floats expected = add_scaled(GetParam(), s);
  for (const bool over_x : {true, false}) {
    Sum own = s;
    AddScaledArgs args = args_of(own, own.x);
    args.out = over_x ? args.x : args.y;
    test::run_variant(cpu::add_scaled_table(), GetParam(), args);
    EXPECT_TRUE(test::same_bits(over_x ? own.x : own.y, expected));
  }
}

TEST_P(AddScaled, NonFiniteValuesAreThoseOfRef) {
  Sum s = random_sum(2, 19, 3);
  s.x[0] = kNan;
  s.x[16] = kInf;
  s.y[17] = -kInf;
  s.x[18] = kInf;
  s.y[18] = kInf;  // b < 0, c = 1: infinity less infinity
  s.c = {1, kNan};
  EXPECT_TRUE(test::within(add_scaled(GetParam(), s), add_scaled("ref", s), 1e-5));
}

TEST_P(AddScaled, RefusesAFactorWithoutItsTermAndOtherShapes) {
  const Sum s = random_sum(4, 3, 4);
  const Floats out(12);
  const auto refused = [&](const auto& spoil) {
    AddScaledArgs args = args_of(s, out);
    spoil(args);
    EXPECT_THROW(test::run_variant(cpu::add_scaled_table(), GetParam(), args), Error);
  };
  refused([](AddScaledArgs& a) { a.y = {}; });
  refused([](AddScaledArgs& a) { a.c.dims[0] = 3; });
  refused([](AddScaledArgs& a) { a.y.dims[1] = 4; });
  refused([](AddScaledArgs& a) { a.out.dims[0] = 3; });
  refused([](AddScaledArgs& a) { a.x.dtype = DType::kBF16; });
}

INSTANTIATE_TEST_SUITE_P(Variants, AddScaled, test::all_variants(), test::variant_name);

class AddScaledBits : public PerVariant {};

TEST_P(AddScaledBits, AreOneRoundedProductAndOneFusedSum) {
  for (const std::int64_t width : kWidths) {
    Sum s = random_sum(5, width, 5);
    Floats expected;
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      const float b = s.b * s.c[i / static_cast<std::size_t>(width)];
      expected.push_back(std::fma(b, s.y[i], s.a * s.x[i]));
    }
    EXPECT_TRUE(test::same_bits(add_scaled(GetParam(), s), expected)) << width;
    const Floats one = row_of(expected, 3, width);
    s.x = row_of(s.x, 3, width);
    s.y = row_of(s.y, 3, width);
    s.c = {s.c[3]};
    EXPECT_TRUE(test::same_bits(add_scaled(GetParam(), s), one)) << width;
  }
}

TEST_P(AddScaledBits, DoNotDependOnThreads) {
  for (Sum s : {random_sum(500, 77, 6), random_sum(1, 70001, 7)}) {
    const Floats expected = add_scaled("portable", s, 1);
    EXPECT_TRUE(test::same_bits(add_scaled(GetParam(), s, 3), expected));
    s.c.clear();
    s.y.clear();
    EXPECT_TRUE(test::same_bits(add_scaled(GetParam(), s, 3), add_scaled("portable", s, 1)));
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AddScaledBits, test::fast_variants(), test::variant_name);

// ---- log_scale

Floats log_scale(const std::string& variant,
                 Floats x,
                 const Ints& positions,
                 std::int64_t n0,
                 int n_threads = 2) {
  const auto n = static_cast<std::int64_t>(positions.size());
  const LogScaleArgs args = {
      .x = {x.data(), DType::kF32, {n, 1, static_cast<std::int64_t>(x.size()) / n}},
      .positions = {positions.data(), DType::kI32, {n}},
      .n0 = n0};
  test::run_variant(cpu::log_scale_table(), variant, args, n_threads);
  return x;
}

class LogScale : public PerVariant {};

TEST_P(LogScale, GrowsFromN0Keys) {
  const Ints positions = {0, 510, 511, 512, 1'000'000};
  const Floats out = log_scale(GetParam(), {1, 1, 1, 1, 1}, positions, 512);
  EXPECT_EQ(out[0], 1.0F);
  EXPECT_EQ(out[1], 1.0F);
  EXPECT_EQ(out[2], 1.0F);
  EXPECT_EQ(out[3], static_cast<float>(std::log(513.0) / std::log(512.0)));
  EXPECT_GT(out[3], 1.0F);
  EXPECT_NEAR(out[4], 2.214618890, 2e-7);
  // ln 8 / ln 2
  EXPECT_EQ(log_scale(GetParam(), {-5}, {7}, 2), Floats{-15});
  const std::int32_t last = std::numeric_limits<std::int32_t>::max();
  EXPECT_NEAR(log_scale(GetParam(), {1}, {last}, 2)[0], 31.0, 4e-6);
}

// The factor and the product are rounded once each.
TEST_P(LogScale, AgreesWithRef) {
  test::Random random(1);
  for (const std::int64_t width : kWidths) {
    const Floats x = random.normals(5 * width);
    const Ints positions = {0, 99, 100, 101, 1'000'000};
    const Floats expected = log_scale("ref", x, positions, 100);
    EXPECT_TRUE(test::within_bound(log_scale(GetParam(), x, positions, 100), expected, [&](auto i) {
      return 1.01 * test::kEpsF32 * std::abs(expected[i]);
    })) << width;
  }
}

TEST_P(LogScale, NonFiniteValuesStay) {
  const Floats out = log_scale(GetParam(), {kNan, kInf, kNan, -kInf}, {3, 1000}, 100);
  EXPECT_TRUE(test::within(out, Floats{kNan, kInf, kNan, -kInf}, 0));
}

TEST_P(LogScale, RefusesABaseBelow2AndPositionsBelow0) {
  for (const std::int64_t n0 : {-5, 0, 1}) {
    EXPECT_THROW(log_scale(GetParam(), {1}, {5}, n0), Error) << n0;
  }
  EXPECT_THROW(log_scale(GetParam(), {1, 1}, {5, -1}, 100), Error);
}

INSTANTIATE_TEST_SUITE_P(Variants, LogScale, test::all_variants(), test::variant_name);

class LogScaleBits : public PerVariant {};

TEST_P(LogScaleBits, DependOnThePositionOnly) {
  test::Random random(2);
  Ints positions;
  for (int i = 0; i < 60; ++i) positions.push_back(i * 31);
  const Floats x = random.normals(60 * 4099);
  const Floats all = log_scale("portable", x, positions, 512, 1);
  EXPECT_TRUE(test::same_bits(log_scale(GetParam(), x, positions, 512, 3), all));
  EXPECT_TRUE(test::same_bits(log_scale(GetParam(), row_of(x, 40, 4099), {40 * 31}, 512),
                              row_of(all, 40, 4099)));
}

INSTANTIATE_TEST_SUITE_P(Variants, LogScaleBits, test::fast_variants(), test::variant_name);

// ---- scale_heads

Floats scale_heads(const std::string& variant,
                   const Floats& x,
                   const Floats& gates,
                   std::int64_t n_heads,
                   int n_threads = 2) {
  const auto n_gates = static_cast<std::int64_t>(gates.size());
  const std::int64_t n = n_gates / n_heads;
  const std::int64_t head_dim = static_cast<std::int64_t>(x.size()) / n_gates;
  Floats out(x.size(), -99.0F);
  const ScaleHeadsArgs args = {.x = {x.data(), DType::kF32, {n, n_heads, head_dim}},
                               .gates = {gates.data(), DType::kF32, {n, n_heads}},
                               .out = {out.data(), DType::kF32, {n, n_heads, head_dim}}};
  test::run_variant(cpu::scale_heads_table(), variant, args, n_threads);
  return out;
}

class ScaleHeads : public PerVariant {};

TEST_P(ScaleHeads, IsTheFormula) {
  EXPECT_EQ(scale_heads(GetParam(), {1, 2, 3, 4, 5, 6, 7, 8}, {2, -1, 0, 0.5F}, 2),
            (Floats{2, 4, -3, -4, 0, 0, 3.5F, 4}));
}

// One rounded product, so there is nothing to bound.
TEST_P(ScaleHeads, IsRefToTheBit) {
  test::Random random(1);
  for (const std::int64_t head_dim : {1, 15, 16, 17, 64, 129}) {
    const Floats x = random.normals(7 * 5 * head_dim);
    const Floats gates = random.normals(7 * 5);
    const Floats expected = scale_heads("ref", x, gates, 5);
    EXPECT_TRUE(test::same_bits(scale_heads(GetParam(), x, gates, 5), expected)) << head_dim;
    EXPECT_TRUE(
        test::same_bits(scale_heads(GetParam(), row_of(x, 3, 5 * head_dim), row_of(gates, 3, 5), 5),
                        row_of(expected, 3, 5 * head_dim)))
        << head_dim;
  }
  const Floats many = random.normals(300 * 4 * 64);
  const Floats gates = random.normals(300 * 4);
  EXPECT_TRUE(test::same_bits(scale_heads(GetParam(), many, gates, 4, 3),
                              scale_heads("ref", many, gates, 4)));
}

TEST_P(ScaleHeads, MayWriteOverItsInput) {
  Floats x = test::Random(2).normals(3 * 2 * 33);
  const Floats gates = test::Random(3).normals(3 * 2);
  const Floats expected = scale_heads(GetParam(), x, gates, 2);
  ScaleHeadsArgs args;
  args.x = args.out = TensorView(x.data(), DType::kF32, {3, 2, 33});
  args.gates = TensorView(gates.data(), DType::kF32, {3, 2});
  test::run_variant(cpu::scale_heads_table(), GetParam(), args);
  EXPECT_TRUE(test::same_bits(x, expected));
}

TEST_P(ScaleHeads, NonFiniteValuesStayInTheirHead) {
  const Floats out = scale_heads(GetParam(), {1, kInf, kNan, 1, 1, kInf}, {2, kNan, 0}, 3);
  EXPECT_TRUE(test::within(out, Floats{2, kInf, kNan, kNan, 0, kNan}, 0));
}

TEST_P(ScaleHeads, RefusesGatesOfAnotherShape) {
  const Floats x(24);
  const ScaleHeadsArgs args = {.x = {x.data(), DType::kF32, {2, 3, 4}},
                               .gates = {x.data(), DType::kF32, {3, 2}},
                               .out = {x.data(), DType::kF32, {2, 3, 4}}};
  EXPECT_THROW(test::run_variant(cpu::scale_heads_table(), GetParam(), args), Error);
}

INSTANTIATE_TEST_SUITE_P(Variants, ScaleHeads, test::all_variants(), test::variant_name);

// ---- all of them

class Elementwise : public PerVariant {};

TEST_P(Elementwise, NoRowsIsNoWork) {
  float untouched = 5.0F;
  const TensorView x(&untouched, DType::kF32, {0, 2, 4});
  const TensorView gates(&untouched, DType::kF32, {0, 2});
  const TensorView positions(&untouched, DType::kI32, {0});
  test::run_variant<ActivateArgs>(cpu::activate_table(), GetParam(), {.x = x, .out = x});
  test::run_variant<AddScaledArgs>(cpu::add_scaled_table(), GetParam(),
                                   {.x = gates, .y = gates, .c = {}, .out = gates});
  test::run_variant<LogScaleArgs>(cpu::log_scale_table(), GetParam(),
                                  {.x = x, .positions = positions, .n0 = 2});
  test::run_variant<ScaleHeadsArgs>(cpu::scale_heads_table(), GetParam(),
                                    {.x = x, .gates = gates, .out = x});
  EXPECT_EQ(untouched, 5.0F);
}

INSTANTIATE_TEST_SUITE_P(Variants, Elementwise, test::all_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
