#include "tools/serve/workers.h"

#include <exception>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/start_thread.h"

namespace heddle::serve {

Workers::Workers(int n_threads, std::size_t most_waiting) : most_waiting_(most_waiting) {
  try {
    for (int i = 0; i < n_threads; ++i) {
      threads_.push_back(start_thread("heddle-worker", [this] { run(); }));
    }
  } catch (...) {
    stop();
    throw;
  }
}

Workers::~Workers() {
  stop();
}

void Workers::stop() {
  std::deque<std::function<void()>> dropped;  // outside the lock: what they hold may be much
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    dropped.swap(waiting_);
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool Workers::post(std::function<void()> task) {
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_ || waiting_.size() >= most_waiting_) return false;
    waiting_.push_back(std::move(task));
  }
  wake_.notify_one();
  return true;
}

void Workers::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    std::function<void()> task = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    try {
      task();
    } catch (const std::exception& e) {
      log(LogLevel::kError, std::string("a worker's task failed: ") + e.what());
    } catch (...) {
      log(LogLevel::kError, "a worker's task failed");
    }
    task = nullptr;  // what it held goes outside the lock
    lock.lock();
  }
}

}  // namespace heddle::serve
