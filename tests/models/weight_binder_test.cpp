// Binding refuses weights that are no numbers: every place in a row, every type, every part of a
// block.

#include "models/weight_binder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "kernels/backend.h"
#include "models/finite_check.h"
#include "models/gguf_weights.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/random.h"
#include "tests/support/weights.h"

namespace heddle {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::uint16_t kF16Inf = 0x7c00;
constexpr std::uint16_t kF16NegativeNan = 0xfe01;

void put16(test::Weights& w, std::int64_t row, std::int64_t byte, std::uint16_t value) {
  const std::int64_t at = row * row_bytes(w.dtype, w.n_cols) + byte;
  std::memcpy(w.bytes.data() + at, &value, sizeof(value));
}

NonFinite scan(const test::Weights& w) {
  NonFinite found;
  find_nonfinite(w.view(), 0, w.n_rows, found);
  return found;
}

TEST(FindNonfinite, FindsNothingInOrdinaryWeights) {
  test::Random rng(1);
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
        DType::kQ5_1, DType::kQ8_0, DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K,
        DType::kQ6_K, DType::kIQ4_NL, DType::kMXFP4}) {
    EXPECT_EQ(scan(test::random_weights(dtype, 5, 256, rng)).count, 0U) << name(dtype);
  }
}

TEST(FindNonfinite, TakesTheLargestNumbersForNumbers) {
  for (const float x : {std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest(),
                        std::numeric_limits<float>::denorm_min(), -0.0F}) {
    NonFinite found;
    find_nonfinite(TensorView(&x, DType::kF32, {1, 1}), 0, 1, found);
    EXPECT_EQ(found.count, 0U) << x;
  }
  for (const std::uint16_t bits : {std::uint16_t{0x7bff}, std::uint16_t{0xfbff}}) {
    NonFinite found;
    find_nonfinite(TensorView(&bits, DType::kF16, {1, 1}), 0, 1, found);
    EXPECT_EQ(found.count, 0U) << bits;
  }
  const std::uint16_t largest = 0x7f7f;
  NonFinite found;
  find_nonfinite(TensorView(&largest, DType::kBF16, {1, 1}), 0, 1, found);
  EXPECT_EQ(found.count, 0U);
}

TEST(FindNonfinite, FindsAValueAtEveryPlace) {
  std::vector<float> values(3 * 37, 1.0F);
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (const float bad : {kInf, -kInf, kNan, -kNan}) {
      values[i] = bad;
      NonFinite found;
      find_nonfinite(TensorView(values.data(), DType::kF32, {3, 37}), 0, 3, found);
      EXPECT_EQ(found.count, 1U);
      EXPECT_EQ(found.row, static_cast<std::int64_t>(i / 37));
      EXPECT_EQ(found.column, static_cast<std::int64_t>(i % 37));
    }
    values[i] = 1.0F;
  }
}

