#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace heddle {
namespace {

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

constexpr auto kSpin = std::chrono::microseconds(50);
constexpr int kPollsBeforeYield = 1000;

/// The cores that a quota line of cgroup v2 ("max 100000", "150000 100000") leaves of `cores`.
int limit_by_quota(const std::string& path, int cores) {
  std::ifstream file(path);
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || !(period > 0)) return cores;
  const double share = std::strtod(quota.c_str(), nullptr) / period;
  return share > 0 ? std::min(cores, std::max(1, static_cast<int>(share))) : cores;
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) : n_threads_(std::max(1, n_threads)) {
  threads_.reserve(static_cast<std::size_t>(n_threads_ - 1));
  try {
    for (int i = 1; i < n_threads_; ++i) threads_.emplace_back([this, i] { worker_loop(i); });
  } catch (const std::system_error& e) {
    const std::size_t started = threads_.size() + 1;
    stop();
    throw Error(ErrorKind::kMemory, "cannot start thread " + std::to_string(started + 1) + " of " +
                                        std::to_string(n_threads_) + ": " + e.what());
  }
}

ThreadPool::~ThreadPool() {
  stop();
}

void ThreadPool::stop() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void ThreadPool::work(int worker) {
  while (true) {
    const std::int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
    if (i >= n_tasks_) return;
    try {
      (*task_)(i, worker);
    } catch (...) {
      if (!failed_.exchange(true)) error_ = std::current_exception();
    }
  }
}

void ThreadPool::run(std::int64_t n_tasks, TaskRef task) {
  if (n_tasks <= 0) return;
  HEDDLE_CHECK(!busy_.exchange(true, std::memory_order_acquire));  // neither nested nor shared
  task_ = &task;
  n_tasks_ = n_tasks;
  next_.store(0, std::memory_order_relaxed);
  if (n_threads_ == 1 || n_tasks == 1) {
    work(0);
    rethrow();
    return;
  }
  running_.store(n_threads_ - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  work(0);
  // Where threads outnumber cores, the worker we wait for may need this one's core.
  for (int polls = 1; running_.load(std::memory_order_acquire) != 0; ++polls) {
    if (polls % kPollsBeforeYield == 0) std::this_thread::yield();
    relax();
  }
  rethrow();
}

void ThreadPool::rethrow() {
  busy_.store(false, std::memory_order_release);
  if (failed_.load(std::memory_order_relaxed)) {
    failed_.store(false, std::memory_order_relaxed);
    std::rethrow_exception(std::exchange(error_, nullptr));
  }
}

void ThreadPool::worker_loop(int worker) {
  std::uint32_t seen = 0;
  while (true) {
    const auto until = std::chrono::steady_clock::now() + kSpin;
    int polls = 0;
    while (epoch_.load(std::memory_order_acquire) == seen) {
      if (++polls % 64 == 0 && std::chrono::steady_clock::now() > until) {
        epoch_.wait(seen, std::memory_order_acquire);
      }
      relax();
    }
    ++seen;
    if (stop_.load()) return;
    work(worker);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

int available_cores(const std::string& root) {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
  // Our group is the line "0::/a/b"; a quota of any group above it holds too.
  std::ifstream groups(root + "/proc/self/cgroup");
  std::string group;
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::/")) group = line.substr(3);
  }
  while (true) {
    cores = limit_by_quota(root + "/sys/fs/cgroup" + group + "/cpu.max", cores);
    const std::size_t slash = group.rfind('/');
    if (slash == std::string::npos) break;
    group.resize(slash);
  }
  return std::max(1, cores);
}

}  // namespace heddle
