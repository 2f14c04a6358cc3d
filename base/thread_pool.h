#pragma once
// Worker threads for data-parallel loops. Tasks are claimed dynamically: results must not depend on
// which worker runs a task.

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace heddle {

/// A non-owning reference to a callable `void(std::int64_t task, int worker)`.
class TaskRef {
 public:
  template <typename F>
  TaskRef(const F& f)  // NOLINT: implicit on purpose, like a function_ref
      : object_(&f), call_([](const void* o, std::int64_t task, int worker) {
          (*static_cast<const F*>(o))(task, worker);
        }) {}
  void operator()(std::int64_t task, int worker) const { call_(object_, task, worker); }

 private:
  const void* object_;
  void (*call_)(const void*, std::int64_t, int);
};

/// One caller at a time. Workers spin about 50 microseconds for the next loop, then sleep; the
/// caller works too (worker 0). With one thread everything runs inline.
class ThreadPool {
 public:
  /// Throws kMemory if the system refuses a thread.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return n_threads_; }
  /// Runs task 0 .. n_tasks-1 and returns when all are done. An exception of a task is rethrown
  /// here (the first one; the other tasks still run).
  void run(std::int64_t n_tasks, TaskRef task);

 private:
  void stop();
  void worker_loop(int worker);
  void work(int worker);
  void rethrow();

  int n_threads_;
  std::vector<std::thread> threads_;
  const TaskRef* task_ = nullptr;
  std::int64_t n_tasks_ = 0;
  std::exception_ptr error_;
  std::atomic<bool> failed_{false};
  alignas(64) std::atomic<std::int64_t> next_{0};
  alignas(64) std::atomic<int> running_{0};
  alignas(64) std::atomic<std::uint32_t> epoch_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> busy_{false};
};

/// Cores this process may use: CPU affinity and the quotas of its cgroup (v2) and of those above
/// it, at least 1. `root` stands before /proc and /sys (tests).
int available_cores(const std::string& root = "");

}  // namespace heddle
