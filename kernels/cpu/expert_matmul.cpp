// The matmuls of experts: rows are sorted by expert, each expert's run of rows is a job of
// matmul_tasks.h, and all jobs share one parallel region. An expert of one row takes x as it was
// quantised once per token; for the others the quantised rows are copied side by side.
// Bound by memory for few rows (the weights of the experts in use), as matmul is.

#include <algorithm>
#include <limits>
#include <memory>

#include "base/error.h"
#include "kernels/cpu/matmul_tasks.h"
#include "kernels/cpu/pack.h"

namespace heddle::cpu {
namespace {

void check_target(const ExpertMatmulArgs& args, const ExpertTarget& target) {
  HEDDLE_CHECK(!target.experts.empty() && target.experts.size() == args.targets[0].experts.size());
  const std::int64_t n_rows = args.ids.dim(0);
  HEDDLE_CHECK(target.out.rank == 2 && target.out.dtype == DType::kF32);
  HEDDLE_CHECK(target.out.dim(0) == n_rows);
  HEDDLE_CHECK(target.out.elements() == 0 || target.out.data != args.x.data);
  if (!target.bias.absent()) {
    HEDDLE_CHECK(target.bias.rank == 2 && target.bias.dtype == DType::kF32);
    HEDDLE_CHECK(target.bias.dim(0) == static_cast<std::int64_t>(target.experts.size()));
    HEDDLE_CHECK(target.bias.dim(1) == target.out.dim(1) && target.bias.data != target.out.data);
  }
}

void check(const ExpertMatmulArgs& args) {
  HEDDLE_CHECK(args.x.rank == 2 && args.x.dtype == DType::kF32);
  HEDDLE_CHECK(args.ids.rank == 1 && args.ids.dtype == DType::kI32);
  const std::int64_t n_rows = args.ids.dim(0);
  HEDDLE_CHECK(n_rows <= std::numeric_limits<std::int32_t>::max());
  HEDDLE_CHECK(args.rows_per_x >= 1 && args.x.dim(0) * args.rows_per_x == n_rows);
  HEDDLE_CHECK(args.n_targets >= 1 && args.n_targets <= ExpertMatmulArgs::kMaxTargets);
  for (int i = 0; i < args.n_targets; ++i) {
    check_target(args, args.targets[static_cast<std::size_t>(i)]);
  }
  const auto n_experts = static_cast<std::int64_t>(args.targets[0].experts.size());
  for (std::int64_t r = 0; r < n_rows; ++r) {
    const std::int32_t id = args.ids.as<const std::int32_t>()[r];
    HEDDLE_CHECK(id >= 0 && id < n_experts);
  }
}

// `first` is an expert in use; all in use are like it.
const PackedMatrix& checked_expert(const ExpertMatmulArgs& args,
                                   const ExpertTarget& target,
                                   std::int32_t id,
                                   std::int32_t first) {
  const PackedMatrix& w = target.experts[static_cast<std::size_t>(id)];
  const PackedMatrix& like = target.experts[static_cast<std::size_t>(first)];
  HEDDLE_CHECK(w.n_cols == args.x.dim(1) && w.n_rows == target.out.dim(1));
  HEDDLE_CHECK(w.dtype == like.dtype && w.layout == like.layout);
  check_segments(args.segments, w.n_cols, w.dtype);
  return w;
}

// ---- ref: f64 sums of x as given times the exact weights, no segments.

// Weight row j of every expert in use.
void weight_row_ref(const ExpertMatmulArgs& args,
                    const ExpertTarget& target,
                    std::int64_t j,
                    double* w) {
  const std::int64_t k = args.x.dim(1);
  const std::int64_t n = target.out.dim(1);
  const auto* const ids = args.ids.as<const std::int32_t>();
  for (std::size_t e = 0; e < target.experts.size(); ++e) {
    bool dequantised = false;
    for (std::int64_t r = 0; r < args.ids.dim(0); ++r) {
      if (ids[r] != static_cast<std::int32_t>(e)) continue;
      if (!dequantised) dequantise_row(checked_expert(args, target, ids[r], ids[0]), j, w);
      dequantised = true;
      double sum = dot_ref(args.x.as<const float>() + r / args.rows_per_x * k, w, k);
      if (!target.bias.absent()) sum += target.bias.as<const float>()[ids[r] * n + j];
      target.out.as<float>()[r * n + j] = static_cast<float>(sum);
    }
  }
}

void expert_matmul_ref(const ExpertMatmulArgs& args, CpuContext& context) {
  check(args);
  const auto bytes = static_cast<std::size_t>(args.x.dim(1)) * sizeof(double);
  for (int i = 0; i < args.n_targets; ++i) {
    const ExpertTarget& target = args.targets[static_cast<std::size_t>(i)];
    context.pool.run(target.out.dim(1), [&](std::int64_t j, int worker) {
      weight_row_ref(args, target, j, reinterpret_cast<double*>(context.worker(worker, bytes)));
    });
  }
}

// ---- fast variants

// The rows by expert, in the context's shared slot 2: first those of experts with several, which
// are copied side by side, then those of experts with one. Ascending in both.
class Plan {
 public:
  Plan(const ExpertMatmulArgs& args, CpuContext& context)
      : n_rows_(args.ids.dim(0)),
        n_experts_(static_cast<std::int64_t>(args.targets[0].experts.size())) {
    const auto n_rows = static_cast<std::size_t>(n_rows_);
    const auto n_experts = static_cast<std::size_t>(n_experts_);
    const std::size_t max_jobs =
        std::min(n_rows, n_experts) * static_cast<std::size_t>(args.n_targets);
    std::byte* const at = context.shared(
        max_jobs * sizeof(MatmulJob) + (2 * n_experts + 3 * n_rows + 1) * sizeof(std::int32_t), 2);
    jobs_ = reinterpret_cast<MatmulJob*>(at);
    counts_ = reinterpret_cast<std::int32_t*>(at + max_jobs * sizeof(MatmulJob));
    starts_ = counts_ + n_experts;
    order_ = starts_ + n_experts;
    sources_ = order_ + n_rows;
    tiles_ = sources_ + n_rows;
    sort(args);
  }

