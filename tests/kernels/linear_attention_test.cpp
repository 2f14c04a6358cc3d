// Linear attention on the CPU: hand-computed cases, every variant against ref, poisoned slots, and
// bits that do not depend on chunk, batch, threads or slot.

#include "kernels/api/linear_attention.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/kernels/linear_attention_support.h"

namespace heddle {
namespace {

using test::linear::agrees_with_ref;
using test::linear::alibi_slopes;
using test::linear::Call;
using test::linear::Piece;
using test::linear::random_tokens;
using test::linear::Result;
using test::linear::run_all;
using test::linear::Runner;
using test::linear::Shape;
using test::linear::States;
using test::linear::Tokens;

constexpr float kLn2 = 0.693147181F;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class LinearAttention : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
  /// One head of key_dim 1, all ones; fast variants need 16 columns, each of them the same.
  static Tokens ones(std::int64_t n) {
    const Shape shape = {1, 1, GetParam() == "ref" ? 1 : 16};
    const std::vector<float> one(static_cast<std::size_t>(n), 1.0F);
    return {shape, one, one,
            std::vector<float>(static_cast<std::size_t>(n * shape.value_dim), 1.0F)};
  }
  static void expect_rows(const std::vector<float>& out, const std::vector<double>& rows) {
    const std::size_t columns = out.size() / rows.size();
    ASSERT_EQ(out.size(), columns * rows.size());
    for (std::size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], rows[i / columns], 1e-6) << i;
  }
};

// d = 1, q = k = v = 1, s = ln 2: sums of 1, 1/2, 1/4, ...
TEST_P(LinearAttention, IsTheRecurrence) {
  for (const std::vector<std::int64_t>& chunks :
       {std::vector<std::int64_t>{4}, {1, 3}, {1}, {2}, {3, 1}}) {
    Runner run(GetParam(), {kLn2}, 1, 1.0F);
    const Tokens tokens = ones(4);
    States states(tokens.shape, 1);
    expect_rows(run.chunks(states, tokens, chunks), {1, 1.5, 1.75, 1.875});
  }
}

// S = 4 after 16 tokens; and three tokens later, with their keys and values in the tail.
TEST_P(LinearAttention, ContinuesAGivenState) {
  for (const std::vector<std::int64_t>& chunks : {std::vector<std::int64_t>{4}, {1, 3}, {1}}) {
    Runner run(GetParam(), {kLn2}, 1, 1.0F);
    const Tokens tokens = ones(23);
    States states(tokens.shape, 2);
    std::fill(states.s.begin(), states.s.end(), 4.0F);
    Tokens until20 = tokens;
    until20.q.resize(20);
    expect_rows(run.chunks(states, until20, chunks, 1, 16), {3, 2.5, 2.25, 2.125});
    std::fill_n(states.tail_k.begin(), 3, 1.0F);
    std::fill_n(states.tail_v.begin(), 3 * tokens.shape.value_dim, 1.0F);
    expect_rows(run.chunks(states, tokens, chunks, 0, 19), {2.125, 2.0625, 2.03125, 2.015625});
  }
}

// Rows 2 and 5 of six, computed in f64 by an independent program: decay 0.9, scale 1/2,
// q = sin(0.7 n + 0.1), k = cos(0.5 n + 0.3), v = sin(0.3 n + 0.9), n = 4 i + a.
TEST_P(LinearAttention, GivesTheGoldenVector) {
  const bool ref = GetParam() == "ref";
  const Shape shape = {1, 4, ref ? 4 : 16};
  Tokens tokens = {
      shape, {}, {}, std::vector<float>(static_cast<std::size_t>(6 * shape.value_dim))};
  for (int i = 0; i < 6; ++i) {
    for (int a = 0; a < 4; ++a) {
      const double n = 4 * i + a;
      tokens.q.push_back(static_cast<float>(std::sin(0.7 * n + 0.1)));
      tokens.k.push_back(static_cast<float>(std::cos(0.5 * n + 0.3)));
      tokens.v[static_cast<std::size_t>(i * shape.value_dim + a)] =
          static_cast<float>(std::sin(0.3 * n + 0.9));
    }
  }
  const std::array<double, 4> rows[] = {{-0.757632, -0.896846, -0.955948, -0.929658},
                                        {-0.731587, -0.746892, -0.695480, -0.581943}};
  Runner run(GetParam(), {static_cast<float>(-std::log(0.9))}, 1, 0.5F);
  for (const std::int64_t chunk : {6, 1, 4}) {
    States states(shape, 1);
    const std::vector<float> out = run.chunks(states, tokens, {chunk});
    for (std::size_t r = 0; r < 2; ++r) {
      for (std::size_t c = 0; c < static_cast<std::size_t>(shape.value_dim); ++c) {
        const double expected = c < 4 ? rows[r][c] : 0.0;
        const std::size_t row = r == 0 ? 2 : 5;
        EXPECT_NEAR(out[row * static_cast<std::size_t>(shape.value_dim) + c], expected, 1e-6);
      }
    }
  }
}

