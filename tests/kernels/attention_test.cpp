// Paged attention on the CPU: hand-computed cases, every variant against ref, poisoned memory, and
// bits that do not depend on chunk, batch, threads or block table. Windows and soft caps:
// attention_window_test.cpp.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/kernels/attention_support.h"

namespace heddle {
namespace {

using test::attend;
using test::bound_for;
using test::Cache;
using test::Rows;
using test::rows_of;
using test::Shape;

constexpr float kInf = std::numeric_limits<float>::infinity();

class Attention : public test::AttentionOf {};

TEST_P(Attention, OneKeyGivesItsValue) {
  const Shape shape = {2, 1, 16, 16, DType::kF32};
  Cache cache(shape, {1});
  for (int d = 0; d < 16; ++d) cache.set_v(0, 0, 0, d, static_cast<float>(d));
  const std::vector<float> out = attend(GetParam(), cache, rows_of(shape, 0, 0, 1));
  for (std::size_t i = 0; i < 32; ++i) EXPECT_EQ(out[i], static_cast<float>(i % 16));
}

// Scores ln 1, ln 2, ln 4 against the first dimension: weights 1/7, 2/7, 4/7.
TEST_P(Attention, WeighsValuesBySoftmax) {
  const Shape shape = {1, 1, 16, 16, DType::kF32};
  Cache cache(shape, {3});
  for (int s = 0; s < 3; ++s) {
    for (int d = 0; d < 16; ++d) {
      cache.set_k(0, s, 0, d, d == 0 ? static_cast<float>(s) * std::log(2.0F) : 9.0F);
      cache.set_v(0, s, 0, d, static_cast<float>(s == d ? 7 : 0));
    }
  }
  Rows rows = rows_of(shape, 0, 2, 3);
  std::fill(rows.q.begin(), rows.q.end(), 0.0F);
  rows.q[0] = 4.0F;
  const std::vector<float> out = attend(GetParam(), cache, rows, 2, 0.25F);
  EXPECT_NEAR(out[0], 1, 1e-6);
  EXPECT_NEAR(out[1], 2, 1e-6);
  EXPECT_NEAR(out[2], 4, 1e-6);
  EXPECT_EQ(out[3], 0);
}

TEST_P(Attention, HeadsOfAGroupShareKeysAndOthersDoNot) {
  const Shape shape = {4, 2, 16, 16, DType::kF32};
  Cache cache(shape, {1});
  for (int g = 0; g < 2; ++g) {
    for (int d = 0; d < 16; ++d) cache.set_v(0, 0, g, d, static_cast<float>(10 + g));
  }
  const std::vector<float> out = attend(GetParam(), cache, rows_of(shape, 0, 0, 1));
  for (std::size_t h = 0; h < 4; ++h) EXPECT_EQ(out[h * 16], h < 2 ? 10.0F : 11.0F);
}

INSTANTIATE_TEST_SUITE_P(Variants, Attention, test::all_variants(), test::variant_name);

class AttentionFast : public Attention {};

// Depths around the vector, block and tile sizes; the poison after the last key is never read.
TEST_P(AttentionFast, DecodeAgreesWithRefAtEveryDepth) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int64_t tokens : {16, 32, 64}) {
      const Shape shape = {3, 1, 32, tokens, dtype};
      for (const std::int32_t depth :
           {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 200}) {
        const Cache cache(shape, {depth}, static_cast<std::uint64_t>(depth));
        expect_ref(cache, rows_of(shape, 0, depth - 1, depth), depth);
      }
    }
  }
}

TEST_P(AttentionFast, PrefillAgreesWithRef) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int32_t n : {2, 15, 16, 17, 63, 64, 65, 130}) {
      const Shape shape = {6, 2, 16, 16, dtype};
      const Cache cache(shape, {n + 5});
      expect_ref(cache, rows_of(shape, 0, 5, n + 5), n + 5);
    }
  }
}

TEST_P(AttentionFast, TakesEveryHeadSizeAndGroup) {
  for (const std::int64_t dim : {16, 48, 64, 80, 96, 112, 128, 256}) {
    for (const std::int64_t group : {1, 2, 3, 5, 7, 8, 49}) {
      const Shape shape = {group * 2, 2, dim, 32, DType::kF16};
      const Cache cache(shape, {70});
      expect_ref(cache, rows_of(shape, 0, 66, 70), 70);
    }
  }
}

TEST_P(AttentionFast, MixedCallAgreesWithRef) {
  const Shape shape = {6, 2, 32, 16, DType::kF16};
  expect_ref(Cache(shape, test::kMixedLengths), test::mixed_rows(shape), 300);
}

