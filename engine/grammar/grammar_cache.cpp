#include "engine/grammar/grammar_cache.h"

#include <algorithm>
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

std::uint32_t GrammarCache::enter() {
  const std::lock_guard lock(mutex_);
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
  const std::lock_guard lock(mutex_);
  used_[slot] = 0;
  slots_[slot] = GrammarLattice::kDead;
}

GrammarCache::Place GrammarCache::place(std::uint32_t slot) const {
  const std::lock_guard lock(mutex_);
  const ConfigId at = slots_[slot];
  return {.complete = lattice_.complete(at), .open = lattice_.open(at)};
}

/// Called where no reference to what it forgets is held; path_ stays good.
void GrammarCache::make_room() {
  if (memory_bytes() <= most_bytes_) return;
  std::vector<ConfigId*> roots;
  for (ConfigId& slot : slots_) roots.push_back(&slot);
  for (ConfigId& config : path_) roots.push_back(&config);
  masks_.clear();
  local_masks_.clear();
  mask_bytes_ = 0;
  lattice_.collect(roots);
  // Less than that would be gone before it is used.
  if (memory_bytes() > most_bytes_ / 4 * 3) {
    throw runtime_failure("grammar: the texts that use it take more memory than its cache may");
  }
}

GrammarCache::ConfigId GrammarCache::step(ConfigId from, std::uint8_t byte) {
  const ConfigId next = lattice_.step(from, byte);
  if (lattice_.work() - work_begin_ > kMostWork) {
    throw runtime_failure("grammar: too ambiguous: finding the next tokens takes too long");
  }
  return next;
}

bool GrammarCache::advance(std::uint32_t slot, std::string_view text) {
  const std::lock_guard lock(mutex_);
  work_begin_ = lattice_.work();
  path_.assign(1, slots_[slot]);
  for (const char c : text) {
    make_room();
    path_[0] = step(path_[0], static_cast<std::uint8_t>(c));
    if (path_[0] == GrammarLattice::kDead) return false;
  }
  slots_[slot] = path_[0];
  return true;
}

void GrammarCache::allow(const TokenTrie::Node& node, TokenMask& mask) const {
  for (const std::int32_t token : trie_.tokens().subspan(node.first_token, node.n_tokens)) {
    mask.set(token);
  }
}

/// path_[0] is the local configuration.
void GrammarCache::walk_local(ConfigId local, LocalMask& mask) {
  const std::span<const TokenTrie::Node> nodes = trie_.nodes();
  path_.assign(trie_.longest() + 1, GrammarLattice::kDead);
  path_[0] = local;
  for (std::uint32_t i = 0; i < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
    const ConfigId next = step(path_[node.depth - 1U], node.byte);
    if (lattice_.escaped(next)) {
      mask.escapes.push_back(i);
      i = node.end;
    } else if (next == GrammarLattice::kDead) {
      i = node.end;
    } else {
      mask.depth = std::max(mask.depth, lattice_.depth(next));
      path_[node.depth] = next;
      allow(node, mask.certain);
      ++i;
      // Stale ids behind path_[node.depth] stay roots; they are few.
      if (i % 1024 == 0) make_room();
    }
  }
}

const GrammarCache::LocalMask& GrammarCache::local_mask(std::uint32_t slot) {
  make_room();
  const ConfigId local = lattice_.local(slots_[slot]);
  const auto known = local_masks_.find(local);
  if (known != local_masks_.end()) return known->second;
  LocalMask mask{.certain = TokenMask(trie_.n_tokens())};
  walk_local(local, mask);
  const ConfigId now = path_[0];  // room may have been made
  mask_bytes_ +=
      mask.certain.memory_bytes() + mask.escapes.capacity() * sizeof(std::uint32_t) + 128;
  return local_masks_.insert_or_assign(now, std::move(mask)).first->second;
}

/// The nodes [node, end) of the trie, whose parent's configuration is in path_.
void GrammarCache::walk_below(std::uint32_t node, std::uint32_t end, TokenMask& mask) {
  const std::span<const TokenTrie::Node> nodes = trie_.nodes();
  for (std::uint32_t i = node; i < end;) {
    const ConfigId next = step(path_[nodes[i].depth - 1U], nodes[i].byte);
    if (next == GrammarLattice::kDead) {
      i = nodes[i].end;
      continue;
    }
    path_[nodes[i].depth] = next;
    allow(nodes[i], mask);
    ++i;
    if (i % 1024 == 0) make_room();
  }
}

void GrammarCache::walk_escapes(ConfigId from, const LocalMask& local, TokenMask& mask) {
  const std::span<const TokenTrie::Node> nodes = trie_.nodes();
  path_.assign(trie_.longest() + 1, GrammarLattice::kDead);
  path_[0] = from;
  std::string_view walked;  // path_ holds the configurations of it
  for (const std::uint32_t i : local.escapes) {
    const std::string_view way = trie_.path(nodes[i]).substr(0, nodes[i].depth - 1U);
    auto depth = static_cast<std::size_t>(std::ranges::mismatch(way, walked).in1 - way.begin());
    for (; depth < way.size(); ++depth) {
      path_[depth + 1] = step(path_[depth], static_cast<std::uint8_t>(way[depth]));
    }
    walked = way;
    walk_below(i, nodes[i].end, mask);
  }
}

void GrammarCache::fill(std::uint32_t slot, TokenMask& mask) {
  const std::lock_guard lock(mutex_);
  work_begin_ = lattice_.work();
  make_room();
  if (const auto known = masks_.find(slots_[slot]); known != masks_.end()) {
    mask = known->second;
    return;
  }
  const LocalMask& shared = local_mask(slot);
  // Whether a call is too deep depends on the callers.
  const bool shallow = lattice_.depth(slots_[slot]) + shared.depth < most_depth_;
  if (shallow) {
    const LocalMask local = shared;  // making room would forget it
    mask = local.certain;
    walk_escapes(slots_[slot], local, mask);
  } else {
    mask = TokenMask(trie_.n_tokens());
    path_.assign(trie_.longest() + 1, GrammarLattice::kDead);
    path_[0] = slots_[slot];
    walk_below(0, static_cast<std::uint32_t>(trie_.nodes().size()), mask);
  }
  masks_.insert_or_assign(slots_[slot], mask);
  mask_bytes_ += mask.memory_bytes() + 128;
  path_.clear();
}

}  // namespace heddle
