#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/compressed_keys.h"
#include "kernels/cpu/cpu_tables.h"

namespace heddle::cpu {
namespace {

void check(const SelectBlocksArgs& args) {
  check_compressed_keys(args.keys);
  const KeyBlocks& blocks = args.blocks;
  const std::int64_t n = args.q.dim(0);
  const std::int64_t n_kv_heads = args.keys.k1.dim(1);
  HEDDLE_CHECK(args.q.rank == 3 && args.q.dtype == DType::kF32);
  HEDDLE_CHECK(args.q.dim(2) == args.keys.k1.dim(3) && args.q.dim(1) % n_kv_heads == 0);
  HEDDLE_CHECK(args.positions.dim(0) == n);
  check_rows(args.block_tables, args.sequence, args.positions, args.keys.block_tokens);
  HEDDLE_CHECK(args.scale != 0.0F && std::isfinite(args.scale));
  HEDDLE_CHECK(args.init_blocks >= 0 && args.local_blocks >= 1 && args.dense_below >= 0);
  HEDDLE_CHECK(args.top_k >= args.init_blocks + args.local_blocks);
  HEDDLE_CHECK(blocks.block > 0 && blocks.block % 16 == 0 && blocks.block % args.keys.stride == 0);
  HEDDLE_CHECK(blocks.ids.rank == 3 && blocks.ids.dtype == DType::kI32);
  HEDDLE_CHECK(blocks.ids.dim(0) == n && blocks.ids.dim(1) == n_kv_heads);
  HEDDLE_CHECK(blocks.ids.dim(2) >= args.top_k);
  HEDDLE_CHECK(blocks.counts.rank == 2 && blocks.counts.dtype == DType::kI32);
  HEDDLE_CHECK(blocks.counts.dim(0) == n && blocks.counts.dim(1) == n_kv_heads);
}

/// One row and kv head.
struct Row {
  Row(const SelectBlocksArgs& args, std::int64_t t, std::int64_t kv_head)
      : g(kv_head),
        group(args.q.dim(1) / args.keys.k1.dim(1)),
        position(args.positions.as<const std::int32_t>()[t]),
        n_blocks(position / args.blocks.block + 1),
        q(args.q.as<const float>() + (t * args.q.dim(1) + g * group) * args.q.dim(2)),
        table(args.block_tables.as<const std::int32_t>() +
              args.sequence.as<const std::int32_t>()[t] * args.block_tables.dim(1)) {
    const std::int64_t list = t * args.blocks.ids.dim(1) + g;
    ids = args.blocks.ids.as<std::int32_t>() + list * args.blocks.ids.dim(2);
    count = args.blocks.counts.as<std::int32_t>() + list;
  }
  std::int64_t g;
  std::int64_t group;
  std::int64_t position;
  std::int64_t n_blocks;  // that the row may see
  const float* q;         // [group][head_dim]
  const std::int32_t* table;
  std::int32_t* ids = nullptr;
  std::int32_t* count = nullptr;
};

bool forced(const SelectBlocksArgs& args, const Row& row, std::int64_t block) {
  return block < args.init_blocks || row.n_blocks - 1 - block < args.local_blocks;
}

// Scores are not negative, so a negative one marks a chosen block; the list is what is marked.
template <typename T>
void choose(const SelectBlocksArgs& args, const Row& row, T* score, std::int32_t* order) {
  constexpr T kChosen = -1;
  std::int64_t n_others = 0;
  for (std::int64_t b = 0; b < row.n_blocks; ++b) {
    if (forced(args, row, b)) {
      score[b] = kChosen;
    } else {
      order[n_others++] = static_cast<std::int32_t>(b);
    }
  }
  const std::int64_t wanted = std::min(args.top_k - (row.n_blocks - n_others), n_others);
  const auto better = [score](std::int32_t a, std::int32_t b) {
    return score[a] != score[b] ? score[a] > score[b] : a < b;
  };
  std::nth_element(order, order + wanted, order + n_others, better);
  for (std::int64_t i = 0; i < wanted; ++i) score[order[i]] = kChosen;
  std::int32_t count = 0;
  for (std::int64_t b = 0; b < row.n_blocks; ++b) {
    if (score[b] == kChosen) row.ids[count++] = static_cast<std::int32_t>(b);
  }
  *row.count = count;
}

/// score(b) from w(j) of the n complete windows.
template <typename T>
void score_blocks(
    const SelectBlocksArgs& args, const Row& row, const T* w, std::int64_t n, T* score) {
  const std::int64_t block = args.blocks.block;
  const std::int64_t stride = args.keys.stride;
  for (std::int64_t b = 0; b < row.n_blocks; ++b) {
    // the first window that reaches the block, and the one after the last that starts in it
    const std::int64_t before = b * block - args.keys.kernel + 1;
    const std::int64_t begin = before <= 0 ? 0 : (before + stride - 1) / stride;
    const std::int64_t end = std::min(n, (b + 1) * block / stride);
    score[b] = 0;
    for (std::int64_t j = begin; j < end; ++j) score[b] = std::max(score[b], w[j]);
  }
}

double ref_dot(const float* q, const float* entry, std::int64_t dim) {
  double sum = 0;
  for (std::int64_t d = 0; d < dim; ++d) sum += static_cast<double>(q[d]) * entry[d];
  return sum;
}

void ref_row(const SelectBlocksArgs& args, const Row& row) {
  if (row.position < args.dense_below) {
    *row.count = -1;
    return;
  }
  const KeyLevel fine = level_1(args.keys);
  const KeyLevel coarse = level_2(args.keys);
  const std::int64_t n = fine.complete(row.position);
  const KeyLevel& norm = coarse.complete(row.position) > 0 ? coarse : fine;
  const auto scores = [&](const KeyLevel& level, std::int64_t h) {
    std::vector<double> y;
    for (std::int64_t j = 0; j < level.complete(row.position); ++j) {
      const float* const entry = level.entry(row.table, j * level.stride + level.length - 1, row.g);
      y.push_back(args.scale * ref_dot(row.q + h * level.head_dim, entry, level.head_dim));
    }
    return y;
  };
  std::vector<double> w(static_cast<std::size_t>(n));
  for (std::int64_t h = 0; n > 0 && h < row.group; ++h) {
    const std::vector<double> y2 = scores(norm, h);
    const double m = *std::max_element(y2.begin(), y2.end());
    double l = 0;
    for (const double y : y2) l += std::exp(y - m);
    const std::vector<double> y1 = scores(fine, h);
    for (std::size_t j = 0; j < y1.size(); ++j) {
      const double p = std::exp(y1[j] - m) / l;
      if (!std::isnan(p)) w[j] += p;
    }
  }
  std::vector<double> score(static_cast<std::size_t>(row.n_blocks));
  score_blocks(args, row, w.data(), n, score.data());
  std::vector<std::int32_t> order(score.size());
  choose(args, row, score.data(), order.data());
}

void ref(const SelectBlocksArgs& args, CpuContext& context) {
  check(args);
  const std::int64_t n_heads = args.keys.k1.dim(1);
  context.pool.run(args.q.dim(0) * n_heads, [&](std::int64_t i, int) {
    ref_row(args, Row(args, i / n_heads, i % n_heads));
  });
}

constexpr std::int64_t padded(std::int64_t n) {
  return (n + 15) / 16 * 16;
}

/// A task's memory for rows up to a position.
struct Scratch {
  const float** entries = nullptr;  // of level 1, then of level 2
  float* y1 = nullptr;              // [group][padded windows]
  float* y2 = nullptr;
  float* w = nullptr;
  float* score = nullptr;
  std::int32_t* order = nullptr;

