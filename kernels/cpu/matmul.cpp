// Matmul on the CPU: what each variant accepts, and the naive oracle. The arithmetic is in
// kernels/api/matmul.h and matmul_impl.h, the weight layout in pack.h, the cut of the work in
// matmul_tasks.h. Bound by memory for few rows of x (weights are read once, at 4.5 to 8.5 bits
// each), by integer multiply-adds for many.

#include <algorithm>

#include "base/error.h"
#include "kernels/cpu/matmul_tasks.h"
#include "kernels/cpu/pack.h"

namespace heddle::cpu {
namespace {

void check(const MatmulArgs& args) {
  HEDDLE_CHECK(args.x.rank == 2 && args.x.dtype == DType::kF32);
  HEDDLE_CHECK(args.n_targets >= 1 && args.n_targets <= MatmulArgs::kMaxTargets);
  const std::int64_t n_tokens = args.x.dim(0);
  const std::int64_t k = args.x.dim(1);
  for (int i = 0; i < args.n_targets; ++i) {
    const MatmulTarget& t = args.targets[static_cast<std::size_t>(i)];
    HEDDLE_CHECK(t.weight != nullptr && t.weight->n_cols == k);
    check_segments(args.segments, k, t.weight->dtype);
    HEDDLE_CHECK(t.out.rank == 2 && t.out.dtype == DType::kF32);
    HEDDLE_CHECK(t.out.dim(0) == n_tokens && t.out.dim(1) == t.weight->n_rows);
    HEDDLE_CHECK(t.out.elements() == 0 || t.out.data != args.x.data);
    if (!t.residual.absent()) {
      HEDDLE_CHECK(t.residual.rank == 2 && t.residual.dtype == DType::kF32);
      HEDDLE_CHECK(t.residual.dim(0) == n_tokens && t.residual.dim(1) == t.weight->n_rows);
    }
    if (!t.bias.absent()) {
      HEDDLE_CHECK(t.bias.rank == 1 && t.bias.dtype == DType::kF32);
      HEDDLE_CHECK(t.bias.dim(0) == t.weight->n_rows && t.bias.data != t.out.data);
    }
  }
}

// ---- ref: f64 sums of x as given times the exact weights, no segments.

void matmul_ref(const MatmulArgs& args, CpuContext& context) {
  check(args);
  const std::int64_t n_tokens = args.x.dim(0);
  const std::int64_t k = args.x.dim(1);
  if (n_tokens == 0) return;
  constexpr std::int64_t kTaskRows = 16;
  for (int i = 0; i < args.n_targets; ++i) {
    const MatmulTarget& target = args.targets[static_cast<std::size_t>(i)];
    const std::int64_t n = target.weight->n_rows;
    context.pool.run((n + kTaskRows - 1) / kTaskRows, [&](std::int64_t task, int worker) {
      auto* const w = reinterpret_cast<double*>(
          context.worker(worker, static_cast<std::size_t>(k) * sizeof(double)));
      for (std::int64_t r = task * kTaskRows; r < std::min(n, (task + 1) * kTaskRows); ++r) {
        dequantise_row(*target.weight, r, w);
        for (std::int64_t t = 0; t < n_tokens; ++t) {
          const float* const x = args.x.as<const float>() + t * k;
          double sum = dot_ref(x, w, k);
          const std::int64_t at = t * n + r;
          if (!target.bias.absent()) sum += target.bias.as<const float>()[r];
          if (!target.residual.absent()) sum += target.residual.as<const float>()[at];
          target.out.as<float>()[at] = static_cast<float>(sum);
        }
      }
    });
  }
}

// ---- fast variants

void matmul_fast(const MatmulArgs& args, CpuContext& context, const MatmulKernels& kernels) {
  check(args);
  const std::int64_t n_tokens = args.x.dim(0);
  if (n_tokens == 0) return;
  const RowTiles tiles(0, n_tokens, kernels.max_width);
  XForms forms;
  std::array<MatmulJob, MatmulArgs::kMaxTargets> jobs;
  const auto n_targets = static_cast<std::size_t>(args.n_targets);
  for (std::size_t i = 0; i < n_targets; ++i) {
    const MatmulTarget& target = args.targets[i];
    forms.add(target.weight->dtype);
    MatmulJob& job = jobs[i];
    job.weight = target.weight;
    job.x = tiles;
    job.out.out = target.out.as<float>();
    job.out.residual = target.residual.as<const float>();
    job.out.bias = target.bias.as<const float>();
    job.out.stride = target.weight->n_rows;
    job.out.segments = args.segments;
  }
  PreparedX x(n_tokens, args.x.dim(1), forms, context);
  x.fill(args.x.as<const float>(), tiles, context, kernels);
  run_jobs({jobs.data(), n_targets}, x, context, kernels);
}

bool interleaved(const MatmulArgs& args) {
  for (int i = 0; i < args.n_targets; ++i) {
    const PackedMatrix* const w = args.targets[static_cast<std::size_t>(i)].weight;
    if (w == nullptr || w->layout != WeightLayout::kRows16) return false;
  }
  return true;
}

}  // namespace

const Table<MatmulArgs>& matmul_table() {
  static constexpr Table<MatmulArgs> kTable = {
      "matmul", MatmulVariants<MatmulArgs, interleaved, matmul_fast, matmul_ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
