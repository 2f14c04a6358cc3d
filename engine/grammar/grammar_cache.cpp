#include "engine/grammar/grammar_cache.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "base/error.h"

namespace heddle {

GrammarCache::GrammarCache(const GrammarProgram& program,
                           const TokenTrie& trie,
                           std::size_t most_bytes)
    : lattice_(program), trie_(trie), most_bytes_(most_bytes) {
  const bool nests = std::ranges::any_of(program.rules, [](const auto& r) { return r.nesting; });
  most_depth_ = nests ? kMostNesting : kMostCalls;
}

std::size_t GrammarCache::memory_bytes() const {
  return lattice_.memory_bytes() + mask_bytes_;
}

std::unique_lock<std::mutex> GrammarCache::locked() const {
  n_waiting_.fetch_add(1, std::memory_order_relaxed);
  std::unique_lock lock(mutex_);
  n_waiting_.fetch_sub(1, std::memory_order_relaxed);
  return lock;
}

GrammarCache::Walk::Walk(GrammarCache& owner) : cache(owner), lock(owner.locked()) {
  cache.walks_.push_back(this);
}

GrammarCache::Walk::~Walk() {
  std::erase(cache.walks_, this);
}

std::uint32_t GrammarCache::enter() {
  const auto lock = locked();
  const auto free = std::ranges::find(used_, 0);
  const auto slot = static_cast<std::uint32_t>(free - used_.begin());
  if (free == used_.end()) {
    slots_.push_back(GrammarLattice::kDead);
    used_.push_back(0);
  }
  slots_[slot] = lattice_.start();
  used_[slot] = 1;
  return slot;
}

void GrammarCache::leave(std::uint32_t slot) {
  const auto lock = locked();
  used_[slot] = 0;
  slots_[slot] = GrammarLattice::kDead;
}

GrammarCache::Place GrammarCache::place(std::uint32_t slot) const {
  const auto lock = locked();
  const ConfigId at = slots_[slot];
  return {.complete = lattice_.complete(at), .open = lattice_.open(at)};
}

/// Called where no configuration is held but in walks and slots.
void GrammarCache::make_room() {
  if (memory_bytes() <= most_bytes_) return;
  std::vector<ConfigId*> roots;
  for (ConfigId& slot : slots_) roots.push_back(&slot);
  for (Walk* const walk : walks_) {
    for (ConfigId& config : walk->path) roots.push_back(&config);
  }
  masks_.clear();
  local_masks_.clear();
  mask_bytes_ = 0;
  lattice_.collect(roots);
  // Less than that would be gone before it is used.
  if (memory_bytes() > most_bytes_ / 4 * 3) {
    throw runtime_failure("grammar: the texts that use it take more memory than its cache may");
  }
}

/// Now and then makes room, and lets others go first: most want less than a mask. Stale numbers
/// behind the path's last are kept, too; they are few.
void GrammarCache::pause(Walk& walk) {
  if (++walk.n_nodes % kPauseEvery != 0) return;
  make_room();
  if (n_waiting_.load(std::memory_order_relaxed) == 0) return;
  walk.lock.unlock();
  while (n_waiting_.load(std::memory_order_relaxed) > 0) std::this_thread::yield();
  walk.lock.lock();
}

GrammarCache::ConfigId GrammarCache::step(Walk& walk, ConfigId from, std::uint8_t byte) {
  const std::uint64_t before = lattice_.work();
  const ConfigId next = lattice_.step(from, byte);
  walk.work += lattice_.work() - before;
  if (walk.work > kMostWork) {
    throw runtime_failure("grammar: too ambiguous: finding the next tokens takes too long");
  }
  return next;
}

bool GrammarCache::advance(std::uint32_t slot, std::string_view text) {
  Walk walk(*this);
  walk.path.assign(1, slots_[slot]);
  for (const char c : text) {
    make_room();
    walk.path[0] = step(walk, walk.path[0], static_cast<std::uint8_t>(c));
    if (walk.path[0] == GrammarLattice::kDead) return false;
  }
  slots_[slot] = walk.path[0];
  return true;
}

void GrammarCache::allow(const TokenTrie::Node& node, TokenMask& mask) const {
  for (const std::int32_t token : trie_.tokens().subspan(node.first_token, node.n_tokens)) {
    mask.set(token);
  }
}

void GrammarCache::begin_path(Walk& walk, ConfigId from) const {
  walk.path.assign(trie_.longest() + 1, GrammarLattice::kDead);
  walk.path[0] = from;
}

/// The walk begins at the local configuration.
void GrammarCache::walk_local(Walk& walk, LocalMask& mask) {
  const std::span<const TokenTrie::Node> nodes = trie_.nodes();
  for (std::uint32_t i = 0; i < nodes.size();) {
    pause(walk);
    const TokenTrie::Node& node = nodes[i];
    const ConfigId next = step(walk, walk.path[node.depth - 1U], node.byte);
    if (lattice_.escaped(next)) {
      mask.escapes.push_back(i);
      i = node.end;
    } else if (next == GrammarLattice::kDead) {
      i = node.end;
    } else {
      mask.depth = std::max(mask.depth, lattice_.depth(next));
      walk.path[node.depth] = next;
      allow(node, mask.certain);
      ++i;
    }
  }
}

GrammarCache::LocalMask GrammarCache::local_mask(Walk& walk, std::uint32_t slot) {
  const ConfigId local = lattice_.local(slots_[slot]);
  const auto known = local_masks_.find(local);
  if (known != local_masks_.end()) return known->second;
  LocalMask mask{.certain = TokenMask(trie_.n_tokens())};
  begin_path(walk, local);
  walk_local(walk, mask);
  mask_bytes_ +=
      mask.certain.memory_bytes() + mask.escapes.capacity() * sizeof(std::uint32_t) + 128;
  local_masks_.insert_or_assign(walk.path[0], mask);
  return mask;
}

/// The nodes [node, end) of the trie, whose parent's configuration is in the path.
void GrammarCache::walk_below(Walk& walk, std::uint32_t node, std::uint32_t end, TokenMask& mask) {
  const std::span<const TokenTrie::Node> nodes = trie_.nodes();
  for (std::uint32_t i = node; i < end;) {
    pause(walk);
    const ConfigId next = step(walk, walk.path[nodes[i].depth - 1U], nodes[i].byte);
    if (next == GrammarLattice::kDead) {
      i = nodes[i].end;
      continue;
    }
    walk.path[nodes[i].depth] = next;
    allow(nodes[i], mask);
    ++i;
  }
}

void GrammarCache::walk_escapes(Walk& walk, const LocalMask& local, TokenMask& mask) {
  const std::span<const TokenTrie::Node> nodes = trie_.nodes();
  std::string_view walked;  // the path holds the configurations of it
  for (const std::uint32_t i : local.escapes) {
    const std::string_view way = trie_.path(nodes[i]).substr(0, nodes[i].depth - 1U);
    auto depth = static_cast<std::size_t>(std::ranges::mismatch(way, walked).in1 - way.begin());
    for (; depth < way.size(); ++depth) {
      walk.path[depth + 1] = step(walk, walk.path[depth], static_cast<std::uint8_t>(way[depth]));
    }
    walked = way;
    walk_below(walk, i, nodes[i].end, mask);
  }
}

void GrammarCache::fill(std::uint32_t slot, TokenMask& mask) {
  Walk walk(*this);
  make_room();
  if (const auto known = masks_.find(slots_[slot]); known != masks_.end()) {
    mask = known->second;
    return;
  }
  const LocalMask local = local_mask(walk, slot);
  begin_path(walk, slots_[slot]);
  // Whether a call is too deep depends on the callers.
  const bool shallow = lattice_.depth(slots_[slot]) + local.depth < most_depth_;
  if (shallow) {
    mask = local.certain;
    walk_escapes(walk, local, mask);
  } else {
    mask = TokenMask(trie_.n_tokens());
    walk_below(walk, 0, static_cast<std::uint32_t>(trie_.nodes().size()), mask);
  }
  masks_.insert_or_assign(slots_[slot], mask);
  mask_bytes_ += mask.memory_bytes() + 128;
}

}  // namespace heddle
