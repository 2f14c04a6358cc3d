// Which experts a token uses. A few hundred scores a token: only exp is worth vectors.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/router.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

constexpr double kTinySum = 1e-20;

void check(const RouteArgs& args) {
  HEDDLE_CHECK(args.logits.rank == 2 && args.logits.dtype == DType::kF32);
  const std::int64_t n = args.logits.dim(0);
  const std::int64_t n_experts = args.logits.dim(1);
  HEDDLE_CHECK(n_experts >= 1 && n_experts <= std::numeric_limits<std::int32_t>::max());
  HEDDLE_CHECK(args.ids.rank == 2 && args.ids.dtype == DType::kI32 && args.ids.dim(0) == n);
  const std::int64_t top_k = args.ids.dim(1);
  HEDDLE_CHECK(args.weights.rank == 2 && args.weights.dtype == DType::kF32);
  HEDDLE_CHECK(args.weights.dim(0) == n && args.weights.dim(1) == top_k);
  if (!args.bias.absent()) {
    HEDDLE_CHECK(args.bias.rank == 1 && args.bias.dtype == DType::kF32);
    HEDDLE_CHECK(args.bias.dim(0) == n_experts);
  }
  HEDDLE_CHECK(args.n_groups >= 1 && n_experts % args.n_groups == 0);
  HEDDLE_CHECK(args.top_groups >= 1 && args.top_groups <= args.n_groups);
  HEDDLE_CHECK(top_k >= 1 && top_k <= n_experts / args.n_groups * args.top_groups);
}

// ---- ref: the formula in f64, choosing by searching again and again.

// Which experts are of the best groups.
std::vector<bool> allowed(const RouteArgs& args, const std::vector<double>& sel) {
  std::vector<bool> experts(sel.size(), args.n_groups == 1);
  if (args.n_groups == 1) return experts;
  const std::size_t size = sel.size() / static_cast<std::size_t>(args.n_groups);
  std::vector<double> scores;
  for (std::size_t first = 0; first < sel.size(); first += size) {
    const auto at = sel.begin() + static_cast<std::ptrdiff_t>(first);
    const std::vector<double> group(at, at + static_cast<std::ptrdiff_t>(size));
    std::vector<bool> left(size, true);
    const std::size_t best = best_left(group, left);
    left[best] = false;
    scores.push_back(group[best] + (size == 1 ? 0 : group[best_left(group, left)]));
  }
  std::vector<bool> groups_left(scores.size(), true);
  for (int i = 0; i < args.top_groups; ++i) {
    const std::size_t g = best_left(scores, groups_left);
    groups_left[g] = false;
    for (std::size_t e = g * size; e < (g + 1) * size; ++e) experts[e] = true;
  }
  return experts;
}

void route_token_ref(const RouteArgs& args, std::int64_t t) {
  const std::int64_t n = args.logits.dim(1);
  const std::int64_t top_k = args.ids.dim(1);
  const float* const row = args.logits.as<const float>() + t * n;
  const std::vector<double> logits(row, row + n);
  std::vector<double> p = logits;
  if (args.score == RouterScore::kSoftmax) p = softmax_ref(logits);
  if (args.score == RouterScore::kSigmoid) {
    for (double& v : p) v = 1 / (1 + std::exp(-v));
  }
  std::vector<double> sel = p;
  if (!args.bias.absent()) {
    for (std::size_t i = 0; i < sel.size(); ++i) sel[i] += args.bias.as<const float>()[i];
  }
  std::vector<bool> left = allowed(args, sel);
  std::vector<double> chosen;
  for (std::int64_t j = 0; j < top_k; ++j) {
    const std::size_t e = best_left(args.bias.absent() ? logits : sel, left);
    left[e] = false;
    args.ids.as<std::int32_t>()[t * top_k + j] = static_cast<std::int32_t>(e);
    chosen.push_back(p[e]);
  }
  if (args.score == RouterScore::kChosen) chosen = softmax_ref(chosen);
  double sum = 0;
  for (const double w : chosen) sum += w;
  for (std::int64_t j = 0; j < top_k; ++j) {
    const double w = chosen[static_cast<std::size_t>(j)];
    args.weights.as<float>()[t * top_k + j] =
        static_cast<float>((args.renormalise ? w / (sum + kTinySum) : w) * args.scale);
  }
}

void ref(const RouteArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t t = 0; t < args.logits.dim(0); ++t) route_token_ref(args, t);
}

// ---- fast

