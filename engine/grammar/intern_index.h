#pragma once
// Small hash tables of the lattice. Internal to engine/grammar/.

#include <cstdint>
#include <vector>

namespace heddle {

inline std::uint64_t mix_hash(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15U;
  return hash ^ (hash >> 29U);
}

/// Finds ids by the content that they stand for, which lies elsewhere.
class InternIndex {
 public:
  static constexpr std::uint32_t kNone = ~0U;

  /// The id with this hash for which same(id) holds, or kNone.
  template <typename Same>
  std::uint32_t find(std::uint64_t hash, const Same& same) const {
    if (slots_.empty()) return kNone;
    for (std::size_t i = hash & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[i];
      if (slot.id == kNone) return kNone;
      if (slot.hash == static_cast<std::uint32_t>(hash >> 32U) && same(slot.id)) return slot.id;
    }
  }
  void insert(std::uint64_t hash, std::uint32_t id) {
    if ((n_ + 1) * 2 > slots_.size()) grow();
    entries_.push_back({hash, id});
    place(hash, id);
    ++n_;
  }
  void clear() {
    slots_.clear();
    entries_.clear();
    n_ = 0;
  }
  std::size_t memory_bytes() const {
    return slots_.capacity() * sizeof(Slot) + entries_.capacity() * sizeof(Entry);
  }

 private:
  struct Slot {
    std::uint32_t hash = 0;  // the upper half
    std::uint32_t id = kNone;
  };
  struct Entry {
    std::uint64_t hash = 0;
    std::uint32_t id = 0;
  };

  void place(std::uint64_t hash, std::uint32_t id) {
    std::size_t i = hash & (slots_.size() - 1);
    while (slots_[i].id != kNone) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = {static_cast<std::uint32_t>(hash >> 32U), id};
  }
  void grow() {
    std::vector<Slot> larger(slots_.empty() ? 64 : slots_.size() * 2);
    slots_.swap(larger);
    for (const Entry& entry : entries_) place(entry.hash, entry.id);
  }

  std::vector<Slot> slots_;  // a power of two
  std::vector<Entry> entries_;
  std::size_t n_ = 0;
};

/// A set of 64-bit values that is emptied at once.
class StampedSet {
 public:
  /// False: it was there.
  bool insert(std::uint64_t value) {
    if ((n_ + 1) * 2 > slots_.size()) grow();
    const bool added = place(value);
    n_ += added ? 1 : 0;
    return added;
  }
  void clear() {
    n_ = 0;
    if (++stamp_ != 0) return;
    slots_.assign(slots_.size(), {});  // the stamps begin anew
    stamp_ = 1;
  }
  std::size_t size() const { return n_; }
  std::size_t memory_bytes() const { return slots_.capacity() * sizeof(Slot); }

 private:
  struct Slot {
    std::uint64_t value = 0;
    std::uint32_t stamp = 0;
  };

  bool place(std::uint64_t value) {
    std::size_t i = mix_hash(0, value) & (slots_.size() - 1);
    for (; slots_[i].stamp == stamp_; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].value == value) return false;
    }
    slots_[i] = {value, stamp_};
    return true;
  }
  void grow() {
    std::vector<Slot> old(slots_.empty() ? 64 : slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.stamp == stamp_) place(slot.value);
    }
  }

  std::vector<Slot> slots_;  // a power of two
  std::uint32_t stamp_ = 1;
  std::size_t n_ = 0;
};

}  // namespace heddle
