// Sampling without sorting the vocabulary: every filter keeps a prefix of the tokens in descending
// order of logit, and sums of weights are exact (kernels/api/sample.h). So a histogram of x =
// (logit - max) / temperature tells in which bin a prefix ends, and only that bin is ever ordered.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

constexpr std::int64_t kMaxVocab = std::int64_t{1} << 19;  // exact sums: 2^19 / 2^-34 = 2^53

void check(const SampleArgs& args) {
  HEDDLE_CHECK(args.logits.rank == 2 && args.logits.dtype == DType::kF32);
  const std::int64_t n = args.logits.dim(0);
  HEDDLE_CHECK(args.tokens.rank == 1 && args.tokens.dtype == DType::kI32);
  HEDDLE_CHECK(args.logprobs.rank == 1 && args.logprobs.dtype == DType::kF32);
  HEDDLE_CHECK(args.tokens.dim(0) == n && args.logprobs.dim(0) == n);
  HEDDLE_CHECK(n == 0 || args.params != nullptr);
  HEDDLE_CHECK(args.logits.dim(1) >= 1 && args.logits.dim(1) <= kMaxVocab);
  for (std::int64_t i = 0; i < n; ++i) {
    const SampleParams& p = args.params[i];
    HEDDLE_CHECK(p.temperature >= 0 && std::isfinite(p.temperature));
    HEDDLE_CHECK(p.uniform >= 0 && p.uniform < 1);
    HEDDLE_CHECK(!std::isnan(p.top_p) && !std::isnan(p.min_p));
  }
}

double weight_of(float e) {
  return (static_cast<double>(e) + 0x1p18) - 0x1p18;  // to a multiple of 2^-34
}

float scaled(float logit, float max, float temperature) {
  return (logit - max) / temperature;
}

// x of the least likely token that min_p keeps.
float lowest_x(float min_p) {
  if (!(min_p > 0)) return -std::numeric_limits<float>::infinity();
  return min_p >= 1 ? 0.0F : static_cast<float>(std::log(static_cast<double>(min_p)));
}

struct Candidate {
  float logit = 0;
  std::int32_t id = 0;
  float e = 0;
};

bool before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// Candidates passed so far, in order.
struct Prefix {
  std::int64_t count = 0;
  double weight = 0;
};

// The first place in a list (unordered on entry) where stop(prefix up to and including it) holds.
// Partitions until few are left, then sorts those.
struct Place {
  bool found = false;
  std::int64_t index = 0;  // list[0 .. index] are the candidates up to the place
  Prefix prefix;
};

template <typename Stop>
Place find_place(Candidate* list, std::int64_t n, Prefix prefix, const Stop& stop) {
  constexpr std::int64_t kFew = 64;
  std::int64_t low = 0;
  std::int64_t high = n;
  while (high - low > kFew) {
    const std::int64_t middle = low + (high - low) / 2;
    std::nth_element(list + low, list + middle, list + high, before);
    Prefix half = prefix;
    half.count += middle - low;
    for (std::int64_t i = low; i < middle; ++i) half.weight += weight_of(list[i].e);
    if (stop(half)) {
      high = middle;
    } else {
      prefix = half;
      low = middle;
    }
  }
  std::sort(list + low, list + high, before);
  for (std::int64_t i = low; i < high; ++i) {
    ++prefix.count;
    prefix.weight += weight_of(list[i].e);
    if (stop(prefix)) return {true, i, prefix};
  }
  return {false, n - 1, prefix};
}

class Drawing {
 public:
  Drawing(const float* logits,
          const float* e,
          std::int64_t n,
          float max,
          const SampleParams& params,
          Candidate* list)
      : logits_(logits), e_(e), n_(n), max_(max), params_(params), list_(list) {
    const float lowest = lowest_x(params.min_p);
    for (std::int64_t i = 0; i < n; ++i) {
      if (!(e[i] > kLeast)) continue;
      const float x = scaled(logits[i], max, params.temperature);
      if (x < lowest) continue;
      Prefix& bin = bins_[bin_of(x)];
      ++bin.count;
      bin.weight += weight_of(e[i]);
    }
    lowest_ = lowest;
  }

  std::int32_t token(double weight_of_all) {
    const std::int64_t top_k = params_.top_k > 0 ? params_.top_k : n_;
    const double mass =
        params_.top_p < 1 ? params_.top_p * weight_of_all : std::numeric_limits<double>::infinity();
    const auto full = [&](const Prefix& p) { return p.count >= top_k || p.weight >= mass; };
    Prefix kept;
    int last_bin = 0;
    std::int64_t n_last = -1;  // candidates kept of the last bin; -1: all
    for (int b = 0; b < kBins; ++b) {
      if (bins_[b].count == 0) continue;
      last_bin = b;
      const Prefix with = {kept.count + bins_[b].count, kept.weight + bins_[b].weight};
      if (full(with)) {
        const Place end = find_place(list_, gather(b), kept, full);
        kept = end.prefix;
        n_last = end.index + 1;
        break;
      }
      kept = with;
    }
    const double target = params_.uniform * kept.weight;
    const auto reached = [&](const Prefix& p) { return p.weight > target; };
    Prefix passed;
    for (int b = 0; b < last_bin; ++b) {
      const Prefix with = {passed.count + bins_[b].count, passed.weight + bins_[b].weight};
      if (bins_[b].count > 0 && reached(with)) {
        return list_[find_place(list_, gather(b), passed, reached).index].id;
      }
      passed = with;
    }
    if (n_last < 0) n_last = gather(last_bin);
    // Not found only if uniform * weight rounds up to weight: then the last candidate.
    return list_[find_place(list_, n_last, passed, reached).index].id;
  }

