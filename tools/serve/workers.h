#pragma once
// Threads for what would keep an I/O thread from its streams: parsing, templates, tokenisers.

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace heddle::serve {

class Workers {
 public:
  /// Throws kMemory where there are no more threads.
  Workers(int n_threads, std::size_t most_waiting);
  ~Workers();  // stops
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  /// False: too many wait. What `task` throws is logged, and ends it alone.
  bool post(std::function<void()> task);
  /// Ends the threads after what they do now; what waits is dropped. From one thread.
  void stop();

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> waiting_;
  std::size_t most_waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace heddle::serve
