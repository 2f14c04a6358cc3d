// Attention, its cache and the block lists of block-sparse attention.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "tools/heddle/kernel_case_list.h"

namespace heddle::cli {
namespace {

KvPages pages_at(std::byte* k, std::byte* v, DType dtype, std::int64_t n_blocks) {
  KvPages pages;
  pages.k = TensorView(k, dtype, {n_blocks, kKvHeads, kHeadDim, kBlockTokens});
  pages.v = TensorView(v, dtype, {n_blocks, kKvHeads, kBlockTokens, kHeadDim});
  return pages;
}

std::int64_t kv_bytes(DType dtype, std::int64_t n_tokens) {  // of K or of V
  return n_tokens * row_bytes(dtype, kKvHeads * kHeadDim);
}

struct AttentionMemory {
  std::vector<float> q;
  std::vector<float> out;
  std::vector<std::int32_t> tables;
  std::vector<std::int32_t> sequence;
  std::vector<std::int32_t> positions;
};

/// Rows at the ends of n_sequences sequences of `depth` tokens, the last n_rows of each.
Job<AttentionArgs> attention(Workbench& bench,
                             DType dtype,
                             std::int64_t n_sequences,
                             std::int64_t depth,
                             std::int64_t n_rows) {
  const auto own = std::make_shared<AttentionMemory>();
  const std::int64_t n = n_sequences * n_rows;
  const std::int64_t max_blocks = (depth + kBlockTokens - 1) / kBlockTokens;
  own->q = random_floats(n * kQHeads * kHeadDim);
  own->out.resize(own->q.size());
  own->tables.resize(static_cast<std::size_t>(n_sequences * max_blocks));
  std::iota(own->tables.begin(), own->tables.end(), 0);
  double pairs = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    own->sequence.push_back(static_cast<std::int32_t>(i / n_rows));
    own->positions.push_back(static_cast<std::int32_t>(depth - n_rows + i % n_rows));
    pairs += own->positions.back() + 1.0;
  }
  Job<AttentionArgs> job;
  job.args.q = f32(own->q.data(), {n, kQHeads, kHeadDim});
  job.args.out = f32(own->out.data(), {n, kQHeads, kHeadDim});
  job.args.pages = pages_at(bench.source(), bench.source() + bench.source_bytes() / 2, dtype,
                            n_sequences * max_blocks);
  job.args.block_tables = TensorView(own->tables.data(), DType::kI32, {n_sequences, max_blocks});
  job.args.sequence = TensorView(own->sequence.data(), DType::kI32, {n});
  job.args.positions = TensorView(own->positions.data(), DType::kI32, {n});
  job.args.scale = 1.0F / std::sqrt(static_cast<float>(kHeadDim));
  job.shape = n_rows == 1 ? fmt::format("decode {} x depth {}", n_sequences, depth)
                          : fmt::format("prefill {} tokens", n_rows);
  job.shape += fmt::format(", heads {}/{} d {}", kQHeads, kKvHeads, kHeadDim);
  job.bytes = number(2 * kv_bytes(dtype, n_sequences * depth) + 2 * n * kQHeads * kHeadDim * 4);
  job.operations = 4.0 * number(kHeadDim * kQHeads) * pairs;
  job.owned = own;
  return job;
}

Job<KvWriteArgs> kv_write(Workbench& bench, DType dtype, std::int64_t n) {
  const auto slots = std::make_shared<std::vector<std::int32_t>>(static_cast<std::size_t>(n));
  std::iota(slots->begin(), slots->end(), 0);
  Job<KvWriteArgs> job;
  job.args.k = f32(bench.source(), {n, kKvHeads, kHeadDim});
  job.args.v = f32(bench.source() + bench.source_bytes() / 2, {n, kKvHeads, kHeadDim});
  job.args.slots = TensorView(slots->data(), DType::kI32, {n});
  job.args.pages = pages_at(bench.sink(), bench.sink() + bench.sink_bytes() / 2, dtype,
                            (n + kBlockTokens - 1) / kBlockTokens);
  job.shape = fmt::format("n {}, heads {} d {}", n, kKvHeads, kHeadDim);
  job.bytes = number(2 * (kv_bytes(DType::kF32, n) + kv_bytes(dtype, n)));
  job.owned = slots;
  return job;
}

constexpr std::int64_t kSparseDepth = 32768;
constexpr std::int64_t kPowerBlock = 256;
constexpr std::int64_t kPowerLocal = 5;

/// PowerAttention's lists of the given positions, with the memory they are in.
struct PowerLists {
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> counts;
  PatternBlocksArgs args;

