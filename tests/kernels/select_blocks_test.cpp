// Compressed keys and the dynamic choice of key blocks (InfLLM-V2) on the CPU: against a program in
// f64 written from the formula, and lists that depend on a row's own past alone.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/kernels/attention_support.h"

namespace heddle {
namespace {

using test::Cache;
using test::Rows;
using test::rows_of;
using test::Shape;

using List = std::vector<std::int32_t>;

struct Windows {
  std::int64_t kernel = 32;
  std::int64_t stride = 16;
};

/// Entries for a cache; what nobody wrote is NaN.
struct Compressed {
  std::vector<float> k1;
  std::vector<float> k2;
  CompressedKeys keys;

  Compressed(const Cache& cache, const Windows& windows) {
    AttentionArgs args;
    cache.view(args);
    const Shape& shape = cache.shape();
    const std::int64_t n_blocks = args.pages.k.dim(0);
    const auto make = [&](std::vector<float>& k, std::int64_t stride) {
      const std::int64_t n = std::max<std::int64_t>(1, shape.tokens / stride);
      k.assign(static_cast<std::size_t>(n_blocks * shape.n_kv * n * shape.dim), std::nanf(""));
      return TensorView(k.data(), DType::kF32, {n_blocks, shape.n_kv, n, shape.dim});
    };
    keys.k1 = make(k1, windows.stride);
    keys.k2 = make(k2, 4 * windows.stride);
    keys.kernel = windows.kernel;
    keys.stride = windows.stride;
    keys.block_tokens = shape.tokens;
  }
  Compressed(const Compressed&) = delete;
  Compressed& operator=(const Compressed&) = delete;
};

void compress(const std::string& variant, const Cache& cache, const Rows& rows, Compressed& to) {
  AttentionArgs view;
  cache.view(view);
  CompressKeysArgs args;
  args.k = view.pages.k;
  args.block_tables = view.block_tables;
  args.sequence = TensorView(rows.sequence.data(), DType::kI32, {rows.n()});
  args.positions = TensorView(rows.position.data(), DType::kI32, {rows.n()});
  args.keys = to.keys;
  test::run_variant(cpu::compress_keys_table(), variant, args);
}

struct Selection {
  std::int64_t block = 64;
  std::int64_t init = 1;
  std::int64_t local = 4;
  std::int64_t top_k = 8;
  std::int64_t dense_below = 0;
};

/// [row][kv head]; a count of -1 gives {-1}.
std::vector<List> select(const std::string& variant,
                         const Cache& cache,
                         const Rows& rows,
                         const Compressed& compressed,
                         const Selection& wanted,
                         int n_threads = 2) {
  const Shape& shape = cache.shape();
  AttentionArgs view;
  cache.view(view);
  const std::int64_t capacity = wanted.top_k + 1;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows.n() * shape.n_kv * capacity), -7);
  std::vector<std::int32_t> counts(static_cast<std::size_t>(rows.n() * shape.n_kv), -7);
  SelectBlocksArgs args;
  args.q = TensorView(rows.q.data(), DType::kF32, {rows.n(), shape.n_q, shape.dim});
  args.keys = compressed.keys;
  args.block_tables = view.block_tables;
  args.sequence = TensorView(rows.sequence.data(), DType::kI32, {rows.n()});
  args.positions = TensorView(rows.position.data(), DType::kI32, {rows.n()});
  args.scale = 1.0F / std::sqrt(static_cast<float>(shape.dim));
  args.init_blocks = wanted.init;
  args.local_blocks = wanted.local;
  args.top_k = wanted.top_k;
  args.dense_below = wanted.dense_below;
  args.blocks.block = wanted.block;
  args.blocks.ids = TensorView(ids.data(), DType::kI32, {rows.n(), shape.n_kv, capacity});
  args.blocks.counts = TensorView(counts.data(), DType::kI32, {rows.n(), shape.n_kv});
  test::run_variant(cpu::select_blocks_table(), variant, args, n_threads);
  std::vector<List> lists;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == -1) {
      lists.push_back({-1});
      continue;
    }
    const auto first = ids.begin() + static_cast<std::int64_t>(i) * capacity;
    lists.emplace_back(first, first + counts[i]);
  }
  return lists;
}

