#include "tools/heddle/read_speed.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "engine/memory_plan.h"
#include "kernels/device_caps.h"

namespace heddle::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Four independent sums of four words each: enough loads in flight for one core.
typedef std::uint64_t Words4 __attribute__((vector_size(32), aligned(8), may_alias));

inline __attribute__((always_inline)) std::uint64_t sum_by_fours(const std::uint64_t* words,
                                                                 std::int64_t n) {
  Words4 a = {0, 0, 0, 0};
  Words4 b = a;
  Words4 c = a;
  Words4 d = a;
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const auto* v = reinterpret_cast<const Words4*>(words + i);
    a += v[0];
    b += v[1];
    c += v[2];
    d += v[3];
  }
  a += b;
  c += d;
  a += c;
  std::uint64_t sum = a[0] + a[1] + a[2] + a[3];
  for (; i < n; ++i) sum += words[i];
  return sum;
}

#if defined(__x86_64__)
/// The same loop compiled for 256-bit registers: GCC inlines it into the wider target.
__attribute__((target("avx2"))) std::uint64_t sum_avx2(const std::uint64_t* words, std::int64_t n) {
  return sum_by_fours(words, n);
}
#endif

std::size_t buffer_bytes() {
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  const long cache = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  const std::size_t wanted = 8 * static_cast<std::size_t>(std::max(cache, 0L));
  const std::size_t bytes = std::clamp(wanted, 256 * kMiB, 1024 * kMiB);
  return std::min(bytes, static_cast<std::size_t>(available_memory() / 4)) & ~(kMiB - 1);
}

}  // namespace

std::uint64_t sum_words(const std::uint64_t* words, std::int64_t n) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return sum_avx2(words, n);
#endif
  return sum_by_fours(words, n);
}

double measure_read_speed(int threads) {
  constexpr std::size_t kPart = std::size_t{1} << 20;
  constexpr int kPasses = 12;
  const std::size_t bytes = buffer_bytes();
  if (bytes == 0) return 0.0;
  const Buffer buffer = host_buffer(bytes);
  auto* const words = buffer.as<std::uint64_t>();
  constexpr auto kWords = static_cast<std::int64_t>(kPart / sizeof(std::uint64_t));
  const auto n_parts = static_cast<std::int64_t>(bytes / kPart);
  ThreadPool pool(threads);
  // Fresh pages all map to one page of zeros until they are written.
  pool.run(n_parts, [&](std::int64_t part, int) {
    std::fill_n(words + part * kWords, kWords, static_cast<std::uint64_t>(part));
  });
  std::atomic<std::uint64_t> total{0};
  double best = 0.0;
  const auto begin = Clock::now();
  for (int pass = 0; pass < kPasses && (pass < 3 || seconds_since(begin) < 0.4); ++pass) {
    const auto start = Clock::now();
    pool.run(n_parts, [&](std::int64_t part, int) {
      total.fetch_add(sum_words(words + part * kWords, kWords), std::memory_order_relaxed);
    });
    best = std::max(best, static_cast<double>(bytes) / seconds_since(start));
  }
  return total == 0 ? 0.0 : best;  // the sum keeps the reads from being dropped
}

double measure_device_speed(Backend& backend) {
  constexpr std::size_t kBytes = std::size_t{512} << 20;
  constexpr int kCopies = 8;
  const Buffer from = backend.allocate(kBytes);
  const Buffer to = backend.allocate(kBytes);
  double best = 0.0;
  for (int pass = 0; pass < 4; ++pass) {
    const auto start = Clock::now();
    for (int i = 0; i < kCopies; ++i) backend.copy_on_device(to.data(), from.data(), kBytes);
    backend.synchronize();
    best = std::max(best, 2.0 * kCopies * static_cast<double>(kBytes) / seconds_since(start));
  }
  return best;
}

}  // namespace heddle::cli
