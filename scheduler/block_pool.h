#pragma once
// Ids and reference counts of the physical KV blocks; never bytes.

#include <cstdint>
#include <optional>
#include <vector>

namespace heddle {

using BlockId = std::int32_t;

/// Fixed number of blocks. Free blocks are handed out in last-freed-first order (warm memory).
/// Owned by the Scheduler; one thread.
class BlockPool {
 public:
  /// `shuffle_seed` other than 0 hands the blocks out in a shuffled order (tests: the physical
  /// layout must not change any bit).
  explicit BlockPool(int n_blocks, std::uint64_t shuffle_seed = 0);

  /// nullopt: no free block (not an error).
  std::optional<BlockId> allocate();
  void share(BlockId block);    // one more owner
  void release(BlockId block);  // one owner less; free at zero
  int references(BlockId block) const;

  int n_blocks() const { return static_cast<int>(references_.size()); }
  int n_free() const { return static_cast<int>(free_.size()); }
  int n_shared() const { return n_shared_; }  // with more than one owner
  /// Free and used add up, no block is both: throws kRuntime otherwise (tests, idle checks).
  void check() const;

 private:
  std::vector<int> references_;
  std::vector<BlockId> free_;
  int n_shared_ = 0;
};

}  // namespace heddle