// Every length around blocks, whatever the cut: outputs, S and tail. 600 tokens token by token too.
TEST_P(LinearAttention, BitsDoNotDependOnTheChunks) {
  const Shape shape = {2, 32, 16};
  const std::vector<float> slopes = {0.917F, 0.004F};
  const Tokens tokens = random_tokens(shape, 600);
  const auto until = [&](std::int64_t n) {
    Tokens t = tokens;
    t.q.resize(static_cast<std::size_t>(n * shape.key_row()));
    return t;
  };
  const auto same = [&](const Tokens& t, const Result& whole, std::vector<std::int64_t> chunks) {
    const Result r = run_all(GetParam(), slopes, t, chunks);
    return test::same_bits(r.out, whole.out) && test::same_bits(r.state, whole.state);
  };
  for (const std::int64_t n : {1, 2, 15, 16, 17, 31, 32, 33, 48, 100, 600}) {
    const Tokens t = until(n);
    const Result whole = run_all(GetParam(), slopes, t, {n});
    for (const std::int64_t chunk : {1, 2, 5, 7, 15, 16, 17, 64, 100}) {
      EXPECT_TRUE(same(t, whole, {chunk})) << n << " tokens in chunks of " << chunk;
    }
    for (const std::int64_t first : {1, 5, 16, 20}) {
      EXPECT_TRUE(same(t, whole, {first, n})) << n << " tokens, cut after " << first;
    }
  }
  test::Random random(2);
  const Result whole = run_all(GetParam(), slopes, tokens, {600});
  for (int i = 0; i < 20; ++i) {
    std::vector<std::int64_t> chunks;
    for (int c = 0; c < 600; ++c) chunks.push_back(random.integer(1, i < 10 ? 20 : 200));
    EXPECT_TRUE(same(tokens, whole, chunks)) << i;
  }
}

// A slot full of NaN, or of another sequence's state, is as good as a cleared one.
TEST_P(LinearAttention, ReadsNothingThatTheSequenceHasNotWritten) {
  const Shape shape = {2, 16, 16};
  const Tokens other = random_tokens(shape, 61, 1);
  const Tokens tokens = random_tokens(shape, 40, 2);
  Runner run(GetParam(), {0.5F, 0.0F});
  States fresh(shape, 2);
  States used(shape, 2);
  run.chunks(used, other, {61}, 1);
  const std::vector<float> out = run.chunks(fresh, tokens, {7}, 1);
  for (const float f : out) ASSERT_TRUE(std::isfinite(f));
  EXPECT_TRUE(test::same_bits(run.chunks(used, tokens, {7}, 1), out));
  EXPECT_TRUE(test::same_bits(used.valid(1, 40), fresh.valid(1, 40)));
  for (const float f : fresh.valid(0, 31)) ASSERT_TRUE(std::isnan(f));  // another slot: untouched
}

