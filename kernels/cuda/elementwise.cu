// activate, add_scaled, scale_heads, soft_cap and log_scale (formulas: kernels/api/elementwise.h,
// soft_cap.h).
//
// `packs`  The call is one flat array: a thread has one pack of four elements (16 bytes), which it
//   loads and stores whole. Runs where every array starts on 16 bytes and rows (for the per-row
//   factors) are whole packs; the last few elements of activate and soft_cap move one by one.
//   activate tests the activation once per pack; soft_cap is tanhf of x / cap (IEEE division).
//   Bound: device memory; one launch of a small call is bound by latency.
//
// `plain`  One element to a thread. Both variants compute an element by the same operations, so
//   their bits agree, activate's excepted.

#include <cmath>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/pack.cuh"

namespace heddle::cuda {
namespace {

constexpr int kThreads = 256;

/// Calls f(i, count) for the thread's `kElements` elements at i, of which `count` exist.
template <int kElements, typename F>
__device__ __forceinline__ void for_elements(std::int64_t n, const F& f) {
  const std::int64_t i =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kElements;
  if (i < n) f(i, static_cast<int>(n - i < kElements ? n - i : kElements));
}

/// out[i + e] = f(x[i + e]) for one thread's elements.
template <int kElements, typename F>
__device__ __forceinline__ void map(const float* x, float* out, int count, const F& f) {
  if constexpr (kElements == 4) {
    if (count == 4) {
      Pack<float> pack;
      load_whole(pack, x);
#pragma unroll
      for (int e = 0; e < 4; ++e) pack.v[e] = f(pack.v[e]);
      store_whole(out, pack);
      return;
    }
  }
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    if (e < count) out[e] = f(x[e]);
  }
}

template <int kElements>
__global__ void __launch_bounds__(kThreads)
    activate_kernel(const float* x, float* out, std::int64_t n, Activation activation) {
  for_elements<kElements>(n, [&](std::int64_t i, int count) {
    if constexpr (kElements == 1) {
      out[i] = activate_plain(activation, x[i]);
    } else {
      with_activation(activation, [&]<Activation kActivation>() {
        map<kElements>(x + i, out + i, count,
                       [](float v) { return activate<float, kActivation>(v); });
      });
    }
  });
}

template <int kElements>
__global__ void __launch_bounds__(kThreads) soft_cap_kernel(float* x, std::int64_t n, float cap) {
  for_elements<kElements>(n, [&](std::int64_t i, int count) {
    map<kElements>(x + i, x + i, count, [&](float v) { return cap * tanhf(__fdiv_rn(v, cap)); });
  });
}

struct ScaledSum {
  const float* x;
  const float* y;  // or null
  const float* c;  // or null; one of `width` elements
  float* out;
  std::int64_t n;
  std::int64_t width;
  float a;
  float b;
};

template <int kElements>
__global__ void __launch_bounds__(kThreads) add_scaled_kernel(ScaledSum call) {
  for_elements<kElements>(call.n, [&](std::int64_t i, int count) {
    if (call.y == nullptr) {
      map<kElements>(call.x + i, call.out + i, count, [&](float v) { return call.a * v; });
      return;
    }
    const float b = call.c == nullptr ? call.b : call.b * call.c[i / call.width];
    if constexpr (kElements == 4) {  // rows are whole packs
      Pack<float> x;
      Pack<float> y;
      load_whole(x, call.x + i);
      load_whole(y, call.y + i);
#pragma unroll
      for (int e = 0; e < 4; ++e) x.v[e] = fmaf(b, y.v[e], call.a * x.v[e]);
      store_whole(call.out + i, x);
    } else {
      call.out[i] = fmaf(b, call.y[i], call.a * call.x[i]);
    }
  });
}

/// out = x times one factor for each `width` elements.
template <int kElements>
__global__ void __launch_bounds__(kThreads) scale_parts(
    const float* x, const float* factors, float* out, std::int64_t n, std::int64_t width) {
  for_elements<kElements>(n, [&](std::int64_t i, int count) {
    const float factor = factors[i / width];
    map<kElements>(x + i, out + i, count, [&](float v) { return factor * v; });
  });
}

template <int kElements>
__global__ void __launch_bounds__(kThreads) log_scale_kernel(
    float* x, const std::int32_t* positions, std::int64_t n, std::int64_t width, double log_n0) {
  for_elements<kElements>(n, [&](std::int64_t i, int count) {
    const double keys = positions[i / width] + 1.0;
    const double factor = log(keys) / log_n0;
    if (!(factor > 1.0)) return;
    const auto rounded = static_cast<float>(factor);
    map<kElements>(x + i, x + i, count, [&](float v) { return rounded * v; });
  });
}

// ---- launchers

template <typename... Pointers>
bool aligned(const Pointers*... pointers) {
  return (is_aligned_16(pointers) && ...);
}

bool accepts_activate(const ActivateArgs& args, const DeviceCaps& /*caps*/) {
  return aligned(args.x.data, args.out.data);
}
template <int kElements>
void run_activate(const ActivateArgs& args, CudaContext& context) {
  HEDDLE_CHECK(same_f32(args.x, args.out));
  const std::int64_t n = args.x.elements();
  if (n == 0) return;
  activate_kernel<kElements><<<blocks_for(n, kThreads * kElements), kThreads, 0, context.stream>>>(
      args.x.as<float>(), args.out.as<float>(), n, args.activation);
  check_launch("activate");
}

bool accepts_soft_cap(const SoftCapArgs& args, const DeviceCaps& /*caps*/) {
  return aligned(args.x.data);
}
template <int kElements>
void run_soft_cap(const SoftCapArgs& args, CudaContext& context) {
  HEDDLE_CHECK(args.x.rank == 2 && same_f32(args.x, args.x));
  HEDDLE_CHECK(args.cap > 0 && std::isfinite(args.cap) && std::isfinite(1.0F / args.cap));
  const std::int64_t n = args.x.elements();
  if (n == 0) return;
  soft_cap_kernel<kElements><<<blocks_for(n, kThreads * kElements), kThreads, 0, context.stream>>>(
      args.x.as<float>(), n, args.cap);
  check_launch("soft_cap");
}

bool accepts_add_scaled(const AddScaledArgs& args, const DeviceCaps& /*caps*/) {
  return args.x.dim(1) % 4 == 0 && aligned(args.x.data, args.y.data, args.out.data);
}
template <int kElements>
void run_add_scaled(const AddScaledArgs& args, CudaContext& context) {
  HEDDLE_CHECK(args.x.rank == 2 && same_f32(args.x, args.out));
  HEDDLE_CHECK(args.y.absent() || same_f32(args.x, args.y));
  HEDDLE_CHECK(args.c.absent() || (!args.y.absent() && is_f32(args.c, {args.x.dim(0)})));
  const ScaledSum call{args.x.as<float>(),
                       args.y.as<float>(),
                       args.c.as<float>(),
                       args.out.as<float>(),
                       args.x.elements(),
                       args.x.dim(1),
                       args.a,
                       args.b};
  if (call.n == 0) return;
  add_scaled_kernel<kElements>
      <<<blocks_for(call.n, kThreads * kElements), kThreads, 0, context.stream>>>(call);
  check_launch("add_scaled");
}

bool accepts_scale_heads(const ScaleHeadsArgs& args, const DeviceCaps& /*caps*/) {
  return args.x.dim(2) % 4 == 0 && aligned(args.x.data, args.out.data);
}
template <int kElements>
void run_scale_heads(const ScaleHeadsArgs& args, CudaContext& context) {
  HEDDLE_CHECK(args.x.rank == 3 && same_f32(args.x, args.out));
  HEDDLE_CHECK(is_f32(args.gates, {args.x.dim(0), args.x.dim(1)}));
  const std::int64_t n = args.x.elements();
  if (n == 0) return;
  scale_parts<kElements><<<blocks_for(n, kThreads * kElements), kThreads, 0, context.stream>>>(
      args.x.as<float>(), args.gates.as<float>(), args.out.as<float>(), n, args.x.dim(2));
  check_launch("scale_heads");
}

bool accepts_log_scale(const LogScaleArgs& args, const DeviceCaps& /*caps*/) {
  return args.x.matrix().dim(1) % 4 == 0 && aligned(args.x.data);
}
template <int kElements>
void run_log_scale(const LogScaleArgs& args, CudaContext& context) {
  HEDDLE_CHECK(args.x.rank >= 1 && same_f32(args.x, args.x) && args.n0 >= 2);
  HEDDLE_CHECK(is_i32(args.positions, {args.x.dim(0)}));
  const std::int64_t n = args.x.elements();
  if (n == 0) return;
  log_scale_kernel<kElements><<<blocks_for(n, kThreads * kElements), kThreads, 0, context.stream>>>(
      args.x.as<float>(), args.positions.as<std::int32_t>(), n, args.x.matrix().dim(1),
      std::log(static_cast<double>(args.n0)));
  check_launch("log_scale");
}

template <typename Args>
using V = Variant<Args, CudaContext>;

constexpr V<ActivateArgs> kActivate[] = {
    {"packs", accepts_activate, run_activate<4>},
    {"plain", accepts_all<ActivateArgs, DeviceCaps>, run_activate<1>},
};
constexpr V<SoftCapArgs> kSoftCap[] = {
    {"packs", accepts_soft_cap, run_soft_cap<4>},
    {"plain", accepts_all<SoftCapArgs, DeviceCaps>, run_soft_cap<1>},
};
constexpr V<AddScaledArgs> kAddScaled[] = {
    {"packs", accepts_add_scaled, run_add_scaled<4>},
    {"plain", accepts_all<AddScaledArgs, DeviceCaps>, run_add_scaled<1>},
};
constexpr V<ScaleHeadsArgs> kScaleHeads[] = {
    {"packs", accepts_scale_heads, run_scale_heads<4>},
    {"plain", accepts_all<ScaleHeadsArgs, DeviceCaps>, run_scale_heads<1>},
};
constexpr V<LogScaleArgs> kLogScale[] = {
    {"packs", accepts_log_scale, run_log_scale<4>},
    {"plain", accepts_all<LogScaleArgs, DeviceCaps>, run_log_scale<1>},
};

}  // namespace

const Table<ActivateArgs>& activate_table() {
  static const Table<ActivateArgs> table{"activate", kActivate};
  return table;
}
const Table<SoftCapArgs>& soft_cap_table() {
  static const Table<SoftCapArgs> table{"soft_cap", kSoftCap};
  return table;
}
const Table<AddScaledArgs>& add_scaled_table() {
  static const Table<AddScaledArgs> table{"add_scaled", kAddScaled};
  return table;
}
const Table<ScaleHeadsArgs>& scale_heads_table() {
  static const Table<ScaleHeadsArgs> table{"scale_heads", kScaleHeads};
  return table;
}
const Table<LogScaleArgs>& log_scale_table() {
  static const Table<LogScaleArgs> table{"log_scale", kLogScale};
  return table;
}

}  // namespace heddle::cuda
