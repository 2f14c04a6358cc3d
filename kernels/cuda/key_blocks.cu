// pattern_blocks, compress_keys and select_blocks (formulas: kernels/api/key_blocks.h). A row with
// a negative position has no token (a captured step with room to spare): its list is empty, and no
// entry is written for it.
//
// pattern_blocks `plain`  One warp to a row looks at every block up to its own, 32 at a time, and
//   appends those of the pattern.
//
// compress_keys `plain`  One block to a (row, kv head), one dimension to a thread: the window's
// keys
//   are added in ascending order in f32. Rows at which no window ends cost a look at the position.
//
// select_blocks `plain`  Three kernels over (row, kv head), for as many rows at a time as 256 MiB
//   of scratch hold (the windows of the longest sequence count, not those of the row: grids and
//   memory come from shapes alone):
//   1. norms: 256 windows of level 2 to a block, one to a thread: scores of all heads against the
//      entry (eight heads at a time, their queries in shared memory; ascending over head_dim by
//      fused multiply-add), then maximum and sum of exponentials of the 256.
//   2. weights: 256 windows of level 1 to a block: the parts of 1. are merged in ascending order,
//      m = max m_i, l = sum l_i exp(m_i - m), then w(j) is the sum over heads, ascending.
//   3. choose: a block of 512 threads: scores of key blocks, the top_k by radix select over the
//      bits (they are not negative), 8 bits at a time; equal ones by ascending index.
//   Cuts lie at absolute multiples of 256 windows, so a list depends on its row alone.
//   Bound: the dot products of 1. and 2., 2.5 head_dim FLOPs per window and head; for one row at a
//   long context the reading of the entries.

#include <algorithm>
#include <cmath>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"
#include "kernels/cuda/exp.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/plain.cuh"
#include "kernels/cuda/reduce.cuh"

namespace heddle::cuda {
namespace {

// ---- pattern_blocks

struct PatternCall {
  const std::int32_t* positions;
  std::int32_t* ids;
  std::int32_t* counts;
  std::int64_t n_rows;
  std::int64_t block;
  std::int64_t capacity;
  std::int64_t step;
  std::int64_t local;
  BlockPattern pattern;

  __device__ __forceinline__ bool holds(std::int64_t b, std::int64_t d) const {
    switch (pattern) {
      case BlockPattern::kStrided:
        return b == 0 || d < 4 || d % step == 0;
      case BlockPattern::kDilated:
        return b == 0 || (d % step == 0 && d / step < 16);
      case BlockPattern::kPower:
        return b == 0 || d < local || (d & (d - 1)) == 0;
      case BlockPattern::kNeighbourhood:
        break;
    }
    return d < local;
  }
};

constexpr int kRowsPerBlock = 4;

/// blockDim = {32, kRowsPerBlock}.
__global__ void pattern_blocks_plain(PatternCall call) {
  const std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.y;
  if (t >= call.n_rows) return;
  const auto lane = static_cast<std::int64_t>(threadIdx.x);
  const std::int64_t position = call.positions[t];
  const std::int64_t own = position < 0 ? -1 : position / call.block;
  std::int32_t* const ids = call.ids + t * call.capacity;
  std::int64_t count = 0;
  for (std::int64_t first = 0; first <= own; first += 32) {
    const std::int64_t b = first + lane;
    const bool in = b <= own && call.holds(b, own - b);
    const unsigned votes = __ballot_sync(0xffffffffU, in);
    const std::int64_t at = count + __popc(votes & ((1U << threadIdx.x) - 1U));
    if (in && at < call.capacity) ids[at] = static_cast<std::int32_t>(b);
    count += __popc(votes);
  }
  if (lane == 0) call.counts[t] = static_cast<std::int32_t>(min(count, call.capacity));
}

void run_pattern(const PatternBlocksArgs& args, CudaContext& context) {
  const KeyBlocks& blocks = args.blocks;
  const std::int64_t n = args.positions.dim(0);
  const bool stepped =
      args.pattern == BlockPattern::kStrided || args.pattern == BlockPattern::kDilated;
  HEDDLE_CHECK(blocks.block > 0 && blocks.block % 16 == 0);
  HEDDLE_CHECK(stepped ? args.step >= 1 : args.local >= 1);
  HEDDLE_CHECK(is_i32(args.positions, {n}) && blocks.ids.rank == 3 && blocks.ids.dim(2) > 0);
  HEDDLE_CHECK(is_i32(blocks.ids, {n, 1, blocks.ids.dim(2)}) && is_i32(blocks.counts, {n, 1}));
  if (n == 0) return;
  const PatternCall call{args.positions.as<std::int32_t>(),
                         blocks.ids.as<std::int32_t>(),
                         blocks.counts.as<std::int32_t>(),
                         n,
                         blocks.block,
                         blocks.ids.dim(2),
                         args.step,
                         args.local,
                         args.pattern};
  pattern_blocks_plain<<<blocks_for(n, kRowsPerBlock), dim3(32, kRowsPerBlock), 0,
                         context.stream>>>(call);
  check_launch("pattern_blocks");
}

// ---- entries of CompressedKeys

/// One level: windows of `length` keys every `stride`.
struct Level {
  float* entries;
  std::int64_t length;
  std::int64_t stride;
  std::int64_t per_block;
  std::int64_t block_tokens;
  std::int64_t n_kv_heads;
  std::int64_t head_dim;