/// Means of `length` keys from `first` on.
std::vector<double> mean_of(const Cache& cache,
                            std::int64_t sequence,
                            std::int64_t g,
                            std::int64_t first,
                            std::int64_t length) {
  std::vector<double> mean(static_cast<std::size_t>(cache.shape().dim));
  for (std::size_t d = 0; d < mean.size(); ++d) {
    for (std::int64_t s = first; s < first + length; ++s) {
      mean[d] += cache.k(sequence, s, g, static_cast<std::int64_t>(d));
    }
    mean[d] /= static_cast<double>(length);
  }
  return mean;
}

/// The score of each block that the row may see, from the formula.
std::vector<double> block_scores(const Cache& cache,
                                 const Rows& rows,
                                 std::int64_t t,
                                 std::int64_t g,
                                 const Windows& windows,
                                 std::int64_t block) {
  const Shape& shape = cache.shape();
  const std::int64_t group = shape.n_q / shape.n_kv;
  const std::int64_t p = rows.position[static_cast<std::size_t>(t)];
  const auto scores = [&](std::int64_t h, std::int64_t length, std::int64_t stride) {
    std::vector<double> y;
    for (std::int64_t first = 0; first + length - 1 <= p; first += stride) {
      const auto mean =
          mean_of(cache, rows.sequence[static_cast<std::size_t>(t)], g, first, length);
      double dot = 0;
      for (std::int64_t d = 0; d < shape.dim; ++d) {
        dot += static_cast<double>(
                   rows.q[static_cast<std::size_t>((t * shape.n_q + h) * shape.dim + d)]) *
               mean[static_cast<std::size_t>(d)];
      }
      y.push_back(dot / std::sqrt(static_cast<double>(shape.dim)));
    }
    return y;
  };
  std::vector<double> w;
  for (std::int64_t h = g * group; h < (g + 1) * group; ++h) {
    const std::vector<double> fine = scores(h, windows.kernel, windows.stride);
    std::vector<double> coarse = scores(h, 4 * windows.kernel, 4 * windows.stride);
    if (coarse.empty()) coarse = fine;
    double sum = 0;
    for (const double y : coarse) sum += std::exp(y);
    w.resize(fine.size());
    for (std::size_t j = 0; j < fine.size(); ++j) w[j] += std::exp(fine[j]) / sum;
  }
  std::vector<double> best(static_cast<std::size_t>(p / block + 1));
  for (std::size_t j = 0; j < w.size(); ++j) {
    const std::int64_t first = static_cast<std::int64_t>(j) * windows.stride;
    for (std::int64_t s = first; s < first + windows.kernel; ++s) {
      double& score = best[static_cast<std::size_t>(s / block)];
      score = std::max(score, w[j]);
    }
  }
  return best;
}

void expect_best(const List& list,
                 const std::vector<double>& score,
                 const Selection& wanted,
                 double tolerance) {
  const auto n = static_cast<std::int64_t>(score.size());
  ASSERT_TRUE(std::is_sorted(list.begin(), list.end()));
  ASSERT_TRUE(std::adjacent_find(list.begin(), list.end()) == list.end());
  ASSERT_EQ(static_cast<std::int64_t>(list.size()), std::min(wanted.top_k, n));
  double lowest_in = std::numeric_limits<double>::infinity();
  double highest_out = 0;
  for (std::int64_t b = 0; b < n; ++b) {
    const bool in = std::find(list.begin(), list.end(), b) != list.end();
    const double x = score[static_cast<std::size_t>(b)];
    if (b < wanted.init || n - 1 - b < wanted.local) {
      EXPECT_TRUE(in) << "forced block " << b;
    } else if (in) {
      lowest_in = std::min(lowest_in, x);
    } else {
      highest_out = std::max(highest_out, x);
    }
  }
  EXPECT_GE(lowest_in, highest_out * (1 - tolerance));
}

class CompressKeys : public testing::TestWithParam<std::string> {};

constexpr Windows kWindows[] = {{32, 16}, {8, 4}, {16, 16}, {64, 16}, {128, 64}, {64, 32}, {4, 4}};

