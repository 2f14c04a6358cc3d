// pattern_blocks, compress_keys and select_blocks on CUDA against the CPU's `ref`. Lists must be
// the same: `ref` scores in f64, so the seeds are such that no two scores at the border of a list
// differ by rounding only.

#include <cmath>
#include <limits>

#include "tests/kernels/cuda_ops_support.h"

namespace heddle {
namespace {

using test::on_cuda;
using test::on_ref;
using test::Place;

using Ints = std::vector<std::int32_t>;

struct Lists {
  Ints ids;
  Ints counts;
  bool operator==(const Lists&) const = default;
};

Lists pattern(Place& place, PatternBlocksArgs args, const Ints& positions, std::int64_t capacity) {
  const auto n = static_cast<std::int64_t>(positions.size());
  args.positions = place.ints(positions, {n});
  args.blocks.ids = place.room(DType::kI32, {n, 1, capacity});
  args.blocks.counts = place.room(DType::kI32, {n, 1});
  place.ops().pattern_blocks(args);
  return {place.ints(args.blocks.ids), place.ints(args.blocks.counts)};
}

TEST(CudaPatternBlocks, MatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const auto kind : {BlockPattern::kStrided, BlockPattern::kDilated, BlockPattern::kPower,
                          BlockPattern::kNeighbourhood}) {
    for (const std::int64_t size : {1, 3, 7}) {
      PatternBlocksArgs args;
      args.pattern = kind;
      args.step = size;
      args.local = size;
      args.blocks.block = 64;
      for (const std::int32_t last : {0, 63, 64, 2047, 2048, 100000}) {
        Ints positions;
        for (std::int32_t p = std::max(0, last - 200); p <= last; p += 7) positions.push_back(p);
        const std::int64_t capacity = pattern_blocks_capacity(args, last + 1);
        const auto run = [&](Place& place) { return pattern(place, args, positions, capacity); };
        EXPECT_TRUE(on_cuda(*backend, run) == on_ref("pattern_blocks", run))
            << static_cast<int>(kind) << " " << size << " " << last;
      }
    }
  }
}

TEST(CudaPatternBlocks, NoTokenGivesAnEmptyList) {
  HEDDLE_CUDA_OR_SKIP(backend);
  PatternBlocksArgs args;
  args.local = 1;
  args.blocks.block = 16;
  const Lists lists = on_cuda(*backend, [&](Place& place) {
    return pattern(place, args, {5, -1}, 2);
  });
  EXPECT_EQ(lists.counts, (Ints{1, 0}));
  EXPECT_EQ(lists.ids, (Ints{0, -1, -1, -1}));
}

/// Two sequences whose blocks lie mixed; what a table does not hold is -1.
struct Rows {
  std::int64_t n_blocks = 0;
  std::int64_t max_blocks = 0;
  Ints tables;
  Ints sequence;
  Ints positions;

  Rows(std::int64_t tokens, const Ints& lengths, std::int32_t step) {
    const auto n_sequences = static_cast<std::int64_t>(lengths.size());
    for (const std::int32_t length : lengths) {
      max_blocks = std::max(max_blocks, (length + tokens - 1) / tokens + 1);
    }
    n_blocks = n_sequences * max_blocks;
    tables.assign(static_cast<std::size_t>(n_blocks), -1);
    for (std::int64_t s = 0; s < n_sequences; ++s) {
      const std::int32_t length = lengths[static_cast<std::size_t>(s)];
      for (std::int64_t b = 0; b * tokens < length; ++b) {
        tables[static_cast<std::size_t>(s * max_blocks + b)] =
            static_cast<std::int32_t>((b * n_sequences + s) * 7 % n_blocks);
      }
      for (std::int32_t p = (length - 1) % step; p < length; p += step) {
        sequence.push_back(static_cast<std::int32_t>(s));
        positions.push_back(p);
      }
    }
  }
  std::int64_t n() const { return static_cast<std::int64_t>(positions.size()); }
  template <typename Args>
  void put(Place& place, Args& args) const {
    args.block_tables =
        place.ints(tables, {static_cast<std::int64_t>(tables.size()) / max_blocks, max_blocks});
    args.sequence = place.ints(sequence, {n()});
    args.positions = place.ints(positions, {n()});
  }
};

// Ascending f32 sums: each of the window's additions rounds, a mean is at most the largest key (6).
TEST(CudaCompressKeys, MatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend);
  struct Case {
    std::int64_t tokens, kernel, stride, head_dim;
  };
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const Case& c :
         {Case{64, 32, 16, 128}, Case{16, 32, 16, 33}, Case{32, 16, 8, 7}, Case{16, 64, 32, 200}}) {
      const Rows rows(c.tokens, {300, 77}, 1);
      const std::int64_t n1 = std::max<std::int64_t>(1, c.tokens / c.stride);
      const std::int64_t n2 = std::max<std::int64_t>(1, c.tokens / (4 * c.stride));
      const std::vector<float> k =
          test::Random(1).normals(rows.n_blocks * 2 * c.head_dim * c.tokens);
      for (const bool level_2 : {false, true}) {
        const auto run = [&](Place& place) {
          CompressKeysArgs args;
          args.k = place.floats(k, {rows.n_blocks, 2, c.head_dim, c.tokens}, dtype);
          rows.put(place, args);
          args.keys.k1 = place.room(DType::kF32, {rows.n_blocks, 2, n1, c.head_dim});
          args.keys.k2 = place.room(DType::kF32, {rows.n_blocks, 2, n2, c.head_dim});
          args.keys.kernel = c.kernel;
          args.keys.stride = c.stride;
          args.keys.block_tokens = c.tokens;
          place.ops().compress_keys(args);
          return place.floats(level_2 ? args.keys.k2 : args.keys.k1);
        };
        EXPECT_TRUE(test::within(on_cuda(*backend, run), on_ref("compress_keys", run),
                                 static_cast<double>(4 * c.kernel + 1) * 0x1p-24 * 6))
            << c.tokens << " " << c.stride << " " << level_2;
      }
    }
  }
}