  /// Windows that end at or before `position`.
  __host__ __device__ std::int64_t complete(std::int64_t position) const {
    return position + 1 < length ? 0 : (position + 1 - length) / stride + 1;
  }
  __device__ bool ends_at(std::int64_t position) const {
    return position + 1 >= length && (position + 1) % stride == 0;
  }
  /// The entry of the window with the last key `last`.
  __device__ float* entry(const std::int32_t* table, std::int64_t last, std::int64_t g) const {
    const std::int64_t block = table[last / block_tokens];
    const std::int64_t at = last % block_tokens / stride;
    return entries + ((block * n_kv_heads + g) * per_block + at) * head_dim;
  }
};

Level level_of(const CompressedKeys& keys, const TensorView& k, std::int64_t factor) {
  const std::int64_t stride = factor * keys.stride;
  HEDDLE_CHECK(keys.block_tokens % stride == 0 || stride % keys.block_tokens == 0);
  const std::int64_t per_block = std::max<std::int64_t>(1, keys.block_tokens / stride);
  HEDDLE_CHECK(is_f32(k, {keys.k1.dim(0), keys.k1.dim(1), per_block, keys.k1.dim(3)}));
  return {k.as<float>(), factor * keys.kernel, stride, per_block, keys.block_tokens,
          k.dim(1),      keys.k1.dim(3)};
}

void check_keys(const CompressedKeys& keys) {
  HEDDLE_CHECK(keys.stride > 0 && keys.kernel > 0 && keys.kernel % keys.stride == 0);
  HEDDLE_CHECK(keys.block_tokens > 0 && keys.k1.rank == 4);
}

void check_rows(const TensorView& tables, const TensorView& sequence, const TensorView& positions) {
  const std::int64_t n = positions.dim(0);
  HEDDLE_CHECK(tables.rank == 2 && is_i32(tables, {tables.dim(0), tables.dim(1)}));
  HEDDLE_CHECK(is_i32(sequence, {n}) && is_i32(positions, {n}));
}

// ---- compress_keys

struct CompressCall {
  const void* k;
  DType dtype;
  const std::int32_t* tables;
  std::int64_t max_blocks;
  const std::int32_t* sequence;
  const std::int32_t* positions;
  Level levels[2];
};

__device__ void mean(const CompressCall& call,
                     const Level& level,
                     const std::int32_t* table,
                     std::int64_t last,
                     std::int64_t g) {
  const std::int64_t tokens = level.block_tokens;
  float* const entry = level.entry(table, last, g);
  for (std::int64_t d = threadIdx.x; d < level.head_dim; d += blockDim.x) {
    float sum = 0.0F;
    for (std::int64_t s = last + 1 - level.length; s <= last;) {
      const std::int64_t end = min(last + 1, (s / tokens + 1) * tokens);
      const std::int64_t block = table[s / tokens];
      const std::int64_t row = ((block * level.n_kv_heads + g) * level.head_dim + d) * tokens;
      for (; s < end; ++s) sum += load_any(call.k, call.dtype, row + s % tokens);
    }
    entry[d] = __fdiv_rn(sum, static_cast<float>(level.length));
  }
}

__global__ void compress_keys_plain(CompressCall call) {
  const std::int64_t position = call.positions[blockIdx.x];
  if (position < 0) return;
#pragma unroll 1
  for (int i = 0; i < 2; ++i) {
    const Level level = i == 0 ? call.levels[0] : call.levels[1];
    if (!level.ends_at(position)) continue;
    const std::int32_t* const table = call.tables + call.sequence[blockIdx.x] * call.max_blocks;
    mean(call, level, table, position, blockIdx.y);
  }
}

void run_compress(const CompressKeysArgs& args, CudaContext& context) {
  check_keys(args.keys);
  check_rows(args.block_tables, args.sequence, args.positions);
  const Level fine = level_of(args.keys, args.keys.k1, 1);
  const Level coarse = level_of(args.keys, args.keys.k2, 4);
  HEDDLE_CHECK(args.k.dtype == DType::kF32 || args.k.dtype == DType::kF16 ||
               args.k.dtype == DType::kBF16);
  HEDDLE_CHECK(is_view(args.k, args.k.dtype,
                       {args.keys.k1.dim(0), fine.n_kv_heads, fine.head_dim, fine.block_tokens}));
  HEDDLE_CHECK(fine.n_kv_heads <= 65535);
  const std::int64_t n = args.positions.dim(0);
  if (n == 0) return;
  const CompressCall call{args.k.data,
                          args.k.dtype,
                          args.block_tables.as<std::int32_t>(),
                          args.block_tables.dim(1),
                          args.sequence.as<std::int32_t>(),
                          args.positions.as<std::int32_t>(),
                          {fine, coarse}};
  const dim3 grid(blocks_for(n, 1), static_cast<unsigned>(fine.n_kv_heads));
  compress_keys_plain<<<grid, 128, 0, context.stream>>>(call);
  check_launch("compress_keys");
}

// ---- select_blocks

constexpr int kWindows = 256;  // of a block; one to a thread
constexpr int kHeadsAtOnce = 8;
constexpr int kChooseThreads = 512;
constexpr int kMaxGroup = 64;
constexpr std::int64_t kMaxHeadDim = 1024;
constexpr std::int64_t kScratchBytes = std::int64_t{256} << 20;
constexpr std::int64_t kMaxRows = 32768;  // of a grid

struct SelectCall {
  const float* q;
  const std::int32_t* tables;
  std::int64_t max_blocks;
  const std::int32_t* sequence;
  const std::int32_t* positions;
  std::int32_t* ids;
  std::int32_t* counts;
  Level fine;
  Level coarse;
  std::int64_t first_row;
  std::int64_t init_blocks;
  std::int64_t local_blocks;
  std::int64_t top_k;
  std::int64_t dense_below;
  std::int64_t block;
  std::int64_t capacity;      // of a list
  std::int64_t limit;         // positions that the block tables hold
  std::int64_t n_norm_parts;  // blocks of kernel 1 per (row, kv head)
  std::int64_t n_windows;     // of w per (row, kv head)
  std::int64_t n_blocks;      // of scores per (row, kv head)
  int group;
  float scale;
  bool packs;             // entries and queries can be loaded 16 bytes at a time
  float2* norms;          // [rows, n_kv_heads, n_norm_parts, group]: maximum, sum
  float* weights;         // [rows, n_kv_heads, n_windows]
  std::uint32_t* scores;  // [rows, n_kv_heads, n_blocks]: bits of f32
};

/// One row and kv head: the block's z and y.
struct Row {
  std::int64_t t;
  std::int64_t g;
  std::int64_t index;  // in the scratch arrays
  std::int64_t position;
  __device__ explicit Row(const SelectCall& call)
      : t(call.first_row + blockIdx.z),
        g(blockIdx.y),
        index(static_cast<std::int64_t>(blockIdx.z) * call.fine.n_kv_heads + blockIdx.y),
        position(call.positions[t]) {}
  /// Whether blocks are chosen at all.
  __device__ bool chooses(const SelectCall& call) const {
    return position >= call.dense_below && position >= 0 && position < call.limit;
  }
  const __device__ std::int32_t* table(const SelectCall& call) const {
    return call.tables + call.sequence[t] * call.max_blocks;
  }
};

/// Scores of the thread's window against `kHeadsAtOnce` heads from head `first` on, after their
/// queries were loaded into shared memory. Threads without a window pass null.
__device__ void score_window(const SelectCall& call,
                             const Row& row,
                             const float* entry,
                             int first,
                             float* q,
                             float (&y)[kHeadsAtOnce]) {
  const int dim = static_cast<int>(call.fine.head_dim);
  const int n_heads = min(kHeadsAtOnce, call.group - first);
  const float* const from =
      call.q + ((row.t * call.fine.n_kv_heads + row.g) * call.group + first) * dim;
  __syncthreads();  // the last use of q
  for (int i = static_cast<int>(threadIdx.x); i < kHeadsAtOnce * dim; i += kWindows) {
    q[i] = i < n_heads * dim ? from[i] : 0.0F;
  }
  __syncthreads();
#pragma unroll
  for (int h = 0; h < kHeadsAtOnce; ++h) y[h] = 0.0F;
  if (entry == nullptr) return;
  if (call.packs) {
    for (int d = 0; d < dim; d += 4) {
      Pack<float> key;
      load_whole(key, entry + d);
#pragma unroll
      for (int h = 0; h < kHeadsAtOnce; ++h) {
        Pack<float> query;
        load_whole(query, q + h * dim + d);
#pragma unroll
        for (int e = 0; e < 4; ++e) y[h] = fmaf(query.v[e], key.v[e], y[h]);
      }
    }
  } else {
    for (int d = 0; d < dim; ++d) {
#pragma unroll
      for (int h = 0; h < kHeadsAtOnce; ++h) y[h] = fmaf(q[h * dim + d], entry[d], y[h]);
    }
  }
#pragma unroll
  for (int h = 0; h < kHeadsAtOnce; ++h) y[h] *= call.scale;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, mask));
  return x;
}

