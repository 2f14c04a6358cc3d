// Linear attention: checks, the cut of a call into tasks, and the reference. The loops of the fast
// variants are in linear_attention_impl.h; docs/kernels.md explains the scheme.

#include "kernels/api/linear_attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/cpu_tables.h"
#include "kernels/cpu/linear_attention_kernels.h"

namespace heddle::cpu {
namespace {

constexpr std::int64_t kB = kLinearBlock;
static_assert(kB == kLinearRows);

void check_f32(const TensorView& v, std::initializer_list<std::int64_t> dims) {
  HEDDLE_CHECK(v.dtype == DType::kF32 && v.rank == static_cast<int>(dims.size()));
  HEDDLE_CHECK(std::equal(dims.begin(), dims.end(), v.dims.begin()));
}

void check_index(const TensorView& v, std::int64_t n) {
  HEDDLE_CHECK(v.rank == 1 && v.dtype == DType::kI32 && v.dim(0) == n);
}

void check(const LinearAttentionArgs& args) {
  HEDDLE_CHECK(args.q.rank == 3 && args.v.rank == 3);
  const std::int64_t n = args.q.dim(0);
  const std::int64_t n_heads = args.q.dim(1);
  const std::int64_t key_dim = args.q.dim(2);
  const std::int64_t value_dim = args.v.dim(2);
  const std::int64_t n_slots = args.state.s.dim(0);
  HEDDLE_CHECK(n >= 0 && n_heads > 0 && key_dim > 0 && value_dim > 0);
  check_f32(args.q, {n, n_heads, key_dim});
  check_f32(args.k, {n, n_heads, key_dim});
  check_f32(args.v, {n, n_heads, value_dim});
  check_f32(args.out, {n, n_heads, value_dim});
  HEDDLE_CHECK(n == 0 || (args.out.data != args.q.data && args.out.data != args.k.data &&
                          args.out.data != args.v.data));
  check_f32(args.slopes, {n_heads});
  check_f32(args.state.s, {n_slots, n_heads, key_dim, value_dim});
  check_f32(args.state.tail_k, {n_slots, n_heads, kB, key_dim});
  check_f32(args.state.tail_v, {n_slots, n_heads, kB, value_dim});
  HEDDLE_CHECK(args.slots.rank == 1 && args.slots.dtype == DType::kI32);
  check_index(args.sequence, n);
  check_index(args.positions, n);
  HEDDLE_CHECK(args.scale != 0.0F && std::isfinite(args.scale));
  const auto* const slopes = args.slopes.as<const float>();
  for (std::int64_t h = 0; h < n_heads; ++h) {
    HEDDLE_CHECK(slopes[h] >= 0.0F && std::isfinite(slopes[h]));
  }
}

// The rows of one sequence.
struct Run {
  std::int64_t first = 0;
  std::int64_t n = 0;
  std::int64_t slot = 0;
  std::int64_t position = 0;  // of the first row
};

struct Runs {
  Run* data = nullptr;  // in scratch memory of the call
  std::int64_t n = 0;
};

// Checks the rows and lists those with a state; the others' results are zeros.
Runs find_runs(const LinearAttentionArgs& args, CpuContext& context) {
  const auto* const sequence = args.sequence.as<const std::int32_t>();
  const auto* const position = args.positions.as<const std::int32_t>();
  const auto* const slots = args.slots.as<const std::int32_t>();
  const std::int64_t n_rows = args.q.dim(0);
  const std::int64_t n_slots = args.state.s.dim(0);
  const std::int64_t row = args.out.dim(1) * args.out.dim(2);
  Runs runs;
  runs.data = reinterpret_cast<Run*>(
      context.shared(static_cast<std::size_t>(args.slots.dim(0)) * sizeof(Run), 0));
  // Two runs of one slot would race on its state.
  auto* const taken =
      reinterpret_cast<std::uint8_t*>(context.shared(static_cast<std::size_t>(n_slots), 1));
  std::fill_n(taken, n_slots, std::uint8_t{0});
  for (std::int64_t t = 0; t < n_rows;) {
    HEDDLE_CHECK(sequence[t] >= 0 && sequence[t] < args.slots.dim(0));
    const Run run = {t, 1, slots[sequence[t]], position[t]};
    std::int64_t end = t + 1;
    while (end < n_rows && sequence[end] == sequence[t]) ++end;
    if (run.slot < 0) {
      std::fill_n(args.out.as<float>() + t * row, (end - t) * row, 0.0F);
    } else {
      HEDDLE_CHECK(run.slot < n_slots && run.position >= 0);
      HEDDLE_CHECK(taken[run.slot] == 0);
      taken[run.slot] = 1;
      for (std::int64_t i = t + 1; i < end; ++i) HEDDLE_CHECK(position[i] == position[i - 1] + 1);
      runs.data[runs.n] = run;
      runs.data[runs.n++].n = end - t;
    }
    t = end;
  }
  return runs;
}

// Keeps the keys and values of the run's tokens after the last multiple of B.
void store_tail(const LinearAttentionArgs& args, const Run& run, std::int64_t head) {
  const std::int64_t n_heads = args.q.dim(1);
  const std::int64_t end = (run.position + run.n) % kB;
  const std::int64_t n = std::min(end, run.n);
  const auto keep = [&](const TensorView& from, const TensorView& to) {
    const std::int64_t dim = from.dim(2);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t row = run.first + run.n - n + i;
      std::memcpy(to.as<float>() + ((run.slot * n_heads + head) * kB + end - n + i) * dim,
                  from.as<const float>() + (row * n_heads + head) * dim,
                  static_cast<std::size_t>(dim) * sizeof(float));
    }
  };
  keep(args.k, args.state.tail_k);
  keep(args.v, args.state.tail_v);
}

// ---- fast variants

// f64 powers of exp(-s) are exact enough: their error is far below what rounding to f32 leaves.
LinearDecay decay_of(float slope) {
  LinearDecay decay;
  const double step = std::exp(-static_cast<double>(slope));
  double power = 1.0;
  for (std::int64_t m = 0; m <= kB; ++m, power *= step) {
    decay.power[m] = static_cast<float>(power);
    if (m < kB) continue;
    decay.fold_is_minus_one = power > 0.5;
    decay.fold = decay.fold_is_minus_one
                     ? static_cast<float>(std::expm1(-static_cast<double>(slope) * kB))
                     : decay.power[m];
  }
  return decay;
}

constexpr std::int64_t kInlineWork = 65536;  // up to here a parallel region is not worth it
constexpr std::int64_t kTasksPerThread = 4;  // columns are cut to have so many,
constexpr std::int64_t kMinColumns = 32;     // but not finer than this

class Call {
 public:
  Call(const LinearAttentionArgs& args, CpuContext& context, const LinearKernels& kernels)
      : args_(args), context_(context), kernels_(kernels), runs_(find_runs(args, context)) {
    problem_.q = args.q.as<const float>();
    problem_.k = args.k.as<const float>();
    problem_.v = args.v.as<const float>();
    problem_.out = args.out.as<float>();
    problem_.s = args.state.s.as<float>();
    problem_.tail_k = args.state.tail_k.as<const float>();
    problem_.tail_v = args.state.tail_v.as<const float>();
    problem_.n_heads = args.q.dim(1);
    problem_.key_dim = args.q.dim(2);
    problem_.value_dim = args.v.dim(2);
    problem_.scale = args.scale;
  }

