#pragma once
// Nodes of the prefix cache by their hash: open addressing over indices, so that an entry costs
// a few bytes and no allocation.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/sip_hash.h"

namespace heddle {

/// `hash_of(node)` gives a node's hash, which stays while it is in the table. Hashes are keyed, so
/// their low bits are as good as random.
class NodeTable {
 public:
  static constexpr std::int32_t kNone = -1;

  /// It is looked for soon: its place in memory is far away, too.
  void prefetch(const Hash128& hash) const {
    if (!slots_.empty()) __builtin_prefetch(&slots_[hash.low & mask()]);
  }

  template <typename HashOf>
  std::int32_t find(const Hash128& hash, const HashOf& hash_of) const {
    if (slots_.empty()) return kNone;
    for (std::size_t i = hash.low & mask(); slots_[i] != kNone; i = (i + 1) & mask()) {
      if (hash_of(slots_[i]) == hash) return slots_[i];
    }
    return kNone;
  }

  /// No other node has its hash. Half of the table stays empty: a search that finds nothing, as for
  /// every new block, looks at each node on its way, and they are far away in memory.
  template <typename HashOf>
  void insert(std::int32_t node, const HashOf& hash_of) {
    if (2 * (n_ + 1) > slots_.size()) grow(hash_of);
    place(node, hash_of);
    ++n_;
  }

  /// Those behind it move up, so that no search stops short of them.
  template <typename HashOf>
  void erase(const Hash128& hash, const HashOf& hash_of) {
    std::size_t hole = hash.low & mask();
    while (!(hash_of(slots_[hole]) == hash)) hole = (hole + 1) & mask();
    for (std::size_t i = (hole + 1) & mask(); slots_[i] != kNone; i = (i + 1) & mask()) {
      const std::size_t home = hash_of(slots_[i]).low & mask();
      if (((i - home) & mask()) < ((i - hole) & mask())) continue;
      slots_[hole] = slots_[i];
      hole = i;
    }
    slots_[hole] = kNone;
    --n_;
  }

  void clear() {
    slots_.clear();
    n_ = 0;
  }

  std::size_t size() const { return n_; }

 private:
  std::size_t mask() const { return slots_.size() - 1; }

  template <typename HashOf>
  void place(std::int32_t node, const HashOf& hash_of) {
    std::size_t i = hash_of(node).low & mask();
    while (slots_[i] != kNone) i = (i + 1) & mask();
    slots_[i] = node;
  }

  template <typename HashOf>
  void grow(const HashOf& hash_of) {
    std::vector<std::int32_t> old(slots_.empty() ? 64 : 2 * slots_.size(), kNone);
    old.swap(slots_);
    for (const std::int32_t node : old) {
      if (node != kNone) place(node, hash_of);
    }
  }

  std::vector<std::int32_t> slots_;
  std::size_t n_ = 0;
};

}  // namespace heddle