__global__ void __launch_bounds__(kWindows) select_norms(SelectCall call) {
  extern __shared__ float4 shared_q[];
  __shared__ float maxima[kHeadsAtOnce][kWindows / 32];
  __shared__ float sums[kHeadsAtOnce][kWindows / 32];
  auto* const q = reinterpret_cast<float*>(shared_q);
  const Row row(call);
  if (!row.chooses(call)) return;
  const bool two = call.coarse.complete(row.position) > 0;
  const Level level = two ? call.coarse : call.fine;
  const std::int64_t n = level.complete(row.position);
  const std::int64_t first_window = static_cast<std::int64_t>(blockIdx.x) * kWindows;
  if (first_window >= n) return;
  const std::int64_t j = first_window + threadIdx.x;
  const float* const entry =
      j < n ? level.entry(row.table(call), j * level.stride + level.length - 1, row.g) : nullptr;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  float2* const norms = call.norms + (row.index * call.n_norm_parts + blockIdx.x) * call.group;
  for (int first = 0; first < call.group; first += kHeadsAtOnce) {
    float y[kHeadsAtOnce];
    score_window(call, row, entry, first, q, y);
#pragma unroll
    for (int h = 0; h < kHeadsAtOnce; ++h) {
      const float m = warp_max(entry == nullptr ? -INFINITY : y[h]);
      if (lane == 0) maxima[h][warp] = m;
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < kHeadsAtOnce; ++h) {
      const float m = warp_max(maxima[h][lane % (kWindows / 32)]);
      const float e = warp_sum(entry == nullptr ? 0.0F : exp_nonpositive(y[h] - m));
      if (lane == 0) sums[h][warp] = e;
    }
    __syncthreads();
    if (warp == 0 && lane < kHeadsAtOnce && first + lane < call.group) {
      float m = maxima[lane][0];
      float l = sums[lane][0];
      for (int w = 1; w < kWindows / 32; ++w) {
        m = fmaxf(m, maxima[lane][w]);
        l += sums[lane][w];
      }
      norms[first + lane] = make_float2(m, l);
    }
  }
}

