// glu (formulas: kernels/api/activation.h).
//
// `packs`  The call is one flat array: rows have no gaps and nothing is summed. Each thread takes
//   two packs of 16 bytes of gate and of up, a block apart, all four loads before the first use;
//   one pack where the call is so small that two would leave multiprocessors idle. Arrays that do
//   not start on 16 bytes, and the last few elements, move element by element. The activation is
//   tested once per pack, outside the loop over its elements. F32 uses expf, erfcf and IEEE
//   division (relative error of the activation under 8 * 2^-24 for silu); F16 and BF16, whose own
//   rounding is 2^13 and 2^16 times coarser, use the special-function unit's exponential and
//   reciprocal.
//   Bound: device memory, 3 bytes moved per byte of gate. Measured, H100, 2026-11-24: 102 to 103 %
//   of a copying kernel for 4096 x 14336, whatever the activation and dtype, so the arithmetic
//   hides behind the memory; docs/benchmarks/cuda-norm-activation.md.
//
// `plain`  One element to a thread, straight from the formula in f32, any dtype at run time.

#include <algorithm>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/plain.cuh"

namespace heddle::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 5;  // that run at once, at 48 registers

constexpr float kSqrtHalf = 0.70710678118654752F;
constexpr float kSqrt2OverPi = 0.79788456080286536F;
constexpr float kCubic = 0.044715F;

/// exp(x) and a / b in the accuracy that T can show.
template <typename T>
struct Maths {
  static __device__ __forceinline__ float exp(float x) { return __expf(x); }
  static __device__ __forceinline__ float divide(float a, float b) { return __fdividef(a, b); }
  static __device__ __forceinline__ float gelu(float x) {
    return 0.5F * x * (1.0F + erff(x * kSqrtHalf));
  }
};
template <>
struct Maths<float> {
  static __device__ __forceinline__ float exp(float x) { return expf(x); }
  static __device__ __forceinline__ float divide(float a, float b) { return __fdiv_rn(a, b); }
  static __device__ __forceinline__ float gelu(float x) { return 0.5F * x * erfcf(-x * kSqrtHalf); }
};

/// x times the logistic function of z; NaN for x = z = -inf, as the formula has it.
template <typename T>
__device__ __forceinline__ float times_logistic(float x, float z) {
  return Maths<T>::divide(x, 1.0F + Maths<T>::exp(-z));
}

template <typename T, Activation kActivation>
__device__ __forceinline__ float activate(float x) {
  if constexpr (kActivation == Activation::kSilu) return times_logistic<T>(x, x);
  if constexpr (kActivation == Activation::kGelu) return Maths<T>::gelu(x);
  static_assert(kActivation == Activation::kSilu || kActivation == Activation::kGelu ||
                kActivation == Activation::kGeluTanh);
  // (1 + tanh z) / 2 is the logistic function of 2 z.
  return times_logistic<T>(x, 2.0F * kSqrt2OverPi * fmaf(kCubic * x * x, x, x));
}

template <Activation kActivation, typename T>
__device__ __forceinline__ void gate_pack(Pack<T>& gate, const Pack<T>& up) {
#pragma unroll
  for (int e = 0; e < kPackElements<T>; ++e) {
    gate.v[e] = from_f32<T>(activate<T, kActivation>(to_f32(gate.v[e])) * to_f32(up.v[e]));
  }
}

template <typename T>
__device__ __forceinline__ void gate_pack(Pack<T>& gate, const Pack<T>& up, Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      gate_pack<Activation::kSilu>(gate, up);
      break;
    case Activation::kGelu:
      gate_pack<Activation::kGelu>(gate, up);
      break;
    case Activation::kGeluTanh:
      gate_pack<Activation::kGeluTanh>(gate, up);
      break;
    case Activation::kQuickGelu:
    case Activation::kSigmoid:
    case Activation::kRelu:
    case Activation::kElu1:
    case Activation::kIdentity:
      break;  // not accepted
  }
}