  // With null memory: the bytes needed.
  std::size_t cut(std::byte* memory, const SelectBlocksArgs& args, std::int64_t position) {
    const std::int64_t group = args.q.dim(1) / args.keys.k1.dim(1);
    const std::int64_t n1 = padded(level_1(args.keys).complete(position));
    const std::int64_t n2 = padded(level_2(args.keys).complete(position));
    const std::int64_t n_blocks = padded(position / args.blocks.block + 1);
    std::size_t at = 0;
    const auto take = [&](auto*& part, std::int64_t n) {
      if (memory != nullptr) {
        part = reinterpret_cast<std::remove_reference_t<decltype(part)>>(memory + at);
      }
      at += static_cast<std::size_t>(padded(n)) * sizeof(*part);
    };
    take(entries, n1 + n2);
    take(y1, group * n1);
    take(y2, group * n2);
    take(w, n1);
    take(score, n_blocks);
    take(order, n_blocks);
    return at;
  }
};

/// Scores of all heads of the row against the complete windows of a level; returns how many.
std::int64_t score_level(const SelectBlocksArgs& args,
                         const Row& row,
                         const KeyLevel& level,
                         const AttentionKernels& kernels,
                         const float** entries,
                         float* y) {
  const std::int64_t n = level.complete(row.position);
  for (std::int64_t j = 0; j < n; ++j) {
    entries[j] = level.entry(row.table, j * level.stride + level.length - 1, row.g);
  }
  EntryScores scores;
  scores.q = row.q;
  scores.n_rows = row.group;
  scores.head_dim = level.head_dim;
  scores.entries = entries;
  scores.n_entries = n;
  scores.scale = args.scale;
  scores.y = y;
  scores.stride = padded(n);
  kernels.score_entries(scores);
  return n;
}

void fast_row(const SelectBlocksArgs& args,
              const Row& row,
              const AttentionKernels& kernels,
              const Scratch& scratch) {
  if (row.position < args.dense_below) {
    *row.count = -1;
    return;
  }
  const std::int64_t n1 =
      score_level(args, row, level_1(args.keys), kernels, scratch.entries, scratch.y1);
  const std::int64_t n2 =
      score_level(args, row, level_2(args.keys), kernels, scratch.entries + n1, scratch.y2);
  std::fill(scratch.w, scratch.w + padded(n1), 0.0F);
  for (std::int64_t h = 0; n1 > 0 && h < row.group; ++h) {
    WindowWeights weights;
    weights.y = scratch.y1 + h * padded(n1);
    weights.n = n1;
    weights.norm = n2 > 0 ? scratch.y2 + h * padded(n2) : weights.y;
    weights.n_norm = n2 > 0 ? n2 : n1;
    weights.w = scratch.w;
    kernels.add_weights(weights);
  }
  score_blocks(args, row, scratch.w, n1, scratch.score);
  choose(args, row, scratch.score, scratch.order);
}

void fast(const SelectBlocksArgs& args, CpuContext& context, const AttentionKernels& kernels) {
  check(args);
  const std::int64_t n = args.q.dim(0);
  if (n == 0) return;
  const std::int64_t n_heads = args.keys.k1.dim(1);
  const auto* const position = args.positions.as<const std::int32_t>();
  const std::int64_t last = *std::max_element(position, position + n);
  const std::size_t bytes = Scratch().cut(nullptr, args, last);
  context.pool.run(n * n_heads, [&](std::int64_t i, int worker) {
    Scratch scratch;
    scratch.cut(context.worker(worker, bytes), args, last);
    fast_row(args, Row(args, i / n_heads, i % n_heads), kernels, scratch);
  });
}

bool accepts_shape(const SelectBlocksArgs& args) {
  return args.q.dim(2) > 0 && args.q.dim(2) % 16 == 0;
}

constexpr Variant<SelectBlocksArgs, CpuContext> kVariants[] = {
    {"avx512",
     [](const SelectBlocksArgs& args, const DeviceCaps& caps) {
       return caps.avx512 && attention_kernels_avx512() != nullptr && accepts_shape(args);
     },
     [](const SelectBlocksArgs& args, CpuContext& c) {
       fast(args, c, *attention_kernels_avx512());
     }},
    {"avx2",
     [](const SelectBlocksArgs& args, const DeviceCaps& caps) {
       return caps.avx2 && attention_kernels_avx2() != nullptr && accepts_shape(args);
     },
     [](const SelectBlocksArgs& args, CpuContext& c) { fast(args, c, *attention_kernels_avx2()); }},
    {"portable",
     [](const SelectBlocksArgs& args, const DeviceCaps&) { return accepts_shape(args); },
     [](const SelectBlocksArgs& args, CpuContext& c) {
       fast(args, c, attention_kernels_portable());
     }},
    {"ref", [](const SelectBlocksArgs&, const DeviceCaps&) { return true; }, ref}};

}  // namespace

const Table<SelectBlocksArgs>& select_blocks_table() {
  static constexpr Table<SelectBlocksArgs> kTable = {"select_blocks", kVariants};
  return kTable;
}

}  // namespace heddle::cpu
