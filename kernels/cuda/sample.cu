// sample (definition: kernels/api/sample.h).
//
// `plain`  One block of 512 threads to a row; the parameters of up to 64 rows travel as the
//   kernel's argument, so that host memory is free once the call returns and nothing is copied.
//   1. One pass: maximum, its lowest id, whether there is a NaN.
//   2. One pass (two above temperature 0): the sum for the log-probability, in
//      f64, thread i adding ids i, i + 512, ... of the f32 exponentials, then halving; and, above
//      temperature 0, a histogram over 256 bins of x = (logit - max) / temperature: candidates and
//      their weights as integers of 2^-34, so that neither order nor atomic addition shows.
//   3. As on the CPU, the histogram tells in which bin a prefix ends. That bin's candidates are
//      gathered in scratch memory as 52-bit keys that ascend in sampling order (logit descending,
//      then id), and the place is found by radix search over 8 bits of the key at a time: seven
//      histograms of the list, no sort. Usually twice: the end of the filters' prefix, the token.
//   exp is the CPU's (exp.cuh), every comparison is of exact sums: the token is the one that the
//   CPU draws. Bound: one multiprocessor's reading of the row (about 0.1 TB/s) and, in 2.,
//   additions to shared memory; rows run side by side.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"
#include "kernels/cuda/exp.cuh"
#include "kernels/cuda/launch.h"

namespace heddle::cuda {
namespace {

using Word = unsigned long long;  // what 64-bit atomics and shuffles take

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kBins = 256;
constexpr int kRowsAtOnce = 64;
constexpr std::int64_t kMaxVocab = std::int64_t{1} << 19;
constexpr int kIdBits = 20;
constexpr int kTopShift = 48;  // of a key's 52 bits

struct Params {
  double uniform;
  double top_p;                // 1 or more: all
  double inverse_temperature;  // 0: the largest logit is taken
  float lowest_x;              // that min_p keeps
  int top_k;                   // <= 0: all
};
struct Call {
  const float* logits;
  std::int32_t* tokens;
  float* logprobs;
  Word* lists;  // [rows, n]
  int n;
  Params params[kRowsAtOnce];
};

/// (logit - max) / temperature in f32, from 1 / temperature in f64: a quotient of f32 numbers is
/// never closer than 2^-49 to the middle of two, and the product errs by 2^-52.
__device__ __forceinline__ float scaled(float logit, float max, double inverse_temperature) {
  return static_cast<float>(static_cast<double>(logit - max) * inverse_temperature);
}
/// exp(x) as an integer of 2^-34, rounded to nearest even.
__device__ __forceinline__ Word weight_of(float x) {
  return static_cast<Word>(__double2ll_rn(static_cast<double>(exp_nonpositive(x)) * 0x1p34));
}
__device__ __forceinline__ double to_f64(Word weight) {
  return static_cast<double>(weight) * 0x1p-34;
}
/// The least weight that is not below x, or that is above x.
__device__ __forceinline__ Word at_least(double x) {
  return static_cast<Word>(__double2ll_ru(fmax(x, 0.0) * 0x1p34));
}
__device__ __forceinline__ Word above(double x) {
  return static_cast<Word>(__double2ll_rd(x * 0x1p34)) + 1;
}
/// Ascends in sampling order: the logit descending (-0 as 0), then the id.
__device__ __forceinline__ Word key_of(float logit, int id) {
  const unsigned bits = __float_as_uint(logit + 0.0F);
  const unsigned ascending = (bits >> 31) != 0U ? ~bits : bits | 0x80000000U;
  return static_cast<Word>(~ascending) << kIdBits | static_cast<Word>(id);
}
__device__ __forceinline__ int id_of(Word key) {
  return static_cast<int>(key & ((Word{1} << kIdBits) - 1));
}

/// Candidates and weights by bin. A weight of up to 2^34 is kept as three 12-bit parts, whose sums
/// over 2^19 tokens fit 32 bits: shared memory adds those natively.
struct Histogram {
  unsigned count[kBins];
  unsigned part[3][kBins];

