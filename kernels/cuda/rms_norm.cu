// rms_norm (formula: kernels/api/rms_norm.h).
//
// `packs`  A row belongs to one group of threads: one warp, with four rows to a block, up to 128
//   packs of 16 bytes; else a block of up to 1024 threads. Each thread loads up to four packs at
//   once, keeps them in registers through the reduction, scales and stores them: x is read once and
//   out written once. Wider rows (over 4096 packs) take the rest in further rounds and read it a
//   second time. Rows that are not whole packs on 16-byte boundaries move element by element.
//
//   Fixed sum: P elements to a pack (8 of 16 bits, 4 of F32), T threads to a row,
//   T = the power of two from 32 to 1024 that is at least ceil(width / (4 P)). Element e of thread
//   t adds the squares at (t + T i) P + e for i = 0, 1, ... by fused multiply-add; the P sums of a
//   thread are halved (0+4, 1+5, ...), then the lanes of a warp, then the warps. T depends on width
//   and dtype alone, so a row has the same bits alone and in any batch.
//
//   Shared memory: 32 floats, and only where a row has several warps.
//   Bound: device memory, 2 bytes moved per byte of x (the weight stays in L1 and L2), about one
//   FLOP per byte in bf16, so far left of the ridge; a few rows are bound by latency (1.6 us).
//   A residual is read after the sum, one pack at a time, and adds its bytes.
//   Measured without residual, H100, 2026-11-24: 93 to 101 % of a copying kernel from 4096 x 4096
//   on; where rows are read twice 85 % (16 bits) and 75 % (F32);
//   docs/benchmarks/cuda-norm-activation.md.
//
//   With groups the parts are the rows, and the weight's column follows the group. An absent weight
//   is a register of ones.
//
// `plain`  One warp to a segment of a part, one element to a lane at a time, two passes, any dtype
//   at run time. Lane l adds the squares at l, l + 32, ... of its segment by fused multiply-add;
//   then the lanes are halved, then the segments are added as the API has them. The only variant
//   for several segments.

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/plain.cuh"
#include "kernels/cuda/reduce.cuh"

namespace heddle::cuda {
namespace {

constexpr int kHeld = 4;          // packs that a thread keeps in registers
constexpr int kRowsPerBlock = 4;  // where a row has one warp
constexpr int kMaxThreads = 1024;

__device__ __forceinline__ float inverse_rms(float sum, int width, float eps) {
  return __frsqrt_rn(__fdiv_rn(sum, static_cast<float>(width)) + eps);
}

template <typename T>
__device__ __forceinline__ void add_squares(float (&sums)[kPackElements<T>], const Pack<T>& pack) {
#pragma unroll
  for (int e = 0; e < kPackElements<T>; ++e) {
    const float x = to_f32(pack.v[e]);
    sums[e] = fmaf(x, x, sums[e]);
  }
}

template <typename T, typename W>
struct Row {
  const T* x;
  const W* weight;    // or null: 1
  const T* residual;  // or null; may be out
  T* out;
  int width;
};

template <typename W, int N>
__device__ __forceinline__ void set_ones(Pack<W, N>& pack) {
#pragma unroll
  for (int e = 0; e < N; ++e) pack.v[e] = from_f32<W>(1.0F);
}

template <typename T, typename W>
__device__ __forceinline__ void scale(Pack<T>& x,
                                      const Pack<W, kPackElements<T>>& weight,
                                      float inverse) {
#pragma unroll
  for (int e = 0; e < kPackElements<T>; ++e) {
    x.v[e] = from_f32<T>(to_f32(x.v[e]) * inverse * to_f32(weight.v[e]));
  }
}

/// The same plus the residual, rounded once.
template <typename T, typename W>
__device__ __forceinline__ void scale_and_add(Pack<T>& x,
                                              const Pack<W, kPackElements<T>>& weight,
                                              const Pack<T>& residual,
                                              float inverse) {
#pragma unroll
  for (int e = 0; e < kPackElements<T>; ++e) {
    const float norm = to_f32(x.v[e]) * inverse * to_f32(weight.v[e]);
    x.v[e] = from_f32<T>(to_f32(residual.v[e]) + norm);
  }
}

/// Rows of whole, aligned packs. sum(v) adds up the thread's v over the row.
template <typename T, typename W, typename Sum>
__device__ __forceinline__ void norm_whole(const Row<T, W>& row, float eps, const Sum& sum) {
  constexpr int kN = kPackElements<T>;
  const int first = static_cast<int>(threadIdx.x) * kN;
  const int step = static_cast<int>(blockDim.x) * kN;
  Pack<T> held[kHeld];
  float sums[kN] = {};
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    held[j] = {};
    if (first + j * step < row.width) load_whole(held[j], row.x + first + j * step);
  }
  // The weights travel while the squares are added, where registers allow (64 with 1024 threads).
  constexpr bool kEarlyWeights = sizeof(W) == sizeof(T);
  Pack<W, kN> weights[kHeld];
  const auto load_weights = [&] {
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      set_ones(weights[j]);
      if (row.weight != nullptr && first + j * step < row.width) {
        load_constant(weights[j], row.weight + first + j * step);
      }
    }
  };
  if constexpr (kEarlyWeights) load_weights();
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    add_squares(sums, held[j]);
    forget(held[j]);
  }
  for (int i = first + kHeld * step; i < row.width; i += step) {
    Pack<T> pack;
    load_whole(pack, row.x + i);
    add_squares(sums, pack);
  }
  const float inverse = inverse_rms(sum(halving_sum(sums)), row.width, eps);

  if constexpr (!kEarlyWeights) load_weights();
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int i = first + j * step;
    if (i < row.width) {
      if constexpr (kEarlyWeights) forget(weights[j]);
      if (row.residual == nullptr) {
        scale<T, W>(held[j], weights[j], inverse);
      } else {
        Pack<T> residual;
        load_whole(residual, row.residual + i);
        scale_and_add<T, W>(held[j], weights[j], residual, inverse);
      }
      store_whole(row.out + i, held[j]);
    }
  }
  for (int i = first + kHeld * step; i < row.width; i += step) {
    Pack<T> pack;
    Pack<W, kN> weight;
    load_whole(pack, row.x + i);
    set_ones(weight);
    if (row.weight != nullptr) load_constant(weight, row.weight + i);
    if (row.residual == nullptr) {
      scale<T, W>(pack, weight, inverse);
    } else {
      Pack<T> residual;
      load_whole(residual, row.residual + i);
      scale_and_add<T, W>(pack, weight, residual, inverse);
    }
    store_whole(row.out + i, pack);
  }
}

