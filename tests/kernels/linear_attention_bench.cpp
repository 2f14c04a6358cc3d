// kernels_linear_attention_bench [threads [variant]]: times decode steps of linear attention on
// states larger than the caches, beside the memory's read speed, and a prefill, beside the f32
// matmul of the same library. Shapes: 64 heads of 128 x 128 (MiniMax) and 8 heads of 256 x 128
// (LRPE). Best of many runs, because the machine may be shared; with one thread, of its own CPU
// time. Not a test; built when asked for by name.

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_tables.h"
#include "kernels/cpu/pack.h"
#include "tests/support/random.h"
#include "tests/support/weights.h"

namespace heddle {
namespace {

struct Shape {
  std::int64_t n_heads = 64;
  std::int64_t key_dim = 128;
  std::int64_t value_dim = 128;
  std::int64_t state_bytes() const { return n_heads * key_dim * value_dim * 4; }
  std::int64_t tail_row_bytes() const { return n_heads * (key_dim + value_dim) * 4; }
};

bool one_thread = false;

// Seconds of the wall clock, or of this thread alone (so that a shared machine disturbs less).
double now() {
  timespec t = {};
  ::clock_gettime(one_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

double best_seconds(int repetitions, const std::function<void()>& f) {
  double best = 1e30;
  for (int i = 0; i < repetitions; ++i) {
    const double start = now();
    f();
    best = std::min(best, now() - start);
  }
  return best;
}

// n_rows next tokens of each of n_sequences sequences.
class Bench {
 public:
  Bench(const Shape& s, std::int64_t n_sequences, std::int64_t n_rows)
      : n_rows_(n_rows), n_(n_sequences * n_rows) {
    test::Random random(1);
    q_ = random.normals(n_ * s.n_heads * s.key_dim);
    k_ = random.normals(n_ * s.n_heads * s.key_dim);
    v_ = random.normals(n_ * s.n_heads * s.value_dim);
    out_.resize(v_.size());
    for (std::int64_t h = 0; h < s.n_heads; ++h) {
      slopes_.push_back(static_cast<float>(std::exp2(-8.0 * static_cast<double>(h + 1) / 64.0)));
    }
    for (std::int64_t i = 0; i < n_sequences; ++i) {
      slots_.push_back(static_cast<std::int32_t>(i));
      sequence_.insert(sequence_.end(), static_cast<std::size_t>(n_rows),
                       static_cast<std::int32_t>(i));
    }
    positions_.resize(static_cast<std::size_t>(n_));
    s_ = filled(n_sequences * s.state_bytes());
    tail_ = filled(n_sequences * s.tail_row_bytes() * kLinearBlock);
    args_.q = {q_.data(), DType::kF32, {n_, s.n_heads, s.key_dim}};
    args_.k = {k_.data(), DType::kF32, {n_, s.n_heads, s.key_dim}};
    args_.v = {v_.data(), DType::kF32, {n_, s.n_heads, s.value_dim}};
    args_.out = {out_.data(), DType::kF32, {n_, s.n_heads, s.value_dim}};
    args_.slopes = {slopes_.data(), DType::kF32, {s.n_heads}};
    args_.state.s = {s_.data(), DType::kF32, {n_sequences, s.n_heads, s.key_dim, s.value_dim}};
    args_.state.tail_k = {
        tail_.data(), DType::kF32, {n_sequences, s.n_heads, kLinearBlock, s.key_dim}};
    args_.state.tail_v = {tail_.as<float>() + n_sequences * s.n_heads * kLinearBlock * s.key_dim,
                          DType::kF32,
                          {n_sequences, s.n_heads, kLinearBlock, s.value_dim}};
    args_.slots = {slots_.data(), DType::kI32, {n_sequences}};
    args_.sequence = {sequence_.data(), DType::kI32, {n_}};
    args_.positions = {positions_.data(), DType::kI32, {n_}};
    args_.scale = 1.0F;
  }

  // Each sequence's next rows from position first + i mod B on: where they stand in their blocks
  // is spread evenly.
  const LinearAttentionArgs& at(std::int64_t first) {
    for (std::int64_t t = 0; t < n_; ++t) {
      const std::int64_t place = n_rows_ == 1 ? (t + first) % kLinearBlock : t % n_rows_;
      positions_[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(kLinearBlock + place);
    }
    return args_;
  }

 private:
  static Buffer filled(std::int64_t bytes) {
    Buffer b = host_buffer(static_cast<std::size_t>(bytes));
    std::fill_n(b.as<float>(), bytes / 4, 0.01F);
    return b;
  }

  std::int64_t n_rows_;
  std::int64_t n_;
  std::vector<float> q_, k_, v_, out_, slopes_;
  Buffer s_, tail_;
  std::vector<std::int32_t> slots_, sequence_, positions_;
  LinearAttentionArgs args_;
};

double read_speed(CpuContext& context) {
  const std::size_t bytes = std::size_t{256} << 20;
  const Buffer memory = host_buffer(bytes);
  std::memset(memory.data(), 1, bytes);
  constexpr std::int64_t kTasks = 64;
  std::vector<std::uint64_t> sums(kTasks);
  const double seconds = best_seconds(20, [&] {
    context.pool.run(kTasks, [&](std::int64_t t, int) {
      const std::size_t n = bytes / 8 / kTasks;
      const auto* const p = memory.as<const std::uint64_t>() + static_cast<std::size_t>(t) * n;
      std::uint64_t s = 0;
      for (std::size_t i = 0; i < n; ++i) s += p[i];
      sums[static_cast<std::size_t>(t)] = s;
    });
  });
  return static_cast<double>(bytes) / seconds;
}

// FLOP/s of 512 rows against f32 weights of 2048 x 2048.
double matmul_speed(CpuContext& context, const std::string& variant) {
  constexpr std::int64_t kN = 512;
  constexpr std::int64_t kWidth = 2048;
  test::Random random(2);
  const test::Weights w = test::random_weights(DType::kF32, kWidth, kWidth, random);
  const PackedMatrix packed = cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, context.pool);
  const std::vector<float> x = random.normals(kN * kWidth);
  std::vector<float> out(kN * kWidth);
  MatmulArgs args;
  args.n_targets = 1;
  args.targets[0].weight = &packed;
  args.targets[0].out = TensorView(out.data(), DType::kF32, {kN, kWidth});
  args.x = TensorView(x.data(), DType::kF32, {kN, kWidth});
  const std::string_view name = variant == "avx512" ? "avx512_vnni" : std::string_view(variant);
  const auto& v = cpu::matmul_table().pick(args, context.caps, name);
  const double seconds = best_seconds(8, [&] { v.run(args, context); });
  return 2.0 * kN * kWidth * kWidth / seconds;
}

void bench(const Shape& s, const std::string& variant, CpuContext& context) {
  const auto run = [&](const LinearAttentionArgs& args) {
    cpu::linear_attention_table().pick(args, context.caps, variant).run(args, context);
  };
  const double read = read_speed(context);
  std::printf("%s, %d threads, %d heads of %d x %d\n", variant.c_str(), context.pool.size(),
              static_cast<int>(s.n_heads), static_cast<int>(s.key_dim),
              static_cast<int>(s.value_dim));
  for (const std::int64_t n : {std::int64_t{1}, (std::int64_t{256} << 20) / s.state_bytes()}) {
    Bench b(s, n, 1);
    std::int64_t step = 0;
    const double seconds = best_seconds(6,
                                        [&] {
                                          for (int i = 0; i < kLinearBlock; ++i) run(b.at(step++));
                                        }) /
                           kLinearBlock;
    const double bytes =
        static_cast<double>(n) *
        (static_cast<double>(s.state_bytes()) * (1.0 + 1.0 / kLinearBlock) +
         static_cast<double>(s.tail_row_bytes()) * ((kLinearBlock - 1) / 2.0 + 1.0));
    std::printf("  decode %3d sequences: %8.1f us a step, %5.1f GB/s, %3.0f %% of %.1f GB/s\n",
                static_cast<int>(n), seconds * 1e6, bytes / seconds * 1e-9,
                100.0 * bytes / seconds / read, read * 1e-9);
  }
  constexpr std::int64_t kPrompt = 512;
  Bench b(s, 1, kPrompt);
  const double seconds = best_seconds(8, [&] { run(b.at(0)); });
  const double matmul = matmul_speed(context, variant);
  const double flop = static_cast<double>(kPrompt * s.n_heads) *
                      static_cast<double>(4 * s.key_dim * s.value_dim +
                                          2 * kLinearBlock * (s.key_dim + s.value_dim));
  std::printf("  prefill %d tokens: %8.1f us, %5.1f GFLOP/s, %3.0f %% of %.1f of f32 matmul\n",
              static_cast<int>(kPrompt), seconds * 1e6, flop / seconds * 1e-9,
              100.0 * flop / seconds / matmul, matmul * 1e-9);
}

}  // namespace
}  // namespace heddle

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : heddle::available_cores();
  heddle::one_thread = threads == 1;
  heddle::CpuContext context(threads, heddle::detect_cpu());
  const std::vector<std::string> variants =
      argc > 2 ? std::vector<std::string>{argv[2]} : std::vector<std::string>{"avx512", "avx2"};
  for (const std::string& variant : variants) {
    heddle::bench({64, 128, 128}, variant, context);
    heddle::bench({8, 256, 128}, variant, context);
  }
  return 0;
}
