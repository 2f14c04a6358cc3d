#include "kernels/cpu/attention_plan.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <new>
#include <utility>

namespace heddle::cpu {
namespace {

// Adjacent rows of one sequence with ascending positions; they share keys.
struct Run {
  std::int64_t first = 0;
  std::int64_t n = 0;
};

template <typename F>
void for_runs(const AttentionProblem& problem, std::int64_t n_rows, const F& f) {
  const std::int32_t* const sequence = problem.sequence;
  const std::int32_t* const position = problem.positions;
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
  std::int64_t kv_head = 0;
  std::int64_t n_active = 0;    // pairs that are not masked
  std::int64_t tile_begin = 0;  // of the first row's window
  std::int64_t tile_end = 0;    // after the last row's position
  bool new_list = false;        // the marks are this piece's, not those of the one before
  std::int64_t n_tiles() const { return tile_end - tile_begin; }
  // Reading a tile of keys costs about what four rows' arithmetic on it costs.
  std::int64_t cost() const { return n_tiles() * (n_active + 4); }
};

// The rows of a piece, in order: f(row).
template <typename F>
void for_rows_of(const AttentionProblem& p, const Piece& piece, const F& f) {
  const std::int64_t last = piece.first_row + (piece.pair_begin + piece.n_pairs - 1) / p.group;
  for (std::int64_t row = piece.first_row + piece.pair_begin / p.group; row <= last; ++row) f(row);
}

std::int64_t active_pairs(const AttentionProblem& p, const Piece& piece) {
  if (p.head_mask == nullptr) return piece.n_pairs;
  std::int64_t n = 0;
  for (std::int64_t i = piece.pair_begin; i < piece.pair_begin + piece.n_pairs; ++i) {
    const std::int64_t row = piece.first_row + i / p.group;
    n += p.head_mask[row * p.n_q_heads + piece.kv_head * p.group + i % p.group] != 0 ? 1 : 0;
  }
  return n;
}

// Whether any of the row's pairs in the piece, which may begin and end inside a group, is not
// masked.
bool any_active(const AttentionProblem& p, const Piece& piece, std::int64_t row) {
  if (p.head_mask == nullptr) return true;
  const std::int64_t first = (row - piece.first_row) * p.group;
  const std::int64_t begin = std::max(piece.pair_begin - first, std::int64_t{0});
  const std::int64_t end = std::min(piece.pair_begin + piece.n_pairs - first, p.group);
  const std::uint8_t* const mask = p.head_mask + row * p.n_q_heads + piece.kv_head * p.group;
  return std::any_of(mask + begin, mask + end, [](std::uint8_t on) { return on != 0; });
}

// Whether rows may skip tiles between the first and the last they see: then a piece's tiles are
// listed.
bool has_gaps(const AttentionProblem& p) {
  return p.block_ids != nullptr || p.first_keys > 0;
}

// The tiles that any row of a piece sees, as bits.
class TileMarks {
 public:
  static std::size_t bytes(std::int64_t n_tiles) {
    return static_cast<std::size_t>(n_tiles + 63) / 64 * sizeof(std::uint64_t);
  }
  void place(std::byte* memory) { words_ = reinterpret_cast<std::uint64_t*>(memory); }

  // Returns how many.
  std::int64_t mark(const AttentionProblem& p, const Piece& piece) {
    n_words_ = (piece.tile_end + 63) / 64;
    std::fill(words_, words_ + n_words_, 0);
    for_rows_of(p, piece, [&](std::int64_t row) {
      if (any_active(p, piece, row)) mark_row(p, row, piece.kv_head);
    });
    std::int64_t n = 0;
    for (std::int64_t i = 0; i < n_words_; ++i) n += std::popcount(words_[i]);
    return n;
  }

  // Their numbers, ascending; returns the end.
  std::int32_t* write(std::int32_t* to) const {
    for (std::int64_t i = 0; i < n_words_; ++i) {
      for (std::uint64_t word = words_[i]; word != 0; word &= word - 1) {
        *to++ = static_cast<std::int32_t>(i * 64 + std::countr_zero(word));
      }
    }
    return to;
  }

 private:
  void mark_row(const AttentionProblem& p, std::int64_t row, std::int64_t kv_head) {
    const std::int64_t position = p.positions[row];
    const std::int64_t near = p.first_key(position) / kAttentionTile;
    const std::int64_t end = position / kAttentionTile + 1;
    const std::int64_t far = std::min(near, (p.first_keys + kAttentionTile - 1) / kAttentionTile);
    const auto mark_seen = [&](std::int64_t first, std::int64_t last) {
      mark_range(first, std::min(last, far));
      mark_range(std::max(first, near), std::min(last, end));
    };
    std::int32_t count = -1;
    const std::int32_t* ids = nullptr;
    if (p.block_ids != nullptr) {
      const std::int64_t list = row * p.n_lists + (p.n_lists == 1 ? 0 : kv_head);
      count = p.block_counts[list];
      ids = p.block_ids + list * p.list_capacity;
    }
    if (count < 0) mark_seen(0, end);
    for (std::int32_t i = 0; i < count; ++i) {
      const std::int64_t begin = ids[i] * p.key_block;
      mark_seen(begin / kAttentionTile, (begin + p.key_block - 1) / kAttentionTile + 1);
    }
  }