struct Selection {
  std::int64_t tokens, n_q, n_kv, head_dim, init, local, top_k, dense_below;
};

Lists select(Place& place,
             const Rows& rows,
             const Selection& c,
             const std::vector<float>& q,
             const std::vector<float>& k1,
             const std::vector<float>& k2) {
  SelectBlocksArgs args;
  args.q = place.floats(q, {rows.n(), c.n_q, c.head_dim});
  rows.put(place, args);
  args.keys.k1 = place.floats(k1, {rows.n_blocks, c.n_kv, c.tokens / 16, c.head_dim});
  args.keys.k2 = place.floats(
      k2, {rows.n_blocks, c.n_kv, std::max<std::int64_t>(1, c.tokens / 64), c.head_dim});
  args.keys.kernel = 32;
  args.keys.stride = 16;
  args.keys.block_tokens = c.tokens;
  args.scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
  args.init_blocks = c.init;
  args.local_blocks = c.local;
  args.top_k = c.top_k;
  args.dense_below = c.dense_below;
  args.blocks.block = 64;
  args.blocks.ids = place.room(DType::kI32, {rows.n(), c.n_kv, c.top_k + 1});
  args.blocks.counts = place.room(DType::kI32, {rows.n(), c.n_kv});
  place.ops().select_blocks(args);
  return {place.ints(args.blocks.ids), place.ints(args.blocks.counts)};
}

std::vector<float> entries(const Rows& rows, const Selection& c, std::int64_t per_block) {
  return test::Random(static_cast<std::uint64_t>(per_block + 5))
      .normals(rows.n_blocks * c.n_kv * per_block * c.head_dim);
}

TEST(CudaSelectBlocks, MatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const Selection& c :
       {Selection{64, 4, 2, 32, 1, 2, 6, 0}, Selection{64, 16, 1, 128, 1, 4, 8, 500},
        Selection{16, 9, 1, 33, 0, 1, 1, 0}, Selection{16, 20, 2, 64, 2, 2, 12, 100},
        Selection{64, 2, 2, 16, 1, 1, 1000, 0}}) {
    const Rows rows(c.tokens, {1, 31, 127, 3000, 9000}, 97);
    const std::vector<float> q = test::Random(2).normals(rows.n() * c.n_q * c.head_dim);
    const std::vector<float> k1 = entries(rows, c, c.tokens / 16);
    const std::vector<float> k2 = entries(rows, c, std::max<std::int64_t>(1, c.tokens / 64));
    const auto run = [&](Place& place) { return select(place, rows, c, q, k1, k2); };
    const Lists actual = on_cuda(*backend, run);
    const Lists expected = on_ref("select_blocks", run);
    EXPECT_EQ(actual.counts, expected.counts) << c.n_q << " " << c.head_dim;
    EXPECT_EQ(actual.ids, expected.ids) << c.n_q << " " << c.head_dim;
  }
}

TEST(CudaSelectBlocks, TiesGoToTheLowestIndexAndNansCountNothing) {
  HEDDLE_CUDA_OR_SKIP(backend);
  const Selection c{64, 2, 1, 32, 0, 1, 40, 0};
  const Rows rows(c.tokens, {6000}, 53);
  const std::vector<float> q(static_cast<std::size_t>(rows.n() * c.n_q * c.head_dim), 0.0F);
  std::vector<float> k1 = entries(rows, c, 4);
  std::vector<float> k2 = entries(rows, c, 1);
  const auto run = [&](Place& place) { return select(place, rows, c, q, k1, k2); };
  EXPECT_TRUE(on_cuda(*backend, run) == on_ref("select_blocks", run));
  for (std::size_t i = 0; i < k1.size(); i += 64) k1[i] = std::nanf("");
  EXPECT_TRUE(on_cuda(*backend, run) == on_ref("select_blocks", run));
  k2[32] = std::nanf("");
  EXPECT_TRUE(on_cuda(*backend, run) == on_ref("select_blocks", run));
}

TEST(CudaSelectBlocks, ARowAloneHasTheListOfItsBatch) {
  HEDDLE_CUDA_OR_SKIP(backend);
  const Selection c{64, 8, 2, 64, 1, 1, 9, 0};
  Rows rows(c.tokens, {9000}, 1000);
  std::vector<float> q = test::Random(4).normals(rows.n() * c.n_q * c.head_dim);
  const std::vector<float> k1 = entries(rows, c, 4);
  const std::vector<float> k2 = entries(rows, c, 1);
  const auto run = [&](Place& place) { return select(place, rows, c, q, k1, k2); };
  const Lists all = on_cuda(*backend, run);
  q.erase(q.begin(), q.end() - c.n_q * c.head_dim);
  rows.sequence.erase(rows.sequence.begin(), rows.sequence.end() - 1);
  rows.positions.erase(rows.positions.begin(), rows.positions.end() - 1);
  const Lists last = on_cuda(*backend, run);
  EXPECT_EQ(last.ids, Ints(all.ids.end() - 2 * (c.top_k + 1), all.ids.end()));
}

}  // namespace
}  // namespace heddle