TEST_P(AttentionFast, MaskedHeadsGiveZerosAndLeaveTheOthers) {
  const Shape shape = {6, 2, 16, 16, DType::kF16};
  const Cache cache(shape, {100, 500});
  for (const bool decode : {true, false}) {
    Rows rows = decode ? rows_of(shape, 1, 499, 500) : rows_of(shape, 0, 0, 100);
    const std::vector<float> all = attend(GetParam(), cache, rows);
    test::Random random(5);
    for (std::int64_t i = 0; i < rows.n() * shape.n_q; ++i) {
      rows.mask.push_back(static_cast<std::uint8_t>(random.integer(0, 1)));
    }
    rows.mask[0] = rows.mask[1] = rows.mask[2] = 0;  // a whole group
    const std::vector<float> some = attend(GetParam(), cache, rows);
    for (std::size_t i = 0; i < some.size(); ++i) {
      const float expected = rows.mask[i / 16] != 0 ? all[i] : 0.0F;
      ASSERT_EQ(some[i], expected) << (decode ? "decode " : "prefill ") << i;
    }
    const std::vector<float> ref = attend("ref", cache, rows);
    EXPECT_TRUE(test::within(some, ref, bound_for(shape, 500)));
  }
}

TEST_P(AttentionFast, NonFiniteInputsSpreadAsInRef) {
  const Shape shape = {2, 1, 16, 16, DType::kF32};
  const auto same = [&](const Cache& cache, const Rows& rows, const char* what) {
    EXPECT_TRUE(test::within(attend(GetParam(), cache, rows), attend("ref", cache, rows), 1e-4))
        << what;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const bool decode : {true, false}) {
    Rows rows = decode ? rows_of(shape, 0, 149, 150) : rows_of(shape, 0, 0, 150);
    for (float& f : rows.q) f = std::abs(f);  // so that an infinite key has a sign
    for (const float bad : {kInf, -kInf, nan}) {
      Cache k(shape, {150});
      k.set_k(0, 70, 0, 3, bad);
      same(k, rows, "k");
      Cache v(shape, {150});
      v.set_v(0, 70, 0, 3, bad);
      same(v, rows, "v");
      Rows q = rows;
      q.q[5] = nan;
      same(v, q, "q");
    }
    Cache first(shape, {150});  // a whole tile of -inf, then the rest
    for (int s = 0; s < 64; ++s) first.set_k(0, s, 0, 0, -kInf);
    same(first, rows, "first tile");
    Cache all(shape, {150});
    for (int s = 0; s < 150; ++s) all.set_k(0, s, 0, 0, -kInf);
    same(all, rows, "all tiles");
  }
}

TEST_P(AttentionFast, LargeScoresDoNotOverflow) {
  const Shape shape = {2, 1, 16, 16, DType::kF32};
  const Cache cache(shape, {200});
  const std::vector<float> out = attend(GetParam(), cache, rows_of(shape, 0, 150, 200), 2, 1e4F);
  for (const float f : out) ASSERT_LE(std::abs(f), 6.0F);
}

TEST_P(AttentionFast, NoRowsIsNoWork) {
  const Shape shape;
  EXPECT_TRUE(attend(GetParam(), Cache(shape, {4}), Rows()).empty());
}

TEST_P(AttentionFast, RefusesScaleZeroAndImpossiblePositions) {
  const Shape shape;
  const Cache cache(shape, {4});
  EXPECT_THROW(attend(GetParam(), cache, rows_of(shape, 0, 3, 4), 1, 0.0F), Error);
  EXPECT_THROW(attend(GetParam(), cache, rows_of(shape, 0, 3, 4), 1, kInf), Error);
  EXPECT_THROW(attend(GetParam(), cache, rows_of(shape, 0, 1000, 1001)), Error);
  EXPECT_THROW(attend(GetParam(), cache, rows_of(shape, 7, 0, 1)), Error);
}