__global__ void __launch_bounds__(kWindows) select_weights(SelectCall call) {
  extern __shared__ float4 shared_q[];
  __shared__ float2 merged[kMaxGroup];
  auto* const q = reinterpret_cast<float*>(shared_q);
  const Row row(call);
  if (!row.chooses(call)) return;
  const std::int64_t n = call.fine.complete(row.position);
  const std::int64_t first_window = static_cast<std::int64_t>(blockIdx.x) * kWindows;
  if (first_window >= n) return;
  const std::int64_t n2 = call.coarse.complete(row.position);
  const std::int64_t n_parts = ((n2 > 0 ? n2 : n) + kWindows - 1) / kWindows;
  if (static_cast<int>(threadIdx.x) < call.group) {
    const float2* const norms = call.norms + row.index * call.n_norm_parts * call.group;
    float m = -INFINITY;
    for (std::int64_t i = 0; i < n_parts; ++i) {
      m = fmaxf(m, norms[i * call.group + threadIdx.x].x);
    }
    float l = 0.0F;
    for (std::int64_t i = 0; i < n_parts; ++i) {
      const float2 part = norms[i * call.group + threadIdx.x];
      l = fmaf(part.y, exp_nonpositive(part.x - m), l);
    }
    merged[threadIdx.x] = make_float2(m, l);
  }
  const std::int64_t j = first_window + threadIdx.x;
  const Level& level = call.fine;
  const float* const entry =
      j < n ? level.entry(row.table(call), j * level.stride + level.length - 1, row.g) : nullptr;
  float w = 0.0F;
  for (int first = 0; first < call.group; first += kHeadsAtOnce) {
    float y[kHeadsAtOnce];
    score_window(call, row, entry, first, q, y);
#pragma unroll
    for (int h = 0; h < kHeadsAtOnce; ++h) {
      if (first + h >= call.group) continue;
      const float2 norm = merged[first + h];
      const float p = __fdiv_rn(expf(y[h] - norm.x), norm.y);
      w += isnan(p) ? 0.0F : p;
    }
  }
  if (entry != nullptr) call.weights[row.index * call.n_windows + j] = w;
}

