// Which heads a token uses: some tens of scores a token.

#include <cmath>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/router.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

bool is_f32(const TensorView& v, std::int64_t n_tokens, std::int64_t width) {
  return v.rank == 2 && v.dtype == DType::kF32 && v.dim(0) == n_tokens && v.dim(1) == width;
}

// Whether heads are chosen by the norm of q.
bool by_norm(const RouteHeadsArgs& args) {
  return !args.q.absent();
}

void check(const RouteHeadsArgs& args) {
  HEDDLE_CHECK(args.mask.rank == 2 && args.mask.dtype == DType::kU8);
  const std::int64_t n = args.mask.dim(0);
  const std::int64_t n_heads = args.mask.dim(1);
  HEDDLE_CHECK(args.n_shared >= 0 && args.n_shared < n_heads);
  HEDDLE_CHECK(args.top_k >= 1 && args.top_k <= n_heads - args.n_shared);
  if (n == 0) return;
  HEDDLE_CHECK(args.q.absent() != args.routed.absent());
  if (by_norm(args)) {
    HEDDLE_CHECK(args.q.rank == 3 && args.q.dtype == DType::kF32);
    HEDDLE_CHECK(args.q.dim(0) == n && args.q.dim(1) == n_heads);
    HEDDLE_CHECK(args.gates.absent() && args.shared.absent() && args.stage.absent());
    return;
  }
  HEDDLE_CHECK(is_f32(args.routed, n, n_heads - args.n_shared));
  HEDDLE_CHECK(!args.gates.absent() && is_f32(args.gates, n, n_heads));
  HEDDLE_CHECK(args.shared.absent() == (args.n_shared == 0));
  HEDDLE_CHECK(args.stage.absent() == (args.n_shared == 0));
  if (args.n_shared == 0) return;
  HEDDLE_CHECK(is_f32(args.shared, n, args.n_shared) && is_f32(args.stage, n, 2));
}

// ---- ref: f64, choosing by searching again and again.

std::vector<double> row_of(const TensorView& v, std::int64_t t) {
  const float* const row = v.as<const float>() + t * v.dim(1);
  return {row, row + v.dim(1)};
}

std::vector<double> routed_scores(const RouteHeadsArgs& args, std::int64_t t) {
  const std::int64_t n_heads = args.mask.dim(1);
  if (!by_norm(args)) return row_of(args.routed, t);
  std::vector<double> scores;
  const std::int64_t head_dim = args.q.dim(2);
  for (std::int64_t h = args.n_shared; h < n_heads; ++h) {
    const float* const q = args.q.as<const float>() + (t * n_heads + h) * head_dim;
    double sum = 0;
    for (std::int64_t d = 0; d < head_dim; ++d) sum += static_cast<double>(q[d]) * q[d];
    scores.push_back(sum);
  }
  return scores;
}

void route_heads_ref(const RouteHeadsArgs& args, std::int64_t t) {
  const std::int64_t n_heads = args.mask.dim(1);
  const std::vector<double> scores = routed_scores(args, t);
  std::uint8_t* const mask = args.mask.as<std::uint8_t>() + t * n_heads;
  for (std::int64_t h = 0; h < n_heads; ++h) mask[h] = h < args.n_shared ? 1 : 0;
  std::vector<bool> left(scores.size(), true);
  for (int j = 0; j < args.top_k; ++j) {
    const std::size_t best = best_left(scores, left);
    left[best] = false;
    mask[args.n_shared + static_cast<std::int64_t>(best)] = 1;
  }
  if (by_norm(args)) return;
  float* gates = args.gates.as<float>() + t * n_heads;
  double routed_share = 1;
  if (args.n_shared > 0) {
    const std::vector<double> stage = softmax_ref(row_of(args.stage, t));
    for (const double p : softmax_ref(row_of(args.shared, t))) {
      *gates++ = static_cast<float>(2 * stage[0] * args.n_shared * p);
    }
    routed_share = 2 * stage[1];
  }
  const std::vector<double> p = softmax_ref(scores);
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += left[i] ? 0 : p[i];
  for (std::size_t i = 0; i < p.size(); ++i) {
    *gates++ = left[i] ? 0.0F : static_cast<float>(routed_share * args.top_k * p[i] / sum);
  }
}

