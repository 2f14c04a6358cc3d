#pragma once
// Threads for what would keep an I/O thread from its streams: parsing, templates, tokenisers.

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace heddle::serve {

/// Tasks of one client run in their order; clients take turns, one task each.
class Workers {
 public:
  /// Throws kMemory where there are no more threads.
  Workers(int n_threads, std::size_t most_waiting);
  ~Workers();  // stops
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  /// False: too many wait. What `task` throws is logged, and ends it alone.
  bool post(const std::string& client, std::function<void()> task);
  /// Tasks that wait or run.
  std::size_t n_tasks() const;
  /// Ends the threads after what they do now; what waits is dropped. From one thread.
  void stop();

 private:
  void run();
  /// Of the client whose turn it is. Under the mutex, and something waits.
  std::function<void()> next();

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, std::deque<std::function<void()>>> waiting_;  // no empty ones
  std::string last_;  // the client of the last task that began
  std::size_t n_waiting_ = 0;
  std::size_t n_running_ = 0;
  std::size_t most_waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace heddle::serve