  __device__ void clear() {
    for (int i = static_cast<int>(threadIdx.x); i < 4 * kBins; i += kThreads) count[i] = 0U;
  }
  __device__ __forceinline__ void add(int bin, Word weight) {
    atomicAdd(&count[bin], 1U);
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const auto bits = static_cast<unsigned>(weight >> (12 * i)) & 0xfffU;
      if (bits != 0U) atomicAdd(&part[i][bin], bits);
    }
  }
  __device__ Word weight(int bin) const {
    return (static_cast<Word>(part[2][bin]) << 24) + (static_cast<Word>(part[1][bin]) << 12) +
           part[0][bin];
  }
};

/// Candidates passed so far, in order.
struct Prefix {
  Word count;
  Word weight;
  __device__ Prefix with(const Histogram& h, int bin) const {
    return {count + h.count[bin], weight + h.weight(bin)};
  }
};

/// Where a prefix is long enough: at that many candidates, or at that weight (2^-34) or more.
struct Stop {
  Word count;
  Word weight;
  __device__ bool holds(const Prefix& p) const { return p.count >= count || p.weight >= weight; }
};

/// Where a walk over a list ends.
struct Place {
  Word key;       // of the last candidate passed
  Prefix prefix;  // with it
};

/// What the block shares.
struct Shared {
  Histogram bins;    // of the row
  Histogram digits;  // of a list
  Place place;
  int length;  // of the list
  int bin;
  Prefix kept;
  double sums[kWarps];
  Word weights[kWarps];
  Word top[kWarps];
};

template <typename T, typename F>
__device__ T block_reduce(T x, T* scratch, const F& combine) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) x = combine(x, __shfl_xor_sync(0xffffffffU, x, mask));
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncthreads();  // the scratch's last use
  if (lane == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = scratch[lane % kWarps];
#pragma unroll
  for (int mask = kWarps / 2; mask > 0; mask /= 2)
    x = combine(x, __shfl_xor_sync(0xffffffffU, x, mask));
  return x;
}

/// The sum of exp(logit - max) in f64; the same for all threads.
__device__ double exp_sum(const float* logits, int n, float max, Shared& shared) {
  double sum = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    sum += exp_nonpositive(logits[i] - max);
  }
  return block_reduce(sum, shared.sums, [](double a, double b) { return a + b; });
}

/// One row above temperature 0. All threads of the block take part in every step.
class Drawing {
 public:
  __device__ Drawing(
      const float* logits, int n, float max, const Params& params, Word* list, Shared& shared)
      : logits_(logits), n_(n), max_(max), params_(params), list_(list), shared_(shared) {}

  __device__ int token() {
    const Word all = fill_bins();
    const Word top_k = params_.top_k > 0 ? static_cast<Word>(params_.top_k) : ~Word{0};
    const Stop full{top_k, params_.top_p < 1.0 ? at_least(params_.top_p * to_f64(all)) : ~Word{0}};
    walk_bins(kBins, full);
    const int last_bin = shared_.bin;
    Prefix kept = shared_.kept;  // of the bins before the last, or of all of them
    __syncthreads();
    Word last_key = ~Word{0};
    Prefix before_last = kept;
    if (full.holds(kept.with(shared_.bins, last_bin))) {
      gather(last_bin, last_key);
      const Place end = find_place(kept, full);
      kept = end.prefix;
      last_key = end.key;
    } else {
      kept = kept.with(shared_.bins, last_bin);
    }
    const Stop reached{~Word{0}, above(params_.uniform * to_f64(kept.weight))};
    walk_bins(last_bin, reached);
    const int bin = shared_.bin;
    const Prefix passed = shared_.kept;
    __syncthreads();
    if (bin < last_bin && reached.holds(passed.with(shared_.bins, bin))) {
      gather(bin, ~Word{0});
      return id_of(find_place(passed, reached).key);
    }
    // Not reached only if uniform * weight rounds up to weight: then the last candidate.
    gather(last_bin, last_key);
    return id_of(find_place(before_last, reached).key);
  }

