// rope and rope_angles on the CPU.

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

std::vector<float> angles(const std::string& variant,
                          const std::vector<std::int32_t>& positions,
                          const std::vector<float>& inv_freq,
                          float scale = 1.0F,
                          int n_threads = 2) {
  const auto n = static_cast<std::int64_t>(positions.size());
  const auto half = static_cast<std::int64_t>(inv_freq.size());
  std::vector<float> out(static_cast<std::size_t>(n * 2 * half), -99.0F);
  RopeAnglesArgs args;
  args.positions = TensorView(positions.data(), DType::kI32, {n});
  args.inv_freq = TensorView(inv_freq.data(), DType::kF32, {half});
  args.scale = scale;
  args.cos_sin = TensorView(out.data(), DType::kF32, {n, 2, half});
  test::run_variant(cpu::rope_angles_table(), variant, args, n_threads);
  return out;
}

class RopeAngles : public testing::TestWithParam<std::string> {};

TEST_P(RopeAngles, AreTheCosinesAndSinesOfTheF32Product) {
  const std::vector<float> freq = {1.0F, 0.1F, 1e-4F};
  const std::vector<float> out = angles(GetParam(), {0, 1, 131071}, freq, 1.5F);
  for (const int t : {0, 1, 2}) {
    for (const int i : {0, 1, 2}) {
      const float position = t == 2 ? 131071.0F : static_cast<float>(t);
      const double angle = position * freq[static_cast<std::size_t>(i)];
      const auto at = static_cast<std::size_t>(t * 6 + i);
      EXPECT_EQ(out[at], static_cast<float>(1.5 * std::cos(angle)));
      EXPECT_EQ(out[at + 3], static_cast<float>(1.5 * std::sin(angle)));
    }
  }
}

TEST_P(RopeAngles, DependNeitherOnTheBatchNorOnThreads) {
  std::vector<std::int32_t> positions;
  for (std::int32_t i = 0; i < 300; ++i) positions.push_back(i * 37);
  const std::vector<float> freq = test::Random(1).uniforms(33, 0.0F, 1.0F);
  const std::vector<float> all = angles(GetParam(), positions, freq, 1.0F, 3);
  EXPECT_TRUE(test::same_bits(all, angles("ref", positions, freq)));
  EXPECT_TRUE(test::same_bits(angles(GetParam(), {positions[200]}, freq),
                              {all.data() + std::size_t{200} * 66, 66}));
}

TEST_P(RopeAngles, NoRowsIsNoWork) {
  EXPECT_TRUE(angles(GetParam(), {}, {1.0F}).empty());
}

INSTANTIATE_TEST_SUITE_P(Variants,
                         RopeAngles,
                         testing::Values(std::string("portable"), std::string("ref")),
                         test::variant_name);

struct Heads {
  std::int64_t n = 1;
  std::int64_t n_q = 1;
  std::int64_t n_kv = 1;
  std::int64_t head_dim = 2;
  std::int64_t half = 1;
  std::vector<float> cos_sin;
  std::vector<float> q;
  std::vector<float> k;
};

Heads random_heads(std::int64_t n,
                   std::int64_t head_dim,
                   std::int64_t half,
                   std::uint64_t seed,
                   std::int64_t n_q = 3,
                   std::int64_t n_kv = 1) {
  test::Random random(seed);
  Heads h = {n, n_q, n_kv, head_dim, half, {}, {}, {}};
  h.cos_sin = random.uniforms(n * 2 * half, -1.0F, 1.0F);
  h.q = random.normals(n * n_q * head_dim);
  h.k = random.normals(n * n_kv * head_dim);
  return h;
}

Heads rope(const std::string& variant, Heads h, int n_threads = 2) {
  RopeArgs args;
  args.cos_sin = TensorView(h.cos_sin.data(), DType::kF32, {h.n, 2, h.half});
  args.q = TensorView(h.q.data(), DType::kF32, {h.n, h.n_q, h.head_dim});
  args.k = TensorView(h.k.data(), DType::kF32, {h.n, h.n_kv, h.head_dim});
  test::run_variant(cpu::rope_table(), variant, args, n_threads);
  return h;
}

class Rope : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
};

