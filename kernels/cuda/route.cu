// route, route_heads and expert_sum (formulas: kernels/api/moe.h, route_heads.h).
//
// `plain` (route, route_heads)  One warp to a token. Scores lie in shared memory (8 bytes an expert
//   and a byte that says whether it may still be chosen); the best is searched top_k times, each
//   lane looking at every 32nd and the lanes compared by exchange. exp is the f32 exponential of
//   the CPU's fast variants; sums are f64 in the order that the API states, so ids and weights are
//   those of the CPU's fast variants. Bound: latency, some microseconds a call.
//
// expert_sum: `packs` four elements to a thread with 16-byte loads, `plain` one; the same order of
//   fused multiply-adds. Bound: device memory.

#include "kernels/cuda/choose.cuh"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/pack.cuh"

namespace heddle::cuda {
namespace {

constexpr double kTinySum = 1e-20;
constexpr int kMaxExperts = 2048;
constexpr int kMaxHeads = 1024;

struct RouteCall {
  const float* logits;
  const float* bias;  // or null
  std::int32_t* ids;
  float* weights;
  int n;
  int top_k;
  RouterScore score;
  bool renormalise;
  float scale;
  int n_groups;
  int top_groups;
};

/// p (for kChosen the logit) of every expert.
__device__ void score_experts(const RouteCall& call, const float* logits, float* p) {
  const int lane = static_cast<int>(threadIdx.x);
  if (call.score == RouterScore::kSoftmax) {
    const double sum = exps(logits, p, call.n);
    __syncwarp();
    for (int i = lane; i < call.n; i += 32) p[i] = static_cast<float>(p[i] / sum);
  } else if (call.score == RouterScore::kSigmoid) {
    for (int i = lane; i < call.n; i += 32) {
      const double e = exp_nonpositive(-fabsf(logits[i]));
      p[i] = static_cast<float>((logits[i] < 0.0F ? e : 1.0) / (1.0 + e));
    }
  } else {
    for (int i = lane; i < call.n; i += 32) p[i] = logits[i];
  }
}

/// The sum of the two largest, of the largest where there is one.
__device__ double group_score(const float* sel, int size) {
  float best = sel[0];
  float second = NAN;
  for (int i = 1; i < size; ++i) {
    if (above(sel[i], best)) {
      second = best;
      best = sel[i];
    } else if (above(sel[i], second)) {
      second = sel[i];
    }
  }
  return size == 1 ? best : static_cast<double>(best) + second;
}

/// Leaves only the experts of the best groups open.
__device__ void choose_groups(const RouteCall& call,
                              const float* sel,
                              double* group_scores,
                              unsigned char* open_groups,
                              unsigned char* open) {
  const int lane = static_cast<int>(threadIdx.x);
  const int size = call.n / call.n_groups;
  for (int g = lane; g < call.n_groups; g += 32) {
    group_scores[g] = group_score(sel + g * size, size);
    open_groups[g] = 1;
  }
  for (int i = lane; i < call.n; i += 32) open[i] = 0;
  __syncwarp();
  for (int j = 0; j < call.top_groups; ++j) {
    const int g = best_open(group_scores, open_groups, call.n_groups);
    __syncwarp();
    if (lane == 0) open_groups[g] = 0;
    for (int i = lane; i < size; i += 32) open[g * size + i] = 1;
    __syncwarp();
  }
}

/// Bytes of shared memory: group scores, p, sel, then a byte each for groups and experts.
constexpr std::size_t route_shared(int n, int n_groups) {
  return static_cast<std::size_t>(n_groups) * 9 + static_cast<std::size_t>(n) * 9;
}

__global__ void __launch_bounds__(32) route_plain(RouteCall call) {
  extern __shared__ double shared[];
  double* const group_scores = shared;
  float* const p = reinterpret_cast<float*>(shared + call.n_groups);
  float* const sel = p + call.n;
  auto* const open_groups = reinterpret_cast<unsigned char*>(sel + call.n);
  unsigned char* const open = open_groups + call.n_groups;
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t t = blockIdx.x;
  const float* const logits = call.logits + t * call.n;
  score_experts(call, logits, p);
  __syncwarp();
  for (int i = lane; i < call.n; i += 32) {
    sel[i] = call.bias == nullptr ? p[i] : p[i] + call.bias[i];
    open[i] = 1;
  }
  __syncwarp();
  if (call.n_groups > 1) choose_groups(call, sel, group_scores, open_groups, open);

  std::int32_t* const ids = call.ids + t * call.top_k;
  float* const weights = call.weights + t * call.top_k;
  const float* const keys = call.bias == nullptr ? logits : sel;
  for (int j = 0; j < call.top_k; ++j) {
    const int e = best_open(keys, open, call.n);
    __syncwarp();
    if (lane == 0) {
      open[e] = 0;
      ids[j] = e;
    }
    __syncwarp();
  }
  // sel is free now: the chosen p, in router order
  for (int j = lane; j < call.top_k; j += 32) sel[j] = p[ids[j]];
  __syncwarp();
  if (call.score == RouterScore::kChosen) {
    const double sum = exps(sel, sel, call.top_k);
    __syncwarp();
    for (int j = lane; j < call.top_k; j += 32) sel[j] = static_cast<float>(sel[j] / sum);
    __syncwarp();
  }
  double divisor = 1.0;
  if (call.renormalise) {
    divisor = kTinySum;
    for (int j = 0; j < call.top_k; ++j) divisor += sel[j];
  }
  for (int j = lane; j < call.top_k; j += 32) {
    weights[j] = static_cast<float>(sel[j] / divisor * call.scale);
  }
}

bool accepts_route(const RouteArgs& args, const DeviceCaps& /*caps*/) {
  return args.logits.dim(1) <= kMaxExperts;
}

void run_route(const RouteArgs& args, CudaContext& context) {
  HEDDLE_CHECK(args.logits.rank == 2 && args.ids.rank == 2);
  const std::int64_t n_tokens = args.logits.dim(0);
  const std::int64_t n = args.logits.dim(1);
  const std::int64_t top_k = args.ids.dim(1);
  HEDDLE_CHECK(n >= 1 && is_f32(args.logits, {n_tokens, n}));
  HEDDLE_CHECK(is_i32(args.ids, {n_tokens, top_k}) && is_f32(args.weights, {n_tokens, top_k}));
  HEDDLE_CHECK(args.bias.absent() || is_f32(args.bias, {n}));
  HEDDLE_CHECK(args.n_groups >= 1 && n % args.n_groups == 0);
  HEDDLE_CHECK(args.top_groups >= 1 && args.top_groups <= args.n_groups);
  HEDDLE_CHECK(top_k >= 1 && top_k <= n / args.n_groups * args.top_groups);
  if (n_tokens == 0) return;
  RouteCall call{};
  call.logits = args.logits.as<float>();
  call.bias = args.bias.as<float>();
  call.ids = args.ids.as<std::int32_t>();
  call.weights = args.weights.as<float>();
  call.n = static_cast<int>(n);
  call.top_k = static_cast<int>(top_k);
  call.score = args.score;
  call.renormalise = args.renormalise;
  call.scale = args.scale;
  call.n_groups = args.n_groups;
  call.top_groups = args.top_groups;
  route_plain<<<blocks_for(n_tokens, 1), 32, route_shared(call.n, call.n_groups), context.stream>>>(
      call);
  check_launch("route");
}

// ---- route_heads

struct HeadsCall {
  const float* routed;  // or null: by q
  const float* shared;
  const float* stage;
  const float* q;
  unsigned char* mask;
  float* gates;
  int n_heads;
  int n_shared;
  int head_dim;
  int top_k;
};

/// |q|^2 of the routed heads, a head to each half of the warp: 16 lanes, then the halving tree.
__device__ void square_heads(const HeadsCall& call, std::int64_t t, float* scores) {
  const int lane = static_cast<int>(threadIdx.x) % 16;
  const int n_routed = call.n_heads - call.n_shared;
  for (int first = 0; first < n_routed; first += 2) {
    const int i = first + static_cast<int>(threadIdx.x) / 16;
    float sum = 0.0F;
    if (i < n_routed) {
      const float* const q = call.q + (t * call.n_heads + call.n_shared + i) * call.head_dim;
      for (int d = lane; d < call.head_dim; d += 16) sum = fmaf(q[d], q[d], sum);
    }
#pragma unroll
    for (int mask = 8; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, mask);
    if (lane == 0 && i < n_routed) scores[i] = sum;
  }
}

__device__ void put_gates(
    const HeadsCall& call, std::int64_t t, const float* scores, const std::int32_t* ids, float* e) {
  const int lane = static_cast<int>(threadIdx.x);
  float* const gates = call.gates + t * call.n_heads;
  double routed_share = 1.0;
  if (call.n_shared > 0) {
    double sum = exps(call.stage + t * 2, e, 2);
    const double shared_share = 2.0 * e[0] / sum;
    routed_share = 2.0 * e[1] / sum;
    __syncwarp();
    sum = exps(call.shared + t * call.n_shared, e, call.n_shared);
    for (int h = lane; h < call.n_shared; h += 32) {
      gates[h] = static_cast<float>(shared_share * static_cast<double>(call.n_shared) * e[h] / sum);
    }
    __syncwarp();
  }
  // Of all, though the sum is of the chosen: one that is not finite spoils every p.
  const double all = exps(scores, e, call.n_heads - call.n_shared);
  double sum = 0.0;
  for (int j = 0; j < call.top_k; ++j) sum += e[ids[j]];
  if (isnan(all)) sum = all;
  for (int h = call.n_shared + lane; h < call.n_heads; h += 32) gates[h] = 0.0F;
  __syncwarp();
  for (int j = lane; j < call.top_k; j += 32) {
    const int i = ids[j];
    gates[call.n_shared + i] = static_cast<float>(routed_share * call.top_k * e[i] / sum);
  }
}

/// Bytes of shared memory: scores, exponentials and chosen heads, a byte each for open heads.
constexpr std::size_t heads_shared(int n) {
  return static_cast<std::size_t>(n) * 13;
}

__global__ void __launch_bounds__(32) route_heads_plain(HeadsCall call) {
  extern __shared__ float scores[];
  float* const e = scores + call.n_heads;
  auto* const ids = reinterpret_cast<std::int32_t*>(e + call.n_heads);
  auto* const open = reinterpret_cast<unsigned char*>(ids + call.n_heads);
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t t = blockIdx.x;
  const int n_routed = call.n_heads - call.n_shared;
  unsigned char* const mask = call.mask + t * call.n_heads;
  if (call.routed == nullptr) {
    square_heads(call, t, scores);
  } else {
    for (int i = lane; i < n_routed; i += 32) scores[i] = call.routed[t * n_routed + i];
  }
  for (int i = lane; i < n_routed; i += 32) open[i] = 1;
  __syncwarp();
  for (int j = 0; j < call.top_k; ++j) {
    const int best = best_open(scores, open, n_routed);
    __syncwarp();
    if (lane == 0) {
      open[best] = 0;
      ids[j] = best;
    }
    __syncwarp();
  }
  for (int h = lane; h < call.n_heads; h += 32) {
    mask[h] = h < call.n_shared || open[h - call.n_shared] == 0 ? 1 : 0;
  }
  if (call.routed != nullptr) put_gates(call, t, scores, ids, e);
}

bool accepts_heads(const RouteHeadsArgs& args, const DeviceCaps& /*caps*/) {
  return args.mask.dim(1) <= kMaxHeads;
}

void check(const RouteHeadsArgs& args, std::int64_t n, std::int64_t n_heads) {
  HEDDLE_CHECK(is_view(args.mask, DType::kU8, {n, n_heads}));
  HEDDLE_CHECK(args.n_shared >= 0 && args.n_shared < n_heads);
  HEDDLE_CHECK(args.top_k >= 1 && args.top_k <= n_heads - args.n_shared);
  if (n == 0) return;
  HEDDLE_CHECK(args.q.absent() != args.routed.absent());
  if (!args.q.absent()) {
    HEDDLE_CHECK(args.q.rank == 3 && is_f32(args.q, {n, n_heads, args.q.dim(2)}));
    HEDDLE_CHECK(args.gates.absent() && args.shared.absent() && args.stage.absent());
    return;
  }
  HEDDLE_CHECK(is_f32(args.routed, {n, n_heads - args.n_shared}));
  HEDDLE_CHECK(!args.gates.absent() && is_f32(args.gates, {n, n_heads}));
  HEDDLE_CHECK(args.shared.absent() == (args.n_shared == 0));
  HEDDLE_CHECK(args.stage.absent() == (args.n_shared == 0));
  if (args.n_shared == 0) return;
  HEDDLE_CHECK(is_f32(args.shared, {n, args.n_shared}) && is_f32(args.stage, {n, 2}));
}

void run_heads(const RouteHeadsArgs& args, CudaContext& context) {
  HEDDLE_CHECK(args.mask.rank == 2);
  const std::int64_t n = args.mask.dim(0);
  const std::int64_t n_heads = args.mask.dim(1);
  check(args, n, n_heads);
  if (n == 0) return;
  HeadsCall call{};
  call.routed = args.routed.as<float>();
  call.shared = args.shared.as<float>();
  call.stage = args.stage.as<float>();
  call.q = args.q.as<float>();
  call.mask = args.mask.as<unsigned char>();
  call.gates = args.gates.as<float>();
  call.n_heads = static_cast<int>(n_heads);
  call.n_shared = args.n_shared;
  call.head_dim = args.q.absent() ? 0 : static_cast<int>(args.q.dim(2));
  call.top_k = args.top_k;
  route_heads_plain<<<blocks_for(n, 1), 32, heads_shared(call.n_heads), context.stream>>>(call);
  check_launch("route_heads");
}

// ---- expert_sum

constexpr int kThreads = 256;

struct SumCall {
  const float* y;
  const float* weights;
  const float* residual;  // or null
  float* out;
  std::int64_t n;  // of out
  std::int64_t width;
  int top_k;
};

template <int kElements>
__global__ void __launch_bounds__(kThreads) expert_sum_kernel(SumCall call) {
  const std::int64_t i =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kElements;
  if (i >= call.n) return;
  const std::int64_t t = i / call.width;
  const float* const weights = call.weights + t * call.top_k;
  const float* const y = call.y + t * call.top_k * call.width + i % call.width;
  if constexpr (kElements == 4) {
    Pack<float> sum{};
    if (call.residual != nullptr) load_whole(sum, call.residual + i);
    for (int j = 0; j < call.top_k; ++j) {
      Pack<float> term;
      load_whole(term, y + j * call.width);
#pragma unroll
      for (int e = 0; e < 4; ++e) sum.v[e] = fmaf(weights[j], term.v[e], sum.v[e]);
    }
    store_whole(call.out + i, sum);
  } else {
    float sum = call.residual == nullptr ? 0.0F : call.residual[i];
    for (int j = 0; j < call.top_k; ++j) sum = fmaf(weights[j], y[j * call.width], sum);
    call.out[i] = sum;
  }
}

bool accepts_packs(const ExpertSumArgs& args, const DeviceCaps& /*caps*/) {
  return args.y.dim(2) % 4 == 0 && is_aligned_16(args.y.data) && is_aligned_16(args.out.data) &&
         is_aligned_16(args.residual.data);
}

template <int kElements>
void run_sum(const ExpertSumArgs& args, CudaContext& context) {
  HEDDLE_CHECK(args.y.rank == 3 && args.y.dim(1) >= 1);
  const std::int64_t n = args.y.dim(0);
  const std::int64_t top_k = args.y.dim(1);
  const std::int64_t width = args.y.dim(2);
  HEDDLE_CHECK(is_f32(args.y, {n, top_k, width}) && is_f32(args.weights, {n, top_k}));
  HEDDLE_CHECK(is_f32(args.out, {n, width}));
  HEDDLE_CHECK(args.residual.absent() || is_f32(args.residual, {n, width}));
  const SumCall call{args.y.as<float>(),
                     args.weights.as<float>(),
                     args.residual.as<float>(),
                     args.out.as<float>(),
                     n * width,
                     width,
                     static_cast<int>(top_k)};
  if (call.n == 0) return;
  expert_sum_kernel<kElements>
      <<<blocks_for(call.n, kThreads * kElements), kThreads, 0, context.stream>>>(call);
  check_launch("expert_sum");
}

constexpr Variant<RouteArgs, CudaContext> kRoute[] = {{"plain", accepts_route, run_route}};
constexpr Variant<RouteHeadsArgs, CudaContext> kRouteHeads[] = {
    {"plain", accepts_heads, run_heads}};
constexpr Variant<ExpertSumArgs, CudaContext> kExpertSum[] = {
    {"packs", accepts_packs, run_sum<4>},
    {"plain", accepts_all<ExpertSumArgs, DeviceCaps>, run_sum<1>},
};

}  // namespace

const Table<RouteArgs>& route_table() {
  static const Table<RouteArgs> table{"route", kRoute};
  return table;
}
const Table<RouteHeadsArgs>& route_heads_table() {
  static const Table<RouteHeadsArgs> table{"route_heads", kRouteHeads};
  return table;
}
const Table<ExpertSumArgs>& expert_sum_table() {
  static const Table<ExpertSumArgs> table{"expert_sum", kExpertSum};
  return table;
}

}  // namespace heddle::cuda