/// `aligned`: all three arrays start on 16 bytes.
template <typename T, int kPacks>
__global__ void __launch_bounds__(kThreads) glu_packs(
    const T* gate, const T* up, T* out, std::int64_t n, bool aligned, Activation activation) {
  constexpr int kN = kPackElements<T>;
  constexpr std::int64_t kPerBlock = std::int64_t{kThreads} * kPacks * kN;
  const std::int64_t begin = blockIdx.x * kPerBlock;
  const std::int64_t first = begin + static_cast<std::int64_t>(threadIdx.x) * kN;
  Pack<T> g[kPacks];
  Pack<T> u[kPacks];
  if (aligned && begin + kPerBlock <= n) {
#pragma unroll
    for (int j = 0; j < kPacks; ++j) {
      load_whole(g[j], gate + first + j * kThreads * kN);
      load_whole(u[j], up + first + j * kThreads * kN);
    }
#pragma unroll
    for (int j = 0; j < kPacks; ++j) {
      gate_pack(g[j], u[j], activation);
      store_whole(out + first + j * kThreads * kN, g[j]);
    }
    return;
  }
#pragma unroll 1
  for (int j = 0; j < kPacks; ++j) {
    const std::int64_t i = first + j * kThreads * kN;
    if (i >= n) return;
    if (aligned && i + kN <= n) {
      load_whole(g[0], gate + i);
      load_whole(u[0], up + i);
      gate_pack(g[0], u[0], activation);
      store_whole(out + i, g[0]);
    } else {
      const int valid = static_cast<int>(min(static_cast<std::int64_t>(kN), n - i));
      load_part(g[0], gate + i, valid);
      load_part(u[0], up + i, valid);
      gate_pack(g[0], u[0], activation);
      store_part(out + i, g[0], valid);
    }
  }
}

__global__ void __launch_bounds__(kThreads) glu_plain(const void* gate,
                                                      const void* up,
                                                      void* out,
                                                      DType dtype,
                                                      std::int64_t n,
                                                      Activation activation) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const float x = load_any(gate, dtype, i);
  float y = nanf("");  // what an activation unknown here gives
  switch (activation) {
    case Activation::kSilu:
      y = x / (1.0F + expf(-x));
      break;
    case Activation::kGelu:
      y = 0.5F * x * (1.0F + erff(x * kSqrtHalf));
      break;
    case Activation::kGeluTanh:
      y = 0.5F * x * (1.0F + tanhf(kSqrt2OverPi * (x + kCubic * x * x * x)));
      break;
    case Activation::kQuickGelu:
    case Activation::kSigmoid:
    case Activation::kRelu:
    case Activation::kElu1:
    case Activation::kIdentity:
      break;  // not accepted
  }
  store_any(out, dtype, i, y * load_any(up, dtype, i));
}

unsigned blocks_for(std::int64_t n, std::int64_t per_block) {
  const std::int64_t blocks = (n + per_block - 1) / per_block;
  HEDDLE_CHECK(blocks <= 0x7fffffff);
  return static_cast<unsigned>(blocks);
}

void run_packs(const GluArgs& args, CudaContext& context) {
  const std::int64_t n = args.gate.elements();
  const bool aligned =
      is_aligned_16(args.gate.data) && is_aligned_16(args.up.data) && is_aligned_16(args.out.data);
  with_float_type(args.gate.dtype, [&]<typename T>() {
    constexpr std::int64_t kPerBlock = std::int64_t{kThreads} * kPackElements<T>;
    if (n < 2 * kPerBlock * kBlocksPerMultiprocessor * context.n_multiprocessors) {
      glu_packs<T, 1><<<blocks_for(n, kPerBlock), kThreads, 0, context.stream>>>(
          args.gate.as<T>(), args.up.as<T>(), args.out.as<T>(), n, aligned, args.activation);
      return;
    }
    glu_packs<T, 2><<<blocks_for(n, 2 * kPerBlock), kThreads, 0, context.stream>>>(
        args.gate.as<T>(), args.up.as<T>(), args.out.as<T>(), n, aligned, args.activation);
  });
  check_launch("glu packs");
}

void run_plain(const GluArgs& args, CudaContext& context) {
  const std::int64_t n = args.gate.elements();
  glu_plain<<<blocks_for(n, kThreads), kThreads, 0, context.stream>>>(
      args.gate.data, args.up.data, args.out.data, args.gate.dtype, n, args.activation);
  check_launch("glu plain");
}

// CudaOps has checked the rest of the contract.
bool accepts_known(const GluArgs& args, const DeviceCaps& /*caps*/) {
  const bool known = args.activation == Activation::kSilu || args.activation == Activation::kGelu ||
                     args.activation == Activation::kGeluTanh;
  return known && args.limit == 0.0F && args.up_add == 0.0F;
}

constexpr Variant<GluArgs, CudaContext> kVariants[] = {
    {"packs", accepts_known, run_packs},
    {"plain", accepts_known, run_plain},
};

}  // namespace

const Table<GluArgs>& glu_table() {
  static const Table<GluArgs> table{"glu", kVariants};
  return table;
}

}  // namespace heddle::cuda