/// The number of blocks that are in whatever their score.
__device__ bool forced(const SelectCall& call, std::int64_t n_blocks, std::int64_t b) {
  return b < call.init_blocks || n_blocks - 1 - b < call.local_blocks;
}

/// The smallest score among the `wanted` best of the blocks that are not forced, and how many of
/// that score are wanted. 0 < wanted <= their number.
struct Threshold {
  std::uint32_t score;
  int n_equal;
};
__device__ Threshold find_threshold(const SelectCall& call,
                                    const std::uint32_t* scores,
                                    std::int64_t n_blocks,
                                    int wanted,
                                    int* histogram) {
  __shared__ Threshold found;
  if (threadIdx.x == 0) found = {0U, wanted};
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = static_cast<int>(threadIdx.x); i < 256; i += kChooseThreads) histogram[i] = 0;
    __syncthreads();
    const std::uint32_t above = shift == 24 ? 0U : found.score >> (shift + 8);
    for (std::int64_t b = threadIdx.x; b < n_blocks; b += kChooseThreads) {
      const std::uint32_t score = scores[b];
      const bool same = shift == 24 || score >> (shift + 8) == above;
      if (same && !forced(call, n_blocks, b)) atomicAdd(&histogram[(score >> shift) & 255U], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int left = found.n_equal;
      int digit = 255;
      while (digit > 0 && histogram[digit] < left) left -= histogram[digit--];
      found = {found.score | static_cast<std::uint32_t>(digit) << shift, left};
    }
    __syncthreads();
  }
  return found;
}