  void run() {
    const std::int64_t n = runs_.n * problem_.n_heads;
    const std::int64_t work =
        args_.q.dim(0) * problem_.n_heads * problem_.key_dim * problem_.value_dim;
    if (work <= kInlineWork || context_.pool.size() == 1) {
      for (std::int64_t i = 0; i < n; ++i) run_task(i, 0, 1, 0);
      return;
    }
    // Long ones first, so that none of them starts last.
    std::sort(runs_.data, runs_.data + runs_.n,
              [](const Run& a, const Run& b) { return a.n > b.n; });
    const std::int64_t wanted = kTasksPerThread * context_.pool.size();
    const std::int64_t n_slices =
        std::clamp<std::int64_t>((wanted + n - 1) / std::max<std::int64_t>(n, 1), 1,
                                 std::max<std::int64_t>(problem_.value_dim / kMinColumns, 1));
    left_ = reinterpret_cast<Counter*>(
        context_.shared(static_cast<std::size_t>(n) * sizeof(Counter), 1));
    for (std::int64_t i = 0; i < n; ++i) new (left_ + i) Counter(n_slices);
    context_.pool.run(n * n_slices, [&](std::int64_t i, int worker) {
      run_task(i / n_slices, i % n_slices, n_slices, worker);
    });
  }

 private:
  using Counter = std::atomic<std::int64_t>;

