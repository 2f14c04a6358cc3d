#include "engine/grammar/mask_worker.h"

#include <exception>
#include <utility>

#include "base/error.h"

namespace heddle {

/// The lock is not held while it computes.
void MaskJob::compute(std::unique_lock<std::mutex>& lock) {
  state_ = State::kRunning;
  error_ = nullptr;
  lock.unlock();
  std::exception_ptr error;
  try {
    matcher_.fill(mask_);
  } catch (...) {
    error = std::current_exception();
  }
  lock.lock();
  error_ = error;
  state_ = State::kDone;
  changed_.notify_all();
}

TokenMask& MaskJob::next_mask() {
  std::unique_lock lock(mutex_);
  if (state_ == State::kIdle || state_ == State::kQueued) compute(lock);
  changed_.wait(lock, [this] { return state_ == State::kDone; });
  if (error_) std::rethrow_exception(error_);
  return mask_;
}

bool MaskJob::accept(TokenId token) {
  const std::lock_guard lock(mutex_);
  HEDDLE_CHECK(state_ == State::kIdle || state_ == State::kDone);
  state_ = State::kIdle;
  return matcher_.accept(token);
}

MaskWorker::~MaskWorker() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    jobs_.clear();
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void MaskWorker::start(const std::shared_ptr<MaskJob>& job) noexcept {
  try {
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    const std::lock_guard lock(mutex_);
    const std::lock_guard job_lock(job->mutex_);
    if (job->state_ != MaskJob::State::kIdle) return;
    jobs_.push_back(job);
    job->state_ = MaskJob::State::kQueued;
  } catch (const std::exception&) {  // no memory, no thread
    return;
  }
  changed_.notify_one();
}

void MaskWorker::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    std::shared_ptr<MaskJob> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    {
      std::unique_lock job_lock(job->mutex_);
      if (job->state_ == MaskJob::State::kQueued) job->compute(job_lock);
    }
    job.reset();
    lock.lock();
  }
}

}  // namespace heddle