 private:
  static constexpr int kBins = 256;
  static constexpr float kLeast = 0x1p-35F;  // weights up to here round to 0; x is above -24.3

  static int bin_of(float x) { return static_cast<int>(-x * 10.0F); }

  // Fills list_ with the candidates of one bin.
  std::int64_t gather(int bin) {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < n_; ++i) {
      if (!(e_[i] > kLeast)) continue;
      const float x = scaled(logits_[i], max_, params_.temperature);
      if (x < lowest_ || bin_of(x) != bin) continue;
      list_[count++] = {logits_[i], static_cast<std::int32_t>(i), e_[i]};
    }
    return count;
  }

  const float* logits_;
  const float* e_;
  std::int64_t n_;
  float max_;
  const SampleParams& params_;
  Candidate* list_;
  float lowest_ = 0;
  Prefix bins_[kBins];
};

void put(const SampleArgs& args, std::int64_t row, std::int32_t token, double logprob) {
  args.tokens.as<std::int32_t>()[row] = token;
  args.logprobs.as<float>()[row] = static_cast<float>(logprob);
}

void put_failure(const SampleArgs& args, std::int64_t row) {
  put(args, row, -1, std::numeric_limits<double>::quiet_NaN());
}

void sample_row(const SampleArgs& args,
                const RowKernels& kernels,
                std::int64_t row,
                float* e,
                Candidate* list) {
  const std::int64_t n = args.logits.dim(1);
  const float* const logits = args.logits.as<const float>() + row * n;
  const SampleParams& params = args.params[row];
  const LogitScan scan = kernels.scan(logits, n);
  if (scan.nan || !std::isfinite(scan.max)) return put_failure(args, row);
  auto token = static_cast<std::int32_t>(scan.argmax);
  LogitSums sums;
  if (params.temperature > 0) {
    sums = kernels.exp_sums(logits, n, scan.max, params.temperature, e);
    token = Drawing(logits, e, n, scan.max, params, list).token(sums.grid);
  }
  if (params.temperature != 1.0F) sums = kernels.exp_sums(logits, n, scan.max, 1.0F, nullptr);
  put(args, row, token, static_cast<double>(logits[token]) - scan.max - std::log(sums.lanes));
}

void fast(const SampleArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  const auto n = static_cast<std::size_t>(args.logits.dim(1));
  context.pool.run(args.logits.dim(0), [&](std::int64_t row, int worker) {
    float* e = nullptr;
    Candidate* list = nullptr;
    if (args.params[row].temperature > 0) {
      std::byte* const scratch = context.worker(worker, n * (sizeof(float) + sizeof(Candidate)));
      e = reinterpret_cast<float*>(scratch);
      list = reinterpret_cast<Candidate*>(e + n);
    }
    sample_row(args, kernels, row, e, list);
  });
}

// The definition, with a full sort. The f32 exp is part of the definition, hence the kernel; the
// log-probability is libm's.
void ref_row(const SampleArgs& args, std::int64_t row) {
  const std::int64_t n = args.logits.dim(1);
  const float* const logits = args.logits.as<const float>() + row * n;
  const SampleParams& params = args.params[row];
  std::int64_t best = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (std::isnan(logits[i])) return put_failure(args, row);
    if (logits[i] > logits[best]) best = i;
  }
  const float max = logits[best];
  if (!std::isfinite(max)) return put_failure(args, row);
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(logits[i]) - max);
  auto token = static_cast<std::int32_t>(best);
  if (params.temperature > 0) {
    std::vector<Candidate> all;
    double weight = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const float x = scaled(logits[i], max, params.temperature);
      float e = 0;
      row_kernels_portable().exp_nonpositive(&x, &e, 1);
      if (weight_of(e) == 0) continue;
      weight += weight_of(e);
      all.push_back({logits[i], static_cast<std::int32_t>(i), e});
    }
    std::sort(all.begin(), all.end(), before);
    if (params.top_k > 0 && all.size() > static_cast<std::size_t>(params.top_k)) {
      all.resize(static_cast<std::size_t>(params.top_k));
    }
    double kept = 0;
    std::size_t n_kept = 0;
    while (n_kept < all.size()) {
      const float x = scaled(all[n_kept].logit, max, params.temperature);
      if (n_kept > 0 && params.top_p < 1 && kept >= params.top_p * weight) break;
      if (x < lowest_x(params.min_p)) break;
      kept += weight_of(all[n_kept++].e);
    }
    double cumulative = 0;
    std::size_t at = 0;
    while (at + 1 < n_kept) {
      cumulative += weight_of(all[at].e);
      if (cumulative > params.uniform * kept) break;
      ++at;
    }
    token = all[at].id;
  }
  put(args, row, token, static_cast<double>(logits[token]) - max - std::log(sum));
}

void ref(const SampleArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t row = 0; row < args.logits.dim(0); ++row) ref_row(args, row);
}

}  // namespace

const Table<SampleArgs>& sample_table() {
  static constexpr Table<SampleArgs> kTable = {"sample", RowVariants<SampleArgs, fast, ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