TEST_P(CompressKeys, AreMeansOfTheStoredKeys) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int64_t tokens : {16, 32, 64}) {
      const Shape shape = {2, 2, 16, tokens, dtype};
      const Cache cache(shape, {700, 90});
      AttentionArgs view;
      cache.view(view);
      const auto* const tables = view.block_tables.as<const std::int32_t>();
      for (const Windows& windows : kWindows) {
        Compressed got(cache, windows);
        Rows rows = rows_of(shape, 0, 0, 700);
        rows.add(shape, 1, 0, 90);
        compress(GetParam(), cache, rows, got);
        std::map<const float*, bool> written;
        const auto expect_level = [&](const TensorView& level, std::int64_t length,
                                      std::int64_t stride) {
          for (std::int64_t sequence = 0; sequence < 2; ++sequence) {
            const std::int64_t n_tokens = sequence == 0 ? 700 : 90;
            for (std::int64_t first = 0; first + length <= n_tokens; first += stride) {
              const std::int64_t last = first + length - 1;
              const std::int64_t block =
                  tables[sequence * view.block_tables.dim(1) + last / tokens];
              for (std::int64_t g = 0; g < 2; ++g) {
                const auto mean = mean_of(cache, sequence, g, first, length);
                const float* const entry =
                    level.as<const float>() +
                    ((block * 2 + g) * level.dim(2) + last % tokens / stride) * 16;
                ASSERT_FALSE(std::exchange(written[entry], true)) << "two windows in one place";
                for (std::size_t d = 0; d < 16; ++d) {
                  ASSERT_NEAR(entry[d], mean[d], 6 * static_cast<double>(length) * 0x1p-24)
                      << name(dtype) << " tokens " << tokens << " kernel " << windows.kernel
                      << " stride " << windows.stride << " last " << last;
                }
              }
            }
          }
        };
        expect_level(got.keys.k1, windows.kernel, windows.stride);
        expect_level(got.keys.k2, 4 * windows.kernel, 4 * windows.stride);
        std::size_t n_numbers = 0;
        for (const auto* const k : {&got.k1, &got.k2}) {
          for (const float f : *k) n_numbers += std::isnan(f) ? 0 : 1;
        }
        EXPECT_EQ(n_numbers, written.size() * 16) << "what belongs to no window was written";
      }
    }
  }
}

TEST_P(CompressKeys, BitsDoNotDependOnTheChunk) {
  const Shape shape = {2, 2, 16, 16, DType::kF16};
  const Cache cache(shape, {300});
  const auto bits = [](const Compressed& c) {
    std::vector<std::uint32_t> all;
    for (const auto* const k : {&c.k1, &c.k2}) {
      for (const float f : *k) all.push_back(std::bit_cast<std::uint32_t>(f));
    }
    return all;
  };
  for (const Windows& windows : kWindows) {
    Compressed whole(cache, windows);
    compress(GetParam(), cache, rows_of(shape, 0, 0, 300), whole);
    for (const std::int32_t chunk : {1, 7, 64, 100}) {
      Compressed parts(cache, windows);
      for (std::int32_t at = 0; at < 300; at += chunk) {
        // later keys are not there yet
        Cache so_far = cache;
        const std::int32_t end = std::min(300, at + chunk);
        so_far.poison(0, end, 300);
        compress(GetParam(), so_far, rows_of(shape, 0, at, end), parts);
      }
      EXPECT_EQ(bits(parts), bits(whole))
          << windows.kernel << " " << windows.stride << " " << chunk;
    }
  }
}

TEST_P(CompressKeys, RefusesSizesThatDoNotGoTogether) {
  const Shape shape = {2, 2, 16, 16, DType::kF16};
  const Cache cache(shape, {40});
  const Rows rows = rows_of(shape, 0, 0, 40);
  const auto run = [&](const Windows& windows) {
    Compressed to(cache, {32, 16});
    to.keys.kernel = windows.kernel;
    to.keys.stride = windows.stride;
    compress(GetParam(), cache, rows, to);
  };
  EXPECT_NO_THROW(run({32, 16}));
  EXPECT_THROW(run({24, 16}), Error);
  EXPECT_THROW(run({32, 0}), Error);
  EXPECT_THROW(run({0, 16}), Error);
  EXPECT_THROW(run({24, 12}), Error);  // divides no block
  EXPECT_THROW(run({32, 8}), Error);   // another shape of entries
}

INSTANTIATE_TEST_SUITE_P(Variants,
                         CompressKeys,
                         testing::Values(std::string("portable"), std::string("ref")),
                         test::variant_name);