__global__ void __launch_bounds__(kChooseThreads) select_choose(SelectCall call) {
  __shared__ int histogram[256];
  __shared__ int ranks[32];
  const Row row(call);
  const std::int64_t list = row.t * call.fine.n_kv_heads + row.g;
  if (!row.chooses(call)) {
    const bool all = row.position >= 0 && row.position < call.dense_below;
    if (threadIdx.x == 0) call.counts[list] = all ? -1 : 0;
    return;
  }
  const std::int64_t n_blocks = row.position / call.block + 1;
  const std::int64_t n = call.fine.complete(row.position);
  const std::int64_t stride = call.fine.stride;
  const float* const w = call.weights + row.index * call.n_windows;
  std::uint32_t* const scores = call.scores + row.index * call.n_blocks;
  for (std::int64_t b = threadIdx.x; b < n_blocks; b += kChooseThreads) {
    // the first window that reaches the block, and the one after the last that starts in it
    const std::int64_t before = b * call.block - call.fine.length + 1;
    const std::int64_t begin = before <= 0 ? 0 : (before + stride - 1) / stride;
    const std::int64_t end = min(n, (b + 1) * call.block / stride);
    float score = 0.0F;
    for (std::int64_t j = begin; j < end; ++j) score = fmaxf(score, w[j]);
    scores[b] = __float_as_uint(score);
  }
  __syncthreads();
  const std::int64_t n_forced = min(n_blocks, call.init_blocks + call.local_blocks);
  const std::int64_t wanted = min(call.top_k - n_forced, n_blocks - n_forced);
  Threshold threshold{0xffffffffU, 0};
  if (wanted > 0) {
    threshold = find_threshold(call, scores, n_blocks, static_cast<int>(wanted), histogram);
  }
  std::int32_t* const ids = call.ids + list * call.capacity;
  int n_equal = 0;
  int count = 0;
  for (std::int64_t first = 0; first < n_blocks; first += kChooseThreads) {
    const std::int64_t b = first + threadIdx.x;
    const bool in_row = b < n_blocks;
    const bool always = in_row && forced(call, n_blocks, b);
    const std::uint32_t score = in_row && !always ? scores[b] : 0U;
    const bool equal = in_row && !always && score == threshold.score;
    const Rank among_equals = block_rank(equal, ranks);
    const bool chosen = always || (in_row && !always && score > threshold.score) ||
                        (equal && n_equal + among_equals.before < threshold.n_equal);
    const Rank among_chosen = block_rank(chosen, ranks);
    if (chosen) ids[count + among_chosen.before] = static_cast<std::int32_t>(b);
    n_equal += among_equals.total;
    count += among_chosen.total;
  }
  if (threadIdx.x == 0) call.counts[list] = count;
}

bool accepts_select(const SelectBlocksArgs& args, const DeviceCaps& /*caps*/) {
  const std::int64_t n_kv_heads = args.keys.k1.dim(1);
  return n_kv_heads >= 1 && args.q.dim(1) / n_kv_heads <= kMaxGroup &&
         args.q.dim(2) <= kMaxHeadDim && n_kv_heads <= 65535;
}

void check(const SelectBlocksArgs& args) {
  check_keys(args.keys);
  check_rows(args.block_tables, args.sequence, args.positions);
  const KeyBlocks& blocks = args.blocks;
  const std::int64_t n = args.positions.dim(0);
  const std::int64_t n_kv_heads = args.keys.k1.dim(1);
  HEDDLE_CHECK(args.q.rank == 3 && args.q.dim(1) % n_kv_heads == 0);
  HEDDLE_CHECK(is_f32(args.q, {n, args.q.dim(1), args.keys.k1.dim(3)}));
  HEDDLE_CHECK(args.scale != 0.0F && std::isfinite(args.scale));
  HEDDLE_CHECK(args.init_blocks >= 0 && args.local_blocks >= 1 && args.dense_below >= 0);
  HEDDLE_CHECK(args.top_k >= args.init_blocks + args.local_blocks);
  HEDDLE_CHECK(blocks.block > 0 && blocks.block % 16 == 0 && blocks.block % args.keys.stride == 0);
  HEDDLE_CHECK(blocks.ids.rank == 3 && blocks.ids.dim(2) >= args.top_k);
  HEDDLE_CHECK(is_i32(blocks.ids, {n, n_kv_heads, blocks.ids.dim(2)}));
  HEDDLE_CHECK(is_i32(blocks.counts, {n, n_kv_heads}));
}