TEST(FindNonfinite, CountsWithoutOverflow) {
  const std::vector<std::uint16_t> values(200'000, kF16Inf);
  NonFinite found;
  find_nonfinite(TensorView(values.data(), DType::kF16, {2, 100'000}), 0, 2, found);
  EXPECT_EQ(found.count, 200'000U);
  EXPECT_EQ(found.describe(), "200000 values that are not finite (the first at row 0, column 0)");
}

TEST(FindNonfinite, FindsHalfPrecisionOfBothKinds) {
  test::Random rng(2);
  test::Weights half = test::random_weights(DType::kF16, 4, 64, rng);
  put16(half, 2, 2 * 63, kF16NegativeNan);
  EXPECT_EQ(scan(half).describe(), "1 value that is not finite (the first at row 2, column 63)");
  test::Weights brain = test::random_weights(DType::kBF16, 4, 64, rng);
  put16(brain, 3, 0, 0xff80);
  put16(brain, 3, 2, 0x7fc0);
  EXPECT_EQ(scan(brain).describe(), "2 values that are not finite (the first at row 3, column 0)");
}

TEST(FindNonfinite, FindsEveryScaleOfABlock) {
  // Of each type, the bytes of a block where its f16 scales and minima are.
  const std::vector<std::pair<DType, std::vector<std::int64_t>>> types = {
      {DType::kQ4_0, {0}},    {DType::kQ4_1, {0, 2}}, {DType::kQ5_0, {0}},
      {DType::kQ5_1, {0, 2}}, {DType::kQ8_0, {0}},    {DType::kQ2_K, {80, 82}},
      {DType::kQ3_K, {108}},  {DType::kQ4_K, {0, 2}}, {DType::kQ5_K, {0, 2}},
      {DType::kQ6_K, {208}},  {DType::kIQ4_NL, {0}}};
  test::Random rng(3);
  for (const auto& [dtype, places] : types) {
    const DTypeInfo& type = info(dtype);
    for (const std::int64_t place : places) {
      test::Weights w = test::random_weights(dtype, 3, 4 * type.block_elements, rng);
      put16(w, 1, 2 * type.block_bytes + place, kF16Inf);
      put16(w, 2, 3 * type.block_bytes + place, kF16NegativeNan);
      const NonFinite found = scan(w);
      EXPECT_EQ(found.count, 2U) << type.name << " byte " << place;
      EXPECT_EQ(found.row, 1);
      EXPECT_EQ(found.column, 2 * type.block_elements);
      EXPECT_TRUE(found.blocks);
    }
  }
}

/// A file with a matrix, a bias and a norm.
class Binding : public testing::Test {
 protected:
  Binding() {
    doc_.add_f32("m", {8, 600}, std::vector<float>(8 * 600, 0.5F));
    doc_.add_f32("bias", {4}, {0, 0, 0, 0});
    doc_.add_f32("norm", {4}, {0, 0, 1, 0});
  }
  void set(const std::string& tensor, std::size_t index, float value) {
    std::memcpy(doc_.data.data() + doc_.tensor(tensor).offset + index * 4, &value, 4);
  }
  template <typename Call>
  std::string message(const Call& call, bool allow = false) {
    file_ = doc_.serialise();
    const auto weights = GgufWeights::over(std::as_bytes(std::span(file_)), "x");
    WeightBinder binder(*weights, *backend_, allow);
    try {
      call(binder);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      return error.what();
    }
    return binder.warnings().empty() ? "" : "warning: " + binder.warnings()[0];
  }

  static TensorPart part(const std::string& tensor, std::int64_t rows) {
    return {tensor, rows, 0, rows, {}, 0.0F};
  }
  test::GgufDoc doc_;
  std::string file_;
  std::unique_ptr<Backend> backend_ = make_backend({.threads = 2});
};

const std::string kRemedy = ", allowed finite ones; --allow-nonfinite loads it all the same";

TEST_F(Binding, RefusesMatricesThatAreNotFinite) {
  const auto bind = [](WeightBinder& b) { b.matrix(part("m", 600), 8); };
  EXPECT_EQ(message(bind), "");
  set("m", 8 * 599 + 7, kNan);
  EXPECT_EQ(
      message(bind),
      "x: tensor 'm': weights, got 1 value that is not finite (the first at row 599, column 7)" +
          kRemedy);
  set("m", 8 * 3, -kInf);
  EXPECT_EQ(
      message(bind),
      "x: tensor 'm': weights, got 2 values that are not finite (the first at row 3, column 0)" +
          kRemedy);
  EXPECT_EQ(message(bind, true),
            "warning: x: tensor 'm': weights, got 2 values that are not finite (the first at row "
            "3, column 0)");
}

TEST_F(Binding, LooksAtThePartOfAFusedMatrixOnly) {
  set("m", 8 * 100 + 1, kInf);
  const auto bind = [](std::int64_t first, std::int64_t rows) {
    return [=](WeightBinder& b) {
      TensorPart p = part("m", 600);
      p.first_row = first;
      p.rows = rows;
      b.matrix(p, 8);
    };
  };
  EXPECT_EQ(message(bind(0, 100)), "");
  EXPECT_EQ(message(bind(101, 499)), "");
  EXPECT_EQ(
      message(bind(50, 100)),
      "x: tensor 'm': weights, got 1 value that is not finite (the first at row 100, column 1)" +
          kRemedy);
}

TEST_F(Binding, FindsRowsThatAreReordered) {
  set("m", 8 * 3 + 5, kInf);
  EXPECT_EQ(
      message([](WeightBinder& b) {
        TensorPart p = part("m", 600);
        for (std::int32_t i = 0; i < 600; ++i) p.row_order.push_back(599 - i);
        b.matrix(p, 8);
      }),
      "x: tensor 'm': weights, got 1 value that is not finite (the first at row 3, column 5)" +
          kRemedy);
}

TEST_F(Binding, RefusesVectorsThatAreNotFinite) {
  const auto bind = [](WeightBinder& b) { b.vector(part("bias", 4)); };
  EXPECT_EQ(message(bind), "");
  set("bias", 2, kNan);
  EXPECT_EQ(
      message(bind),
      "x: tensor 'bias': weights, got 1 value that is not finite (the first at row 0, column 2)" +
          kRemedy);
  EXPECT_THAT(message(bind, true),
              testing::StartsWith("warning: x: tensor 'bias': weights, got 1 value"));
}

TEST_F(Binding, RefusesNormsThatSilenceTheModel) {
  const auto bind = [](WeightBinder& b) { b.norm(part("norm", 4)); };
  EXPECT_EQ(message(bind), "");
  set("norm", 2, -0.0F);
  EXPECT_EQ(message(bind),
            "x: tensor 'norm': weights, got a norm of zeros only, allowed norms that have others; "
            "--allow-nonfinite loads it all the same");
  EXPECT_EQ(message(bind, true), "warning: x: tensor 'norm': weights, got a norm of zeros only");
  // Zeros that stand for ones.
  EXPECT_EQ(message([](WeightBinder& b) {
              TensorPart p = part("norm", 4);
              p.add = 1.0F;
              b.norm(p);
            }),
            "");
}

}  // namespace
}  // namespace heddle
