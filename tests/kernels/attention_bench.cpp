// What block lists and masked heads save in decode attention: `kernels_attention_bench [threads]`.
// Calls alternate between the forms that are compared, each after 256 MiB of other memory was read:
// a layer's keys are in no cache when a model comes to it. The best of each counts, in time on the
// clock and in CPU time of all threads.

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/error.h"
#include "kernels/cpu/cpu_tables.h"
#include "tests/support/random.h"

namespace heddle {
namespace {

struct Decode {
  std::int64_t depth;
  std::int64_t n_q;
  std::int64_t n_kv;
  std::int64_t dim;
  std::int64_t tokens = 16;

  std::vector<float> q;
  std::vector<float> out;
  Buffer k;  // on huge pages as the engine's, for a call without lists walks far
  Buffer v;
  std::vector<std::int32_t> table;
  std::int32_t sequence = 0;
  std::int32_t position = 0;
  AttentionArgs args;

  Decode(std::int64_t n_keys, std::int64_t q_heads, std::int64_t kv_heads, std::int64_t head_dim)
      : depth(n_keys), n_q(q_heads), n_kv(kv_heads), dim(head_dim) {
    test::Random random(1);
    q = random.normals(n_q * dim);
    out.resize(q.size());
    const auto n = static_cast<std::size_t>(depth * n_kv * dim);
    for (Buffer* const x : {&k, &v}) {  // f16 between 1/16 and 2
      *x = host_buffer(n * sizeof(std::uint16_t));
      auto* const elements = reinterpret_cast<std::uint16_t*>(x->data());
      for (std::size_t i = 0; i < n; ++i) {
        elements[i] = static_cast<std::uint16_t>(0x2c00 + (random.bits() & 0x93ffU));
      }
    }
    const std::int64_t n_blocks = depth / tokens;
    table.resize(static_cast<std::size_t>(n_blocks));
    std::iota(table.begin(), table.end(), 0);
    position = static_cast<std::int32_t>(depth - 1);
    args.q = TensorView(q.data(), DType::kF32, {1, n_q, dim});
    args.out = TensorView(out.data(), DType::kF32, {1, n_q, dim});
    args.pages.k = TensorView(k.data(), DType::kF16, {n_blocks, n_kv, dim, tokens});
    args.pages.v = TensorView(v.data(), DType::kF16, {n_blocks, n_kv, tokens, dim});
    args.block_tables = TensorView(table.data(), DType::kI32, {1, n_blocks});
    args.sequence = TensorView(&sequence, DType::kI32, {1});
    args.positions = TensorView(&position, DType::kI32, {1});
    args.scale = 1.0F / std::sqrt(static_cast<float>(dim));
  }
  Decode(const Decode&) = delete;
  Decode& operator=(const Decode&) = delete;
};

// Leaves nothing of what was read before in any cache.
void evict() {
  static const std::vector<std::uint64_t> other(std::size_t{32} << 20, 1);
  HEDDLE_CHECK(std::accumulate(other.begin(), other.end(), std::uint64_t{0}) == other.size());
}

struct Best {
  double wall_us = std::numeric_limits<double>::infinity();
  double cpu_us = std::numeric_limits<double>::infinity();

  template <typename F>
  void time(const F& f) {
    evict();
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t cpu = std::clock();
    f();
    cpu_us = std::min(cpu_us, 1e6 * static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC);
    const std::chrono::duration<double, std::micro> wall = std::chrono::steady_clock::now() - start;
    wall_us = std::min(wall_us, wall.count());
  }
};

// `promised`: the ratio of the bytes read.
void compare(const std::string& what,
             const AttentionArgs& all,
             const AttentionArgs& part,
             double promised,
             CpuContext& context) {
  for (const auto& variant : cpu::attention_table().variants) {
    if (!variant.name.starts_with("avx") || !variant.accepts(all, context.caps)) continue;
    Best best_all;
    Best best_part;
    for (int i = 0; i < 40; ++i) {
      best_all.time([&] { variant.run(all, context); });
      best_part.time([&] { variant.run(part, context); });
    }
    const double cpu = best_all.cpu_us / best_part.cpu_us;
    const double wall = best_all.wall_us / best_part.wall_us;
    fmt::print(
        "{:<44} {:<8} all {:>8.0f} us (cpu {:>8.0f}), part {:>7.0f} us (cpu {:>7.0f}): {:.2f} "
        "times as fast (cpu {:.2f}), promised {:.2f}: {:.0f} % (cpu {:.0f} %)\n",
        what, variant.name, best_all.wall_us, best_all.cpu_us, best_part.wall_us, best_part.cpu_us,
        wall, cpu, promised, 100 * wall / promised, 100 * cpu / promised);
  }
}

// One row at 32k with PowerAttention's blocks of 256, beside all keys; and beside a sequence of as
// many keys as the list has, which shows what the list itself costs.
void power(std::int64_t n_q, std::int64_t n_kv, std::int64_t dim, CpuContext& context) {
  constexpr std::int64_t kDepth = 32768;
  const Decode decode(kDepth, n_q, n_kv, dim);
  PatternBlocksArgs pattern;
  pattern.local = 5;
  pattern.blocks.block = 256;
  pattern.positions = decode.args.positions;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(pattern_blocks_capacity(pattern, kDepth)));
  std::int32_t count = 0;
  pattern.blocks.ids =
      TensorView(ids.data(), DType::kI32, {1, 1, static_cast<std::int64_t>(ids.size())});
  pattern.blocks.counts = TensorView(&count, DType::kI32, {1, 1});
  cpu::pattern_blocks_table().variants.front().run(pattern, context);
  AttentionArgs listed = decode.args;
  listed.blocks = pattern.blocks;
  compare(fmt::format("power 256 at 32768, heads {}/{} d {}", n_q, n_kv, dim), decode.args, listed,
          static_cast<double>(kDepth) / (256.0 * count), context);
  const Decode as_many(256 * std::int64_t{count}, n_q, n_kv, dim);
  compare(fmt::format("power 256 at 32768, beside depth {}", as_many.depth), as_many.args, listed,
          1.0, context);
}

// 24 of 32 heads at 8k.
void masked(std::int64_t n_kv, std::int64_t dim, CpuContext& context) {
  const Decode decode(8192, 32, n_kv, dim);
  std::vector<std::uint8_t> mask(32, 1);
  for (std::size_t h = 16; h < 32; h += 2) mask[h] = 0;
  AttentionArgs some = decode.args;
  some.head_mask = TensorView(mask.data(), DType::kU8, {1, 32});
  compare(fmt::format("24 of 32 heads at 8192, {} kv heads d {}", n_kv, dim), decode.args, some,
          n_kv == 32 ? 32.0 / 24 : 1.0, context);
}

}  // namespace
}  // namespace heddle

int main(int argc, char** argv) {
  const int n_threads = argc > 1 ? std::atoi(argv[1]) : 1;
  heddle::CpuContext context(n_threads, heddle::detect_cpu());
  fmt::print("{} threads\n", context.pool.size());
  heddle::power(32, 8, 64, context);
  heddle::power(32, 8, 128, context);
  heddle::masked(32, 128, context);
  heddle::masked(8, 128, context);
  return 0;
}