SelectCall call_of(const SelectBlocksArgs& args) {
  SelectCall call{};
  call.q = args.q.as<float>();
  call.tables = args.block_tables.as<std::int32_t>();
  call.max_blocks = args.block_tables.dim(1);
  call.sequence = args.sequence.as<std::int32_t>();
  call.positions = args.positions.as<std::int32_t>();
  call.ids = args.blocks.ids.as<std::int32_t>();
  call.counts = args.blocks.counts.as<std::int32_t>();
  call.fine = level_of(args.keys, args.keys.k1, 1);
  call.coarse = level_of(args.keys, args.keys.k2, 4);
  call.init_blocks = args.init_blocks;
  call.local_blocks = args.local_blocks;
  call.top_k = args.top_k;
  call.dense_below = args.dense_below;
  call.block = args.blocks.block;
  call.capacity = args.blocks.ids.dim(2);
  call.limit = args.block_tables.dim(1) * args.keys.block_tokens;
  call.n_windows = std::max<std::int64_t>(1, call.fine.complete(call.limit - 1));
  // level 1 is normed where level 2 has no window yet
  const std::int64_t n_norms =
      std::max(call.coarse.complete(call.limit - 1), call.fine.complete(call.coarse.length));
  call.n_norm_parts = std::max<std::int64_t>(1, (n_norms + kWindows - 1) / kWindows);
  call.n_blocks = call.limit / call.block + 1;
  call.group = static_cast<int>(args.q.dim(1) / call.fine.n_kv_heads);
  call.scale = args.scale;
  call.packs = call.fine.head_dim % 4 == 0 && is_aligned_16(call.fine.entries) &&
               is_aligned_16(call.coarse.entries);
  return call;
}

constexpr std::int64_t padded(std::int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

void run_select(const SelectBlocksArgs& args, CudaContext& context) {
  check(args);
  const std::int64_t n = args.positions.dim(0);
  if (n == 0) return;
  SelectCall call = call_of(args);
  const std::int64_t n_heads = call.fine.n_kv_heads;
  const std::int64_t norm_bytes = n_heads * call.n_norm_parts * call.group * 8;
  const std::int64_t weight_bytes = n_heads * call.n_windows * 4;
  const std::int64_t score_bytes = n_heads * call.n_blocks * 4;
  const std::int64_t rows = std::clamp<std::int64_t>(
      kScratchBytes / (norm_bytes + weight_bytes + score_bytes), 1, std::min(n, kMaxRows));
  const std::int64_t all_norms = padded(rows * norm_bytes);
  const std::int64_t all_weights = padded(rows * weight_bytes);
  std::byte* const scratch = context.scratch.get(
      static_cast<std::size_t>(all_norms + all_weights + rows * score_bytes), context.stream);
  call.norms = reinterpret_cast<float2*>(scratch);
  call.weights = reinterpret_cast<float*>(scratch + all_norms);
  call.scores = reinterpret_cast<std::uint32_t*>(scratch + all_norms + all_weights);
  const auto shared = static_cast<std::size_t>(kHeadsAtOnce * call.fine.head_dim) * sizeof(float);
  const auto y = static_cast<unsigned>(n_heads);
  for (call.first_row = 0; call.first_row < n; call.first_row += rows) {
    const auto z = static_cast<unsigned>(std::min(rows, n - call.first_row));
    select_norms<<<dim3(blocks_for(call.n_norm_parts, 1), y, z), kWindows, shared,
                   context.stream>>>(call);
    check_launch("select_blocks norms");
    select_weights<<<dim3(blocks_for(call.n_windows, kWindows), y, z), kWindows, shared,
                     context.stream>>>(call);
    check_launch("select_blocks weights");
    select_choose<<<dim3(1, y, z), kChooseThreads, 0, context.stream>>>(call);
    check_launch("select_blocks choose");
  }
}

constexpr Variant<PatternBlocksArgs, CudaContext> kPattern[] = {
    {"plain", accepts_all<PatternBlocksArgs, DeviceCaps>, run_pattern}};
constexpr Variant<CompressKeysArgs, CudaContext> kCompress[] = {
    {"plain", accepts_all<CompressKeysArgs, DeviceCaps>, run_compress}};
constexpr Variant<SelectBlocksArgs, CudaContext> kSelect[] = {
    {"plain", accepts_select, run_select}};

}  // namespace

const Table<PatternBlocksArgs>& pattern_blocks_table() {
  static const Table<PatternBlocksArgs> table{"pattern_blocks", kPattern};
  return table;
}
const Table<CompressKeysArgs>& compress_keys_table() {
  static const Table<CompressKeysArgs> table{"compress_keys", kCompress};
  return table;
}
const Table<SelectBlocksArgs>& select_blocks_table() {
  static const Table<SelectBlocksArgs> table{"select_blocks", kSelect};
  return table;
}

}  // namespace heddle::cuda
