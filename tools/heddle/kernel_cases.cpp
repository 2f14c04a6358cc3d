#include "tools/heddle/kernel_cases.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>

#include "engine/memory_plan.h"
#include "kernels/cpu/pack.h"
#include "tools/heddle/kernel_case_list.h"

namespace heddle::cli {
namespace {

// ---- weights

/// Weight rows out of the source, moved on with every repetition. The bytes are taken as packed
/// ones: in every layout all of them are quants or sane scales.
class WeightRows {
 public:
  WeightRows(Workbench& bench, DType dtype, std::int64_t n_cols, std::int64_t n_groups)
      : bench_(bench) {
    matrix.dtype = dtype;
    matrix.n_cols = n_cols;
    matrix.layout = WeightLayout::kRows16;
    const TensorView rows(bench.source(), dtype, {cpu::kGroupRows, n_cols});
    group_bytes_ = static_cast<std::int64_t>(
        cpu::pack(rows, matrix.layout, {}, nullptr, bench.context.pool).data.bytes());
    n_groups = std::clamp<std::int64_t>(bench.source_bytes() / group_bytes_, 1, n_groups);
    matrix.n_rows = n_groups * cpu::kGroupRows;
    next(0);
  }

  void next(std::int64_t repetition) {
    const std::int64_t bytes = matrix.n_rows / cpu::kGroupRows * group_bytes_;
    const std::int64_t places = std::max<std::int64_t>(1, bench_.source_bytes() / bytes);
    matrix.data = Buffer(bench_.source() + repetition % places * bytes,
                         static_cast<std::size_t>(bytes), [](void*, std::size_t) noexcept {});
  }

  PackedMatrix matrix;