TEST_P(LinearAttention, SequencesInABatchAreAsAlone) {
  const Shape shape = {3, 16, 32};
  const std::vector<float> slopes = {0.9F, 0.01F, 0.0F};
  const std::int64_t lengths[] = {70, 16, 5, 33};
  const std::int64_t before[] = {3, 15, 0, 32};
  std::vector<Tokens> tokens;
  for (std::size_t i = 0; i < 4; ++i) tokens.push_back(random_tokens(shape, lengths[i], i));
  Runner run(GetParam(), slopes, 2);
  States states(shape, 6);
  std::vector<Piece> first;
  std::vector<Piece> second;
  for (std::size_t i = 0; i < 4; ++i) {
    const auto slot = static_cast<std::int32_t>(5 - i);
    first.push_back({&tokens[i], 0, before[i], slot});  // of one sequence: no rows
    second.push_back({&tokens[i], before[i], lengths[i], slot});
  }
  run.step(states, first);
  const std::vector<float> all = run.step(states, second);
  std::size_t at = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const Result alone = run_all(GetParam(), slopes, tokens[i], {before[i] + 1, 64});
    const auto n = static_cast<std::size_t>((lengths[i] - before[i]) * shape.value_row());
    EXPECT_TRUE(test::same_bits({all.data() + at, n}, {alone.out.data() + alone.out.size() - n, n}))
        << i;
    EXPECT_TRUE(
        test::same_bits(states.valid(static_cast<std::int64_t>(5 - i), lengths[i]), alone.state))
        << i;
    at += n;
  }
}

TEST_P(LinearAttention, RowsOfANegativeSlotGiveZeros) {
  const Shape shape = {2, 16, 16};
  const Tokens tokens = random_tokens(shape, 20);
  Tokens padding = random_tokens(shape, 3);
  padding.v[4] = kNan;
  Runner run(GetParam(), {0.5F, 0.25F});
  States states(shape, 1);
  const std::vector<float> out =
      run.step(states, {{&padding, 0, 3, -1}, {&tokens, 0, 20, 0}, {&padding, 1, 2, -7}});
  const Result alone = run_all(GetParam(), {0.5F, 0.25F}, tokens, {20});
  const auto row = static_cast<std::size_t>(shape.value_row());
  EXPECT_TRUE(test::same_bits({out.data() + 3 * row, 20 * row}, alone.out));
  EXPECT_TRUE(test::same_bits(states.valid(0, 20), alone.state));
  for (std::size_t i = 0; i < row; ++i) {
    EXPECT_EQ(out[i], 0.0F);
    EXPECT_EQ(out[2 * row + i], 0.0F);
    EXPECT_EQ(out[23 * row + i], 0.0F);
  }
}

TEST_P(LinearAttention, BitsDoNotDependOnThreads) {
  for (const std::int64_t n_heads : {1, 3}) {  // fewer than threads: columns are cut
    const Shape shape = {n_heads, 64, 128};
    const std::vector<float> slopes(static_cast<std::size_t>(n_heads), 0.1F);
    const Tokens tokens = random_tokens(shape, 150);
    const Result one = run_all(GetParam(), slopes, tokens, {37, 1, 90});
    for (const int threads : {2, 3, 5}) {
      const Result r = run_all(GetParam(), slopes, tokens, {37, 1, 90}, threads);
      EXPECT_TRUE(test::same_bits(r.out, one.out)) << threads;
      EXPECT_TRUE(test::same_bits(r.state, one.state)) << threads;
    }
  }
}

TEST_P(LinearAttention, StaysFiniteForAnySlope) {
  const Shape shape = {4, 16, 16};
  const Tokens tokens = random_tokens(shape, 5000);
  for (const auto& chunks : {std::vector<std::int64_t>{5000}, {1}}) {
    const Result r = run_all(GetParam(), {0.917F, 3.9e-8F, 0.0F, 1e30F}, tokens, chunks);
    for (const float f : r.out) ASSERT_TRUE(std::isfinite(f));
    for (const float f : r.state) ASSERT_TRUE(std::isfinite(f));
  }
}