  void mark_range(std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t n = std::min(end, (begin / 64 + 1) * 64) - begin;
      words_[begin / 64] |= (~std::uint64_t{0} >> (64 - n)) << (begin % 64);
      begin += n;
    }
  }

  std::uint64_t* words_ = nullptr;
  std::int64_t n_words_ = 0;
};

// A piece whose tiles are cut over several tasks; the last of them to finish merges.
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
  std::int64_t n_listed = 0;  // tile numbers
  std::int64_t total_cost = 0;
  std::int64_t part_tiles(const Piece& piece) const {
    const std::int64_t n_tiles = piece.n_tiles();
    if (piece.n_pairs > kMaxSplitPairs || n_tiles <= kMinSplitTiles) return n_tiles;
    const std::int64_t share = total_cost / kShares / (piece.n_active + 4);
    return std::min(n_tiles, std::max(kMinSplitTiles, share));
  }
};

std::int64_t partial_elements(const Piece& piece, std::int64_t head_dim) {
  return piece.n_tiles() * piece.n_pairs * (kAttentionPartialHead + head_dim);
}

std::size_t cost_class(const Piece& piece, std::int64_t tiles) {
  return 63 - static_cast<std::size_t>(
                  std::bit_width(static_cast<std::uint64_t>(tiles * (piece.n_active + 4))));
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
  p.first_keys = args.window == 0 ? 0 : args.first_keys;
  p.soft_cap = args.soft_cap;
  p.sinks = args.sinks.as<const float>();
  if (!args.blocks.absent()) {
    p.block_ids = args.blocks.ids.as<const std::int32_t>();
    p.block_counts = args.blocks.counts.as<const std::int32_t>();
    p.n_lists = args.blocks.ids.dim(1);
    p.list_capacity = args.blocks.ids.dim(2);
    p.key_block = args.blocks.block;
  }
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
      : context_(context),
        kernels_(kernels),
        problem_(problem_of(args)),
        n_rows_(args.q.dim(0)),
        type_(type_of(args.pages.k.dtype)),
        scratch_bytes_(static_cast<std::size_t>(kernels.scratch(problem_.head_dim)) *
                       sizeof(float)) {
    for (std::int64_t t = 0; t < n_rows_ && has_gaps(problem_); ++t) {
      max_tiles_ = std::max(max_tiles_, problem_.positions[t] / kAttentionTile + 1);
    }
  }

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

  // Every piece with every kv head; a piece without active pairs has no tiles.
  template <typename F>
  void for_pieces(const F& f) {
    const std::int64_t group = problem_.group;
    const bool list_per_head = problem_.n_lists > 1 || problem_.head_mask != nullptr;
    for_runs(problem_, n_rows_, [&](const Run& run) {
      const std::int64_t n_pairs = run.n * group;
      const std::int64_t size =
          std::clamp(n_pairs * problem_.n_kv_heads / kPieces, kMinPairs, kMaxAttentionPairs);
      const std::int64_t n_pieces = (n_pairs + size - 1) / size;
      for (std::int64_t i = n_pieces - 1; i >= 0; --i) {
        Piece all;
        all.first_row = run.first;
        all.pair_begin = n_pairs * i / n_pieces;
        all.n_pairs = n_pairs * (i + 1) / n_pieces - all.pair_begin;
        const std::int64_t first = run.first + all.pair_begin / group;
        const std::int64_t last = run.first + (all.pair_begin + all.n_pairs - 1) / group;
        all.tile_begin = problem_.first_key(problem_.positions[first]) / kAttentionTile;
        all.tile_end = problem_.positions[last] / kAttentionTile + 1;
        std::int64_t n_listed = 0;
        for (std::int64_t g = 0; g < problem_.n_kv_heads; ++g) {
          Piece piece = all;
          piece.kv_head = g;
          piece.n_active = active_pairs(problem_, piece);  // 0: no marks either
          if (has_gaps(problem_)) {
            piece.new_list = g == 0 || list_per_head;
            if (piece.new_list) n_listed = marks_.mark(problem_, piece);
            piece.tile_begin = 0;
            piece.tile_end = n_listed;
          }
          if (piece.n_active == 0) piece.tile_end = piece.tile_begin;
          f(piece);
        }
      }
    });
  }

  AttentionTask task_of(const Piece& piece, const std::int32_t* tiles) const {
    AttentionTask task;
    task.first_row = piece.first_row;
    task.pair_begin = piece.pair_begin;
    task.n_pairs = piece.n_pairs;
    task.kv_head = piece.kv_head;
    task.tile_begin = piece.tile_begin;
    task.tile_end = piece.tile_end;
    task.tiles = tiles;
    return task;
  }

  void run_inline() {
    std::int32_t* const tiles =
        has_gaps(problem_) ? reinterpret_cast<std::int32_t*>(context_.shared(
                                 static_cast<std::size_t>(max_tiles_) * sizeof(std::int32_t), 0))
                           : nullptr;
    for_pieces([&](const Piece& piece) {
      if (piece.new_list) marks_.write(tiles);
      kernels_.run(problem_, type_, task_of(piece, tiles), scratch_of(0));
    });
  }

  // Sizes; tasks per class of cost go to class_begin_, as counts.
  Plan count() {
    Plan plan;
    marks_.place(context_.shared(TileMarks::bytes(max_tiles_), 1));
    for_pieces([&](const Piece& piece) { plan.total_cost += piece.cost(); });
    std::fill(std::begin(class_begin_), std::end(class_begin_), 0);
    for_pieces([&](const Piece& piece) {
      const std::int64_t part = plan.part_tiles(piece);
      const std::int64_t n_parts = part == 0 ? 1 : (piece.n_tiles() + part - 1) / part;
      class_begin_[cost_class(piece, part)] += n_parts;
      plan.n_tasks += n_parts;
      if (piece.new_list) plan.n_listed += piece.n_tiles();
      if (n_parts == 1) return;
      ++plan.n_splits;
      plan.partial_elements += partial_elements(piece, problem_.head_dim);
    });
    return plan;
  }

  // Writes the tasks, dearest first, so that no long one starts last.
  void place(const Plan& plan) {
    std::int64_t begin = 0;
    for (std::int64_t& c : class_begin_) begin += std::exchange(c, begin);
    const std::size_t task_bytes =
        aligned(static_cast<std::size_t>(plan.n_tasks) * sizeof(Planned));
    const std::size_t split_bytes =
        aligned(static_cast<std::size_t>(plan.n_splits) * sizeof(Split));
    const std::size_t mark_bytes = aligned(TileMarks::bytes(max_tiles_));
    std::byte* const memory =
        context_.shared(task_bytes + split_bytes + mark_bytes +
                            static_cast<std::size_t>(plan.n_listed) * sizeof(std::int32_t),
                        0);
    tasks_ = reinterpret_cast<Planned*>(memory);
    splits_ = reinterpret_cast<Split*>(memory + task_bytes);
    marks_.place(memory + task_bytes + split_bytes);
    auto* end_of_lists =
        reinterpret_cast<std::int32_t*>(memory + task_bytes + split_bytes + mark_bytes);
    partials_ = reinterpret_cast<float*>(
        context_.shared(static_cast<std::size_t>(plan.partial_elements) * sizeof(float), 1));
    const std::int32_t* tiles = nullptr;
    for_pieces([&](const Piece& piece) {
      if (piece.new_list) {
        tiles = end_of_lists;
        end_of_lists = marks_.write(end_of_lists);
      }
      place_piece(piece, plan.part_tiles(piece), task_of(piece, tiles));
    });
  }

  void place_piece(const Piece& piece, std::int64_t part, AttentionTask task) {
    std::int64_t& at = class_begin_[cost_class(piece, part)];
    if (part == piece.n_tiles()) {
      new (tasks_ + at++) Planned{task, nullptr};
      return;
    }
    Split* const own = new (splits_++) Split;
    own->whole = task;
    own->whole.partial = partials_;
    own->left.store((piece.n_tiles() + part - 1) / part, std::memory_order_relaxed);
    const std::int64_t elements = partial_elements(piece, problem_.head_dim);
    const std::int64_t per_tile = elements / piece.n_tiles();
    for (std::int64_t tile = piece.tile_begin; tile < piece.tile_end; tile += part) {
      task.tile_begin = tile;
      task.tile_end = std::min(piece.tile_end, tile + part);
      task.partial = partials_ + (tile - piece.tile_begin) * per_tile;
      new (tasks_ + at++) Planned{task, own};
    }
    partials_ += elements;
  }

  CpuContext& context_;
  const AttentionKernels& kernels_;
  const AttentionProblem problem_;
  const std::int64_t n_rows_;
  const KvType type_;
  const std::size_t scratch_bytes_;
  std::int64_t max_tiles_ = 0;  // of a list
  TileMarks marks_;
  std::int64_t class_begin_[kCostClasses] = {};
  Planned* tasks_ = nullptr;
  Split* splits_ = nullptr;
  float* partials_ = nullptr;
};

}  // namespace

void run_attention(const AttentionArgs& args,
                   CpuContext& context,
                   const AttentionKernels& kernels) {
  Call(args, context, kernels).run();
}

}  // namespace heddle::cpu