/// Any row, element by element; the same sum in the same order.
template <typename T, typename W, typename Sum>
__device__ __forceinline__ void norm_parts(const Row<T, W>& row, float eps, const Sum& sum) {
  constexpr int kN = kPackElements<T>;
  const int first = static_cast<int>(threadIdx.x) * kN;
  const int step = static_cast<int>(blockDim.x) * kN;
  float sums[kN] = {};
#pragma unroll 1
  for (int i = first; i < row.width; i += step) {
    Pack<T> pack;
    load_part(pack, row.x + i, row.width - i);
    add_squares(sums, pack);
  }
  const float inverse = inverse_rms(sum(halving_sum(sums)), row.width, eps);
#pragma unroll 1
  for (int i = first; i < row.width; i += step) {
    Pack<T> pack;
    Pack<W, kN> weight;
    load_part(pack, row.x + i, row.width - i);
    set_ones(weight);
    if (row.weight != nullptr) load_part(weight, row.weight + i, row.width - i);
    if (row.residual == nullptr) {
      scale<T, W>(pack, weight, inverse);
    } else {
      Pack<T> residual;
      load_part(residual, row.residual + i, row.width - i);
      scale_and_add<T, W>(pack, weight, residual, inverse);
    }
    store_part(row.out + i, pack, row.width - i);
  }
}

/// blockDim = {threads per row, rows per block}; several rows per block only with 32 threads each.
/// `whole`: x, weight, residual and out start on 16 bytes and rows are whole packs.
template <typename T, typename W>
__global__ void __launch_bounds__(kMaxThreads)
    rms_norm_packs(Row<T, W> first, std::int64_t n_rows, int groups, float eps, bool whole) {
  __shared__ float scratch[32];
  const std::int64_t r = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (r >= n_rows) return;  // whole warps, and never in a block that has a barrier
  const std::int64_t offset = r * first.width;
  const std::int64_t column = r % groups * first.width;
  const Row<T, W> row{first.x + offset, first.weight == nullptr ? nullptr : first.weight + column,
                      first.residual == nullptr ? nullptr : first.residual + offset,
                      first.out + offset, first.width};
  const auto sum = [](float v) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    return block_sum(v, scratch, warp, lane, static_cast<int>(blockDim.x) / 32);
  };
  if (whole) {
    norm_whole(row, eps, sum);
  } else {
    norm_parts(row, eps, sum);
  }
}

struct PlainCall {
  const void* x;
  const void* weight;  // or null
  const void* residual;
  void* out;
  DType dtype;
  DType weight_dtype;
  std::int64_t n_parts;
  int width;  // of a part
  int groups;
  int segments;
  float eps;
};