 private:
  Workbench& bench_;
  std::int64_t group_bytes_ = 0;
};

struct MatmulMemory {
  WeightRows weights;
  std::vector<float> x;
  std::vector<float> out;
};

Job<MatmulArgs> matmul(Workbench& bench, DType dtype, std::int64_t n, std::int64_t groups) {
  const auto own = std::make_shared<MatmulMemory>(
      MatmulMemory{WeightRows(bench, dtype, kHidden, groups), random_floats(n * kHidden), {}});
  const PackedMatrix& w = own->weights.matrix;
  own->out.resize(static_cast<std::size_t>(n * w.n_rows));
  Job<MatmulArgs> job;
  job.args.x = f32(own->x.data(), {n, kHidden});
  job.args.targets[0].weight = &w;
  job.args.targets[0].out = f32(own->out.data(), {n, w.n_rows});
  job.shape = fmt::format("n {} k {} rows {}", n, kHidden, w.n_rows);
  job.bytes = number(static_cast<std::int64_t>(w.data.bytes()) + n * (kHidden + w.n_rows) * 4);
  job.operations = 2.0 * number(n) * number(kHidden) * number(w.n_rows);
  job.owned = own;
  job.next = [own](MatmulArgs&, std::int64_t repetition) { own->weights.next(repetition); };
  return job;
}

struct RowsMemory {
  std::vector<std::int32_t> ids;
  std::vector<float> out;
};

/// `n` row numbers below `n_rows`, others for every repetition.
void scatter(std::vector<std::int32_t>& ids, std::int64_t n_rows, std::int64_t repetition) {
  std::mt19937_64 random(static_cast<std::uint64_t>(repetition));
  for (std::int32_t& id : ids) {
    id = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(n_rows));
  }
}

struct EmbedMemory {
  WeightRows table;
  RowsMemory rows;
};

Job<EmbedArgs> embed(Workbench& bench, DType dtype, std::int64_t n) {
  const auto own = std::make_shared<EmbedMemory>(
      EmbedMemory{WeightRows(bench, dtype, kHidden, kVocab / cpu::kGroupRows), {}});
  own->rows.ids.resize(static_cast<std::size_t>(n));
  own->rows.out.resize(static_cast<std::size_t>(n * kHidden));
  Job<EmbedArgs> job;
  const std::int64_t n_rows = own->table.matrix.n_rows;
  job.args.ids = TensorView(own->rows.ids.data(), DType::kI32, {n});
  job.args.table = &own->table.matrix;
  job.args.out = f32(own->rows.out.data(), {n, kHidden});
  job.shape = fmt::format("n {} of {} rows of {}", n, n_rows, kHidden);
  job.bytes = number(n * (row_bytes(dtype, kHidden) + kHidden * 4));
  job.owned = own;
  job.next = [own, n_rows](EmbedArgs&, std::int64_t r) { scatter(own->rows.ids, n_rows, r); };
  return job;
}

void add_weight_ops(Cases& cases) {
  for (const DType dtype : cpu::weight_dtypes()) {
    const Arithmetic arithmetic = info(dtype).quantised() ? Arithmetic::kInt16 : Arithmetic::kF32;
    const std::int64_t groups = cases.arena() / (row_bytes(dtype, kHidden) * cpu::kGroupRows);
    cases.add(cpu::matmul_table(), dtype, arithmetic, groups,
              [dtype](Workbench& b, std::int64_t size) { return matmul(b, dtype, 1, size); });
    cases.add(cpu::matmul_table(), dtype, arithmetic, kPrefillRows / cpu::kGroupRows,
              [dtype](Workbench& b, std::int64_t size) { return matmul(b, dtype, kPrompt, size); });
  }
  for (const DType dtype : cpu::weight_dtypes()) {
    cases.add(cpu::embed_table(), dtype, Arithmetic::kF32, kPrompt,
              [dtype](Workbench& b, std::int64_t size) { return embed(b, dtype, size); });
  }
}

Job<GatherRowsArgs> gather_rows(Workbench& bench, std::int64_t n) {
  const auto own = std::make_shared<RowsMemory>();
  own->ids.resize(static_cast<std::size_t>(n));
  own->out.resize(static_cast<std::size_t>(n * kHidden));
  const std::int64_t n_rows = std::max<std::int64_t>(1, bench.source_bytes() / (kHidden * 4));
  Job<GatherRowsArgs> job;
  job.args.x = f32(bench.source(), {n_rows, kHidden});
  job.args.rows = TensorView(own->ids.data(), DType::kI32, {n});
  job.args.out = f32(own->out.data(), {n, kHidden});
  job.shape = fmt::format("n {} of {} rows of {}", n, n_rows, kHidden);
  job.bytes = number(2 * n * kHidden * 4);
  job.owned = own;
  job.next = [own, n_rows](GatherRowsArgs&, std::int64_t r) { scatter(own->ids, n_rows, r); };
  return job;
}

// ---- rows of f32

Job<RmsNormArgs> rms_norm(Workbench& bench, std::int64_t n) {
  Job<RmsNormArgs> job;
  job.args.x = f32(bench.source(), {n, kHidden});
  job.args.weight = f32(bench.source(), {kHidden});
  job.args.out = f32(bench.sink(), {n, kHidden});
  job.args.eps = 1e-5F;
  job.shape = fmt::format("n {} width {}", n, kHidden);
  job.bytes = number(2 * n * kHidden * 4);
  return job;
}

Job<RopeAnglesArgs> rope_angles(Workbench& bench, std::int64_t n) {
  struct Memory {
    std::vector<std::int32_t> positions;
    std::vector<float> inv_freq;
  };
  const auto own = std::make_shared<Memory>();
  own->positions.resize(static_cast<std::size_t>(n));
  std::iota(own->positions.begin(), own->positions.end(), 0);
  for (std::int64_t i = 0; i < kHeadDim / 2; ++i) {
    own->inv_freq.push_back(std::pow(1e4F, -2.0F * static_cast<float>(i) / kHeadDim));
  }
  Job<RopeAnglesArgs> job;
  job.args.positions = TensorView(own->positions.data(), DType::kI32, {n});
  job.args.inv_freq = f32(own->inv_freq.data(), {kHeadDim / 2});
  job.args.cos_sin = f32(bench.sink(), {n, 2, kHeadDim / 2});
  job.shape = fmt::format("n {} d {}", n, kHeadDim);
  job.bytes = number(n * kHeadDim * 4);
  job.owned = own;
  return job;
}

Job<RopeArgs> rope(Workbench& bench, std::int64_t n) {
  const auto cos_sin = std::make_shared<std::vector<float>>(static_cast<std::size_t>(n * kHeadDim));
  for (std::size_t i = 0; i < cos_sin->size(); ++i) (*cos_sin)[i] = i / 32 % 2 == 0 ? 0.8F : 0.6F;
  fill_sink(bench, n * (kQHeads + kKvHeads) * kHeadDim, 1.0F);  // turning keeps their size
  auto* const q = reinterpret_cast<float*>(bench.sink());
  Job<RopeArgs> job;
  job.args.cos_sin = f32(cos_sin->data(), {n, 2, kHeadDim / 2});
  job.args.q = f32(q, {n, kQHeads, kHeadDim});
  job.args.k = f32(q + n * kQHeads * kHeadDim, {n, kKvHeads, kHeadDim});
  job.shape = fmt::format("n {}, heads {}/{} d {}", n, kQHeads, kKvHeads, kHeadDim);
  job.bytes = number(n * kHeadDim * 4 * (2 * (kQHeads + kKvHeads) + 1));
  job.owned = cos_sin;
  return job;
}

Job<GluArgs> glu(Workbench& bench, Activation activation, std::int64_t n) {
  Job<GluArgs> job;
  job.args.gate = f32(bench.source(), {n, kFfn});
  job.args.up = f32(bench.source() + bench.source_bytes() / 2, {n, kFfn});
  job.args.out = f32(bench.sink(), {n, kFfn});
  job.args.activation = activation;
  job.shape = fmt::format("{} n {} width {}", name(activation), n, kFfn);
  job.bytes = number(3 * n * kFfn * 4);
  return job;
}

Job<SoftCapArgs> soft_cap(Workbench& bench, std::int64_t n) {
  fill_sink(bench, n * kFfn, 1.0F);
  Job<SoftCapArgs> job;
  job.args.x = f32(bench.sink(), {n, kFfn});
  job.args.cap = 30.0F;
  job.shape = fmt::format("n {} width {}", n, kFfn);
  job.bytes = number(2 * n * kFfn * 4);
  return job;
}

Job<SampleArgs> sample(Workbench& bench, const SampleParams& params, std::int64_t n) {
  struct Memory {
    std::vector<SampleParams> params;
    std::vector<std::int32_t> tokens;
    std::vector<float> logprobs;
  };
  const auto own = std::make_shared<Memory>();
  own->params.assign(static_cast<std::size_t>(n), params);
  own->tokens.resize(static_cast<std::size_t>(n));
  own->logprobs.resize(static_cast<std::size_t>(n));
  std::vector<float> row = random_floats(kVocab);
  for (float& f : row) f *= 12.0F;
  auto* const logits = reinterpret_cast<float*>(bench.sink());
  for (std::int64_t i = 0; i < n; ++i) {
    std::rotate_copy(row.begin(), row.begin() + i * 977 % kVocab, row.end(), logits + i * kVocab);
  }
  Job<SampleArgs> job;
  job.args.logits = f32(logits, {n, kVocab});
  job.args.params = own->params.data();
  job.args.tokens = TensorView(own->tokens.data(), DType::kI32, {n});
  job.args.logprobs = f32(own->logprobs.data(), {n});
  job.shape =
      fmt::format("{} n {} vocab {}", params.temperature == 0.0F ? "greedy" : "top-p", n, kVocab);
  job.bytes = number(n * kVocab * 4);
  job.owned = own;
  return job;
}

void add_row_ops(Cases& cases) {
  const std::int64_t half = cases.arena() / 2;
  constexpr auto kF32 = DType::kF32;
  constexpr auto kArithmetic = Arithmetic::kF32;
  cases.add(cpu::gather_rows_table(), kF32, kArithmetic, kPrompt, gather_rows);
  cases.add(cpu::rms_norm_table(), kF32, kArithmetic, half / (kHidden * 4), rms_norm);
  cases.add(cpu::rope_angles_table(), kF32, kArithmetic,
            std::min<std::int64_t>(65536, half / (kHeadDim * 4)), rope_angles);
  cases.add(cpu::rope_table(), kF32, kArithmetic, half / ((kQHeads + kKvHeads) * kHeadDim * 4),
            rope);
  for (const Activation activation : kAllActivations) {
    cases.add(cpu::glu_table(), kF32, kArithmetic, half / (kFfn * 4),
              [activation](Workbench& b, std::int64_t n) { return glu(b, activation, n); });
  }
  cases.add(cpu::soft_cap_table(), kF32, kArithmetic, half / (kFfn * 4), soft_cap);
  SampleParams greedy;
  SampleParams top_p;
  top_p.temperature = 0.8F;
  top_p.top_p = 0.95F;
  top_p.uniform = 0.5;
  for (const SampleParams& params : {greedy, top_p}) {
    cases.add(cpu::sample_table(), kF32, kArithmetic, half / (kVocab * 4),
              [params](Workbench& b, std::int64_t n) { return sample(b, params, n); });
  }
}

}  // namespace