// Row 20 of 40 has the NaN. Values spread to their column, keys to all columns, queries to the row.
TEST_P(LinearAttention, NanSpreadsToLaterRowsOnly) {
  const Shape shape = {1, 16, 16};
  const auto expect = [&](const Tokens& tokens, const auto& is_nan) {
    const std::vector<float> out = run_all(GetParam(), {0.5F}, tokens, {40}).out;
    for (std::size_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(std::isnan(out[i]), is_nan(i / 16, i % 16)) << i;
    }
  };
  Tokens v = random_tokens(shape, 40);
  v.v[20 * 16 + 3] = kNan;
  expect(v, [](std::size_t row, std::size_t column) { return row >= 20 && column == 3; });
  Tokens k = random_tokens(shape, 40);
  k.k[20 * 16 + 3] = kNan;
  expect(k, [](std::size_t row, std::size_t) { return row >= 20; });
  Tokens q = random_tokens(shape, 40);
  q.q[20 * 16 + 3] = kNan;
  expect(q, [](std::size_t row, std::size_t) { return row == 20; });
}

TEST_P(LinearAttention, NoRowsIsNoWork) {
  const Shape shape = {1, 16, 16};
  States states(shape, 1);
  EXPECT_TRUE(Runner(GetParam(), {0.5F}).step(states, {}).empty());
  const Tokens tokens = random_tokens(shape, 1);
  EXPECT_TRUE(Runner(GetParam(), {0.5F}).step(states, {{&tokens, 0, 0, 0}}).empty());
}

TEST_P(LinearAttention, RefusesWhatItsContractExcludes) {
  const Shape shape = {1, 16, 16};
  const Tokens tokens = random_tokens(shape, 8);
  States states(shape, 2);
  CpuContext context(1, detect_cpu());
  const auto attempt = [&](const std::vector<Piece>& pieces, const auto& change) {
    Call call(shape, states, pieces);
    std::vector<float> slopes = {0.5F};
    LinearAttentionArgs args = call.args(slopes, 1.0F);
    const auto* const v = test::find_variant(cpu::linear_attention_table(), GetParam(), args);
    change(args, call, slopes);
    v->run(args, context);
  };
  const std::vector<Piece> good = {{&tokens, 0, 4, 0}, {&tokens, 0, 3, 1}};
  const auto refuses = [&](const auto& change) { EXPECT_THROW(attempt(good, change), Error); };
  using Args = LinearAttentionArgs;
  using Floats = std::vector<float>;
  EXPECT_NO_THROW(attempt(good, [](Args&, Call&, Floats&) {}));
  refuses([](Args& a, Call&, Floats&) { a.scale = 0.0F; });
  refuses([](Args& a, Call&, Floats&) { a.scale = kNan; });
  refuses([](Args&, Call&, Floats& slopes) { slopes[0] = -0.5F; });
  refuses([](Args&, Call&, Floats& slopes) { slopes[0] = kNan; });
  refuses([](Args& a, Call&, Floats&) { a.out = a.v; });
  refuses([](Args& a, Call&, Floats&) { a.k.dims[2] = 8; });
  refuses([](Args& a, Call&, Floats&) { a.state.tail_k.dims[2] = 8; });
  refuses([](Args& a, Call&, Floats&) { a.state.s.dtype = DType::kBF16; });
  refuses([](Args&, Call& c, Floats&) { c.slots[1] = 0; });      // twice the same
  refuses([](Args&, Call& c, Floats&) { c.slots[1] = 2; });      // no such slot
  refuses([](Args&, Call& c, Floats&) { c.sequence[6] = 2; });   // no such sequence
  refuses([](Args&, Call& c, Floats&) { c.sequence[6] = 0; });   // rows apart
  refuses([](Args&, Call& c, Floats&) { c.positions[6] = 3; });  // a gap
  refuses([](Args&, Call& c, Floats&) { c.positions[0] = -1; });
}

INSTANTIATE_TEST_SUITE_P(Variants, LinearAttention, test::all_variants(), test::variant_name);

class LinearAttentionFast : public LinearAttention {};

TEST_P(LinearAttentionFast, AgreesWithRefForEveryShape) {
  for (const std::int64_t key_dim : {1, 5, 16, 17, 32, 33, 64, 100, 128, 256}) {
    for (const std::int64_t value_dim : {16, 48, 64, 80, 128}) {
      const Tokens tokens = random_tokens({2, key_dim, value_dim}, 50);
      EXPECT_TRUE(agrees_with_ref(GetParam(), {0.3F, 0.004F}, tokens, {11, 1, 64}))
          << key_dim << " x " << value_dim;
    }
  }
}

