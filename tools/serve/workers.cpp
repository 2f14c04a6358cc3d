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
  decltype(waiting_) dropped;  // outside the lock: what they hold may be much
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    dropped.swap(waiting_);
    n_waiting_ = 0;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool Workers::post(const std::string& client, std::function<void()> task) {
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_ || n_waiting_ >= most_waiting_) return false;
    waiting_[client].push_back(std::move(task));
    ++n_waiting_;
  }
  wake_.notify_one();
  return true;
}

std::size_t Workers::n_tasks() const {
  const std::scoped_lock lock(mutex_);
  return n_waiting_ + n_running_;
}

std::function<void()> Workers::next() {
  auto turn = waiting_.upper_bound(last_);
  if (turn == waiting_.end()) turn = waiting_.begin();
  last_ = turn->first;
  std::function<void()> task = std::move(turn->second.front());
  turn->second.pop_front();
  if (turn->second.empty()) waiting_.erase(turn);
  --n_waiting_;
  return task;
}

void Workers::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || n_waiting_ > 0; });
    if (stopping_) return;
    std::function<void()> task = next();
    ++n_running_;
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
    --n_running_;
  }
}

}  // namespace heddle::serve
