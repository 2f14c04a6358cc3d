// Matmul on the CPU: what each variant accepts, the naive oracle, and how the fast variants cut
// their work. The arithmetic is in kernels/api/matmul.h and matmul_impl.h, the weight layout in
// pack.h. Bound by memory for few rows of x (weights are read once, at 4.5 to 8.5 bits each), by
// integer multiply-adds for many.
//
// A task is some groups of 16 weight rows times some tiles of x rows. Every output element is
// computed by one task in one order of k, so its bits depend neither on how many rows of x there
// are nor on how tasks are cut.

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "kernels/cpu/cpu_tables.h"
#include "kernels/cpu/matmul_kernels.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/quant_formats.h"

namespace heddle::cpu {
namespace {

// x elements below which preparing them in parallel costs more than it saves.
constexpr std::int64_t kInlineElements = 16384;
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

void check(const MatmulArgs& args) {
  HEDDLE_CHECK(args.x.rank == 2 && args.x.dtype == DType::kF32);
  HEDDLE_CHECK(args.n_targets >= 1 && args.n_targets <= MatmulArgs::kMaxTargets);
  const int s = args.segments;
  HEDDLE_CHECK(s == 1 || s == 2 || s == 4 || s == 8);
  const std::int64_t n_tokens = args.x.dim(0);
  const std::int64_t k = args.x.dim(1);
  for (int i = 0; i < args.n_targets; ++i) {
    const MatmulTarget& t = args.targets[static_cast<std::size_t>(i)];
    HEDDLE_CHECK(t.weight != nullptr && t.weight->n_cols == k);
    if (s > 1) {
      const std::int64_t block = info(t.weight->dtype).block_elements;
      HEDDLE_CHECK(k % (s * std::max<std::int64_t>(32, block)) == 0);
    }
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

// Eight chains: the order of an f64 sum is beside the point, one chain's latency is not.
double dot(const float* x, const double* w, std::int64_t k) {
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

void matmul_ref(const MatmulArgs& args, CpuContext& context) {
  check(args);
  const std::int64_t n_tokens = args.x.dim(0);
  const std::int64_t k = args.x.dim(1);
  if (n_tokens == 0) return;
  constexpr std::int64_t kTaskRows = 16;
  for (int i = 0; i < args.n_targets; ++i) {
    const MatmulTarget& target = args.targets[static_cast<std::size_t>(i)];
    const std::int64_t n = target.weight->n_rows;
    context.pool.run(ceil_div(n, kTaskRows), [&](std::int64_t task, int worker) {
      auto* const w = reinterpret_cast<double*>(
          context.worker(worker, static_cast<std::size_t>(k) * sizeof(double)));
      for (std::int64_t r = task * kTaskRows; r < std::min(n, (task + 1) * kTaskRows); ++r) {
        dequantise_row(*target.weight, r, w);
        for (std::int64_t t = 0; t < n_tokens; ++t) {
          const float* const x = args.x.as<const float>() + t * k;
          double sum = dot(x, w, k);
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

// The rows of x as tiles of up to max_width rows, of widths that differ by at most one.
class XTiles {
 public:
  XTiles(std::int64_t n_tokens, std::int64_t k, int max_width)
      : n_tokens_(n_tokens),
        k_(k),
        n_tiles_(ceil_div(n_tokens, max_width)),
        width_(n_tokens / n_tiles_),
        n_wider_(n_tokens % n_tiles_) {}

  std::int64_t count() const { return n_tiles_; }
  // No division: these are asked for every group of weight rows.
  std::int64_t first_row(std::int64_t tile) const {
    return tile * width_ + std::min(tile, n_wider_);
  }
  int width(std::int64_t tile) const {
    return static_cast<int>(width_ + (tile < n_wider_ ? 1 : 0));
  }
  std::int64_t n_blocks() const { return k_ / kBlock; }

  void prepare(const MatmulArgs& args, CpuContext& context, const MatmulKernels& kernels);
  /// Tile i as weights of that type need it.
  XTile tile(std::int64_t i, DType dtype) const;

 private:
  void fill(const float* x, std::int64_t i, const MatmulKernels& kernels);
  QuantisedRows rows(std::int64_t i, const QuantisedRows& all) const;

  std::int64_t n_tokens_;
  std::int64_t k_;
  std::int64_t n_tiles_;
  std::int64_t width_;    // of a tile,
  std::int64_t n_wider_;  // one more of each of the first so many
  QuantisedRows by_32_;   // with a step for 32 k,
  QuantisedRows by_256_;  // or for 256; absent where no target needs it, as is
  float* plain_ = nullptr;
};

// k of x that share a step.
int step(DType dtype) {
  return quant_format(dtype).block();
}

void XTiles::prepare(const MatmulArgs& args, CpuContext& context, const MatmulKernels& kernels) {
  bool any_by_32 = false;
  bool any_by_256 = false;
  bool any_plain = false;
  for (int i = 0; i < args.n_targets; ++i) {
    const DType dtype = args.targets[static_cast<std::size_t>(i)].weight->dtype;
    (!info(dtype).quantised() ? any_plain : step(dtype) == 32 ? any_by_32 : any_by_256) = true;
  }
  const auto n = static_cast<std::size_t>(n_tokens_);
  const std::size_t blocks = n * static_cast<std::size_t>(n_blocks());
  const std::size_t bytes = blocks * (kBlock * 2 + 32);
  std::byte* at = nullptr;
  if (any_by_32 || any_by_256) at = context.shared(any_by_32 && any_by_256 ? 2 * bytes : bytes, 0);
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
  if (any_by_32) by_32_ = make(32);
  if (any_by_256) by_256_ = make(256);
  if (any_plain) {
    plain_ = reinterpret_cast<float*>(
        context.shared(n * static_cast<std::size_t>(k_) * sizeof(float), 1));
  }
  const float* const x = args.x.as<const float>();
  if (n_tokens_ * k_ <= kInlineElements) {
    for (std::int64_t i = 0; i < n_tiles_; ++i) fill(x, i, kernels);
  } else {
    context.pool.run(n_tiles_, [&](std::int64_t i, int) { fill(x, i, kernels); });
  }
}

void XTiles::fill(const float* x, std::int64_t i, const MatmulKernels& kernels) {
  const int n = width(i);
  const float* const from = x + first_row(i) * k_;
  for (const QuantisedRows* all : {&by_32_, &by_256_}) {
    if (all->q != nullptr) kernels.quantise(from, k_, n, n_blocks(), rows(i, *all));
  }
  if (plain_ != nullptr) {
    float* const out = plain_ + first_row(i) * k_;
    for (int c = 0; c < n; ++c) {
      for (std::int64_t j = 0; j < k_; ++j) out[j * n + c] = from[c * k_ + j];
    }
  }
}

// Where tile i is in the memory of all.
QuantisedRows XTiles::rows(std::int64_t i, const QuantisedRows& all) const {
  const std::int64_t block = first_row(i) * n_blocks();
  return {all.step,
          all.q + block * kBlock,
          all.d + block,
          all.shift + block,
          {all.per_32.sum + block, all.per_32.minus_sum + block},
          {all.per_16.sum + 2 * block, all.per_16.minus_sum + 2 * block}};
}

XTile XTiles::tile(std::int64_t i, DType dtype) const {
  XTile t;
  t.width = width(i);
  if (!info(dtype).quantised()) {
    t.x = plain_ + first_row(i) * k_;
    return t;
  }
  const QuantisedRows from = rows(i, step(dtype) == 32 ? by_32_ : by_256_);
  t.q = from.q;
  t.d = from.d;
  t.shift = from.shift;
  t.per_32 = {from.per_32.sum, from.per_32.minus_sum};
  t.per_16 = {from.per_16.sum, from.per_16.minus_sum};
  return t;
}

// How one target's groups and the x tiles are cut into tasks.
struct Cut {
  std::int64_t n_groups = 0;
  std::int64_t groups_per_task = 1;
  std::int64_t group_tasks = 0;
  std::int64_t tile_tasks = 1;
  std::int64_t tasks() const { return group_tasks * tile_tasks; }
};

Cut cut(const PackedMatrix& w, std::int64_t all_groups, const XTiles& x, int threads) {
  Cut c;
  c.n_groups = ceil_div(w.n_rows, kGroupRows);
  const bool many = x.count() > 1;
  const std::int64_t per_thread = many ? kLongTasksPerThread : kTasksPerThread;
  const std::int64_t wanted = threads == 1 ? 1 : threads * per_thread;
  const std::int64_t bytes = std::max<std::int64_t>(1, group_bytes(w.dtype, w.n_cols));
  const std::int64_t most = std::max<std::int64_t>(1, (many ? kPanelBytes : kTaskBytes) / bytes);
  c.groups_per_task = std::clamp<std::int64_t>(all_groups / wanted, 1, most);
  // Few weight rows, many threads: cut x as well.
  c.tile_tasks = std::clamp<std::int64_t>(wanted / all_groups, 1, x.count());
  c.group_tasks = ceil_div(c.n_groups, c.groups_per_task);
  return c;
}

OutTile out_tile(const MatmulTarget& target, std::int64_t group, std::int64_t x_row, int segments) {
  const std::int64_t n = target.weight->n_rows;
  const std::int64_t row = group * kGroupRows;
  OutTile t;
  t.out = target.out.as<float>() + x_row * n + row;
  if (!target.residual.absent()) t.residual = target.residual.as<const float>() + x_row * n + row;
  if (!target.bias.absent()) t.bias = target.bias.as<const float>() + row;
  t.stride = n;
  t.n_rows = static_cast<int>(std::min(kGroupRows, n - row));
  t.segments = segments;
  return t;
}

void run_fast(const MatmulArgs& args, CpuContext& context, const MatmulKernels& kernels) {
  check(args);
  const std::int64_t n_tokens = args.x.dim(0);
  const std::int64_t k = args.x.dim(1);
  if (n_tokens == 0) return;
  XTiles x(n_tokens, k, kernels.max_width);
  x.prepare(args, context, kernels);

  std::int64_t all_groups = 0;
  for (int i = 0; i < args.n_targets; ++i) {
    all_groups += ceil_div(args.targets[static_cast<std::size_t>(i)].weight->n_rows, kGroupRows);
  }
  if (all_groups == 0) return;
  std::array<Cut, MatmulArgs::kMaxTargets> cuts;
  std::int64_t n_tasks = 0;
  for (int i = 0; i < args.n_targets; ++i) {
    const auto at = static_cast<std::size_t>(i);
    cuts[at] = cut(*args.targets[at].weight, all_groups, x, context.pool.size());
    n_tasks += cuts[at].tasks();
  }

  context.pool.run(n_tasks, [&](std::int64_t task, int) {
    std::size_t i = 0;
    while (task >= cuts[i].tasks()) task -= cuts[i++].tasks();
    const Cut& c = cuts[i];
    const MatmulTarget& target = args.targets[i];
    const PackedMatrix& w = *target.weight;
    const std::int64_t stride = group_bytes(w.dtype, k);
    const std::int64_t first_group = task / c.tile_tasks * c.groups_per_task;
    const std::int64_t end_group = std::min(c.n_groups, first_group + c.groups_per_task);
    const std::int64_t part = task % c.tile_tasks;
    const std::int64_t first_tile = part * x.count() / c.tile_tasks;
    const std::int64_t end_tile = (part + 1) * x.count() / c.tile_tasks;
    const bool quantised = info(w.dtype).quantised();
    for (std::int64_t t = first_tile; t < end_tile; ++t) {
      const XTile tile = x.tile(t, w.dtype);
      for (std::int64_t g = first_group; g < end_group; ++g) {
        const std::byte* const group = w.data.data() + g * stride;
        const OutTile out = out_tile(target, g, x.first_row(t), args.segments);
        if (quantised) {
          kernels.quantised(w.dtype, group, x.n_blocks(), tile, out);
        } else {
          kernels.plain(w.dtype, group, k, tile, out);
        }
      }
    }
  });
}

void matmul_portable(const MatmulArgs& args, CpuContext& context) {
  run_fast(args, context, matmul_kernels_portable());
}
void matmul_avx2(const MatmulArgs& args, CpuContext& context) {
  run_fast(args, context, *matmul_kernels_avx2());
}
void matmul_avx512_vnni(const MatmulArgs& args, CpuContext& context) {
  run_fast(args, context, *matmul_kernels_avx512_vnni());
}

bool interleaved(const MatmulArgs& args) {
  for (int i = 0; i < args.n_targets; ++i) {
    const PackedMatrix* const w = args.targets[static_cast<std::size_t>(i)].weight;
    if (w == nullptr || w->layout != WeightLayout::kRows16) return false;
  }
  return true;
}

constexpr Variant<MatmulArgs, CpuContext> kVariants[] = {
    {"avx512_vnni",
     [](const MatmulArgs& args, const DeviceCaps& caps) {
       return caps.avx512_vnni && matmul_kernels_avx512_vnni() != nullptr && interleaved(args);
     },
     matmul_avx512_vnni},
    {"avx2",
     [](const MatmulArgs& args, const DeviceCaps& caps) {
       return caps.avx2 && matmul_kernels_avx2() != nullptr && interleaved(args);
     },
     matmul_avx2},
    {"portable", [](const MatmulArgs& args, const DeviceCaps&) { return interleaved(args); },
     matmul_portable},
    {"ref", [](const MatmulArgs&, const DeviceCaps&) { return true; }, matmul_ref},
};

}  // namespace

const Table<MatmulArgs>& matmul_table() {
  static const Table<MatmulArgs> kTable = {"matmul", kVariants};
  return kTable;
}

}  // namespace heddle::cpu