 private:
  static __device__ __forceinline__ int bin_of(float x) { return static_cast<int>(-x * 10.0F); }

  /// The weight of all tokens; the bins hold those that min_p keeps.
  __device__ Word fill_bins() {
    shared_.bins.clear();
    __syncthreads();
    Word sum = 0;
    for (int i = static_cast<int>(threadIdx.x); i < n_; i += kThreads) {
      const float x = scaled(logits_[i], max_, params_.inverse_temperature);
      const Word weight = weight_of(x);
      if (weight == 0) continue;  // x is above -24.3
      sum += weight;
      if (x >= params_.lowest_x) shared_.bins.add(bin_of(x), weight);
    }
    return block_reduce(sum, shared_.weights, [](Word a, Word b) { return a + b; });
  }

  /// shared.bin: the first of the `n_bins` with which stop holds, else the last that holds any;
  /// shared.kept: the prefix before it.
  __device__ void walk_bins(int n_bins, const Stop& stop) {
    if (threadIdx.x == 0) {
      Prefix prefix{0, 0};
      shared_.bin = 0;
      shared_.kept = prefix;
#pragma unroll 1
      for (int b = 0; b < n_bins; ++b) {
        if (shared_.bins.count[b] == 0U) continue;
        shared_.bin = b;
        shared_.kept = prefix;
        prefix = prefix.with(shared_.bins, b);
        if (stop.holds(prefix)) break;
      }
    }
    __syncthreads();
  }

  /// Fills the list with the bin's candidates up to last_key, in any order.
  __device__ void gather(int bin, Word last_key) {
    if (threadIdx.x == 0) shared_.length = 0;
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < n_; i += kThreads) {
      const float x = scaled(logits_[i], max_, params_.inverse_temperature);
      if (weight_of(x) == 0 || x < params_.lowest_x || bin_of(x) != bin) continue;
      const Word key = key_of(logits_[i], i);
      if (key <= last_key) list_[atomicAdd(&shared_.length, 1)] = key;
    }
    __syncthreads();
  }

  /// The first candidate of the list with which stop holds, else its last.
  __device__ Place find_place(const Prefix& before, const Stop& stop) {
    Histogram& digits = shared_.digits;
    if (threadIdx.x == 0) shared_.place = {0, before};
#pragma unroll 1
    for (int shift = kTopShift; shift >= 0; shift -= 8) {
      digits.clear();
      __syncthreads();
      const Word higher = shared_.place.key >> (shift + 8);
      for (int i = static_cast<int>(threadIdx.x); i < shared_.length; i += kThreads) {
        const Word key = list_[i];
        if (key >> (shift + 8) != higher) continue;
        const float x = scaled(logits_[id_of(key)], max_, params_.inverse_temperature);
        digits.add(static_cast<int>(key >> shift) & 255, weight_of(x));
      }
      __syncthreads();
      if (threadIdx.x == 0) {
        Prefix prefix = shared_.place.prefix;
        Prefix before_digit = prefix;
        int digit = 0;
#pragma unroll 1
        for (int d = 0; d < kBins; ++d) {
          if (digits.count[d] == 0U) continue;
          digit = d;
          before_digit = prefix;
          prefix = prefix.with(digits, d);
          if (stop.holds(prefix)) break;
        }
        shared_.place.key |= static_cast<Word>(digit) << shift;
        shared_.place.prefix = shift == 0 ? prefix : before_digit;
      }
      __syncthreads();
    }
    const Place place = shared_.place;
    __syncthreads();
    return place;
  }

  const float* logits_;
  int n_;
  float max_;
  const Params& params_;
  Word* list_;
  Shared& shared_;
};