TEST_P(AttentionFast, LeavesOtherShapesToRef) {
  for (const Shape& shape : {Shape{1, 1, 24, 16, DType::kF32}, Shape{1, 1, 272, 16, DType::kF32},
                             Shape{1, 1, 16, 8, DType::kF32}, Shape{1, 1, 16, 48, DType::kF32}}) {
    const Cache cache(shape, {5});
    AttentionArgs args;
    cache.view(args);
    EXPECT_EQ(test::find_variant(cpu::attention_table(), GetParam(), args), nullptr);
    EXPECT_EQ(attend("ref", cache, rows_of(shape, 0, 4, 5)).size(), shape.dim);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AttentionFast, test::fast_variants(), test::variant_name);

class AttentionBits : public Attention {};

TEST_P(AttentionBits, DoNotDependOnTheChunk) {
  for (const std::int64_t group : {1, 3}) {
    const Shape shape = {group * 2, 2, 48, 16, DType::kF16};
    const Cache cache(shape, {300});
    const std::vector<float> whole = attend(GetParam(), cache, rows_of(shape, 0, 0, 300));
    const auto row = static_cast<std::size_t>(shape.n_q * shape.dim);
    const auto expect_same = [&](std::int32_t first, std::int32_t end) {
      const std::vector<float> out = attend(GetParam(), cache, rows_of(shape, 0, first, end));
      ASSERT_TRUE(
          test::same_bits(out, {whole.data() + static_cast<std::size_t>(first) * row, out.size()}))
          << "rows " << first << " to " << end;
    };
    for (const std::int32_t chunk : {2, 5, 16, 61, 64, 150}) {
      for (std::int32_t at = 0; at < 300; at += chunk) expect_same(at, std::min(300, at + chunk));
    }
    for (std::int32_t at = 0; at < 300; at += 7) expect_same(at, at + 1);
  }
}

// One row deep enough that its tiles are split over tasks and merged from partials.
TEST_P(AttentionBits, DoNotDependOnThreadsOrTheSplit) {
  const Shape shape = {6, 2, 64, 16, DType::kF16};
  const Cache cache(shape, {2100});
  const Rows decode = rows_of(shape, 0, 2099, 2100);
  const std::vector<float> expected = attend(GetParam(), cache, decode, 1);
  for (const int threads : {2, 3, 5}) {
    EXPECT_TRUE(test::same_bits(attend(GetParam(), cache, decode, threads), expected)) << threads;
  }
  const Rows rows = rows_of(shape, 0, 2079, 2100);
  const std::vector<float> prefill = attend(GetParam(), cache, rows, 2);
  EXPECT_TRUE(test::same_bits({prefill.data() + prefill.size() - expected.size(), expected.size()},
                              expected));
  const Rows few = rows_of(shape, 0, 2097, 2100);  // split, several rows
  const std::vector<float> split = attend(GetParam(), cache, few, 2);
  EXPECT_TRUE(
      test::same_bits(split, {prefill.data() + prefill.size() - split.size(), split.size()}));
}

TEST_P(AttentionBits, DoNotDependOnTheRestOfTheBatch) {
  const Shape shape = {3, 1, 32, 32, DType::kBF16};
  const Cache cache(shape, {700, 33, 190, 64});
  Rows batch;
  batch.add(shape, 1, 32, 33);
  batch.add(shape, 0, 500, 700);
  batch.add(shape, 2, 189, 190);
  batch.add(shape, 3, 60, 64);
  const std::vector<float> all = attend(GetParam(), cache, batch, 3);
  const auto row = static_cast<std::size_t>(shape.n_q * shape.dim);
  const auto expect_part = [&](const Rows& rows, std::size_t at) {
    const std::vector<float> alone = attend(GetParam(), cache, rows);
    EXPECT_TRUE(test::same_bits({all.data() + at * row, alone.size()}, alone)) << at;
  };
  expect_part(rows_of(shape, 1, 32, 33), 0);
  expect_part(rows_of(shape, 0, 500, 700), 1);
  expect_part(rows_of(shape, 2, 189, 190), 201);
  expect_part(rows_of(shape, 3, 60, 64), 202);
}

TEST_P(AttentionBits, DoNotDependOnWhereTheBlocksAre) {
  const Shape shape = {3, 1, 32, 16, DType::kF16};
  const Cache cache(shape, {150});
  const Rows rows = rows_of(shape, 0, 100, 150);
  EXPECT_TRUE(
      test::same_bits(attend(GetParam(), cache.moved(3), rows), attend(GetParam(), cache, rows)));
}

TEST_P(AttentionBits, DoNotDependOnTheBlockSize) {
  std::vector<float> first;
  for (const std::int64_t tokens : {16, 32, 64}) {
    const Shape shape = {3, 1, 32, tokens, DType::kF16};
    const Cache cache(shape, {150});  // the same random contents, position by position
    const std::vector<float> out = attend(GetParam(), cache, rows_of(shape, 0, 140, 150));
    if (first.empty()) first = out;
    EXPECT_TRUE(test::same_bits(out, first)) << tokens;
  }
}

TEST_P(AttentionBits, AreThoseOfThePortableForm) {
  expect_bits_of_portable({{}});
}

INSTANTIATE_TEST_SUITE_P(Variants, AttentionBits, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
