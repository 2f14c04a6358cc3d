#include "kernels/cpu/matmul_tasks.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/quant_formats.h"

namespace heddle::cpu {
namespace {

// Weight bytes that a task reads: some microseconds of memory time, far above the cost of a claim.
constexpr std::int64_t kTaskBytes = std::int64_t{128} << 10;
// Weight bytes that a task multiplies with one tile of x after the other: they stay in the second
// cache, and each tile of x is fetched once for all of them.
constexpr std::int64_t kPanelBytes = std::int64_t{320} << 10;
// Tasks per thread that the cuts aim at, so that a slow thread delays the end by little.
constexpr std::int64_t kTasksPerThread = 6;
constexpr std::int64_t kLongTasksPerThread = 12;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// k of x that share a step.
int step(DType dtype) {
  return quant_format(dtype).block();
}

}  // namespace

void XForms::add(DType weight) {
  (!info(weight).quantised() ? plain : step(weight) == 32 ? by_32 : by_256) = true;
}

PreparedX::PreparedX(std::int64_t n_rows, std::int64_t k, const XForms& forms, CpuContext& context)
    : k_(k) {
  const auto n = static_cast<std::size_t>(n_rows);
  const std::size_t blocks = n * static_cast<std::size_t>(n_blocks());
  const std::size_t bytes = blocks * (kBlock * 2 + 32);
  std::byte* at = nullptr;
  if (forms.by_32 || forms.by_256) {
    at = context.shared(forms.by_32 && forms.by_256 ? 2 * bytes : bytes, 0);
  }
  const auto make = [&](int step) {
    const auto take = [&at](std::size_t n_bytes) {
      std::byte* const p = at;
      at += n_bytes;
      return p;
    };
    QuantisedRows rows;
    rows.step = step;
    rows.q = reinterpret_cast<std::int16_t*>(take(blocks * kBlock * 2));
    rows.d = reinterpret_cast<float*>(take(blocks * 4));
    rows.shift = reinterpret_cast<std::int32_t*>(take(blocks * 4));
    rows.per_32.sum = reinterpret_cast<float*>(take(blocks * 4));
    rows.per_32.minus_sum = reinterpret_cast<std::int32_t*>(take(blocks * 4));
    rows.per_16.sum = reinterpret_cast<float*>(take(blocks * 8));
    rows.per_16.minus_sum = reinterpret_cast<std::int32_t*>(take(blocks * 8));
    return rows;
  };
  if (forms.by_32) by_32_ = make(32);
  if (forms.by_256) by_256_ = make(256);
  if (forms.plain) {
    plain_ = reinterpret_cast<float*>(
        context.shared(n * static_cast<std::size_t>(k_) * sizeof(float), 1));
  }
}

std::int64_t PreparedX::n_blocks() const {
  return k_ / kBlock;
}

void PreparedX::fill(const float* x,
                     const RowTiles& tiles,
                     CpuContext& context,
                     const MatmulKernels& kernels) {
  const auto one = [&](std::int64_t i) {
    fill_tile(x + tiles.offset(i) * k_, tiles.first_row(i), tiles.width(i), kernels);
  };
  if (tiles.offset(tiles.count()) * k_ <= kInlineXElements) {
    for (std::int64_t i = 0; i < tiles.count(); ++i) one(i);
  } else {
    context.pool.run(tiles.count(), [&](std::int64_t i, int) { one(i); });
  }
}

void PreparedX::fill_tile(const float* x,
                          std::int64_t first_row,
                          int width,
                          const MatmulKernels& kernels) {
  for (const QuantisedRows* all : {&by_32_, &by_256_}) {
    if (all->q != nullptr) kernels.quantise(x, k_, width, n_blocks(), rows(first_row, *all));
  }
  if (plain_ != nullptr) {
    float* const out = plain_ + first_row * k_;
    for (int c = 0; c < width; ++c) {
      for (std::int64_t j = 0; j < k_; ++j) out[j * width + c] = x[c * k_ + j];
    }
  }
}

void PreparedX::gather(const std::int32_t* from_rows, std::int64_t first_row, int width) {
  for (const QuantisedRows* all : {&by_32_, &by_256_}) {
    if (all->q == nullptr) continue;
    const QuantisedRows to = rows(first_row, *all);
    for (int c = 0; c < width; ++c) {
      const QuantisedRows from = rows(from_rows[c], *all);
      for (std::int64_t b = 0; b < n_blocks(); ++b) {
        const std::int64_t at = b * width + c;
        std::memcpy(to.q + at * kBlock, from.q + b * kBlock, kBlock * sizeof *to.q);
        to.d[at] = from.d[b];
        to.shift[at] = from.shift[b];
        to.per_32.sum[at] = from.per_32.sum[b];
        to.per_32.minus_sum[at] = from.per_32.minus_sum[b];
        for (int i = 0; i < 2; ++i) {
          to.per_16.sum[2 * at + i] = from.per_16.sum[2 * b + i];
          to.per_16.minus_sum[2 * at + i] = from.per_16.minus_sum[2 * b + i];
        }
      }
    }
  }
  if (plain_ == nullptr) return;
  float* const out = plain_ + first_row * k_;
  for (int c = 0; c < width; ++c) {
    const float* const row = plain_ + from_rows[c] * k_;
    for (std::int64_t j = 0; j < k_; ++j) out[j * width + c] = row[j];
  }
}

// Where the rows from first_row on are in the memory of all.
QuantisedRows PreparedX::rows(std::int64_t first_row, const QuantisedRows& all) const {
  const std::int64_t block = first_row * n_blocks();
  return {all.step,
          all.q + block * kBlock,
          all.d + block,
          all.shift + block,
          {all.per_32.sum + block, all.per_32.minus_sum + block},
          {all.per_16.sum + 2 * block, all.per_16.minus_sum + 2 * block}};
}

XTile PreparedX::tile(std::int64_t first_row, int width, DType dtype) const {
  XTile t;
  t.width = width;
  if (!info(dtype).quantised()) {
    t.x = plain_ + first_row * k_;
    return t;
  }
  const QuantisedRows from = rows(first_row, step(dtype) == 32 ? by_32_ : by_256_);
  t.q = from.q;
  t.d = from.d;
  t.shift = from.shift;
  t.per_32 = {from.per_32.sum, from.per_32.minus_sum};
  t.per_16 = {from.per_16.sum, from.per_16.minus_sum};
  return t;
}

namespace {

// Cuts the jobs so that tasks are of like size; returns how many tasks there are.
std::int64_t cut(std::span<MatmulJob> jobs, int threads) {
  std::int64_t work = 0;  // groups times tiles
  bool any_many = false;
  for (MatmulJob& job : jobs) {
    job.n_groups = ceil_div(job.weight->n_rows, kGroupRows);
    work += job.n_groups * job.x.count();
    any_many |= job.x.count() > 1;
  }
  if (work == 0) return 0;
  const std::int64_t per_thread = any_many ? kLongTasksPerThread : kTasksPerThread;
  const std::int64_t wanted = threads == 1 ? 1 : threads * per_thread;
  std::int64_t n_tasks = 0;
  for (MatmulJob& job : jobs) {
    const PackedMatrix& w = *job.weight;
    const std::int64_t n_tiles = job.x.count();
    const std::int64_t bytes = std::max<std::int64_t>(1, group_bytes(w.dtype, w.n_cols));
    const std::int64_t most =
        std::max<std::int64_t>(1, (n_tiles > 1 ? kPanelBytes : kTaskBytes) / bytes);
    job.groups_per_task = std::clamp<std::int64_t>(work / n_tiles / wanted, 1, most);
    // Few weight rows, many threads: cut x as well.
    job.tile_tasks = std::clamp<std::int64_t>(wanted * n_tiles / work, 1, n_tiles);
    job.first_task = n_tasks;
    n_tasks += ceil_div(job.n_groups, job.groups_per_task) * job.tile_tasks;
  }
  return n_tasks;
}

OutTile out_tile(const MatmulJob& job, std::int64_t group, std::int64_t tile) {
  const std::int64_t row = group * kGroupRows;
  const std::int64_t x_row = job.x.offset(tile);
  OutTile t = job.out;
  const std::int64_t offset = (t.rows == nullptr ? x_row * t.stride : 0) + row;
  t.out += offset;
  if (t.residual != nullptr) t.residual += offset;
  if (t.rows != nullptr) t.rows += x_row;
  if (t.bias != nullptr) t.bias += row;
  t.n_rows = static_cast<int>(std::min(kGroupRows, job.weight->n_rows - row));
  return t;
}

void run_task(const MatmulJob& job,
              std::int64_t task,
              const PreparedX& x,
              const MatmulKernels& kernels) {
  const PackedMatrix& w = *job.weight;
  const std::int64_t stride = group_bytes(w.dtype, w.n_cols);
  const std::int64_t first_group = task / job.tile_tasks * job.groups_per_task;
  const std::int64_t end_group = std::min(job.n_groups, first_group + job.groups_per_task);
  const std::int64_t part = task % job.tile_tasks;
  const std::int64_t first_tile = part * job.x.count() / job.tile_tasks;
  const std::int64_t end_tile = (part + 1) * job.x.count() / job.tile_tasks;
  const bool quantised = info(w.dtype).quantised();
  for (std::int64_t t = first_tile; t < end_tile; ++t) {
    const XTile tile = x.tile(job.x.first_row(t), job.x.width(t), w.dtype);
    for (std::int64_t g = first_group; g < end_group; ++g) {
      const std::byte* const group = w.data.data() + g * stride;
      const OutTile out = out_tile(job, g, t);
      if (quantised) {
        kernels.quantised(w.dtype, group, x.n_blocks(), tile, out);
      } else {
        kernels.plain(w.dtype, group, x.k(), tile, out);
      }
    }
  }
}

}  // namespace

void run_jobs(std::span<MatmulJob> jobs,
              const PreparedX& x,
              CpuContext& context,
              const MatmulKernels& kernels) {
  const std::int64_t n_tasks = cut(jobs, context.pool.size());
  if (n_tasks == 0) return;
  context.pool.run(n_tasks, [&](std::int64_t task, int) {
    // The last job that begins at or before the task: jobs without weight rows have no tasks.
    const auto after =
        std::upper_bound(jobs.begin(), jobs.end(), task,
                         [](std::int64_t t, const MatmulJob& job) { return t < job.first_task; });
    const MatmulJob& job = *(after - 1);
    run_task(job, task - job.first_task, x, kernels);
  });
}

void check_segments(int segments, std::int64_t k, DType weight) {
  HEDDLE_CHECK(segments == 1 || segments == 2 || segments == 4 || segments == 8);
  if (segments == 1) return;
  const std::int64_t block = info(weight).block_elements;
  HEDDLE_CHECK(k % (segments * std::max<std::int64_t>(32, block)) == 0);
}

// Eight chains: the order of an f64 sum is beside the point, one chain's latency is not.
double dot_ref(const float* x, const double* w, std::int64_t k) {
  constexpr int kChains = 8;
  double chains[kChains] = {};
  std::int64_t j = 0;
  for (; j + kChains <= k; j += kChains) {
    for (int c = 0; c < kChains; ++c) chains[c] += x[j + c] * w[j + c];
  }
  double sum = 0;
  for (; j < k; ++j) sum += x[j] * w[j];
  for (const double chain : chains) sum += chain;
  return sum;
}

}  // namespace heddle::cpu
