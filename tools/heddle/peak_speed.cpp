#include "tools/heddle/peak_speed.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <string>

#include "base/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace heddle::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kChains = 10;                              // more than latency times ports
constexpr std::int64_t kRounds = std::int64_t{1} << 16;  // f32 counts far further exactly

/// Adds 1 * 1 (int16: twice) to each lane of kChains sums, kRounds times; whether all came out
/// right.
struct Loop {
  Peak peak;
  std::int64_t lanes;  // multiply-adds of one instruction
  bool (*run)() = nullptr;
};

/// Without names for instructions: vectors of four, which every processor has in some form.
typedef float Four __attribute__((vector_size(16)));

bool add_plain() {
  volatile float opaque = 1.0F;  // else the compiler knows the sum
  const float one = opaque;
  const Four ones = {one, one, one, one};
  Four sum[kChains] = {};
  for (std::int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) sum[c] = sum[c] * ones + ones;
  }
#pragma GCC unroll 10
  for (const Four& s : sum) {
#pragma GCC unroll 4
    for (int lane = 0; lane < 4; ++lane) {
      if (s[lane] != static_cast<float>(kRounds)) return false;
    }
  }
  return true;
}

#if defined(__x86_64__)
// Every loop over the sums is unrolled, or they would live in memory. Assembly, so that no compiler
// folds, hoists or fuses what is to be measured.

__attribute__((target("avx2,fma"))) bool add_fma_avx2() {
  const __m256 one = _mm256_set1_ps(1.0F);
  __m256 sum[kChains];
#pragma GCC unroll 10
  for (__m256& s : sum) s = _mm256_setzero_ps();
  for (std::int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) asm("vfmadd231ps %1, %1, %0" : "+x"(sum[c]) : "x"(one));
  }
  const __m256 wanted = _mm256_set1_ps(static_cast<float>(kRounds));
  int right = 0xff;
#pragma GCC unroll 10
  for (const __m256& s : sum) right &= _mm256_movemask_ps(_mm256_cmp_ps(s, wanted, _CMP_EQ_OQ));
  return right == 0xff;
}

__attribute__((target("avx2"))) bool add_int16_avx2() {
  const __m256i one = _mm256_set1_epi16(1);
  __m256i sum[kChains];
#pragma GCC unroll 10
  for (__m256i& s : sum) s = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) {
      __m256i product;
      asm("vpmaddwd %2, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum[c]), "=&x"(product) : "x"(one));
    }
  }
  const __m256i wanted = _mm256_set1_epi32(static_cast<int>(2 * kRounds));
  int right = -1;
#pragma GCC unroll 10
  for (const __m256i& s : sum) right &= _mm256_movemask_epi8(_mm256_cmpeq_epi32(s, wanted));
  return right == -1;
}

__attribute__((target("avx512f"))) bool add_fma_avx512() {
  const __m512 one = _mm512_set1_ps(1.0F);
  __m512 sum[kChains];
#pragma GCC unroll 10
  for (__m512& s : sum) s = _mm512_setzero_ps();
  for (std::int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) asm("vfmadd231ps %1, %1, %0" : "+v"(sum[c]) : "v"(one));
  }
  const __m512 wanted = _mm512_set1_ps(static_cast<float>(kRounds));
  int right = 0xffff;
#pragma GCC unroll 10
  for (const __m512& s : sum) right &= _mm512_cmp_ps_mask(s, wanted, _CMP_EQ_OQ);
  return right == 0xffff;
}

__attribute__((target("avx512f,avx512vnni"))) bool add_int16_avx512_vnni() {
  const __m512i one = _mm512_set1_epi32(0x00010001);
  __m512i sum[kChains];
#pragma GCC unroll 10
  for (__m512i& s : sum) s = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) asm("vpdpwssd %1, %1, %0" : "+v"(sum[c]) : "v"(one));
  }
  const __m512i wanted = _mm512_set1_epi32(static_cast<int>(2 * kRounds));
  int right = 0xffff;
#pragma GCC unroll 10
  for (const __m512i& s : sum) right &= _mm512_cmpeq_epi32_mask(s, wanted);
  return right == 0xffff;
}
#endif

std::vector<Loop> loops_for(const DeviceCaps& caps) {
  std::vector<Loop> loops = {{{"portable", Arithmetic::kF32, "mul + add x4"}, 4, add_plain}};
#if defined(__x86_64__)
  if (caps.avx2) {
    loops.push_back({{"avx2", Arithmetic::kF32, "vfmadd ymm"}, 8, add_fma_avx2});
    loops.push_back({{"avx2", Arithmetic::kInt16, "vpmaddwd + vpaddd ymm"}, 16, add_int16_avx2});
  }
  if (caps.avx512) {
    loops.push_back({{"avx512", Arithmetic::kF32, "vfmadd zmm"}, 16, add_fma_avx512});
  }
  if (caps.avx512_vnni) {
    loops.push_back({{"avx512", Arithmetic::kInt16, "vpdpwssd zmm"}, 32, add_int16_avx512_vnni});
  }
#else
  (void)caps;
#endif
  return loops;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Operations per second of all threads: the sum of each one's best short pass while the others run
/// theirs, since on a shared machine they are seldom undisturbed all at once.
double measure(const Loop& loop, ThreadPool& pool) {
  constexpr double kSeconds = 0.1;
  std::atomic<bool> right{true};
  std::vector<double> best(static_cast<std::size_t>(pool.size()), 0.0);
  pool.run(pool.size(), [&](std::int64_t task, int) {
    const auto begin = Clock::now();
    while (seconds_since(begin) < kSeconds) {
      const auto start = Clock::now();
      if (!loop.run()) right = false;
      const double speed =
          static_cast<double>(kRounds * kChains * loop.lanes * 2) / seconds_since(start);
      double& own = best[static_cast<std::size_t>(task)];
      own = std::max(own, speed);
    }
  });
  if (!right) {
    throw runtime_failure("bench: the processor's " + std::string(loop.peak.instruction) +
                          " gave a wrong sum");
  }
  return std::accumulate(best.begin(), best.end(), 0.0);
}

}  // namespace

std::vector<Peak> measure_peaks(ThreadPool& pool, const DeviceCaps& caps) {
  std::vector<Peak> peaks;
  for (const Loop& loop : loops_for(caps)) {
    peaks.push_back(loop.peak);
    peaks.back().operations_s = measure(loop, pool);
  }
  return peaks;
}

const Peak& peak_of(const std::vector<Peak>& peaks,
                    std::string_view variant,
                    Arithmetic arithmetic) {
  HEDDLE_CHECK(!peaks.empty());
  const Peak* highest = nullptr;
  for (const Peak& peak : peaks) {
    if (peak.arithmetic != arithmetic) continue;
    if (peak.isa != "portable" && variant.substr(0, variant.find('_')) == peak.isa) return peak;
    if (highest == nullptr || peak.operations_s > highest->operations_s) highest = &peak;
  }
  // No integer loop on this processor: its f32 peak stands in.
  return highest != nullptr ? *highest : peak_of(peaks, variant, Arithmetic::kF32);
}

}  // namespace heddle::cli
