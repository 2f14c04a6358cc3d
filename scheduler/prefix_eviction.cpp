// What goes when there is no room: PrefixCache's order of eviction, and its tier in host memory.

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "scheduler/prefix_cache.h"

namespace heddle {
namespace {

/// Attention over so many keys costs about as much as everything else of a token.
constexpr double kKeysOfOneToken = 8192.0;
/// Nodes are changed one by one up to so many: beyond, to walk anew costs less.
constexpr int kMostShortened = 256;

}  // namespace

/// Of a block, in blocks' worth of computing: its own tokens, and those that its snapshots save.
double PrefixCache::worth(PrefixNode node) {
  const Node& n = at(node);
  double tokens = n.n_tokens * (1.0 + static_cast<double>(n.begin) / kKeysOfOneToken);
  for (const Snapshot& s : n.snapshots) tokens += worth(node, s);
  return tokens / options_.block_tokens;
}

/// Tokens that would be replayed without it.
double PrefixCache::worth(PrefixNode node, const Snapshot& snapshot) {
  std::int64_t before = 0;
  for (PrefixNode n = node; n != kNoNode && before == 0; n = states_above(n)) {
    for (const Snapshot& s : at(n).snapshots) {
      if (s.position < snapshot.position) before = std::max(before, s.position);
    }
  }
  return static_cast<double>(snapshot.position - before);
}

/// A node above: none between has snapshots.
PrefixNode PrefixCache::skip(PrefixNode node) const {
  const Node& n = at(node);
  return n.skip_from == skips_ ? n.skip : n.parent;
}

/// The nearest node above with snapshots; kNoNode: none. Who comes this way again goes at once
/// where this walk has led: a long text is as many nodes, each far away in memory.
PrefixNode PrefixCache::states_above(PrefixNode node) {
  PrefixNode found = skip(node);
  while (found != kNoNode && at(found).snapshots.empty()) found = skip(found);
  for (PrefixNode n = node; n != found;) {
    const PrefixNode next = skip(n);
    at(n).skip = found;
    at(n).skip_from = skips_;
    n = next;
  }
  return found;
}

/// It has snapshots from now on: those below go no further than here.
void PrefixCache::shorten_skips(PrefixNode node) {
  std::vector<PrefixNode> open{node};
  int n = 0;
  while (!open.empty()) {
    PrefixNode c = at(open.back()).first_child;
    open.pop_back();
    for (; c != kNoNode; c = at(c).next) {
      if (++n > kMostShortened) {
        ++skips_;
        return;
      }
      at(c).skip = node;
      at(c).skip_from = skips_;
      if (at(c).snapshots.empty()) open.push_back(c);
    }
  }
}

void PrefixCache::refresh(PrefixNode node) {
  Node& n = at(node);
  if (n.parent == kNoNode) return;
  n.credit = evictable_[n.tier()].block_credit;
  n.used = ++clock_;
  if (n.key) list(node);
}

/// It can be evicted from its tier, but for those who use it.
bool PrefixCache::is_leaf(PrefixNode node) const {
  const Node& n = at(node);
  return n.parent != kNoNode && (n.host >= 0 ? n.first_child == kNoNode : n.n_on_device == 0);
}

/// Puts a leaf where it belongs among those that can be evicted.
void PrefixCache::list(PrefixNode node) {
  unlist(node);
  Node& n = at(node);
  n.key = {n.credit + worth(node), n.used, node};
  evictable_[n.tier()].leaves.insert(*n.key);
}

/// What a sequence has, it will release.
void PrefixCache::list_if_idle(PrefixNode node) {
  if (is_leaf(node) && idle(node)) list(node);
}

void PrefixCache::unlist(PrefixNode node) {
  Node& n = at(node);
  if (n.key) evictable_[n.tier()].leaves.erase(*n.key);
  n.key.reset();
}

void PrefixCache::list(PrefixNode node, Snapshot& snapshot) {
  std::set<SnapshotKey>& all = evictable_[snapshot.tier()].snapshots;
  all.erase(snapshot.key);
  snapshot.key = {snapshot.credit + worth(node, snapshot), snapshot.used, node};
  all.insert(snapshot.key);
}

CachePlace PrefixCache::place(PrefixNode node) const {
  const Node& n = at(node);
  return n.host >= 0 ? CachePlace{.id = n.host, .on_host = true} : CachePlace{.id = n.block};
}

void PrefixCache::released(BlockId block) {
  const PrefixNode node = node_of_[static_cast<std::size_t>(block)];
  if (node != kNoNode && !at(node).key) list_if_idle(node);
}

void PrefixCache::hold(const BatchPlan::Copy& copy) {
  if (!copy.from.on_host) return;
  (copy.what == BatchPlan::Copy::What::kBlock ? host_blocks_ : host_slots_).share(copy.from.id);
}

void PrefixCache::release(const BatchPlan::Copy& copy) {
  if (!copy.from.on_host) return;
  (copy.what == BatchPlan::Copy::What::kBlock ? host_blocks_ : host_slots_).release(copy.from.id);
}

void PrefixCache::release_slot(const CachePlace& slot) {
  (slot.on_host ? host_slots_ : states_).release(slot.id);
  --(slot.on_host ? stats_.host_snapshots : stats_.snapshots);
}

void PrefixCache::drop_snapshot(PrefixNode node, std::size_t index) {
  Node& n = at(node);
  evictable_[n.snapshots[index].tier()].snapshots.erase(n.snapshots[index].key);
  release_slot(n.snapshots[index].slot);
  n.snapshots.erase(n.snapshots.begin() + static_cast<std::ptrdiff_t>(index));
  note_states(node);
  if (n.key) list(node);
}

/// A node that is new, or was on the host, has a block of the device from now on.
void PrefixCache::set_block(PrefixNode node, BlockId block) {
  Node& n = at(node);
  unlist(node);
  unlist(n.parent);
  if (n.host >= 0) {
    host_blocks_.release(n.host);
    --stats_.host_blocks;
    n.host = -1;
    has_more_ = has_more_ || on_last_path(node);
  }
  n.block = block;
  n.credit = evictable_[kDevice].block_credit;
  n.used = ++clock_;
  ++at(n.parent).n_on_device;
  ++stats_.blocks;
  blocks_.share(block);
  PrefixNode& owner = node_of_[static_cast<std::size_t>(block)];
  if (owner == kNoNode) blocks_.set_cached(block, true);
  owner = node;
  list_if_idle(node);
}

void PrefixCache::leave_device(PrefixNode node) {
  Node& n = at(node);
  PrefixNode& owner = node_of_[static_cast<std::size_t>(n.block)];
  if (owner == node) {  // else the one that absorbs it
    owner = kNoNode;
    blocks_.set_cached(n.block, false);
  }
  blocks_.release(n.block);
  n.block = -1;
  --stats_.blocks;
  --at(n.parent).n_on_device;
}

bool PrefixCache::evict_block(std::vector<BatchPlan::Copy>* moves) {
  Evictable& device = evictable_[kDevice];
  while (!device.leaves.empty()) {
    const auto [value, used, node] = *device.leaves.begin();
    if (!idle(node)) {
      unlist(node);  // until it is released
      continue;
    }
    device.block_credit = std::max(device.block_credit, value);
    if (moves == nullptr || !move_block(node, *moves)) lose(node);
    return true;
  }
  return false;
}

/// To the host, if it is worth the copies and more than what must go there for it.
bool PrefixCache::move_block(PrefixNode node, std::vector<BatchPlan::Copy>& moves) {
  Evictable& host = evictable_[kHost];
  if (host_blocks_.n_blocks() == 0 ||
      worth(node) * options_.block_tokens <= options_.block_copy_tokens) {
    return false;
  }
  // Its own children on the host are worth nothing without it.
  while (host_blocks_.n_free() == 0) {
    if (host.leaves.empty()) return false;
    const auto [value, used, least] = *host.leaves.begin();
    if (value >= host.block_credit + worth(node)) return false;
    host.block_credit = std::max(host.block_credit, value);
    lose(least);
  }
  const std::optional<BlockId> to = host_blocks_.allocate();
  moves.push_back({.what = BatchPlan::Copy::What::kBlock,
                   .from = {.id = at(node).block},
                   .to = {.id = *to, .on_host = true}});
  unlist(node);
  leave_device(node);
  Node& n = at(node);
  n.host = *to;
  n.credit = host.block_credit;
  n.used = ++clock_;
  ++stats_.host_blocks;
  ++stats_.moved_blocks;
  if (is_leaf(node)) list(node);
  list_if_idle(n.parent);
  return true;
}

/// Evicts a node for good, with what lies on the host below it.
void PrefixCache::lose(PrefixNode node) {
  for (PrefixNode last = node;;) {
    while (at(last).first_child != kNoNode) last = at(last).first_child;
    const PrefixNode above = at(last).parent;
    lost_.add(at(above).hash, LostPrefixes::kBlock, tokens_of(last));
    for (const Snapshot& snapshot : at(last).snapshots) remember_lost(last, snapshot);
    ++stats_.evicted_blocks;
    erase(last);
    if (last == node) return;
    last = above;
  }
}

void PrefixCache::remember_lost(PrefixNode node, const Snapshot& snapshot) {
  const Node& n = at(node);
  lost_.add(at(n.parent).hash, snapshot.position / options_.state_block_tokens,
            tokens_of(node).first(static_cast<std::size_t>(snapshot.position - n.begin)));
}

bool PrefixCache::evict_snapshot(std::vector<BatchPlan::Copy>* moves) {
  return evict_snapshot(kDevice, std::numeric_limits<double>::infinity(), moves);
}

PrefixCache::Snapshot& PrefixCache::find(const SnapshotKey& key) {
  std::vector<Snapshot>& all = at(std::get<2>(key)).snapshots;
  const auto it = std::ranges::find(all, key, &Snapshot::key);
  HEDDLE_CHECK(it != all.end());
  return *it;
}

/// Of those that are worth less than `below`.
bool PrefixCache::evict_snapshot(Tier tier, double below, std::vector<BatchPlan::Copy>* moves) {
  Evictable& mine = evictable_[tier];
  while (!mine.snapshots.empty()) {
    const SnapshotKey key = *mine.snapshots.begin();
    const auto [value, used, node] = key;
    Snapshot& snapshot = find(key);
    // One before it may have gone since: then it is worth more.
    if (snapshot.credit + worth(node, snapshot) > value) {
      list(node, snapshot);
      continue;
    }
    if (value >= below) return false;
    mine.state_credit = std::max(mine.state_credit, value);
    if (moves == nullptr || !move_snapshot(key, *moves)) lose_snapshot(key);
    return true;
  }
  return false;
}

void PrefixCache::lose_snapshot(const SnapshotKey& key) {
  const PrefixNode node = std::get<2>(key);
  const Snapshot& snapshot = find(key);
  remember_lost(node, snapshot);
  drop_snapshot(node, static_cast<std::size_t>(&snapshot - at(node).snapshots.data()));
  ++stats_.evicted_snapshots;
}

bool PrefixCache::move_snapshot(const SnapshotKey& key, std::vector<BatchPlan::Copy>& moves) {
  const PrefixNode node = std::get<2>(key);
  Evictable& host = evictable_[kHost];
  const double value = worth(node, find(key));
  if (host_slots_.n_blocks() == 0 || value <= options_.state_copy_tokens) return false;
  if (host_slots_.n_free() == 0) evict_snapshot(kHost, host.state_credit + value, nullptr);
  const std::optional<BlockId> to = host_slots_.allocate();
  if (!to) return false;
  Snapshot& snapshot = find(key);
  const CachePlace place{.id = *to, .on_host = true};
  moves.push_back({.what = BatchPlan::Copy::What::kState, .from = snapshot.slot, .to = place});
  evictable_[kDevice].snapshots.erase(key);
  release_slot(snapshot.slot);
  snapshot.slot = place;
  snapshot.credit = host.state_credit;
  snapshot.used = ++clock_;
  ++stats_.host_snapshots;
  ++stats_.moved_snapshots;
  list(node, snapshot);
  return true;
}

void PrefixCache::erase(PrefixNode node) {
  Node& n = at(node);
  HEDDLE_CHECK(n.first_child == kNoNode);
  while (!n.snapshots.empty()) drop_snapshot(node, n.snapshots.size() - 1);
  if (is_full(node) && full_.find(n.hash, hashes()) == node) full_.erase(n.hash, hashes());
  const PrefixNode parent = n.parent;
  const auto used = std::pair(n.credit, n.used);
  if (parent == kNoNode) {
    roots_.erase(n.scope);
  } else {
    unlist(node);
    if (n.host >= 0) {
      host_blocks_.release(n.host);
      --stats_.host_blocks;
    } else {
      leave_device(node);
    }
    detach(node);
  }
  if (!last_path_.empty() && last_path_.back() == node) {
    last_path_.pop_back();  // from the end only: who has children stays
    has_more_ = has_more_ || last_path_.empty();
  }
  at(node) = Node{};
  unused_.push_back(node);
  if (parent == kNoNode) return;
  if (at(parent).parent == kNoNode) {
    if (at(parent).first_child == kNoNode) erase(parent);
  } else {
    Node& p = at(parent);
    std::tie(p.credit, p.used) = std::max(std::pair(p.credit, p.used), used);
    list_if_idle(parent);
  }
}

void PrefixCache::clear_host() {
  Evictable& host = evictable_[kHost];
  while (!host.leaves.empty()) lose(std::get<2>(*host.leaves.begin()));
  while (!host.snapshots.empty()) lose_snapshot(*host.snapshots.begin());
}

}  // namespace heddle