TEST_P(Rope, TurnsPairsHalfTheWidthApartAndLeavesTheRest) {
  // a quarter turn of pair (0, 2), none of pair (1, 3); dimension 4 is not rotated
  const Heads h =
      rope(GetParam(), {1, 1, 1, 5, 2, {0, 1, 1, 0}, {1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}});
  EXPECT_EQ(h.q, (std::vector<float>{-3, 2, 1, 4, 5}));
  EXPECT_EQ(h.k, (std::vector<float>{-8, 7, 6, 9, 10}));
}

// Two products and a sum: 1.5 eps of the sum of their magnitudes.
TEST_P(Rope, AgreesWithRef) {
  for (const std::int64_t half : {1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64}) {
    const Heads in = random_heads(4, 2 * half + 3, half, 5);
    const Heads expected = rope("ref", in);
    const Heads actual = rope(GetParam(), in);
    // |cos|, |sin| <= 1 and |x| <= 6
    EXPECT_TRUE(test::within(actual.q, expected.q, 1.5 * test::kEpsF32 * 12)) << half;
    EXPECT_TRUE(test::within(actual.k, expected.k, 1.5 * test::kEpsF32 * 12)) << half;
  }
}

// Phi: 3/4 or 2/5 of a head of 96 or 80 turns; the rest keeps its bits.
TEST_P(Rope, LeavesTheUnrotatedPartOfEachHead) {
  for (const auto& [head_dim, half] : {std::pair{96, 36}, std::pair{80, 16}, std::pair{256, 64}}) {
    const Heads in = random_heads(3, head_dim, half, 9, 4, 2);
    const Heads expected = rope("ref", in);
    const Heads actual = rope(GetParam(), in);
    EXPECT_TRUE(test::within(actual.q, expected.q, 1.5 * test::kEpsF32 * 12)) << head_dim;
    EXPECT_TRUE(test::within(actual.k, expected.k, 1.5 * test::kEpsF32 * 12)) << head_dim;
    for (std::size_t i = 0; i < in.q.size(); ++i) {
      const bool rotated =
          i % static_cast<std::size_t>(head_dim) < static_cast<std::size_t>(2 * half);
      ASSERT_EQ(actual.q[i] == in.q[i], !rotated) << head_dim << " " << i;
    }
  }
}

TEST_P(Rope, NonFiniteValuesSpreadAsInRef) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    Heads in = random_heads(1, 34, 17, 6);
    in.q[16] = bad;
    in.k[20] = -bad;
    in.cos_sin[3] = bad;
    const Heads expected = rope("ref", in);
    const Heads actual = rope(GetParam(), in);
    EXPECT_TRUE(test::within(actual.q, expected.q, 1e-5));
    EXPECT_TRUE(test::within(actual.k, expected.k, 1e-5));
  }
}

TEST_P(Rope, NoRowsIsNoWork) {
  const Heads h = rope(GetParam(), random_heads(0, 8, 4, 7));
  EXPECT_TRUE(h.q.empty());
}

INSTANTIATE_TEST_SUITE_P(Variants, Rope, test::all_variants(), test::variant_name);

class RopeBits : public Rope {};

TEST_P(RopeBits, DependOnTheRowOnly) {
  for (const std::int64_t half : {5, 16, 32, 33}) {
    const Heads in = random_heads(300, 2 * half, half, 8);
    const Heads all = rope("portable", in, 1);
    const Heads threads = rope(GetParam(), in, 3);
    EXPECT_TRUE(test::same_bits(threads.q, all.q)) << half;
    EXPECT_TRUE(test::same_bits(threads.k, all.k)) << half;
    Heads one = in;
    const auto row = static_cast<std::size_t>(3 * 2 * half);
    one.n = 1;
    one.cos_sin.erase(one.cos_sin.begin(), one.cos_sin.begin() + 100 * 2 * half);
    one.q.assign(in.q.begin() + static_cast<std::ptrdiff_t>(100 * row),
                 in.q.begin() + static_cast<std::ptrdiff_t>(101 * row));
    EXPECT_TRUE(test::same_bits(rope(GetParam(), one).q, {all.q.data() + 100 * row, row})) << half;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, RopeBits, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
