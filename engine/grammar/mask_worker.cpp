#include "engine/grammar/mask_worker.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace heddle {

/// The lock is not held while it computes.
void MaskJob::compute(std::unique_lock<std::mutex>& lock) {
  state_ = State::kRunning;
  error_ = nullptr;
  lock.unlock();
  const auto start = std::chrono::steady_clock::now();
  std::exception_ptr error;
  try {
    matcher_.fill(mask_);
  } catch (...) {
    error = std::current_exception();
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  // Cheap masks among dear ones do not hide them.
  expected_s_.store(std::max(took.count(), 0.875 * expected_s()), std::memory_order_relaxed);
  lock.lock();
  error_ = error;
  state_ = State::kDone;
  changed_.notify_all();
}

void MaskJob::prepare() {
  std::unique_lock lock(mutex_);
  if (state_ == State::kIdle || state_ == State::kQueued) compute(lock);
  changed_.wait(lock, [this] { return state_ == State::kDone; });
}

bool MaskJob::ready() {
  const std::lock_guard lock(mutex_);
  return state_ == State::kDone;
}

TokenMask& MaskJob::next_mask() {
  prepare();
  if (error_) std::rethrow_exception(error_);
  return mask_;
}

bool MaskJob::accept(TokenId token) {
  const std::lock_guard lock(mutex_);
  HEDDLE_CHECK(state_ == State::kIdle || state_ == State::kDone);
  state_ = State::kIdle;
  return matcher_.accept(token);
}

std::vector<std::size_t> late_jobs(std::span<const double> expected_s, double seconds) {
  std::vector<std::size_t> jobs(expected_s.size());
  std::iota(jobs.begin(), jobs.end(), std::size_t{0});
  std::ranges::stable_sort(jobs, {}, [&](std::size_t i) { return expected_s[i]; });
  double sum = 0.0;
  const auto first_late = std::ranges::find_if(jobs, [&](std::size_t i) {
    sum += expected_s[i];
    return sum > seconds;
  });
  return {first_late, jobs.end()};
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
    const auto next = std::ranges::min_element(
        jobs_, {}, [](const std::shared_ptr<MaskJob>& job) { return job->expected_s(); });
    std::shared_ptr<MaskJob> job = std::move(*next);
    jobs_.erase(next);
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