TEST_P(LinearAttentionFast, AgreesWithRefForEveryLength) {
  for (const std::int64_t n : {1, 2, 15, 16, 17, 31, 32, 33, 47, 49, 200}) {
    for (const std::int64_t chunk : {1, 6, 16, 200}) {
      const Tokens tokens = random_tokens({2, 32, 32}, n);
      EXPECT_TRUE(agrees_with_ref(GetParam(), {0.917F, 0.0F}, tokens, {chunk})) << n;
    }
  }
}

TEST_P(LinearAttentionFast, AgreesWithRefForTheSlopesOfFortyHeads) {
  const std::vector<float> slopes = alibi_slopes(40);
  EXPECT_FLOAT_EQ(slopes[31], 0.00390625F);
  EXPECT_NEAR(slopes[32], 0.917, 1e-3);
  EXPECT_NEAR(slopes[39], 0.2726, 1e-4);
  EXPECT_TRUE(agrees_with_ref(GetParam(), slopes, random_tokens({40, 16, 16}, 150), {70, 80}));
}

// Decays of nothing, of half an ulp, just above and below 1/2 per block, and beyond f32.
TEST_P(LinearAttentionFast, AgreesWithRefForExtremeSlopes) {
  const std::vector<float> slopes = {0.0F, 3.9e-8F, 1e-12F, 0.0433F, 0.0434F, 2.0F, 200.0F, 1e30F};
  EXPECT_TRUE(agrees_with_ref(GetParam(), slopes, random_tokens({8, 16, 16}, 1000), {1000}));
}

// A slot that ref has written goes on with the fast variant, and the other way round.
TEST_P(LinearAttentionFast, SharesItsSlotsWithRef) {
  const Tokens tokens = random_tokens({2, 32, 16}, 100);
  const std::vector<float> slopes = {0.2F, 0.01F};
  const double c = test::linear::roundings(tokens) * test::kEpsF32 / 2;
  const Result ref = run_all("ref", slopes, tokens, {100});
  const Result size = run_all("ref", slopes, tokens.absolute(), {100});
  for (const bool fast_first : {true, false}) {
    Runner first(fast_first ? GetParam() : "ref", slopes);
    Runner second(fast_first ? "ref" : GetParam(), slopes);
    States states(tokens.shape, 1);
    std::vector<float> out = first.step(states, {{&tokens, 0, 45, 0}});
    const std::vector<float> rest = second.step(states, {{&tokens, 45, 100, 0}});
    out.insert(out.end(), rest.begin(), rest.end());
    EXPECT_TRUE(test::within_bound(out, ref.out, [&](std::size_t i) { return c * size.out[i]; }));
  }
}

TEST_P(LinearAttentionFast, LeavesOtherWidthsToRef) {
  const Shape shape = {1, 16, 24};
  const Tokens tokens = random_tokens(shape, 3);
  States states(shape, 1);
  Call call(shape, states, {{&tokens, 0, 3, 0}});
  const std::vector<float> slopes = {0.5F};
  EXPECT_EQ(test::find_variant(cpu::linear_attention_table(), GetParam(), call.args(slopes, 1.0F)),
            nullptr);
}

TEST_P(LinearAttentionFast, BitsAreThoseOfThePortableForm) {
  for (const Shape& shape : {Shape{2, 48, 80}, Shape{3, 33, 16}, Shape{1, 256, 128}}) {
    const std::vector<float> slopes(static_cast<std::size_t>(shape.n_heads), 0.03F);
    const Tokens tokens = random_tokens(shape, 70);
    const Result portable = run_all("portable", slopes, tokens, {70});
    for (const std::int64_t chunk : {70, 1, 9}) {
      const Result r = run_all(GetParam(), slopes, tokens, {chunk});
      EXPECT_TRUE(test::same_bits(r.out, portable.out)) << chunk;
      EXPECT_TRUE(test::same_bits(r.state, portable.state)) << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, LinearAttentionFast, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