void ref(const RouteHeadsArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t t = 0; t < args.mask.dim(0); ++t) route_heads_ref(args, t);
}

// ---- fast

// A worker's memory for one token.
struct Scratch {
  Scratch(const RouteHeadsArgs& args, CpuContext& context, int worker) {
    const auto n = static_cast<std::size_t>(args.mask.dim(1));
    scores = reinterpret_cast<float*>(context.worker(worker, n * 12));
    e = scores + n;
    ids = reinterpret_cast<std::int32_t*>(e + n);
  }
  float* scores = nullptr;
  float* e = nullptr;
  std::int32_t* ids = nullptr;
};

void put_gates(const RouteHeadsArgs& args,
               std::int64_t t,
               const Scratch& scratch,
               const RowKernels& kernels) {
  const std::int64_t n_heads = args.mask.dim(1);
  const std::int64_t n_shared = args.n_shared;
  float* const gates = args.gates.as<float>() + t * n_heads;
  float* const e = scratch.e;
  double routed_share = 1;
  if (n_shared > 0) {
    double sum = exps(args.stage.as<const float>() + t * 2, e, 2, kernels);
    const double shared_share = 2 * e[0] / sum;
    routed_share = 2 * e[1] / sum;
    sum = exps(args.shared.as<const float>() + t * n_shared, e, n_shared, kernels);
    for (std::int64_t h = 0; h < n_shared; ++h) {
      gates[h] = static_cast<float>(shared_share * static_cast<double>(n_shared) * e[h] / sum);
    }
  }
  // Of all, though the sum is of the chosen: one that is not finite spoils every p.
  const double all = exps(scratch.scores, e, n_heads - n_shared, kernels);
  double sum = 0;
  for (int j = 0; j < args.top_k; ++j) sum += e[scratch.ids[j]];
  if (std::isnan(all)) sum = all;
  for (std::int64_t h = n_shared; h < n_heads; ++h) gates[h] = 0.0F;
  for (int j = 0; j < args.top_k; ++j) {
    const std::int64_t i = scratch.ids[j];
    gates[n_shared + i] = static_cast<float>(routed_share * args.top_k * e[i] / sum);
  }
}

void route_token(const RouteHeadsArgs& args,
                 std::int64_t t,
                 const Scratch& scratch,
                 const RowKernels& kernels) {
  const std::int64_t n_heads = args.mask.dim(1);
  const std::int64_t n_routed = n_heads - args.n_shared;
  for (std::int64_t i = 0; i < n_routed; ++i) {
    if (by_norm(args)) {
      const std::int64_t head_dim = args.q.dim(2);
      const std::int64_t head = t * n_heads + args.n_shared + i;
      scratch.scores[i] = kernels.sum_squares(args.q.as<const float>() + head * head_dim, head_dim);
    } else {
      scratch.scores[i] = args.routed.as<const float>()[t * n_routed + i];
    }
  }
  TopK<float>(scratch.scores, scratch.ids, args.top_k).offer(0, n_routed);
  std::uint8_t* const mask = args.mask.as<std::uint8_t>() + t * n_heads;
  for (std::int64_t h = 0; h < n_heads; ++h) mask[h] = h < args.n_shared ? 1 : 0;
  for (int j = 0; j < args.top_k; ++j) mask[args.n_shared + scratch.ids[j]] = 1;
  if (!by_norm(args)) put_gates(args, t, scratch, kernels);
}

void fast(const RouteHeadsArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  const std::int64_t n_heads = args.mask.dim(1);
  // a head's score costs about ten of a plain copy
  const std::int64_t cost = n_heads * (by_norm(args) ? args.q.dim(2) : 10);
  for_rows_by_worker(context, args.mask.dim(0), cost, [&](std::int64_t t, int worker) {
    route_token(args, t, Scratch(args, context, worker), kernels);
  });
}

}  // namespace

const Table<RouteHeadsArgs>& route_heads_table() {
  static constexpr Table<RouteHeadsArgs> kTable = {"route_heads",
                                                   RowVariants<RouteHeadsArgs, fast, ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