  explicit PowerLists(std::vector<std::int32_t> of) : positions(std::move(of)) {
    const auto n = static_cast<std::int64_t>(positions.size());
    args.pattern = BlockPattern::kPower;
    args.local = kPowerLocal;
    args.blocks.block = kPowerBlock;
    const std::int64_t capacity = pattern_blocks_capacity(
        args, std::int64_t{*std::max_element(positions.begin(), positions.end())} + 1);
    ids.resize(static_cast<std::size_t>(n * capacity));
    counts.resize(positions.size());
    args.positions = TensorView(positions.data(), DType::kI32, {n});
    args.blocks.ids = TensorView(ids.data(), DType::kI32, {n, 1, capacity});
    args.blocks.counts = TensorView(counts.data(), DType::kI32, {n, 1});
  }
};

/// One row at the end of each sequence of `depth` tokens, with PowerAttention's blocks.
Job<AttentionArgs> power_attention(Workbench& bench,
                                   DType dtype,
                                   std::int64_t n_sequences,
                                   std::int64_t depth) {
  Job<AttentionArgs> job = attention(bench, dtype, n_sequences, depth, 1);
  const auto lists = std::make_shared<PowerLists>(std::vector<std::int32_t>(
      static_cast<std::size_t>(n_sequences), static_cast<std::int32_t>(depth - 1)));
  cpu::pattern_blocks_table().variants.front().run(lists->args, bench.context);
  job.args.blocks = lists->args.blocks;
  const std::int64_t in_last = (depth - 1) % kPowerBlock + 1;
  const std::int64_t keys = (std::int64_t{lists->counts.front()} - 1) * kPowerBlock + in_last;
  job.shape = fmt::format("power {}: {}", kPowerBlock, job.shape);
  job.bytes =
      number(2 * kv_bytes(dtype, n_sequences * keys) + 2 * n_sequences * kQHeads * kHeadDim * 4);
  job.operations = 4.0 * number(kHeadDim * kQHeads) * number(n_sequences * keys);
  job.owned = std::make_shared<std::pair<std::shared_ptr<void>, std::shared_ptr<PowerLists>>>(
      job.owned, lists);
  return job;
}

Job<PatternBlocksArgs> pattern_blocks(std::int64_t n) {
  std::vector<std::int32_t> positions(static_cast<std::size_t>(n));
  std::iota(positions.begin(), positions.end(), static_cast<std::int32_t>(kSparseDepth));
  const auto lists = std::make_shared<PowerLists>(std::move(positions));
  Job<PatternBlocksArgs> job;
  job.args = lists->args;
  job.shape = fmt::format("power {} n {} at {}", kPowerBlock, n, kSparseDepth);
  job.bytes = number((lists->args.blocks.ids.dim(2) + 2) * n * 4);
  job.owned = lists;
  return job;
}

// InfLLM-V2 as published: means of 32 keys every 16, blocks of 64, 96 of them.
constexpr std::int64_t kWindowKeys = 32;
constexpr std::int64_t kWindowStride = 16;
constexpr std::int64_t kSelectBlock = 64;
constexpr std::int64_t kSelectTopK = 96;
constexpr std::int64_t kSelectLocal = 33;

CompressedKeys compressed_at(std::byte* memory, std::int64_t n_tokens) {
  const std::int64_t n_blocks = n_tokens / kSelectBlock;
  constexpr std::int64_t kEntries = kSelectBlock / kWindowStride;
  CompressedKeys keys;
  keys.kernel = kWindowKeys;
  keys.stride = kWindowStride;
  keys.block_tokens = kSelectBlock;
  keys.k1 = f32(memory, {n_blocks, kKvHeads, kEntries, kHeadDim});
  keys.k2 = f32(memory + keys.k1.bytes(), {n_blocks, kKvHeads, kEntries / 4, kHeadDim});
  return keys;
}

struct RowIndices {
  std::vector<std::int32_t> tables;
  std::vector<std::int32_t> sequence;
  std::vector<std::int32_t> positions;
  std::vector<float> q;
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> counts;
};

/// Of n_blocks * kSelectBlock tokens of one sequence.
Job<CompressKeysArgs> compress_keys(Workbench& bench, DType dtype, std::int64_t n_blocks) {
  const auto own = std::make_shared<RowIndices>();
  const std::int64_t n = n_blocks * kSelectBlock;
  own->tables.resize(static_cast<std::size_t>(n_blocks));
  std::iota(own->tables.begin(), own->tables.end(), 0);
  own->sequence.resize(static_cast<std::size_t>(n));
  own->positions.resize(static_cast<std::size_t>(n));
  std::iota(own->positions.begin(), own->positions.end(), 0);
  Job<CompressKeysArgs> job;
  job.args.k = TensorView(bench.source(), dtype, {n_blocks, kKvHeads, kHeadDim, kSelectBlock});
  job.args.keys = compressed_at(bench.sink(), n);
  job.args.block_tables = TensorView(own->tables.data(), DType::kI32, {1, n_blocks});
  job.args.sequence = TensorView(own->sequence.data(), DType::kI32, {n});
  job.args.positions = TensorView(own->positions.data(), DType::kI32, {n});
  job.shape = fmt::format("n {}, heads {} d {}, {} every {}", n, kKvHeads, kHeadDim, kWindowKeys,
                          kWindowStride);
  job.bytes = number(kv_bytes(dtype, n) + job.args.keys.k1.bytes() + job.args.keys.k2.bytes());
  job.owned = own;
  return job;
}

/// One row at the end of each of n_sequences sequences of `depth` tokens.
Job<SelectBlocksArgs> select_blocks(Workbench& bench,
                                    std::int64_t n_sequences,
                                    std::int64_t depth) {
  const auto own = std::make_shared<RowIndices>();
  const std::int64_t max_blocks = depth / kSelectBlock;
  own->tables.resize(static_cast<std::size_t>(n_sequences * max_blocks));
  std::iota(own->tables.begin(), own->tables.end(), 0);
  own->sequence.resize(static_cast<std::size_t>(n_sequences));
  std::iota(own->sequence.begin(), own->sequence.end(), 0);
  own->positions.assign(own->sequence.size(), static_cast<std::int32_t>(depth - 1));
  own->q = random_floats(n_sequences * kQHeads * kHeadDim);
  own->ids.resize(static_cast<std::size_t>(n_sequences * kKvHeads * kSelectTopK));
  own->counts.resize(static_cast<std::size_t>(n_sequences * kKvHeads));
  Job<SelectBlocksArgs> job;
  job.args.q = f32(own->q.data(), {n_sequences, kQHeads, kHeadDim});
  job.args.keys = compressed_at(bench.source(), n_sequences * depth);
  job.args.block_tables = TensorView(own->tables.data(), DType::kI32, {n_sequences, max_blocks});
  job.args.sequence = TensorView(own->sequence.data(), DType::kI32, {n_sequences});
  job.args.positions = TensorView(own->positions.data(), DType::kI32, {n_sequences});
  job.args.scale = 1.0F / std::sqrt(static_cast<float>(kHeadDim));
  job.args.init_blocks = 1;
  job.args.local_blocks = kSelectLocal;
  job.args.top_k = kSelectTopK;
  job.args.blocks.block = kSelectBlock;
  job.args.blocks.ids =
      TensorView(own->ids.data(), DType::kI32, {n_sequences, kKvHeads, kSelectTopK});
  job.args.blocks.counts = TensorView(own->counts.data(), DType::kI32, {n_sequences, kKvHeads});
  job.shape = fmt::format("{} x depth {}, heads {}/{} d {}", n_sequences, depth, kQHeads, kKvHeads,
                          kHeadDim);
  job.bytes = number(job.args.keys.k1.bytes() + job.args.keys.k2.bytes());
  job.owned = own;
  return job;
}

void add_block_lists(Cases& cases) {
  const std::int64_t half = cases.arena() / 2;
  cases.add(cpu::pattern_blocks_table(), DType::kF32, Arithmetic::kF32, kPrompt,
            [](Workbench&, std::int64_t size) { return pattern_blocks(size); });
  for (const DType dtype : kKvTypes) {
    const std::int64_t most = half / 2 / kv_bytes(DType::kF32, kSelectBlock);
    cases.add(cpu::compress_keys_table(), dtype, Arithmetic::kF32,
              std::min(most, kSparseDepth / kSelectBlock),
              [dtype](Workbench& b, std::int64_t size) { return compress_keys(b, dtype, size); });
  }
  // an entry every kWindowStride tokens, and a quarter of that
  const std::int64_t bytes = kv_bytes(DType::kF32, kSelectBlock) * 5 / (4 * kWindowStride);
  const std::int64_t depth = std::min(kSparseDepth, half / bytes * kSelectBlock);
  cases.add(cpu::select_blocks_table(), DType::kF32, Arithmetic::kF32,
            half / (depth / kSelectBlock * bytes),
            [depth](Workbench& b, std::int64_t size) { return select_blocks(b, size, depth); });
}

}  // namespace

