// kernels_moe_bench [threads [variant]]: the matmuls of a mixture of experts (hidden 1024,
// intermediate 2048). One token, top-2 of 32, beside reading the bytes of its experts; 512 tokens,
// top-2 of 8, beside dense matmuls of as many rows. Both sides of a comparison take turns, best of
// many, because the machine may be shared; with one thread, its own CPU time. Not a test; built
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

constexpr std::int64_t kHidden = 1024;
constexpr std::int64_t kWidth = 2048;
constexpr std::int64_t kTopK = 2;

bool one_thread = false;

double now() {
  timespec t = {};
  ::clock_gettime(one_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// The best milliseconds of each, taking turns.
std::pair<double, double> best_ms(int rounds,
                                  const std::function<void(int)>& a,
                                  const std::function<void(int)>& b) {
  double best[2] = {1e30, 1e30};
  for (int i = 0; i < rounds; ++i) {
    for (int side = 0; side < 2; ++side) {
      const double start = now();
      (side == 0 ? a : b)(i);
      best[side] = std::min(best[side], (now() - start) * 1e3);
    }
  }
  return {best[0], best[1]};
}

struct Experts {
  Experts(DType dtype, std::int64_t n, CpuContext& context) {
    test::Random rng(1);
    const test::Weights in = test::random_weights(dtype, kWidth, kHidden, rng);
    const test::Weights out = test::random_weights(dtype, kHidden, kWidth, rng);
    const auto packed = [&](const test::Weights& w) {
      return cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, context.pool);
    };
    for (std::int64_t e = 0; e < n; ++e) {
      gate.push_back(packed(in));
      up.push_back(packed(in));
      down.push_back(packed(out));
    }
  }
  std::vector<PackedMatrix> gate, up, down;
};

/// Memory for n_tokens, and the two ways to compute.
struct Layer {
  Layer(const Experts& e, std::int64_t tokens, CpuContext& c, std::string v)
      : experts(e), n_tokens(tokens), context(c), variant(std::move(v)) {
    test::Random rng(2);
    const std::int64_t n_rows = n_tokens * kTopK;
    x = rng.normals(n_rows * kHidden);  // as many as the dense matmul wants
    h = rng.normals(n_rows * kWidth);
    ids.resize(static_cast<std::size_t>(n_rows));
    for (auto* v_ : {&gate, &up}) v_->resize(h.size());
    y.resize(x.size());
  }

  TensorView rows(const std::vector<float>& v, std::int64_t width) const {
    return {v.data(), DType::kF32, {static_cast<std::int64_t>(v.size()) / width, width}};
  }

  void moe() {
    ExpertMatmulArgs in;
    in.x = rows(x, kHidden).first(n_tokens);
    in.ids = TensorView(ids.data(), DType::kI32, {n_tokens * kTopK});
    in.rows_per_x = kTopK;
    in.n_targets = 2;
    in.targets[0] = {experts.gate, {}, rows(gate, kWidth)};
    in.targets[1] = {experts.up, {}, rows(up, kWidth)};
    cpu::expert_matmul_table().pick(in, context.caps, variant).run(in, context);
    ExpertMatmulArgs out;
    out.x = rows(h, kWidth);
    out.ids = in.ids;
    out.targets[0] = {experts.down, {}, rows(y, kHidden)};
    out.segments = 8;
    cpu::expert_matmul_table().pick(out, context.caps, variant).run(out, context);
  }

  void dense() {
    MatmulArgs in;
    in.x = rows(x, kHidden);
    in.n_targets = 2;
    in.targets[0] = {&experts.gate[0], {}, rows(gate, kWidth)};
    in.targets[1] = {&experts.up[0], {}, rows(up, kWidth)};
    cpu::matmul_table().pick(in, context.caps, variant).run(in, context);
    MatmulArgs out;
    out.x = rows(h, kWidth);
    out.targets[0] = {&experts.down[0], {}, rows(y, kHidden)};
    out.segments = 8;
    cpu::matmul_table().pick(out, context.caps, variant).run(out, context);
  }

  const Experts& experts;
  std::int64_t n_tokens;
  CpuContext& context;
  std::string variant;
  std::vector<float> x, h, gate, up, y;
  std::vector<std::int32_t> ids;
};

std::uint64_t read_part(const PackedMatrix& w, std::size_t part, std::size_t parts) {
  const std::size_t words = w.data.bytes() / 8 / parts;
  const auto* const p = w.data.as<const std::uint64_t>() + part * words;
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < words; ++i) sum += p[i];
  return sum;
}