  void run_task(std::int64_t i, std::int64_t slice, std::int64_t n_slices, int worker) {
    const Run& run = runs_.data[i / problem_.n_heads];
    const std::int64_t vectors = problem_.value_dim / 16;
    LinearTask task;
    task.first_row = run.first;
    task.n_rows = run.n;
    task.position = run.position;
    task.head = i % problem_.n_heads;
    task.state = run.slot * problem_.n_heads + task.head;
    task.column_begin = vectors * slice / n_slices * 16;
    task.column_end = vectors * (slice + 1) / n_slices * 16;
    task.decay = decay_of(args_.slopes.as<const float>()[task.head]);
    const auto elements = static_cast<std::size_t>(
        kernels_.scratch(problem_.key_dim, task.column_end - task.column_begin));
    kernels_.run(problem_, task,
                 reinterpret_cast<float*>(context_.worker(worker, elements * sizeof(float))));
    // Every slice reads all keys of the tail: the last one to end may write new ones.
    if (n_slices > 1 && left_[i].fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    store_tail(args_, run, task.head);
  }

  const LinearAttentionArgs& args_;
  CpuContext& context_;
  const LinearKernels& kernels_;
  const Runs runs_;
  LinearProblem problem_;
  Counter* left_ = nullptr;
};

void run_fast(const LinearAttentionArgs& args, CpuContext& context, const LinearKernels& kernels) {
  check(args);
  Call(args, context, kernels).run();
}

bool accepts_shape(const LinearAttentionArgs& args) {
  return args.v.dim(2) % 16 == 0;
}

// ---- reference

struct RefState {
  std::vector<double> s;  // [key_dim][value_dim]
  double decay = 1.0;
  // S = decay S + k v^T
  void add(const float* k, const float* v, std::int64_t key_dim, std::int64_t value_dim) {
    double* to = s.data();
    for (std::int64_t d = 0; d < key_dim; ++d) {
      for (std::int64_t c = 0; c < value_dim; ++c, ++to) {
        *to = decay * *to + static_cast<double>(k[d]) * v[c];
      }
    }
  }
};

void ref_head(const LinearAttentionArgs& args, const Run& run, std::int64_t head) {
  const std::int64_t n_heads = args.q.dim(1);
  const std::int64_t key_dim = args.q.dim(2);
  const std::int64_t value_dim = args.v.dim(2);
  const std::int64_t at = run.slot * n_heads + head;
  float* const stored = args.state.s.as<float>() + at * key_dim * value_dim;
  const std::int64_t i0 = run.position % kB;
  RefState state;
  state.decay = std::exp(-static_cast<double>(args.slopes.as<const float>()[head]));
  state.s.resize(static_cast<std::size_t>(key_dim * value_dim));
  if (run.position >= kB) std::copy_n(stored, key_dim * value_dim, state.s.begin());
  for (std::int64_t j = 0; j < i0; ++j) {
    state.add(args.state.tail_k.as<const float>() + (at * kB + j) * key_dim,
              args.state.tail_v.as<const float>() + (at * kB + j) * value_dim, key_dim, value_dim);
  }
  for (std::int64_t r = 0; r < run.n; ++r) {
    const std::int64_t row = (run.first + r) * n_heads + head;
    const float* const q = args.q.as<const float>() + row * key_dim;
    state.add(args.k.as<const float>() + row * key_dim, args.v.as<const float>() + row * value_dim,
              key_dim, value_dim);
    for (std::int64_t c = 0; c < value_dim; ++c) {
      double o = 0;
      for (std::int64_t d = 0; d < key_dim; ++d) {
        o += q[d] * state.s[static_cast<std::size_t>(d * value_dim + c)];
      }
      args.out.as<float>()[row * value_dim + c] = static_cast<float>(args.scale * o);
    }
    if ((run.position + r) % kB != kB - 1) continue;
    // Goes on with what is stored, so that a chunk's end changes no bits.
    for (std::size_t i = 0; i < state.s.size(); ++i) {
      state.s[i] = stored[i] = static_cast<float>(state.s[i]);
    }
  }
  store_tail(args, run, head);
}

void ref(const LinearAttentionArgs& args, CpuContext& context) {
  check(args);
  const Runs runs = find_runs(args, context);
  const std::int64_t n_heads = args.q.dim(1);
  context.pool.run(runs.n * n_heads, [&](std::int64_t i, int) {
    ref_head(args, runs.data[i / n_heads], i % n_heads);
  });
}

using V = Variant<LinearAttentionArgs, CpuContext>;
constexpr V kVariants[] = {
    {"avx512",
     [](const LinearAttentionArgs& args, const DeviceCaps& caps) {
       return caps.avx512 && linear_kernels_avx512() != nullptr && accepts_shape(args);
     },
     [](const LinearAttentionArgs& args, CpuContext& c) {
       run_fast(args, c, *linear_kernels_avx512());
     }},
    {"avx2",
     [](const LinearAttentionArgs& args, const DeviceCaps& caps) {
       return caps.avx2 && linear_kernels_avx2() != nullptr && accepts_shape(args);
     },
     [](const LinearAttentionArgs& args, CpuContext& c) {
       run_fast(args, c, *linear_kernels_avx2());
     }},
    {"portable",
     [](const LinearAttentionArgs& args, const DeviceCaps&) { return accepts_shape(args); },
     [](const LinearAttentionArgs& args, CpuContext& c) {
       run_fast(args, c, linear_kernels_portable());
     }},
    {"ref", [](const LinearAttentionArgs&, const DeviceCaps&) { return true; }, ref}};

}  // namespace

const Table<LinearAttentionArgs>& linear_attention_table() {
  static constexpr Table<LinearAttentionArgs> kTable = {"linear_attention", kVariants};
  return kTable;
}

}  // namespace heddle::cpu
