#pragma once
// A bound on what all connections keep together.

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

namespace heddle::serve {

/// For any thread.
struct ByteBudget {
  std::size_t most = 0;
  std::size_t free_bytes = 0;  // of each lease: what is small is never refused
  std::atomic<std::size_t> used{0};
};

/// What one request takes of it, given back at its end.
class ByteLease {
 public:
  explicit ByteLease(std::shared_ptr<ByteBudget> budget) : budget_(std::move(budget)) {}
  ~ByteLease() { budget_->used -= held_; }
  ByteLease(const ByteLease&) = delete;
  ByteLease& operator=(const ByteLease&) = delete;

  /// False, and nothing more is taken: there is no room for `bytes` in all.
  bool grow_to(std::size_t bytes) {
    if (bytes <= budget_->free_bytes || bytes <= held_) return true;
    const std::size_t more = bytes - held_;
    if (budget_->used.fetch_add(more) + more > budget_->most) {
      budget_->used -= more;
      return false;
    }
    held_ = bytes;
    return true;
  }

 private:
  std::shared_ptr<ByteBudget> budget_;
  std::size_t held_ = 0;
};

}  // namespace heddle::serve