Workbench::Workbench(int n_threads, std::size_t arena_bytes)
    : context(n_threads, detect_cpu()),
      source_(host_buffer(arena_bytes)),
      sink_(host_buffer(arena_bytes / 2)) {
  // Bytes from 0x20 to 0x2f: an f16 of about 2^-5, an f32 and a bf16 of about 2^-38.
  constexpr std::size_t kPart = std::size_t{1} << 20;
  std::vector<std::byte> part(kPart);
  std::mt19937_64 random(1);
  for (std::byte& b : part) b = static_cast<std::byte>(0x20U | (random() >> 60));
  const auto n_parts = static_cast<std::int64_t>((arena_bytes + kPart - 1) / kPart);
  context.pool.run(n_parts, [&](std::int64_t i, int) {
    const std::size_t at = static_cast<std::size_t>(i) * kPart;
    std::copy_n(part.begin(), std::min(kPart, arena_bytes - at), source_.data() + at);
    if (at < sink_.bytes()) {
      std::copy_n(part.begin(), std::min(kPart, sink_.bytes() - at), sink_.data() + at);
    }
  });
}

std::size_t bench_arena_bytes() {
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  const long cache = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  const std::size_t wanted = static_cast<std::size_t>(std::max(cache, 0L)) * 3 / 2;
  const std::size_t bytes = std::clamp(wanted, 64 * kMiB, 512 * kMiB);
  const auto most = static_cast<std::size_t>(available_memory() / 4);
  return std::max(std::min(bytes, most), 8 * kMiB) & ~(kMiB - 1);
}

std::vector<KernelCase> kernel_cases(const DeviceCaps& caps, std::size_t arena_bytes) {
  Cases cases(caps, arena_bytes);
  add_weight_ops(cases);
  add_row_ops(cases);
  add_attention_cases(cases);
  add_linear_attention_cases(cases);
  add_moe_cases(cases);
  add_elementwise_cases(cases);
  return cases.take();
}

}  // namespace heddle::cli
