#include "scheduler/block_pool.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/philox.h"

namespace heddle {

BlockPool::BlockPool(int n_blocks, std::uint64_t shuffle_seed)
    : references_(static_cast<std::size_t>(n_blocks), 0),
      cached_(static_cast<std::size_t>(n_blocks), 0) {
  HEDDLE_CHECK(n_blocks >= 0);
  for (int i = n_blocks - 1; i >= 0; --i) free_.push_back(i);
  if (shuffle_seed == 0) return;
  for (std::size_t i = free_.size(); i > 1; --i) {
    const double u = philox_uniform(shuffle_seed, 0, i);
    std::swap(free_[i - 1], free_[static_cast<std::size_t>(u * static_cast<double>(i))]);
  }
}

void BlockPool::reset() {
  std::ranges::fill(references_, 0);
  std::ranges::fill(cached_, char{0});
  n_idle_ = 0;
  n_gained_ += n_blocks();
  free_.clear();
  for (int i = n_blocks() - 1; i >= 0; --i) free_.push_back(i);
}

std::optional<BlockId> BlockPool::allocate() {
  if (free_.empty()) return std::nullopt;
  const BlockId block = free_.back();
  free_.pop_back();
  references_[static_cast<std::size_t>(block)] = 1;
  return block;
}

void BlockPool::share(BlockId block) {
  HEDDLE_CHECK(references(block) > 0);
  const auto at = static_cast<std::size_t>(block);
  if (++references_[at] == 2) n_idle_ -= cached_[at];
}

void BlockPool::release(BlockId block) {
  HEDDLE_CHECK(references(block) > 0);
  const auto at = static_cast<std::size_t>(block);
  const int left = --references_[at];
  if (left == 1 && cached_[at] != 0) {
    ++n_idle_;
    ++n_gained_;
  }
  if (left > 0) return;
  HEDDLE_CHECK(cached_[at] == 0);
  ++n_gained_;
  free_.push_back(block);
}

void BlockPool::set_cached(BlockId block, bool cached) {
  const auto at = static_cast<std::size_t>(block);
  HEDDLE_CHECK(references(block) > 0 && (cached_[at] != 0) != cached);
  cached_[at] = cached ? 1 : 0;
  if (references_[at] > 1) return;
  n_idle_ += cached ? 1 : -1;
  n_gained_ += cached ? 1 : -1;  // what was idle is released next, and is no gain
}

int BlockPool::references(BlockId block) const {
  HEDDLE_CHECK(block >= 0 && block < n_blocks());
  return references_[static_cast<std::size_t>(block)];
}

void BlockPool::check() const {
  const auto used =
      std::count_if(references_.begin(), references_.end(), [](int n) { return n > 0; });
  HEDDLE_CHECK(used + n_free() == n_blocks());
  int idle = 0;
  for (std::size_t i = 0; i < references_.size(); ++i) {
    HEDDLE_CHECK(cached_[i] == 0 || references_[i] > 0);
    if (cached_[i] != 0 && references_[i] == 1) ++idle;
  }
  HEDDLE_CHECK(idle == n_idle_);
  for (const BlockId block : free_) HEDDLE_CHECK(references(block) == 0);
}

}  // namespace heddle
