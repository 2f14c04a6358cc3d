// glu (formulas: kernels/api/activation.h).
//
// `packs`  The call is one flat array: rows have no gaps and nothing is summed. Each thread takes
//   two packs of 16 bytes of gate and of up, a block apart, all four loads before the first use;
//   one pack where the call is so small that two would leave multiprocessors idle. Arrays that do
//   not start on 16 bytes, and the last few elements, move element by element. The activation is
//   tested once per pack, outside the loop over its elements; limit and up_add act in f32, before
//   the one rounding. F32 uses expf, erfcf and IEEE
//   division (relative error of the activation under 8 * 2^-24 for silu); F16 and BF16, whose own
//   rounding is 2^13 and 2^16 times coarser, use the special-function unit's exponential and
//   reciprocal.
//   Bound: device memory, 3 bytes moved per byte of gate. Measured, H100, 2026-11-24, with silu and
//   both gelus, before the other activations and the limits came: 102 to 103 % of a copying kernel
//   for 4096 x 14336, whatever the dtype, so the arithmetic hides behind the memory;
//   docs/benchmarks/cuda-norm-activation.md.
//
// `plain`  One element to a thread, straight from the formula in f32, any dtype at run time.

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/plain.cuh"

namespace heddle::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 5;  // as measured at 48 registers (now 40)

/// What happens to gate and up before the activation; a NaN stays.
struct Clamp {
  float limit;  // 0: none
  float up_add;
  __device__ __forceinline__ bool any() const { return limit > 0.0F || up_add != 0.0F; }
  __device__ __forceinline__ float gate(float x) const {
    return limit > 0.0F && x > limit ? limit : x;
  }
  __device__ __forceinline__ float up(float x) const {
    if (limit > 0.0F) x = x > limit ? limit : (x < -limit ? -limit : x);
    return up_add != 0.0F ? x + up_add : x;
  }
};

template <typename T>
__device__ __forceinline__ void gate_pack(Pack<T>& gate,
                                          const Pack<T>& up,
                                          Activation activation,
                                          const Clamp& clamp) {
  with_activation(activation, [&]<Activation kActivation>() {
#pragma unroll
    for (int e = 0; e < kPackElements<T>; ++e) {
      float g = to_f32(gate.v[e]);
      float u = to_f32(up.v[e]);
      if (clamp.any()) {
        g = clamp.gate(g);
        u = clamp.up(u);
      }
      gate.v[e] = from_f32<T>(activate<T, kActivation>(g) * u);
    }
  });
}

/// `aligned`: all three arrays start on 16 bytes.
template <typename T, int kPacks>
__global__ void __launch_bounds__(kThreads) glu_packs(const T* gate,
                                                      const T* up,
                                                      T* out,
                                                      std::int64_t n,
                                                      bool aligned,
                                                      Activation activation,
                                                      Clamp clamp) {
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
      gate_pack(g[j], u[j], activation, clamp);
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
      gate_pack(g[0], u[0], activation, clamp);
      store_whole(out + i, g[0]);
    } else {
      const int valid = static_cast<int>(min(static_cast<std::int64_t>(kN), n - i));
      load_part(g[0], gate + i, valid);
      load_part(u[0], up + i, valid);
      gate_pack(g[0], u[0], activation, clamp);
      store_part(out + i, g[0], valid);
    }
  }
}

__global__ void __launch_bounds__(kThreads) glu_plain(const void* gate,
                                                      const void* up,
                                                      void* out,
                                                      DType dtype,
                                                      std::int64_t n,
                                                      Activation activation,
                                                      Clamp clamp) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const float y = activate_plain(activation, clamp.gate(load_any(gate, dtype, i)));
  store_any(out, dtype, i, y * clamp.up(load_any(up, dtype, i)));
}

void run_packs(const GluArgs& args, CudaContext& context) {
  const std::int64_t n = args.gate.elements();
  const bool aligned =
      is_aligned_16(args.gate.data) && is_aligned_16(args.up.data) && is_aligned_16(args.out.data);
  const Clamp clamp{args.limit, args.up_add};
  with_float_type(args.gate.dtype, [&]<typename T>() {
    constexpr std::int64_t kPerBlock = std::int64_t{kThreads} * kPackElements<T>;
    if (n < 2 * kPerBlock * kBlocksPerMultiprocessor * context.n_multiprocessors) {
      glu_packs<T, 1><<<blocks_for(n, kPerBlock), kThreads, 0, context.stream>>>(
          args.gate.as<T>(), args.up.as<T>(), args.out.as<T>(), n, aligned, args.activation, clamp);
      return;
    }
    glu_packs<T, 2><<<blocks_for(n, 2 * kPerBlock), kThreads, 0, context.stream>>>(
        args.gate.as<T>(), args.up.as<T>(), args.out.as<T>(), n, aligned, args.activation, clamp);
  });
  check_launch("glu packs");
}

void run_plain(const GluArgs& args, CudaContext& context) {
  const std::int64_t n = args.gate.elements();
  glu_plain<<<blocks_for(n, kThreads), kThreads, 0, context.stream>>>(
      args.gate.data, args.up.data, args.out.data, args.gate.dtype, n, args.activation,
      Clamp{args.limit, args.up_add});
  check_launch("glu plain");
}

constexpr Variant<GluArgs, CudaContext> kVariants[] = {
    {"packs", accepts_all<GluArgs, DeviceCaps>, run_packs},
    {"plain", accepts_all<GluArgs, DeviceCaps>, run_plain},
};

}  // namespace

const Table<GluArgs>& glu_table() {
  static const Table<GluArgs> table{"glu", kVariants};
  return table;
}

}  // namespace heddle::cuda
