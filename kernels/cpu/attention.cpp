// Paged attention: checks, the plan that cuts a call into tasks, and the reference. The loops of
// the fast variants are in attention_impl.h; docs/kernels.md explains the scheme.

#include "kernels/api/attention.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/cpu_tables.h"

namespace heddle::cpu {
namespace {

void check_index(const TensorView& v, std::int64_t n_tokens) {
  HEDDLE_CHECK(v.rank == 1 && v.dtype == DType::kI32 && v.dim(0) == n_tokens);
}

// Lists ascend to the row's own block, so what they name exists.
void check_blocks(const AttentionArgs& args) {
  const KeyBlocks& blocks = args.blocks;
  const std::int64_t n_lists = blocks.ids.dim(1);
  HEDDLE_CHECK(blocks.block > 0 && blocks.block % 16 == 0);
  HEDDLE_CHECK(blocks.ids.rank == 3 && blocks.ids.dtype == DType::kI32);
  HEDDLE_CHECK(blocks.ids.dim(0) == args.q.dim(0));
  HEDDLE_CHECK(n_lists == 1 || n_lists == args.pages.n_kv_heads());
  HEDDLE_CHECK(blocks.counts.rank == 2 && blocks.counts.dtype == DType::kI32);
  HEDDLE_CHECK(blocks.counts.dim(0) == args.q.dim(0) && blocks.counts.dim(1) == n_lists);
  for (std::int64_t i = 0; i < args.q.dim(0) * n_lists; ++i) {
    const std::int32_t count = blocks.counts.as<const std::int32_t>()[i];
    if (count == -1) continue;
    HEDDLE_CHECK(count > 0 && count <= blocks.ids.dim(2));
    const auto* const ids = blocks.ids.as<const std::int32_t>() + i * blocks.ids.dim(2);
    HEDDLE_CHECK(ids[0] >= 0);
    for (std::int32_t k = 1; k < count; ++k) HEDDLE_CHECK(ids[k] > ids[k - 1]);
    HEDDLE_CHECK(ids[count - 1] ==
                 args.positions.as<const std::int32_t>()[i / n_lists] / blocks.block);
  }
}

void check(const AttentionArgs& args) {
  const std::int64_t n = args.q.dim(0);
  const KvPages& pages = args.pages;
  HEDDLE_CHECK(args.q.rank == 3 && args.q.dtype == DType::kF32);
  HEDDLE_CHECK(args.out.rank == 3 && args.out.dtype == DType::kF32 && args.out.dims == args.q.dims);
  HEDDLE_CHECK(n == 0 || args.out.data != args.q.data);
  HEDDLE_CHECK(pages.k.rank == 4 && pages.v.rank == 4 && pages.k.dtype == pages.v.dtype);
  HEDDLE_CHECK(pages.k.dtype == DType::kF32 || pages.k.dtype == DType::kF16 ||
               pages.k.dtype == DType::kBF16);
  HEDDLE_CHECK(pages.v.dim(0) == pages.k.dim(0) && pages.v.dim(1) == pages.k.dim(1));
  HEDDLE_CHECK(pages.v.dim(2) == pages.k.dim(3) && pages.v.dim(3) == pages.k.dim(2));
  HEDDLE_CHECK(pages.head_dim() == args.q.dim(2) && pages.n_kv_heads() > 0);
  HEDDLE_CHECK(pages.block_tokens() > 0 && args.q.dim(1) % pages.n_kv_heads() == 0);
  HEDDLE_CHECK(args.block_tables.rank == 2 && args.block_tables.dtype == DType::kI32);
  check_index(args.sequence, n);
  check_index(args.positions, n);
  HEDDLE_CHECK(args.head_mask.absent() ||
               (args.head_mask.rank == 2 && args.head_mask.dtype == DType::kU8 &&
                args.head_mask.dim(0) == n && args.head_mask.dim(1) == args.q.dim(1)));
  HEDDLE_CHECK(args.scale != 0.0F && std::isfinite(args.scale));
  HEDDLE_CHECK(args.window >= 0 && args.first_keys >= 0);
  HEDDLE_CHECK(args.sinks.absent() || (args.sinks.rank == 1 && args.sinks.dtype == DType::kF32 &&
                                       args.sinks.dim(0) == args.q.dim(1)));
  HEDDLE_CHECK(args.soft_cap >= 0 && std::isfinite(args.soft_cap));
  HEDDLE_CHECK(args.soft_cap == 0 || std::isfinite(1.0F / args.soft_cap));
  const auto* const sequence = args.sequence.as<const std::int32_t>();
  const auto* const position = args.positions.as<const std::int32_t>();
  const std::int64_t limit = args.block_tables.dim(1) * pages.block_tokens();
  for (std::int64_t t = 0; t < n; ++t) {
    HEDDLE_CHECK(sequence[t] >= 0 && sequence[t] < args.block_tables.dim(0));
    HEDDLE_CHECK(position[t] >= 0 && position[t] < limit);
  }
  if (!args.blocks.absent()) check_blocks(args);
}

// Adjacent rows of one sequence with ascending positions; they share keys.
struct Run {
  std::int64_t first = 0;
  std::int64_t n = 0;
};

template <typename F>
void for_runs(const AttentionArgs& args, const F& f) {
  const auto* const sequence = args.sequence.as<const std::int32_t>();
  const auto* const position = args.positions.as<const std::int32_t>();
  const std::int64_t n_rows = args.q.dim(0);
  for (std::int64_t t = 0; t < n_rows;) {
    std::int64_t end = t + 1;
    while (end < n_rows && sequence[end] == sequence[t] && position[end] == position[end - 1] + 1) {
      ++end;
    }
    f(Run{t, end - t});
    t = end;
  }
}

// Pairs of a run that share a kv head, in pieces: a task's rows. Large pieces share the work of
// reading and widening keys, small ones keep every core busy: about kPieces per run, within limits.
// Later rows, which have more keys, come first.
constexpr std::int64_t kPieces = 32;
constexpr std::int64_t kMinPairs = 24;

struct Piece {
  std::int64_t first_row = 0;
  std::int64_t pair_begin = 0;
  std::int64_t n_pairs = 0;
  std::int64_t tile_begin = 0;  // of the first row's window
  std::int64_t tile_end = 0;    // after the last row's position
  std::int64_t n_tiles() const { return tile_end - tile_begin; }
  // Reading a tile of keys costs about what four rows' arithmetic on it costs.
  std::int64_t cost() const { return n_tiles() * (n_pairs + 4); }
};

template <typename F>
void for_pieces(const AttentionArgs& args, const AttentionProblem& problem, const F& f) {
  const std::int64_t group = problem.group;
  const std::int32_t* const position = problem.positions;
  for_runs(args, [&](const Run& run) {
    const std::int64_t n_pairs = run.n * group;
    const std::int64_t size =
        std::clamp(n_pairs * args.pages.n_kv_heads() / kPieces, kMinPairs, kMaxAttentionPairs);
    const std::int64_t n_pieces = (n_pairs + size - 1) / size;
    for (std::int64_t i = n_pieces - 1; i >= 0; --i) {
      Piece piece;
      piece.first_row = run.first;
      piece.pair_begin = n_pairs * i / n_pieces;
      piece.n_pairs = n_pairs * (i + 1) / n_pieces - piece.pair_begin;
      const std::int64_t first_row = run.first + piece.pair_begin / group;
      const std::int64_t last_row = run.first + (piece.pair_begin + piece.n_pairs - 1) / group;
      piece.tile_begin = problem.first_key(position[first_row]) / kAttentionTile;
      piece.tile_end = std::int64_t{position[last_row]} / kAttentionTile + 1;
      f(piece);
    }
  });
}

// A piece for one kv head whose tiles are cut over several tasks; the last of them to finish
// merges.
struct Split {
  AttentionTask whole;
  std::atomic<std::int64_t> left{0};
};

struct Planned {
  AttentionTask task;
  Split* split = nullptr;
};

constexpr std::int64_t kInlineCost = 24;     // up to here a parallel region is not worth it
constexpr std::int64_t kShares = 64;         // pieces above 1/64 of the work are split,
constexpr std::int64_t kMinSplitTiles = 4;   // into parts of at least so many tiles,
constexpr std::int64_t kMaxSplitPairs = 16;  // if their rows are few: partials stay below a
                                             // quarter of the keys' bytes
constexpr std::int64_t kCostClasses = 64;    // by bit width

struct Plan {
  std::int64_t n_tasks = 0;
  std::int64_t n_splits = 0;
  std::int64_t partial_elements = 0;
  std::int64_t total_cost = 0;
  std::int64_t part_tiles(const Piece& piece) const {
    const std::int64_t n_tiles = piece.n_tiles();
    if (piece.n_pairs > kMaxSplitPairs || n_tiles <= kMinSplitTiles) return n_tiles;
    const std::int64_t share = total_cost / kShares / (piece.n_pairs + 4);
    return std::min(n_tiles, std::max(kMinSplitTiles, share));
  }
};

std::int64_t partial_elements(const Piece& piece, std::int64_t head_dim) {
  return piece.n_tiles() * piece.n_pairs * (kAttentionPartialHead + head_dim);
}

std::size_t cost_class(const Piece& piece, std::int64_t tiles) {
  return 63 - static_cast<std::size_t>(
                  std::bit_width(static_cast<std::uint64_t>(tiles * (piece.n_pairs + 4))));
}

AttentionProblem problem_of(const AttentionArgs& args) {
  AttentionProblem p;
  p.q = args.q.as<const float>();
  p.out = args.out.as<float>();
  p.head_mask = args.head_mask.as<const std::uint8_t>();
  p.k_pages = args.pages.k.data;
  p.v_pages = args.pages.v.data;
  p.block_tables = args.block_tables.as<const std::int32_t>();
  p.sequence = args.sequence.as<const std::int32_t>();
  p.positions = args.positions.as<const std::int32_t>();
  p.max_blocks = args.block_tables.dim(1);
  p.n_q_heads = args.q.dim(1);
  p.n_kv_heads = args.pages.n_kv_heads();
  p.group = p.n_q_heads / p.n_kv_heads;
  p.head_dim = args.q.dim(2);
  p.block_tokens = args.pages.block_tokens();
  p.scale = args.scale;
  p.window = args.window;
  p.soft_cap = args.soft_cap;
  return p;
}

KvType type_of(DType dtype) {
  if (dtype == DType::kF16) return KvType::kF16;
  return dtype == DType::kBF16 ? KvType::kBF16 : KvType::kF32;
}

std::size_t aligned(std::size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

class Call {
 public:
  Call(const AttentionArgs& args, CpuContext& context, const AttentionKernels& kernels)
      : args_(args),
        context_(context),
        kernels_(kernels),
        problem_(problem_of(args)),
        type_(type_of(args.pages.k.dtype)),
        scratch_bytes_(static_cast<std::size_t>(kernels.scratch(problem_.head_dim)) *
                       sizeof(float)) {}

  void run() {
    const Plan plan = count();
    if (plan.total_cost <= kInlineCost || context_.pool.size() == 1) {
      run_inline();
      return;
    }
    place(plan);
    context_.pool.run(plan.n_tasks, [&](std::int64_t i, int worker) {
      const Planned& planned = tasks_[i];
      float* const scratch = scratch_of(worker);
      kernels_.run(problem_, type_, planned.task, scratch);
      Split* const split = planned.split;
      if (split != nullptr && split->left.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        kernels_.merge(problem_, split->whole, scratch);
      }
    });
  }

 private:
  float* scratch_of(int worker) {
    return reinterpret_cast<float*>(context_.worker(worker, scratch_bytes_));
  }

  AttentionTask task_of(const Piece& piece, std::int64_t kv_head) const {
    AttentionTask task;
    task.first_row = piece.first_row;
    task.pair_begin = piece.pair_begin;
    task.n_pairs = piece.n_pairs;
    task.kv_head = kv_head;
    task.tile_begin = piece.tile_begin;
    task.tile_end = piece.tile_end;
    return task;
  }

  void run_inline() {
    for_pieces(args_, problem_, [&](const Piece& piece) {
      for (std::int64_t g = 0; g < problem_.n_kv_heads; ++g) {
        kernels_.run(problem_, type_, task_of(piece, g), scratch_of(0));
      }
    });
  }

  // Sizes; tasks per class of cost go to class_begin_, as counts.
  Plan count() {
    Plan plan;
    for_pieces(args_, problem_, [&](const Piece& piece) { plan.total_cost += piece.cost(); });
    plan.total_cost *= problem_.n_kv_heads;
    std::fill(std::begin(class_begin_), std::end(class_begin_), 0);
    for_pieces(args_, problem_, [&](const Piece& piece) {
      const std::int64_t part = plan.part_tiles(piece);
      const std::int64_t n_parts = (piece.n_tiles() + part - 1) / part;
      class_begin_[cost_class(piece, part)] += n_parts * problem_.n_kv_heads;
      plan.n_tasks += n_parts * problem_.n_kv_heads;
      if (n_parts == 1) return;
      plan.n_splits += problem_.n_kv_heads;
      plan.partial_elements += problem_.n_kv_heads * partial_elements(piece, problem_.head_dim);
    });
    return plan;
  }

  // Writes the tasks, dearest first, so that no long one starts last.
  void place(const Plan& plan) {
    std::int64_t begin = 0;
    for (std::int64_t& c : class_begin_) begin += std::exchange(c, begin);
    const std::size_t task_bytes =
        aligned(static_cast<std::size_t>(plan.n_tasks) * sizeof(Planned));
    const std::size_t split_bytes = static_cast<std::size_t>(plan.n_splits) * sizeof(Split);
    std::byte* const memory = context_.shared(task_bytes + split_bytes, 0);
    tasks_ = reinterpret_cast<Planned*>(memory);
    auto* split = reinterpret_cast<Split*>(memory + task_bytes);
    auto* partial = reinterpret_cast<float*>(
        context_.shared(static_cast<std::size_t>(plan.partial_elements) * sizeof(float), 1));
    for_pieces(args_, problem_, [&](const Piece& piece) {
      const std::int64_t part = plan.part_tiles(piece);
      std::int64_t& at = class_begin_[cost_class(piece, part)];
      for (std::int64_t g = 0; g < problem_.n_kv_heads; ++g) {
        AttentionTask task = task_of(piece, g);
        if (part == piece.n_tiles()) {
          new (tasks_ + at++) Planned{task, nullptr};
          continue;
        }
        Split* const own = new (split++) Split;
        own->whole = task;
        own->whole.partial = partial;
        own->left.store((piece.n_tiles() + part - 1) / part, std::memory_order_relaxed);
        const std::int64_t per_tile = partial_elements(piece, problem_.head_dim) / piece.n_tiles();
        for (std::int64_t tile = piece.tile_begin; tile < piece.tile_end; tile += part) {
          task.tile_begin = tile;
          task.tile_end = std::min(piece.tile_end, tile + part);
          task.partial = partial + (tile - piece.tile_begin) * per_tile;
          new (tasks_ + at++) Planned{task, own};
        }
        partial += piece.n_tiles() * per_tile;
      }
    });
  }

  const AttentionArgs& args_;
  CpuContext& context_;
  const AttentionKernels& kernels_;
  const AttentionProblem problem_;
  const KvType type_;
  const std::size_t scratch_bytes_;
  std::int64_t class_begin_[kCostClasses] = {};
  Planned* tasks_ = nullptr;
};

void run_fast(const AttentionArgs& args, CpuContext& context, const AttentionKernels& kernels) {
  check(args);
  if (args.q.elements() == 0) return;
  Call(args, context, kernels).run();
}

// Shapes of the fast variants; any other goes to ref.
bool accepts_shape(const AttentionArgs& args) {
  if (args.first_keys != 0 || !args.sinks.absent() || !args.blocks.absent()) return false;
  const std::int64_t dim = args.pages.head_dim();
  const std::int64_t tokens = args.pages.block_tokens();
  return dim >= 16 && dim % 16 == 0 && dim <= kMaxAttentionHeadDim && tokens >= 16 &&
         tokens % 16 == 0 && kAttentionTile % tokens == 0;
}

float element(const TensorView& pages, std::int64_t i) {
  if (pages.dtype == DType::kF16) return f16_to_f32(pages.as<const std::uint16_t>()[i]);
  if (pages.dtype == DType::kBF16) return bf16_to_f32(pages.as<const std::uint16_t>()[i]);
  return pages.as<const float>()[i];
}

// Whether row t's heads of kv head g see key s <= position[t].
bool sees(const AttentionArgs& args, std::int64_t t, std::int64_t g, std::int64_t s) {
  const std::int64_t position = args.positions.as<const std::int32_t>()[t];
  if (args.window != 0 && s <= position - args.window && s >= args.first_keys) return false;
  if (args.blocks.absent()) return true;
  const std::int64_t n_lists = args.blocks.ids.dim(1);
  const std::int64_t list = t * n_lists + (n_lists == 1 ? 0 : g);
  const std::int32_t count = args.blocks.counts.as<const std::int32_t>()[list];
  if (count == -1) return true;
  const auto* const ids = args.blocks.ids.as<const std::int32_t>() + list * args.blocks.ids.dim(2);
  return std::find(ids, ids + count, s / args.blocks.block) != ids + count;
}

void ref_head(const AttentionArgs& args, std::int64_t t, std::int64_t h) {
  const std::int64_t n_heads = args.q.dim(1);
  const std::int64_t dim = args.q.dim(2);
  const std::int64_t tokens = args.pages.block_tokens();
  const std::int64_t n_kv_heads = args.pages.n_kv_heads();
  const std::int64_t g = h / (n_heads / n_kv_heads);
  const float* const q = args.q.as<const float>() + (t * n_heads + h) * dim;
  float* const out = args.out.as<float>() + (t * n_heads + h) * dim;
  if (!args.head_mask.absent() && args.head_mask.as<const std::uint8_t>()[t * n_heads + h] == 0) {
    std::fill(out, out + dim, 0.0F);
    return;
  }
  const std::int32_t* const table =
      args.block_tables.as<const std::int32_t>() +
      args.sequence.as<const std::int32_t>()[t] * args.block_tables.dim(1);
  const auto head_of = [&](std::int64_t s) { return table[s / tokens] * n_kv_heads + g; };
  std::vector<std::int64_t> seen;
  for (std::int64_t s = 0; s <= args.positions.as<const std::int32_t>()[t]; ++s) {
    if (sees(args, t, g, s)) seen.push_back(s);
  }
  const double lowest = -std::numeric_limits<double>::infinity();
  const double sink = args.sinks.absent() ? lowest : args.sinks.as<const float>()[h];
  std::vector<double> p;
  double max = sink;
  for (const std::int64_t s : seen) {
    double dot = 0;
    for (std::int64_t d = 0; d < dim; ++d) {
      dot += static_cast<double>(q[d]) *
             element(args.pages.k, (head_of(s) * dim + d) * tokens + s % tokens);
    }
    double score = args.scale * dot;
    if (args.soft_cap != 0) score = args.soft_cap * std::tanh(score / args.soft_cap);
    p.push_back(score);
    max = std::max(max, score);
  }
  double sum = args.sinks.absent() ? 0 : std::exp(sink - max);
  for (double& x : p) sum += x = std::exp(x - max);
  for (std::int64_t d = 0; d < dim; ++d) {
    double o = 0;
    for (std::size_t i = 0; i < seen.size(); ++i) {
      const std::int64_t s = seen[i];
      o += p[i] * element(args.pages.v, (head_of(s) * tokens + s % tokens) * dim + d);
    }
    out[d] = static_cast<float>(o / sum);
  }
}

void ref(const AttentionArgs& args, CpuContext& context) {
  check(args);
  const std::int64_t n_heads = args.q.dim(1);
  context.pool.run(args.q.dim(0) * n_heads,
                   [&](std::int64_t i, int) { ref_head(args, i / n_heads, i % n_heads); });
}

using V = Variant<AttentionArgs, CpuContext>;
constexpr V kVariants[] = {
    {"avx512",
     [](const AttentionArgs& args, const DeviceCaps& caps) {
       return caps.avx512 && attention_kernels_avx512() != nullptr && accepts_shape(args);
     },
     [](const AttentionArgs& args, CpuContext& c) {
       run_fast(args, c, *attention_kernels_avx512());
     }},
    {"avx2",
     [](const AttentionArgs& args, const DeviceCaps& caps) {
       return caps.avx2 && attention_kernels_avx2() != nullptr && accepts_shape(args);
     },
     [](const AttentionArgs& args, CpuContext& c) {
       run_fast(args, c, *attention_kernels_avx2());
     }},
    {"portable", [](const AttentionArgs& args, const DeviceCaps&) { return accepts_shape(args); },
     [](const AttentionArgs& args, CpuContext& c) {
       run_fast(args, c, attention_kernels_portable());
     }},
    {"ref", [](const AttentionArgs&, const DeviceCaps&) { return true; }, ref}};

}  // namespace

const Table<AttentionArgs>& attention_table() {
  static constexpr Table<AttentionArgs> kTable = {"attention", kVariants};
  return kTable;
}

}  // namespace heddle::cpu