class SelectBlocks : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
};

TEST_P(SelectBlocks, AreTheBestByTheFormula) {
  struct Case {
    Windows windows;
    Selection wanted;
  };
  const Case cases[] = {{{32, 16}, {64, 1, 4, 8}}, {{8, 4}, {16, 1, 4, 9}},
                        {{16, 8}, {32, 0, 1, 5}},  {{16, 16}, {16, 2, 2, 6}},
                        {{64, 16}, {32, 1, 3, 7}}, {{32, 32}, {32, 1, 1, 4}},
                        {{32, 16}, {48, 0, 2, 5}}, {{32, 8}, {16, 1, 4, 12}}};
  for (const std::int64_t tokens : {16, 64}) {
    const Shape shape = {6, 2, 32, tokens, DType::kF16};
    const Cache cache(shape, {700, 400});
    Rows rows = rows_of(shape, 0, 690, 700);
    rows.add(shape, 1, 395, 400);
    Rows all = rows_of(shape, 0, 0, 700);
    all.add(shape, 1, 0, 400);
    for (const Case& c : cases) {
      Compressed compressed(cache, c.windows);
      compress("portable", cache, all, compressed);
      const std::vector<List> lists = select(GetParam(), cache, rows, compressed, c.wanted);
      for (std::int64_t i = 0; i < rows.n() * 2; ++i) {
        SCOPED_TRACE(testing::Message()
                     << "kernel " << c.windows.kernel << " stride " << c.windows.stride << " block "
                     << c.wanted.block << " row " << i / 2 << " head " << i % 2);
        expect_best(lists[static_cast<std::size_t>(i)],
                    block_scores(cache, rows, i / 2, i % 2, c.windows, c.wanted.block), c.wanted,
                    1e-5);
      }
    }
  }
}

// Every position from the first token on: before any window is complete, and before the first of
// level 2 is.
TEST_P(SelectBlocks, AreTheBestAtEveryPosition) {
  const Shape shape = {4, 2, 16, 16, DType::kF32};
  const Cache cache(shape, {200});
  const Rows rows = rows_of(shape, 0, 0, 200);
  const Windows windows = {16, 8};
  const Selection wanted = {16, 1, 1, 4};
  Compressed compressed(cache, windows);
  compress("portable", cache, rows, compressed);
  const std::vector<List> lists = select(GetParam(), cache, rows, compressed, wanted);
  for (std::int64_t i = 0; i < rows.n() * 2; ++i) {
    SCOPED_TRACE(i / 2);
    expect_best(lists[static_cast<std::size_t>(i)],
                block_scores(cache, rows, i / 2, i % 2, windows, wanted.block), wanted, 1e-5);
  }
}

// Keys of zeros: all scores are equal, the lowest indices win.
TEST_P(SelectBlocks, TiesGoToTheLowestIndex) {
  const Shape shape = {2, 1, 16, 16, DType::kF16};
  Cache cache(shape, {400});
  for (int s = 0; s < 400; ++s) {
    for (int d = 0; d < 16; ++d) cache.set_k(0, s, 0, d, 0.0F);
  }
  Compressed compressed(cache, {8, 4});
  compress("portable", cache, rows_of(shape, 0, 0, 400), compressed);
  const Rows rows = rows_of(shape, 0, 399, 400);
  EXPECT_EQ(select(GetParam(), cache, rows, compressed, {16, 1, 4, 8})[0],
            List({0, 1, 2, 3, 21, 22, 23, 24}));
  EXPECT_EQ(select(GetParam(), cache, rows, compressed, {16, 0, 1, 3})[0], List({0, 1, 24}));
  EXPECT_EQ(select(GetParam(), cache, rows, compressed, {16, 1, 4, 5})[0],
            List({0, 21, 22, 23, 24}));
}

// infllm:BLOCK,TOPK is dense below (TOPK + 5) BLOCK, decided by the row's own position.
TEST_P(SelectBlocks, RowsBelowTheBorderSeeAll) {
  const Shape shape = {2, 1, 16, 16, DType::kF16};
  const Cache cache(shape, {200});
  const Rows rows = rows_of(shape, 0, 0, 200);
  Compressed compressed(cache, {8, 4});
  compress("portable", cache, rows, compressed);
  const std::vector<List> lists =
      select(GetParam(), cache, rows, compressed, {16, 1, 4, 8, 8 * 16});
  for (std::size_t p = 0; p < 200; ++p) {
    if (p < 128) {
      EXPECT_EQ(lists[p], List({-1})) << p;
    } else {
      EXPECT_EQ(lists[p].size(), 8U) << p;
    }
  }
}

