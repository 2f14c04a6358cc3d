// kernels_matmul_bench [threads [variant [dtype [1b]]]]: times the matmuls of SmolLM2-135M's shapes
// (30 layers, tied head), or of two layers of a 1B llama (always for types with blocks of 256), for
// one row (a decode step) and for many (prefill), and the packing of all its weights. Best of many
// runs, because the machine may be shared; with one thread, of its own CPU time. Not a test; built
// when asked for by name.

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "kernels/cpu/cpu_tables.h"
#include "kernels/cpu/pack.h"
#include "tests/support/random.h"
#include "tests/support/weights.h"

namespace heddle {
namespace {

struct Shape {
  int layers = 30;
  std::int64_t hidden = 576;
  std::int64_t kv = 192;
  std::int64_t ffn = 1536;
  std::int64_t vocab = 49152;
  int o_segments = 2;
};
constexpr Shape kOneB = {2, 2048, 512, 8192, 2048, 8};

// Seconds of the wall clock, or of this thread alone (so that a shared machine disturbs less).
double now(bool thread_time) {
  timespec t = {};
  ::clock_gettime(thread_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

bool one_thread = false;

double best_ms(int repetitions, const std::function<void()>& f) {
  double best = 1e30;
  for (int i = 0; i < repetitions; ++i) {
    const double start = now(one_thread);
    f();
    best = std::min(best, (now(one_thread) - start) * 1e3);
  }
  return best;
}

struct Layer {
  PackedMatrix q, k, v, o, gate, up, down;
};

struct Model {
  std::vector<Layer> layers;
  PackedMatrix head;
  double bytes = 0;
};

Model make_model(DType dtype, const Shape& shape, CpuContext& context) {
  test::Random rng(1);
  Model m;
  const auto packed = [&](const test::Weights& w) {
    m.bytes += static_cast<double>(w.bytes.size());
    return cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, context.pool);
  };
  const auto weights = [&](std::int64_t n, std::int64_t k) {
    return test::random_weights(dtype, n, k, rng);
  };
  const test::Weights q = weights(shape.hidden, shape.hidden);
  const test::Weights kv = weights(shape.kv, shape.hidden);
  const test::Weights up = weights(shape.ffn, shape.hidden);
  const test::Weights down = weights(shape.hidden, shape.ffn);
  for (int i = 0; i < shape.layers; ++i) {
    m.layers.push_back(
        {packed(q), packed(kv), packed(kv), packed(q), packed(up), packed(up), packed(down)});
  }
  const DType head = info(dtype).quantised() ? DType::kQ8_0 : dtype;
  m.head = packed(test::random_weights(head, shape.vocab, shape.hidden, rng));
  return m;
}

struct Activations {
  Activations(std::int64_t tokens, const Shape& shape) : n(tokens) {
    test::Random rng(2);
    x = rng.normals(n * shape.hidden);
    h = rng.normals(n * shape.ffn);
    for (auto* v : {&q, &k, &v_, &o}) v->resize(static_cast<std::size_t>(n * shape.hidden));
    for (auto* v : {&gate, &up}) v->resize(static_cast<std::size_t>(n * shape.ffn));
    logits.resize(shape.vocab);
  }
  std::int64_t n;
  std::vector<float> x, h, q, k, v_, o, gate, up, logits;
};

class Runner {
 public:
  Runner(CpuContext& context, std::string variant, const Shape& shape)
      : o_segments(shape.o_segments), context_(context), variant_(std::move(variant)) {}

  void layer(const Layer& l, Activations& a) {
    call(a.n, a.x, {{&l.q, &a.q}, {&l.k, &a.k}, {&l.v, &a.v_}}, 1);
    call(a.n, a.x, {{&l.o, &a.o}}, o_segments);
    call(a.n, a.x, {{&l.gate, &a.gate}, {&l.up, &a.up}}, 1);
    call(a.n, a.h, {{&l.down, &a.o}}, 8);
  }
  int o_segments;
  void head(const Model& m, Activations& a) { call(1, a.x, {{&m.head, &a.logits}}, 1); }

  void call(std::int64_t n,
            const std::vector<float>& x,
            const std::vector<std::pair<const PackedMatrix*, std::vector<float>*>>& targets,
            int segments) {
    MatmulArgs args;
    args.n_targets = 0;
    for (const auto& [w, out] : targets) {
      MatmulTarget& t = args.targets[static_cast<std::size_t>(args.n_targets++)];
      t.weight = w;
      t.out = TensorView(out->data(), DType::kF32, {n, w->n_rows});
      args.x = TensorView(x.data(), DType::kF32, {n, w->n_cols});
      if (segments > 1) t.residual = t.out;
    }
    args.segments = segments;
    cpu::matmul_table().pick(args, context_.caps, variant_).run(args, context_);
  }

 private:
  CpuContext& context_;
  std::string variant_;
};

void bench(DType dtype, const std::string& variant, const Shape& shape, CpuContext& context) {
  const Model m = make_model(dtype, shape, context);
  Runner run(context, variant, shape);
  std::printf("%s %s, %d threads, %.1f MB\n", std::string(name(dtype)).c_str(), variant.c_str(),
              context.pool.size(), m.bytes / 1e6);
  for (const std::int64_t n : {1, 2, 4, 8, 64, 512}) {
    Activations a(n, shape);
    const int repetitions = n == 1 ? 60 : n <= 8 ? 20 : 4;
    const double layers = best_ms(repetitions, [&] {
      for (const Layer& l : m.layers) run.layer(l, a);
    });
    const double head = best_ms(repetitions, [&] { run.head(m, a); });
    std::printf("  %4d rows: layers %8.2f ms, head (1 row) %5.2f ms, %8.1f rows/s",
                static_cast<int>(n), layers, head, static_cast<double>(n) * 1e3 / (layers + head));
    if (n == 1) {
      std::printf(", %.1f GB/s", m.bytes / 1e6 / (layers + head));
      const double whole = best_ms(repetitions, [&] {
        for (const Layer& l : m.layers) run.layer(l, a);
        run.head(m, a);
      });
      std::printf(", whole step %.2f ms", whole);
    }
    std::printf("\n");
  }
}

double read_gb_per_s(CpuContext& context) {
  const Buffer memory = host_buffer(std::size_t{256} << 20);
  std::memset(memory.data(), 1, memory.bytes());
  const std::int64_t tasks = 64;
  const std::size_t words = memory.bytes() / 8 / tasks;
  std::vector<std::uint64_t> sums(tasks);
  const double ms = best_ms(20, [&] {
    context.pool.run(tasks, [&](std::int64_t t, int) {
      const auto* const p = memory.as<const std::uint64_t>() + static_cast<std::size_t>(t) * words;
      std::uint64_t s = 0;
      for (std::size_t i = 0; i < words; ++i) s += p[i];
      sums[static_cast<std::size_t>(t)] = s;
    });
  });
  return static_cast<double>(memory.bytes()) / 1e6 / ms;
}

void bench_pack(CpuContext& context) {
  const Shape shape;
  test::Random rng(3);
  const test::Weights up = test::random_weights(DType::kQ4_1, shape.ffn, shape.hidden, rng);
  const test::Weights head = test::random_weights(DType::kQ8_0, shape.vocab, shape.hidden, rng);
  const double layers = best_ms(5, [&] {
    std::vector<PackedMatrix> all;
    for (int i = 0; i < shape.layers * 4; ++i) {
      all.push_back(cpu::pack(up.view(), WeightLayout::kRows16, {}, nullptr, context.pool));
    }
  });
  const double tied =
      best_ms(5, [&] { cpu::pack(head.view(), WeightLayout::kRows16, {}, nullptr, context.pool); });
  std::printf("pack: 106 M weights Q4_1 %.0f ms, head Q8_0 %.0f ms\n", layers, tied);
}

}  // namespace
}  // namespace heddle

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : heddle::available_cores();
  heddle::one_thread = threads == 1;
  heddle::CpuContext context(threads, heddle::detect_cpu());
  std::printf("memory read: %.1f GB/s\n", heddle::read_gb_per_s(context));
  heddle::bench_pack(context);
  const std::vector<std::string> variants = argc > 2
                                                ? std::vector<std::string>{argv[2]}
                                                : std::vector<std::string>{"avx512_vnni", "avx2"};
  const std::vector<std::string> types = argc > 3
                                             ? std::vector<std::string>{argv[3]}
                                             : std::vector<std::string>{"Q4_1", "Q4_0", "Q8_0"};
  for (const std::string& t : types) {
    for (const std::string& v : variants) {
      const auto dtype = heddle::parse_dtype(t);
      if (!dtype) return 2;
      const bool one_b = argc > 4 || heddle::info(*dtype).block_elements == 256;
      heddle::bench(*dtype, v, one_b ? heddle::kOneB : heddle::Shape(), context);
    }
  }
  return 0;
}