// A worker's memory for one token.
struct Scratch {
  Scratch(const RouteArgs& args, CpuContext& context, int worker) {
    const auto n = static_cast<std::size_t>(args.logits.dim(1));
    const auto n_groups = static_cast<std::size_t>(args.n_groups);
    std::byte* const at = context.worker(worker, n_groups * 12 + n * 8);
    group_scores = reinterpret_cast<double*>(at);
    p = reinterpret_cast<float*>(at + n_groups * 8);
    sel = p + n;
    groups = reinterpret_cast<std::int32_t*>(sel + n);
  }
  double* group_scores = nullptr;  // [n_groups]
  float* p = nullptr;              // [n_experts], kChosen: the logits
  float* sel = nullptr;            // [n_experts]
  std::int32_t* groups = nullptr;  // [n_groups]
};

// out = softmax of x, which it may be.
void softmax(const float* x, float* out, std::int64_t n, const RowKernels& kernels) {
  const double sum = exps(x, out, n, kernels);
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(out[i] / sum);
}

// Through exp(-|x|), so that nothing overflows.
void sigmoid(const float* x, float* out, std::int64_t n, const RowKernels& kernels) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = -std::abs(x[i]);
  kernels.exp_nonpositive(out, out, n);
  for (std::int64_t i = 0; i < n; ++i) {
    const double e = out[i];
    out[i] = static_cast<float>((x[i] < 0 ? e : 1.0) / (1.0 + e));
  }
}

double group_score(const float* sel, std::int64_t size) {
  float best = sel[0];
  float second = std::numeric_limits<float>::quiet_NaN();
  for (std::int64_t i = 1; i < size; ++i) {
    if (above(sel[i], best)) {
      second = best;
      best = sel[i];
    } else if (above(sel[i], second)) {
      second = sel[i];
    }
  }
  return size == 1 ? best : static_cast<double>(best) + second;
}

void choose(const RouteArgs& args, const float* keys, const Scratch& scratch, std::int32_t* ids) {
  const std::int64_t n = args.logits.dim(1);
  TopK<float> experts(keys, ids, args.ids.dim(1));
  if (args.n_groups == 1) return experts.offer(0, n);
  const std::int64_t size = n / args.n_groups;
  for (std::int64_t g = 0; g < args.n_groups; ++g) {
    scratch.group_scores[g] = group_score(scratch.sel + g * size, size);
  }
  TopK<double>(scratch.group_scores, scratch.groups, args.top_groups).offer(0, args.n_groups);
  std::sort(scratch.groups, scratch.groups + args.top_groups);
  for (int i = 0; i < args.top_groups; ++i) {
    const std::int64_t g = scratch.groups[i];
    experts.offer(g * size, (g + 1) * size);
  }
}

void route_token(const RouteArgs& args,
                 std::int64_t t,
                 const Scratch& scratch,
                 const RowKernels& kernels) {
  const std::int64_t n = args.logits.dim(1);
  const std::int64_t top_k = args.ids.dim(1);
  const float* const logits = args.logits.as<const float>() + t * n;
  std::int32_t* const ids = args.ids.as<std::int32_t>() + t * top_k;
  float* const weights = args.weights.as<float>() + t * top_k;
  switch (args.score) {
    case RouterScore::kSoftmax:
      softmax(logits, scratch.p, n, kernels);
      break;
    case RouterScore::kSigmoid:
      sigmoid(logits, scratch.p, n, kernels);
      break;
    case RouterScore::kChosen:
      std::copy_n(logits, n, scratch.p);
      break;
  }
  const float* const bias = args.bias.as<const float>();
  for (std::int64_t i = 0; i < n; ++i) {
    scratch.sel[i] = bias == nullptr ? scratch.p[i] : scratch.p[i] + bias[i];
  }
  choose(args, bias == nullptr ? logits : scratch.sel, scratch, ids);
  for (std::int64_t j = 0; j < top_k; ++j) weights[j] = scratch.p[ids[j]];
  if (args.score == RouterScore::kChosen) softmax(weights, weights, top_k, kernels);
  double divisor = 1;
  if (args.renormalise) {
    divisor = kTinySum;
    for (std::int64_t j = 0; j < top_k; ++j) divisor += weights[j];
  }
  for (std::int64_t j = 0; j < top_k; ++j) {
    weights[j] = static_cast<float>(weights[j] / divisor * args.scale);
  }
}

void fast(const RouteArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  // a score costs about ten of a plain copy
  for_rows_by_worker(context, args.logits.dim(0), 10 * args.logits.dim(1),
                     [&](std::int64_t t, int worker) {
                       route_token(args, t, Scratch(args, context, worker), kernels);
                     });
}

}  // namespace

const Table<RouteArgs>& route_table() {
  static constexpr Table<RouteArgs> kTable = {"route", RowVariants<RouteArgs, fast, ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