__global__ void __launch_bounds__(kThreads) sample_plain(const __grid_constant__ Call call) {
  __shared__ Shared shared;
  const std::int64_t row = blockIdx.x;
  const float* const logits = call.logits + row * call.n;
  const Params& params = call.params[row];
  Word top = ~Word{0};
  bool nan = false;
  for (int i = static_cast<int>(threadIdx.x); i < call.n; i += kThreads) {
    nan = nan || isnan(logits[i]);
    top = min(top, key_of(logits[i], i));
  }
  top = block_reduce(top, shared.top, [](Word a, Word b) { return a < b ? a : b; });
  int token = id_of(top);
  const float max = logits[token];
  if (__syncthreads_or(nan) != 0 || !isfinite(max)) {
    if (threadIdx.x == 0) {
      call.tokens[row] = -1;
      call.logprobs[row] = NAN;
    }
    return;
  }
  const double sum = exp_sum(logits, call.n, max, shared);
  if (params.inverse_temperature > 0.0) {
    token = Drawing(logits, call.n, max, params, call.lists + row * call.n, shared).token();
  }
  if (threadIdx.x == 0) {
    call.tokens[row] = token;
    const double x = static_cast<double>(logits[token]) - max;
    call.logprobs[row] = static_cast<float>(x - log(sum));
  }
}

Params params_of(const SampleParams& p) {
  HEDDLE_CHECK(p.temperature >= 0 && std::isfinite(p.temperature));
  HEDDLE_CHECK(p.uniform >= 0 && p.uniform < 1);
  HEDDLE_CHECK(!std::isnan(p.top_p) && !std::isnan(p.min_p));
  Params params{};
  params.uniform = p.uniform;
  params.top_p = p.top_p;
  if (p.temperature > 0) params.inverse_temperature = 1.0 / static_cast<double>(p.temperature);
  params.top_k = p.top_k;
  params.lowest_x = -std::numeric_limits<float>::infinity();
  if (p.min_p > 0) {
    params.lowest_x =
        p.min_p >= 1 ? 0.0F : static_cast<float>(std::log(static_cast<double>(p.min_p)));
  }
  return params;
}

void run(const SampleArgs& args, CudaContext& context) {
  HEDDLE_CHECK(args.logits.rank == 2);
  const std::int64_t n_rows = args.logits.dim(0);
  const std::int64_t n = args.logits.dim(1);
  HEDDLE_CHECK(n >= 1 && n <= kMaxVocab && is_f32(args.logits, {n_rows, n}));
  HEDDLE_CHECK(is_i32(args.tokens, {n_rows}) && is_f32(args.logprobs, {n_rows}));
  HEDDLE_CHECK(n_rows == 0 || args.params != nullptr);
  bool draws = false;
  for (std::int64_t i = 0; i < n_rows; ++i) {
    draws = draws || params_of(args.params[i]).inverse_temperature > 0;
  }
  Word* lists = nullptr;
  if (draws) {
    const std::int64_t rows = std::min<std::int64_t>(n_rows, kRowsAtOnce);
    lists = reinterpret_cast<Word*>(
        context.scratch.get(static_cast<std::size_t>(rows * n) * sizeof(Word), context.stream));
  }
  for (std::int64_t first = 0; first < n_rows; first += kRowsAtOnce) {
    const std::int64_t rows = std::min<std::int64_t>(n_rows - first, kRowsAtOnce);
    Call call{};
    call.logits = args.logits.as<float>() + first * n;
    call.tokens = args.tokens.as<std::int32_t>() + first;
    call.logprobs = args.logprobs.as<float>() + first;
    call.lists = lists;
    call.n = static_cast<int>(n);
    for (std::int64_t i = 0; i < rows; ++i) call.params[i] = params_of(args.params[first + i]);
    sample_plain<<<blocks_for(rows, 1), kThreads, 0, context.stream>>>(call);
    check_launch("sample");
  }
}

constexpr Variant<SampleArgs, CudaContext> kVariants[] = {
    {"plain", accepts_all<SampleArgs, DeviceCaps>, run}};

}  // namespace

const Table<SampleArgs>& sample_table() {
  static const Table<SampleArgs> table{"sample", kVariants};
  return table;
}

}  // namespace heddle::cuda
