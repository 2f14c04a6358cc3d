// Paged attention on the CPU with sinks, first keys and block lists: bits that depend on a row's
// own keys alone.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/kernels/attention_sparse_support.h"

namespace heddle {
namespace {

using test::attend;
using test::block_lists;
using test::Cache;
using test::Reach;
using test::reaches;
using test::Rows;
using test::rows_of;
using test::same_bits;
using test::Shape;
using test::some_dense;

class AttentionSparseBits : public test::AttentionOf {};

// All blocks in the list, or a count of -1: the bits of a call without lists.
TEST_P(AttentionSparseBits, AListOfAllBlocksIsTheCallWithoutOne) {
  const Shape shape = {6, 2, 48, 16, DType::kF16};
  const Cache cache(shape, {2100});
  for (const auto& [first, end] :
       {std::pair{2099, 2100}, std::pair{2097, 2100}, std::pair{1950, 2100}, std::pair{0, 130}}) {
    const Rows rows = rows_of(shape, 0, first, end);
    for (Reach reach : {Reach{0, 0.0F}, Reach{700, 0.0F}, Reach{100, 30.0F, 70}}) {
      const std::vector<float> plain = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
      for (const std::int64_t block : {16, 48, 64, 256, 4096}) {
        reach.blocks = block_lists(rows, block, 2, test::always, some_dense);
        ASSERT_TRUE(same_bits(attend(GetParam(), cache, rows, 2, std::nullopt, reach), plain))
            << "rows from " << first << " block " << block << " window " << reach.window;
      }
    }
  }
}

// first_keys says nothing without a window, nor where the window reaches it.
TEST_P(AttentionSparseBits, FirstKeysThatAreSeenAnywayChangeNothing) {
  const Shape shape = {6, 2, 48, 16, DType::kF16};
  const Cache cache(shape, {300});
  const Rows rows = rows_of(shape, 0, 200, 300);
  for (const std::int64_t window : {0, 280, 300}) {
    EXPECT_TRUE(same_bits(
        attend(GetParam(), cache, rows, 2, std::nullopt, {window, 0.0F, 20}),
        attend(GetParam(), cache, rows, 2, std::nullopt, {window == 280 ? 0 : window, 0.0F})));
  }
}

TEST_P(AttentionSparseBits, DoNotDependOnTheChunk) {
  const Shape shape = {6, 2, 48, 16, DType::kF16};
  const Cache cache(shape, {300});
  const Rows rows = rows_of(shape, 0, 0, 300);
  const std::size_t n_reaches = reaches(rows, shape).size();
  for (std::size_t i = 0; i < n_reaches; ++i) {
    const std::vector<float> whole =
        attend(GetParam(), cache, rows, 2, std::nullopt, reaches(rows, shape)[i]);
    const auto row = static_cast<std::size_t>(shape.n_q * shape.dim);
    for (const std::int32_t chunk : {1, 5, 16, 61, 64, 150}) {
      for (std::int32_t at = 0; at < 300; at += chunk) {
        const Rows part = rows_of(shape, 0, at, std::min(300, at + chunk));
        const std::vector<float> out =
            attend(GetParam(), cache, part, 1, std::nullopt, reaches(part, shape)[i]);
        ASSERT_TRUE(same_bits(out, {whole.data() + static_cast<std::size_t>(at) * row, out.size()}))
            << "reach " << i << " chunk " << chunk << " at " << at;
      }
    }
  }
}

// Deep enough that tiles are split over tasks; few rows, so that partials are merged.
TEST_P(AttentionSparseBits, DoNotDependOnThreadsOrTheSplitOrTheBatch) {
  const Shape shape = {6, 2, 64, 16, DType::kF16};
  const Cache cache(shape, {2100, 1500});
  for (const std::int32_t n : {1, 2}) {
    const Rows rows = rows_of(shape, 0, 2100 - n, 2100);
    Rows more = rows_of(shape, 1, 1400, 1500);
    more.add(shape, 0, 2040, 2100);
    const std::size_t n_reaches = reaches(rows, shape).size();
    for (std::size_t i = 0; i < n_reaches; ++i) {
      Reach reach = reaches(rows, shape)[i];
      const std::vector<float> expected = attend(GetParam(), cache, rows, 1, std::nullopt, reach);
      for (const int threads : {2, 3, 5}) {
        ASSERT_TRUE(
            same_bits(attend(GetParam(), cache, rows, threads, std::nullopt, reach), expected))
            << i << " " << n << " " << threads;
      }
      reach = reaches(more, shape)[i];
      const std::vector<float> batch = attend(GetParam(), cache, more, 2, std::nullopt, reach);
      ASSERT_TRUE(
          same_bits({batch.data() + batch.size() - expected.size(), expected.size()}, expected))
          << i << " " << n;
    }
  }
}

TEST_P(AttentionSparseBits, DoNotDependOnTheCacheBlocks) {
  std::vector<std::vector<float>> first;
  for (const std::int64_t tokens : {16, 32, 64}) {
    const Shape shape = {6, 2, 32, tokens, DType::kF16};
    const Cache cache(shape, {300});
    const Rows rows = rows_of(shape, 0, 260, 300);
    const std::vector<Reach> all = reaches(rows, shape);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::vector<float> out = attend(GetParam(), cache, rows, 2, std::nullopt, all[i]);
      if (first.size() == i) first.push_back(out);
      EXPECT_TRUE(same_bits(out, first[i])) << tokens << " " << i;
      EXPECT_TRUE(
          same_bits(attend(GetParam(), cache.moved(3), rows, 2, std::nullopt, all[i]), first[i]));
    }
  }
}

TEST_P(AttentionSparseBits, AreThoseOfThePortableForm) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int64_t group : {1, 3, 7}) {
      const Shape shape = {2 * group, 2, 80, 16, dtype};
      const Cache cache(shape, {300, 77});
      Rows rows = rows_of(shape, 0, 299, 300);
      rows.add(shape, 1, 0, 77);
      for (const Reach& reach : reaches(rows, shape)) {
        EXPECT_TRUE(same_bits(attend(GetParam(), cache, rows, 2, std::nullopt, reach),
                              attend("portable", cache, rows, 2, std::nullopt, reach)))
            << name(dtype) << " " << group << " " << reach.blocks.block;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AttentionSparseBits, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
