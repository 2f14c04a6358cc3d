// Paged attention on the CPU with sinks, first keys and block lists: hand-computed cases, every
// variant against dense attention under a boolean mask, memory that must not be read, and bits that
// depend on a row's own keys alone.

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
using test::block_lists;
using test::BlockLists;
using test::Cache;
using test::coin;
using test::Reach;
using test::Rows;
using test::rows_of;
using test::same_bits;
using test::Shape;

constexpr float kInf = std::numeric_limits<float>::infinity();

/// Dense attention in f64 under a boolean mask, written from the formula.
std::vector<float> masked(const Cache& cache, const Rows& rows, const Reach& reach) {
  const Shape& shape = cache.shape();
  const double scale = 1.0F / std::sqrt(static_cast<float>(shape.dim));
  std::vector<float> out;
  for (std::int64_t t = 0; t < rows.n(); ++t) {
    const std::int64_t sequence = rows.sequence[static_cast<std::size_t>(t)];
    const std::int64_t position = rows.position[static_cast<std::size_t>(t)];
    for (std::int64_t h = 0; h < shape.n_q; ++h) {
      const std::int64_t g = h / (shape.n_q / shape.n_kv);
      const float* const q = rows.q.data() + (t * shape.n_q + h) * shape.dim;
      std::vector<double> o(static_cast<std::size_t>(shape.dim));
      double l =
          reach.sinks.empty() ? 0 : std::exp(double{reach.sinks[static_cast<std::size_t>(h)]});
      for (std::int64_t s = 0; s <= position; ++s) {
        const bool near = reach.window == 0 || position - s < reach.window;
        if (!(near || s < reach.first_keys) || !reach.blocks.has(t, g, s)) continue;
        double x = 0;
        for (std::int64_t d = 0; d < shape.dim; ++d) {
          x += static_cast<double>(q[d]) * cache.k(sequence, s, g, d);
        }
        x *= scale;
        if (reach.soft_cap != 0) x = reach.soft_cap * std::tanh(x / reach.soft_cap);
        l += std::exp(x);
        for (std::int64_t d = 0; d < shape.dim; ++d) {
          o[static_cast<std::size_t>(d)] += std::exp(x) * cache.v(sequence, s, g, d);
        }
      }
      const bool off =
          !rows.mask.empty() && rows.mask[static_cast<std::size_t>(t * shape.n_q + h)] == 0;
      for (const double x : o) out.push_back(off ? 0.0F : static_cast<float>(x / l));
    }
  }
  return out;
}

std::vector<float> some_sinks(std::int64_t n) {
  return test::Random(77).normals(n, 2.0F);
}

class AttentionSparse : public test::AttentionOf {
 protected:
  void expect_masked(const Cache& cache, const Rows& rows, const Reach& reach) const {
    const std::int64_t n_keys = *std::max_element(rows.position.begin(), rows.position.end()) + 1;
    EXPECT_TRUE(test::within(attend(GetParam(), cache, rows, 2, std::nullopt, reach),
                             masked(cache, rows, reach),
                             test::bound_for(cache.shape(), n_keys) + test::cap_error(reach)))
        << "window " << reach.window << " first keys " << reach.first_keys << " block "
        << reach.blocks.block << " cap " << reach.soft_cap;
  }
};

// p = exp(x) / (exp(x) + exp(sink)).
TEST_P(AttentionSparse, ASinkTakesItsShareOfOneKey) {
  const Shape shape = {2, 1, 16, 16, DType::kF32};
  Cache cache(shape, {1});
  for (int d = 0; d < 16; ++d) {
    cache.set_k(0, 0, 0, d, d == 0 ? 1.0F : 0.0F);
    cache.set_v(0, 0, 0, d, 1.0F);
  }
  Rows rows = rows_of(shape, 0, 0, 1);
  rows.q[0] = 0.5F;
  rows.q[16] = -3.0F;
  Reach reach;
  reach.sinks = {2.0F, -1.5F};
  const std::vector<float> out = attend(GetParam(), cache, rows, 2, 2.0F, reach);
  EXPECT_NEAR(out[3], std::exp(1.0) / (std::exp(1.0) + std::exp(2.0)), 1e-6);
  EXPECT_NEAR(out[19], std::exp(-6.0) / (std::exp(-6.0) + std::exp(-1.5)), 1e-7);
}

TEST_P(AttentionSparse, SinksOfMinusInfinityAreNone) {
  const Shape shape = {6, 2, 32, 16, DType::kF16};
  const Cache cache(shape, {200});
  const Rows rows = rows_of(shape, 0, 90, 200);
  Reach reach;
  reach.sinks.assign(6, -kInf);
  EXPECT_TRUE(same_bits(attend(GetParam(), cache, rows, 2, std::nullopt, reach),
                        attend(GetParam(), cache, rows)));
}