void add_attention_cases(Cases& cases) {
  const std::int64_t half = cases.arena() / 2;
  for (const DType dtype : kKvTypes) {
    cases.add(cpu::kv_write_table(), dtype, Arithmetic::kF32,
              half / 2 / kv_bytes(DType::kF32, kBlockTokens) * kBlockTokens,
              [dtype](Workbench& b, std::int64_t size) { return kv_write(b, dtype, size); });
  }
  for (const DType dtype : kKvTypes) {
    // Less than a whole sequence where the arena is small.
    const std::int64_t depth =
        std::min(kDepth, half / kv_bytes(dtype, kBlockTokens) * kBlockTokens);
    cases.add(cpu::attention_table(), dtype, Arithmetic::kF32, half / kv_bytes(dtype, depth),
              [dtype, depth](Workbench& b, std::int64_t size) {
                return attention(b, dtype, size, depth, 1);
              });
    cases.add(
        cpu::attention_table(), dtype, Arithmetic::kF32, std::min(kPrompt, depth),
        [dtype](Workbench& b, std::int64_t size) { return attention(b, dtype, 1, size, size); });
    const std::int64_t deep =
        std::min(kSparseDepth, half / kv_bytes(dtype, kBlockTokens) * kBlockTokens);
    cases.add(cpu::attention_table(), dtype, Arithmetic::kF32, half / kv_bytes(dtype, deep),
              [dtype, deep](Workbench& b, std::int64_t size) {
                return power_attention(b, dtype, size, deep);
              });
  }
  add_block_lists(cases);
}

}  // namespace heddle::cli