// Chunked, batched, on other threads, in other blocks, with the future there or not: one list.
TEST_P(SelectBlocks, DependOnTheRowsOwnPastAlone) {
  const Shape shape = {6, 2, 32, 16, DType::kF16};
  const Cache cache(shape, {500, 300});
  const Selection wanted = {16, 1, 4, 9, 100};
  const Windows windows = {8, 4};
  Rows all = rows_of(shape, 1, 0, 300);
  all.add(shape, 0, 0, 500);
  Compressed compressed(cache, windows);
  compress("portable", cache, all, compressed);
  const std::vector<List> whole = select(GetParam(), cache, all, compressed, wanted, 3);
  const Cache moved = cache.moved(9);
  for (const std::int32_t chunk : {1, 7, 64, 100}) {
    Compressed so_far(moved, windows);
    for (std::int32_t at = 0; at < 500; at += chunk) {
      const Rows rows = rows_of(shape, 0, at, std::min(500, at + chunk));
      compress("portable", moved, rows, so_far);
      const std::vector<List> lists = select(GetParam(), moved, rows, so_far, wanted, 1);
      for (std::size_t i = 0; i < lists.size(); ++i) {
        ASSERT_EQ(lists[i], whole[static_cast<std::size_t>(300 + at) * 2 + i])
            << "chunk " << chunk << " row " << at << " + " << i / 2;
      }
    }
  }
}

TEST_P(SelectBlocks, FastFormsChooseTheSame) {
  for (const std::int64_t group : {1, 3, 16}) {
    const Shape shape = {2 * group, 2, 80, 32, DType::kBF16};
    const Cache cache(shape, {900});
    Compressed compressed(cache, {32, 16});
    compress("portable", cache, rows_of(shape, 0, 0, 900), compressed);
    const Rows rows = rows_of(shape, 0, 860, 900);
    const Selection wanted = {32, 1, 4, 12};
    if (GetParam() == "ref") return;  // f64: others where scores are all but equal
    EXPECT_EQ(select(GetParam(), cache, rows, compressed, wanted),
              select("portable", cache, rows, compressed, wanted));
  }
}

// Queries of NaN make weights of NaN, which count nothing: a list all the same.
TEST_P(SelectBlocks, NanChoosesTheLowestBlocks) {
  const Shape shape = {2, 1, 16, 16, DType::kF16};
  const Cache cache(shape, {400});
  Compressed compressed(cache, {8, 4});
  compress("portable", cache, rows_of(shape, 0, 0, 400), compressed);
  Rows rows = rows_of(shape, 0, 399, 400);
  std::fill(rows.q.begin(), rows.q.end(), std::nanf(""));
  EXPECT_EQ(select(GetParam(), cache, rows, compressed, {16, 1, 4, 8})[0],
            List({0, 1, 2, 3, 21, 22, 23, 24}));
}

TEST_P(SelectBlocks, RefusesListsWithoutRoomForWhatIsForced) {
  const Shape shape = {2, 1, 16, 16, DType::kF16};
  const Cache cache(shape, {100});
  const Rows rows = rows_of(shape, 0, 99, 100);
  Compressed compressed(cache, {8, 4});
  compress("portable", cache, rows_of(shape, 0, 0, 100), compressed);
  const auto run = [&](const Selection& wanted) {
    select(GetParam(), cache, rows, compressed, wanted);
  };
  EXPECT_NO_THROW(run({16, 1, 4, 5}));
  EXPECT_THROW(run({16, 1, 4, 4}), Error);
  EXPECT_THROW(run({16, 1, 0, 4}), Error);  // without the row's own block
  EXPECT_THROW(run({24, 1, 4, 8}), Error);
  EXPECT_TRUE(select(GetParam(), cache, Rows(), compressed, {16, 1, 4, 5}).empty());
}

INSTANTIATE_TEST_SUITE_P(Variants, SelectBlocks, test::all_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
