#pragma once
// Masks ahead of time: computed while the model computes the logits that they are for.

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "engine/grammar/token_masker.h"

namespace heddle {

/// Where one answer stands in its grammar, and the mask of its next token. Used by the engine's
/// thread; between MaskWorker::start and next_mask also by the worker's.
class MaskJob {
 public:
  MaskJob(const TokenMasker& masker, GrammarPtr grammar)
      : matcher_(masker, std::move(grammar)), mask_(masker.vocab()) {}

  /// The mask of the next token: waits for the worker, or computes it here where that has not
  /// begun. The caller may change it; it is good until accept(). Throws what computing it threw.
  TokenMask& next_mask();
  /// Computes it, or waits for it; what that throws next_mask() throws.
  void prepare();
  /// Whether next_mask() gives it at once.
  bool ready();
  /// What the next one may take in seconds: the dearest of the last few.
  double expected_s() const { return expected_s_.load(std::memory_order_relaxed); }
  /// As GrammarMatcher::accept. Not between MaskWorker::start and next_mask.
  bool accept(TokenId token);
  bool complete() const { return matcher_.complete(); }
  bool finished() const { return matcher_.finished(); }

 private:
  friend class MaskWorker;
  enum class State { kIdle, kQueued, kRunning, kDone };

  void compute(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable changed_;
  State state_ = State::kIdle;
  GrammarMatcher matcher_;
  TokenMask mask_;
  std::exception_ptr error_;
  std::atomic<double> expected_s_ = 0.0;
};

/// Of masks that are not ready, those (by index, the cheapest first) that a step of so many seconds
/// does not wait for. The others are the cheapest of all, and may be done by then.
std::vector<std::size_t> late_jobs(std::span<const double> expected_s, double seconds);

/// One thread, which begins with the first job, and takes those first that may take least. Owned by
/// the engine's thread.
class MaskWorker {
 public:
  MaskWorker() = default;
  ~MaskWorker();
  MaskWorker(const MaskWorker&) = delete;
  MaskWorker& operator=(const MaskWorker&) = delete;

  /// Does not throw: what cannot be queued is computed where it is needed.
  void start(const std::shared_ptr<MaskJob>& job) noexcept;

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<MaskJob>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace heddle