void bench_decode(DType dtype, const std::string& variant, CpuContext& context) {
  constexpr std::int64_t kExperts = 32;
  const Experts experts(dtype, kExperts, context);
  Layer layer(experts, 1, context, variant);
  // Every step has other experts, so that no cache holds them.
  const auto choose = [&](int step, int offset) {
    for (std::int64_t j = 0; j < kTopK; ++j) {
      layer.ids[static_cast<std::size_t>(j)] =
          static_cast<std::int32_t>((step * kTopK + offset + j) % kExperts);
    }
  };
  constexpr std::size_t kParts = 8;
  std::vector<std::uint64_t> sums(kParts * kTopK * 3);
  const auto [moe, read] = best_ms(
      400,
      [&](int i) {
        choose(i, 0);
        layer.moe();
      },
      [&](int i) {
        choose(i, kExperts / 2);
        context.pool.run(static_cast<std::int64_t>(sums.size()), [&](std::int64_t t, int) {
          const auto task = static_cast<std::size_t>(t);
          const auto e = static_cast<std::size_t>(layer.ids[task / kParts / 3]);
          const auto& matrices = task / kParts % 3 == 0   ? experts.gate
                                 : task / kParts % 3 == 1 ? experts.up
                                                          : experts.down;
          sums[task] = read_part(matrices[e], task % kParts, kParts);
        });
      });
  const double mb = static_cast<double>(kTopK * 3 * experts.gate[0].data.bytes()) / 1e6;
  std::printf("%-5s 1 token, top-2 of 32: %.3f ms, %.1f GB/s; reading %.2f MB: %.3f ms, %.1f GB/s;",
              std::string(name(dtype)).c_str(), moe, mb / moe, mb, read, mb / read);
  std::printf(" share %.0f %%\n", 100 * read / moe);
}

void bench_prefill(DType dtype, const std::string& variant, CpuContext& context) {
  constexpr std::int64_t kExperts = 8;
  constexpr std::int64_t kTokens = 512;
  const Experts experts(dtype, kExperts, context);
  Layer layer(experts, kTokens, context, variant);
  test::Random rng(3);
  for (std::size_t i = 0; i < layer.ids.size(); i += kTopK) {
    const std::int64_t first = rng.integer(0, kExperts - 1);
    layer.ids[i] = static_cast<std::int32_t>(first);
    layer.ids[i + 1] = static_cast<std::int32_t>((first + rng.integer(1, kExperts - 1)) % kExperts);
  }
  const auto [moe, dense] = best_ms(
      12, [&](int) { layer.moe(); }, [&](int) { layer.dense(); });
  const double gmac = 3.0 * kTokens * kTopK * kHidden * kWidth / 1e9;
  std::printf("%-5s 512 tokens, top-2 of 8: %.2f ms, %.1f GMAC/s; dense: %.2f ms, %.1f GMAC/s;",
              std::string(name(dtype)).c_str(), moe, gmac / moe * 1e3, dense, gmac / dense * 1e3);
  std::printf(" share %.0f %%\n", 100 * dense / moe);
}

}  // namespace
}  // namespace heddle

int main(int argc, char** argv) {
  using heddle::DType;
  const int threads = argc > 1 ? std::atoi(argv[1]) : heddle::available_cores();
  heddle::one_thread = threads == 1;
  heddle::CpuContext context(threads, heddle::detect_cpu());
  const std::string variant = argc > 2 ? argv[2] : "";
  for (const DType dtype : {DType::kQ4_0, DType::kBF16}) {
    heddle::bench_decode(dtype, variant, context);
  }
  for (const DType dtype : {DType::kQ4_0, DType::kBF16}) {
    heddle::bench_prefill(dtype, variant, context);
  }
  return 0;
}
