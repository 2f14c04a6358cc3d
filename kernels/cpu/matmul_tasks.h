#pragma once
// How the fast variants of matmul and expert_matmul prepare x and cut their work.
//
// A job is a weight matrix times a run of prepared rows of x; a task is some groups of 16 weight
// rows of a job times some tiles of its rows. Every output element is computed by one task in one
// order of k, so its bits depend neither on which rows of x are beside it nor on how tasks are cut.

#include <algorithm>
#include <array>
#include <span>

#include "kernels/cpu/cpu_tables.h"
#include "kernels/cpu/matmul_kernels.h"
#include "kernels/packed_matrix.h"

namespace heddle::cpu {

/// A run of prepared rows as tiles of up to max_width rows, of widths that differ by at most one.
class RowTiles {
 public:
  RowTiles() = default;
  RowTiles(std::int64_t first, std::int64_t n_rows, int max_width)
      : first_(first),
        n_tiles_((n_rows + max_width - 1) / max_width),
        width_(n_tiles_ == 0 ? 0 : n_rows / n_tiles_),
        n_wider_(n_tiles_ == 0 ? 0 : n_rows % n_tiles_) {}

  std::int64_t count() const { return n_tiles_; }
  std::int64_t first_row(std::int64_t tile) const { return first_ + offset(tile); }
  // No division: these are asked for every group of weight rows.
  std::int64_t offset(std::int64_t tile) const { return tile * width_ + std::min(tile, n_wider_); }
  int width(std::int64_t tile) const {
    return static_cast<int>(width_ + (tile < n_wider_ ? 1 : 0));
  }

 private:
  std::int64_t first_ = 0;
  std::int64_t n_tiles_ = 0;
  std::int64_t width_ = 0;    // of a tile,
  std::int64_t n_wider_ = 0;  // one more of each of the first so many
};

/// The forms of x that weights of some types want: quantised with a step for 32 k or for 256 k, or
/// as it is.
struct XForms {
  bool by_32 = false;
  bool by_256 = false;
  bool plain = false;
  void add(DType weight);
};

/// n_rows rows of x in those forms, in the context's shared slots 0 and 1. A tile's memory is where
/// its rows are, interleaved: it is read as the tile that it was written as.
class PreparedX {
 public:
  PreparedX(std::int64_t n_rows, std::int64_t k, const XForms& forms, CpuContext& context);

  /// Prepares rows as these tiles; x is the row of the first one, the others follow.
  void fill(const float* x,
            const RowTiles& tiles,
            CpuContext& context,
            const MatmulKernels& kernels);
  /// Makes one tile of `width` rows that are already here as tiles of one row each.
  void gather(const std::int32_t* rows, std::int64_t first_row, int width);

  /// A tile as weights of that type want it.
  XTile tile(std::int64_t first_row, int width, DType dtype) const;
  std::int64_t n_blocks() const;
  std::int64_t k() const { return k_; }

 private:
  void fill_tile(const float* x, std::int64_t first_row, int width, const MatmulKernels& kernels);
  QuantisedRows rows(std::int64_t first_row, const QuantisedRows& all) const;

  std::int64_t k_;
  QuantisedRows by_32_;  // absent where not wanted, as are the others
  QuantisedRows by_256_;
  float* plain_ = nullptr;
};

/// x elements below which preparing them in parallel costs more than it saves.
inline constexpr std::int64_t kInlineXElements = 16384;

/// One weight matrix times a run of prepared rows.
struct MatmulJob {
  const PackedMatrix* weight = nullptr;
  RowTiles x;
  OutTile out;  // of the run's first row and weight row 0
  // How run_jobs cuts it:
  std::int64_t n_groups = 0;
  std::int64_t groups_per_task = 1;
  std::int64_t tile_tasks = 1;
  std::int64_t first_task = 0;  // of this job
};

/// All jobs in one parallel region.
void run_jobs(std::span<MatmulJob> jobs,
              const PreparedX& x,
              CpuContext& context,
              const MatmulKernels& kernels);

/// Checks MatmulArgs::segments for a weight of that type.
void check_segments(int segments, std::int64_t k, DType weight);

/// For ref: sum of x[j] w[j] in f64.
double dot_ref(const float* x, const double* w, std::int64_t k);

/// The variants of an op over MatmulKernels. kInterleaved: whether all weights are kRows16.
template <typename Args,
          bool (*kInterleaved)(const Args&),
          void (*kFast)(const Args&, CpuContext&, const MatmulKernels&),
          void (*kRef)(const Args&, CpuContext&)>
struct MatmulVariants {
  using V = Variant<Args, CpuContext>;
  static constexpr std::array<V, 4> kAll = {
      V{"avx512_vnni",
        [](const Args& args, const DeviceCaps& caps) {
          return caps.avx512_vnni && matmul_kernels_avx512_vnni() != nullptr && kInterleaved(args);
        },
        [](const Args& args, CpuContext& c) { kFast(args, c, *matmul_kernels_avx512_vnni()); }},
      V{"avx2",
        [](const Args& args, const DeviceCaps& caps) {
          return caps.avx2 && matmul_kernels_avx2() != nullptr && kInterleaved(args);
        },
        [](const Args& args, CpuContext& c) { kFast(args, c, *matmul_kernels_avx2()); }},
      V{"portable", [](const Args& args, const DeviceCaps&) { return kInterleaved(args); },
        [](const Args& args, CpuContext& c) { kFast(args, c, matmul_kernels_portable()); }},
      V{"ref", [](const Args&, const DeviceCaps&) { return true; }, kRef}};
};

}  // namespace heddle::cpu