  std::int64_t n_wide() const { return n_wide_; }
  std::span<MatmulJob> jobs() const { return {jobs_, n_jobs_}; }

  /// One job per expert in use and target. Prepared rows are those of x, then the n_wide() copies.
  void make_jobs(const ExpertMatmulArgs& args, int max_width);
  /// Copies what make_jobs expects.
  void gather(PreparedX& x, std::int64_t n_x, CpuContext& context) const;

 private:
  void sort(const ExpertMatmulArgs& args);
  void add_tiles(const RowTiles& tiles, std::int32_t start);

  std::int64_t n_rows_;
  std::int64_t n_experts_;
  std::int64_t n_wide_ = 0;
  std::size_t n_jobs_ = 0;
  std::int64_t n_tiles_ = 0;
  MatmulJob* jobs_ = nullptr;
  std::int32_t* counts_ = nullptr;   // [n_experts] rows
  std::int32_t* starts_ = nullptr;   // [n_experts] into order
  std::int32_t* order_ = nullptr;    // [n_rows] rows of ids
  std::int32_t* sources_ = nullptr;  // [n_rows] the row of x of each, in that order
  std::int32_t* tiles_ = nullptr;    // [n_tiles + 1] first place in order of each tile to copy
};

void Plan::sort(const ExpertMatmulArgs& args) {
  const auto* const ids = args.ids.as<const std::int32_t>();
  std::fill_n(counts_, n_experts_, 0);
  for (std::int64_t r = 0; r < n_rows_; ++r) ++counts_[ids[r]];
  std::int32_t next = 0;
  for (const bool wide : {true, false}) {
    for (std::int64_t e = 0; e < n_experts_; ++e) {
      if ((counts_[e] > 1) != wide) continue;
      starts_[e] = next;
      next += counts_[e];
    }
    if (wide) n_wide_ = next;
  }
  for (std::int64_t r = 0; r < n_rows_; ++r) {
    const std::int32_t at = starts_[ids[r]]++;
    order_[at] = static_cast<std::int32_t>(r);
    sources_[at] = static_cast<std::int32_t>(r / args.rows_per_x);
  }
  for (std::int64_t e = 0; e < n_experts_; ++e) starts_[e] -= counts_[e];
}

void Plan::add_tiles(const RowTiles& tiles, std::int32_t start) {
  for (std::int64_t i = 0; i < tiles.count(); ++i) {
    tiles_[n_tiles_++] = start + static_cast<std::int32_t>(tiles.offset(i));
  }
}

void Plan::make_jobs(const ExpertMatmulArgs& args, int max_width) {
  const std::int32_t first_expert = args.ids.as<const std::int32_t>()[0];
  for (std::int64_t e = 0; e < n_experts_; ++e) {
    if (counts_[e] == 0) continue;
    const std::int32_t start = starts_[e];
    const std::int64_t prepared = counts_[e] > 1 ? args.x.dim(0) + start : sources_[start];
    const RowTiles tiles(prepared, counts_[e], max_width);
    if (counts_[e] > 1) add_tiles(tiles, start);
    for (int i = 0; i < args.n_targets; ++i) {
      const ExpertTarget& target = args.targets[static_cast<std::size_t>(i)];
      const std::int64_t n = target.out.dim(1);
      MatmulJob& job = *std::construct_at(jobs_ + n_jobs_++);
      job.weight = &checked_expert(args, target, static_cast<std::int32_t>(e), first_expert);
      job.x = tiles;
      job.out.out = target.out.as<float>();
      if (!target.bias.absent()) job.out.bias = target.bias.as<const float>() + e * n;
      job.out.stride = n;
      job.out.rows = order_ + start;
      job.out.segments = args.segments;
    }
  }
  tiles_[n_tiles_] = static_cast<std::int32_t>(n_wide_);
}

void Plan::gather(PreparedX& x, std::int64_t n_x, CpuContext& context) const {
  const auto one = [&](std::int64_t i) {
    const std::int32_t first = tiles_[i];
    x.gather(sources_ + first, n_x + first, tiles_[i + 1] - first);
  };
  if (n_wide_ * x.k() <= kInlineXElements) {
    for (std::int64_t i = 0; i < n_tiles_; ++i) one(i);
  } else {
    context.pool.run(n_tiles_, [&](std::int64_t i, int) { one(i); });
  }
}

void expert_matmul_fast(const ExpertMatmulArgs& args,
                        CpuContext& context,
                        const MatmulKernels& kernels) {
  check(args);
  if (args.ids.dim(0) == 0) return;
  const std::int64_t n_x = args.x.dim(0);
  Plan plan(args, context);
  plan.make_jobs(args, kernels.max_width);
  XForms forms;
  for (const MatmulJob& job : plan.jobs()) forms.add(job.weight->dtype);
  PreparedX x(n_x + plan.n_wide(), args.x.dim(1), forms, context);
  x.fill(args.x.as<const float>(), RowTiles(0, n_x, 1), context, kernels);
  plan.gather(x, n_x, context);
  run_jobs(plan.jobs(), x, context, kernels);
}

// Of the experts in use: others may not be looked at.
bool interleaved(const ExpertMatmulArgs& args) {
  if (args.ids.elements() == 0) return true;
  const auto id = static_cast<std::size_t>(args.ids.as<const std::int32_t>()[0]);
  for (int i = 0; i < args.n_targets; ++i) {
    const ExpertTarget& target = args.targets[static_cast<std::size_t>(i)];
    if (id >= target.experts.size()) return false;
    if (target.experts[id].layout != WeightLayout::kRows16) return false;
  }
  return true;
}

}  // namespace

const Table<ExpertMatmulArgs>& expert_matmul_table() {
  static constexpr Table<ExpertMatmulArgs> kTable = {
      "expert_matmul",
      MatmulVariants<ExpertMatmulArgs, interleaved, expert_matmul_fast, expert_matmul_ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
