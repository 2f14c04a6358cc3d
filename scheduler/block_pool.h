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
  /// The cache is one of the block's owners, or is not any more.
  void set_cached(BlockId block, bool cached);

  void reset();  // all free; allocates nothing

  int n_blocks() const { return static_cast<int>(references_.size()); }
  int n_free() const { return static_cast<int>(free_.size()); }
  int n_idle() const { return n_idle_; }  // the cache's alone
  /// How often a block that was in use became free or idle.
  std::int64_t n_gained() const { return n_gained_; }
  /// Free and used add up, no block is both: throws kRuntime otherwise (tests, idle checks).
  void check() const;

 private:
  std::vector<int> references_;
  std::vector<BlockId> free_;
  std::vector<char> cached_;
  int n_idle_ = 0;
  std::int64_t n_gained_ = 0;
};

}  // namespace heddle