/// blockDim = {32, segments, parts per block}.
__global__ void rms_norm_plain(PlainCall call) {
  __shared__ float sums[32];
  const std::int64_t part = static_cast<std::int64_t>(blockIdx.x) * blockDim.z + threadIdx.z;
  const std::int64_t first = part * call.width;
  const int length = call.width / call.segments;
  const int begin = static_cast<int>(threadIdx.y) * length;
  const int end = part < call.n_parts ? begin + length : begin;
  float sum = 0.0F;
  for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += 32) {
    const float v = load_any(call.x, call.dtype, first + i);
    sum = fmaf(v, v, sum);
  }
  sum = warp_sum(sum);
  if (call.segments > 1) {
    float* const pieces = sums + threadIdx.z * call.segments;
    if (threadIdx.x == 0) pieces[threadIdx.y] = sum;
    __syncthreads();
    const int lane = static_cast<int>(threadIdx.x);
    sum = lane < call.segments ? pieces[lane] : 0.0F;
    for (int mask = 1; mask < call.segments; mask *= 2) {
      sum += __shfl_xor_sync(0xffffffffU, sum, mask);
    }
    sum = __shfl_sync(0xffffffffU, sum, 0);
  }
  const float inverse = inverse_rms(sum, call.width, call.eps);
  const std::int64_t column = part % call.groups * call.width;
  for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += 32) {
    float norm = load_any(call.x, call.dtype, first + i) * inverse;
    if (call.weight != nullptr) norm *= load_any(call.weight, call.weight_dtype, column + i);
    if (call.residual != nullptr) norm = load_any(call.residual, call.dtype, first + i) + norm;
    store_any(call.out, call.dtype, first + i, norm);
  }
}

/// Threads of a part: a function of its width alone.
int threads_for(std::int64_t width, int pack_elements) {
  const std::int64_t packs = (width + pack_elements - 1) / pack_elements;
  int threads = 32;
  while (threads < kMaxThreads && std::int64_t{threads} * kHeld < packs) threads *= 2;
  return threads;
}

template <typename T, typename W>
void launch_packs(const RmsNormArgs& args, CudaContext& context) {
  const int width = static_cast<int>(args.x.dim(1)) / args.groups;
  const std::int64_t n_parts = args.x.dim(0) * args.groups;
  const int threads = threads_for(width, kPackElements<T>);
  const int rows = threads == 32 ? kRowsPerBlock : 1;
  const bool whole = width % kPackElements<T> == 0 && is_aligned_16(args.x.data) &&
                     is_aligned_16(args.weight.data) && is_aligned_16(args.residual.data) &&
                     is_aligned_16(args.out.data);
  const Row<T, W> first{args.x.as<T>(), args.weight.as<W>(), args.residual.as<T>(),
                        args.out.as<T>(), width};
  rms_norm_packs<T, W><<<blocks_for(n_parts, rows), dim3(threads, rows), 0, context.stream>>>(
      first, n_parts, args.groups, args.eps, whole);
  check_launch("rms_norm packs");
}

void run_packs(const RmsNormArgs& args, CudaContext& context) {
  with_float_type(args.x.dtype, [&]<typename T>() {
    if (args.weight.dtype == args.x.dtype) {
      launch_packs<T, T>(args, context);
    } else {
      launch_packs<T, float>(args, context);
    }
  });
}

void run_plain(const RmsNormArgs& args, CudaContext& context) {
  PlainCall call{};
  call.x = args.x.data;
  call.weight = args.weight.data;
  call.residual = args.residual.data;
  call.out = args.out.data;
  call.dtype = args.x.dtype;
  call.weight_dtype = args.weight.dtype;
  call.n_parts = args.x.dim(0) * args.groups;
  call.width = static_cast<int>(args.x.dim(1)) / args.groups;
  call.groups = args.groups;
  call.segments = args.segments;
  call.eps = args.eps;
  const int parts = args.segments < kRowsPerBlock ? kRowsPerBlock / args.segments : 1;
  rms_norm_plain<<<blocks_for(call.n_parts, parts), dim3(32, args.segments, parts), 0,
                   context.stream>>>(call);
  check_launch("rms_norm plain");
}

// CudaOps has checked the rest of the contract.
bool accepts_one_sum(const RmsNormArgs& args, const DeviceCaps& /*caps*/) {
  return args.segments == 1;
}

constexpr Variant<RmsNormArgs, CudaContext> kVariants[] = {
    {"packs", accepts_one_sum, run_packs},
    {"plain", accepts_all<RmsNormArgs, DeviceCaps>, run_plain},
};

}  // namespace

const Table<RmsNormArgs>& rms_norm_table() {
  static const Table<RmsNormArgs> table{"rms_norm", kVariants};
  return table;
}

}  // namespace heddle::cuda
