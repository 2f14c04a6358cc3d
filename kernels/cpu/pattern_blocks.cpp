#include <algorithm>

#include "base/error.h"
#include "kernels/cpu/cpu_tables.h"

namespace heddle {
namespace {

bool in_pattern(const PatternBlocksArgs& args, std::int64_t d) {
  switch (args.pattern) {
    case BlockPattern::kStrided:
      return d < 4 || d % args.step == 0;
    case BlockPattern::kDilated:
      return d % args.step == 0 && d / args.step < 16;
    case BlockPattern::kPower:
      return d < args.local || (d & (d - 1)) == 0;
    case BlockPattern::kNeighbourhood:
      return d < args.local;
  }
  return false;
}

void check_pattern(const PatternBlocksArgs& args) {
  HEDDLE_CHECK(args.blocks.block > 0 && args.blocks.block % 16 == 0);
  const bool stepped =
      args.pattern == BlockPattern::kStrided || args.pattern == BlockPattern::kDilated;
  HEDDLE_CHECK(stepped ? args.step >= 1 : args.local >= 1);
}

/// Block 0 is in whatever its distance.
bool has_first_block(const PatternBlocksArgs& args) {
  return args.pattern != BlockPattern::kNeighbourhood;
}

}  // namespace

std::int64_t pattern_blocks_capacity(const PatternBlocksArgs& args, std::int64_t n_positions) {
  check_pattern(args);
  std::int64_t longest = 0;
  std::int64_t seen = 0;  // distances of the pattern up to d
  for (std::int64_t d = 0; d * args.blocks.block < n_positions; ++d) {
    const bool in = in_pattern(args, d);
    seen += in ? 1 : 0;
    const bool first = !in && has_first_block(args);  // block 0, at distance d
    longest = std::max(longest, first ? seen + 1 : seen);
  }
  return longest;
}

namespace cpu {
namespace {

void check(const PatternBlocksArgs& args) {
  check_pattern(args);
  const std::int64_t n = args.positions.dim(0);
  const KeyBlocks& blocks = args.blocks;
  HEDDLE_CHECK(args.positions.rank == 1 && args.positions.dtype == DType::kI32);
  HEDDLE_CHECK(blocks.ids.rank == 3 && blocks.ids.dtype == DType::kI32);
  HEDDLE_CHECK(blocks.ids.dim(0) == n && blocks.ids.dim(1) == 1 && blocks.ids.dim(2) > 0);
  HEDDLE_CHECK(blocks.counts.rank == 2 && blocks.counts.dtype == DType::kI32);
  HEDDLE_CHECK(blocks.counts.dim(0) == n && blocks.counts.dim(1) == 1);
}

/// A row's list, written in ascending order.
class List {
 public:
  List(const PatternBlocksArgs& args, std::int64_t t)
      : ids_(args.blocks.ids.as<std::int32_t>() + t * args.blocks.ids.dim(2)),
        count_(args.blocks.counts.as<std::int32_t>()[t]),
        capacity_(args.blocks.ids.dim(2)) {
    const std::int32_t position = args.positions.as<const std::int32_t>()[t];
    HEDDLE_CHECK(position >= 0);
    own_ = position / args.blocks.block;
    count_ = 0;
  }
  std::int64_t own() const { return own_; }
  void add(std::int64_t block) {
    HEDDLE_CHECK(count_ < capacity_);
    ids_[count_++] = static_cast<std::int32_t>(block);
  }

 private:
  std::int32_t* ids_;
  std::int32_t& count_;
  std::int64_t capacity_;
  std::int64_t own_ = 0;
};

/// Adds the distances that are multiples of `step` in [low, high], farthest first.
void add_multiples(List& list, std::int64_t step, std::int64_t low, std::int64_t high) {
  for (std::int64_t d = high / step * step; d >= low; d -= step) list.add(list.own() - d);
}

void add_powers(List& list, std::int64_t low, std::int64_t high) {
  std::int64_t d = 1;
  while (d <= high / 2) d *= 2;
  for (; d >= low && d <= high; d /= 2) list.add(list.own() - d);
}

// Walks the pattern's distances only: a list costs its length, not the depth.
void portable(const PatternBlocksArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t t = 0; t < args.positions.dim(0); ++t) {
    List list(args, t);
    const std::int64_t own = list.own();
    if (has_first_block(args) && !in_pattern(args, own)) list.add(0);
    if (args.pattern == BlockPattern::kDilated) {
      add_multiples(list, args.step, 0, std::min(own / args.step, std::int64_t{15}) * args.step);
      continue;
    }
    const std::int64_t local =
        args.pattern == BlockPattern::kStrided ? std::int64_t{4} : args.local;
    if (args.pattern == BlockPattern::kStrided) {
      add_multiples(list, args.step, local, own);
    } else if (args.pattern == BlockPattern::kPower) {
      add_powers(list, local, own);
    }
    add_multiples(list, 1, 0, std::min(own, local - 1));
  }
}

void ref(const PatternBlocksArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t t = 0; t < args.positions.dim(0); ++t) {
    List list(args, t);
    for (std::int64_t b = 0; b <= list.own(); ++b) {
      const bool first = b == 0 && has_first_block(args);
      if (first || in_pattern(args, list.own() - b)) list.add(b);
    }
  }
}

bool always(const PatternBlocksArgs&, const DeviceCaps&) {
  return true;
}

constexpr Variant<PatternBlocksArgs, CpuContext> kVariants[] = {{"portable", always, portable},
                                                                {"ref", always, ref}};

}  // namespace

const Table<PatternBlocksArgs>& pattern_blocks_table() {
  static constexpr Table<PatternBlocksArgs> kTable = {"pattern_blocks", kVariants};
  return kTable;
}

}  // namespace cpu
}  // namespace heddle