// A sink far above all scores leaves next to nothing; one with keys of -inf leaves zeros.
TEST_P(AttentionSparse, ASinkMayBeTheLargestOrTheOnlyScore) {
  const Shape shape = {1, 1, 16, 16, DType::kF32};
  Cache cache(shape, {70});
  const Rows rows = rows_of(shape, 0, 69, 70);
  Reach reach;
  reach.sinks = {200.0F};
  for (const float f : attend(GetParam(), cache, rows, 2, std::nullopt, reach)) EXPECT_EQ(f, 0);
  for (int s = 0; s < 70; ++s) cache.set_k(0, s, 0, 0, rows.q[0] > 0 ? -kInf : kInf);
  reach.sinks = {1.0F};
  for (const float f : attend(GetParam(), cache, rows, 2, std::nullopt, reach)) EXPECT_EQ(f, 0);
}

// Equal scores: each result is the mean of the positions seen.
TEST_P(AttentionSparse, FirstKeysStayInSightOfAWindow) {
  const Shape shape = {1, 1, 16, 16, DType::kF32};
  Cache cache(shape, {300});
  for (int s = 0; s < 300; ++s) {
    for (int d = 0; d < 16; ++d) cache.set_v(0, s, 0, d, static_cast<float>(s));
  }
  Rows rows = rows_of(shape, 0, 0, 300);
  std::fill(rows.q.begin(), rows.q.end(), 0.0F);
  for (const auto& [first, window] : {std::pair{4, 10}, std::pair{1, 1}, std::pair{16, 64},
                                      std::pair{70, 100}, std::pair{130, 3}}) {
    Reach reach;
    reach.window = window;
    reach.first_keys = first;
    const std::vector<float> out = attend(GetParam(), cache, rows, 2, std::nullopt, reach);
    for (std::int64_t p = 0; p < 300; ++p) {
      double sum = 0;
      double n = 0;
      for (std::int64_t s = 0; s <= p; ++s) {
        if (s >= first && p - s >= window) continue;
        sum += static_cast<double>(s);
        ++n;
      }
      ASSERT_NEAR(out[static_cast<std::size_t>(p * 16)], sum / n, 1e-5 * (sum / n + 1))
          << first << " " << window << " row " << p;
    }
  }
}

TEST_P(AttentionSparse, RefusesWhatIsNoList) {
  const Shape shape = {2, 2, 16, 16, DType::kF16};
  const Cache cache(shape, {100});
  const Rows rows = rows_of(shape, 0, 99, 100);
  const auto run = [&](std::int64_t block, std::vector<std::int32_t> ids, std::int32_t count,
                       std::int64_t n_lists = 1) {
    Reach reach;
    reach.blocks.block = block;
    reach.blocks.n_lists = n_lists;
    reach.blocks.capacity = static_cast<std::int64_t>(ids.size());
    for (std::int64_t l = 0; l < n_lists; ++l) {
      reach.blocks.ids.insert(reach.blocks.ids.end(), ids.begin(), ids.end());
      reach.blocks.counts.push_back(count);
    }
    attend(GetParam(), cache, rows, 2, std::nullopt, reach);
  };
  EXPECT_NO_THROW(run(32, {0, 2, 3}, 3));
  EXPECT_NO_THROW(run(32, {0, 2, 3}, 3, 2));
  EXPECT_NO_THROW(run(32, {0, 2, 3}, -1));
  EXPECT_THROW(run(32, {0, 2, 3}, 0), Error);  // empty
  EXPECT_THROW(run(32, {0, 2, 3}, 2), Error);  // without its own block
  EXPECT_THROW(run(32, {0, 2, 3}, 4), Error);  // longer than its room
  EXPECT_THROW(run(32, {0, 2, 3}, -2), Error);
  EXPECT_THROW(run(32, {2, 0, 3}, 3), Error);  // not ascending
  EXPECT_THROW(run(32, {2, 2, 3}, 3), Error);
  EXPECT_THROW(run(32, {-1, 2, 3}, 3), Error);
  EXPECT_THROW(run(32, {0, 3, 4}, 3), Error);     // beyond the row
  EXPECT_THROW(run(24, {0, 3, 4}, 3), Error);     // no multiple of 16
  EXPECT_THROW(run(32, {0, 2, 3}, 3, 3), Error);  // neither one list nor one per kv head
}

// Block lists with every other restriction, around the sizes of vector, block and tile.
TEST_P(AttentionSparse, ListsAgreeWithAMask) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Shape shape = {6, 2, 32, dtype == DType::kF32 ? 64 : 16, dtype};
    const Cache cache(shape, {300});
    for (const std::int64_t block : {16, 32, 48, 64, 80, 128, 256}) {
      for (const std::int64_t n_lists : {1, 2}) {
        Rows rows = rows_of(shape, 0, 299, 300);
        rows.add(shape, 0, 100, 160);
        Reach reach;
        reach.blocks = block_lists(rows, block, n_lists, coin);
        expect_masked(cache, rows, reach);
        reach.soft_cap = 3.0F;
        reach.sinks = some_sinks(shape.n_q);
        expect_masked(cache, rows, reach);
        reach.window = 70;
        reach.first_keys = 20;
        expect_masked(cache, rows, reach);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants,
                         AttentionSparse,
                         testing::Values(std::string("ref")),
                         test::variant_name);

}  // namespace
}  // namespace heddle
