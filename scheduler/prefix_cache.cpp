#include "scheduler/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "scheduler/prefix_children.h"

namespace heddle {
PrefixCache::PrefixCache(const PrefixCacheOptions& options, BlockPool& blocks, BlockPool& states)
    : options_(options),
      blocks_(blocks),
      states_(states),
      host_blocks_(options.host_blocks),
      host_slots_(options.host_slots),
      node_of_(static_cast<std::size_t>(blocks.n_blocks()), kNoNode),
      lost_(options.remembered_bytes) {
  HEDDLE_CHECK(options.block_tokens > 0 && options.state_block_tokens > 0);
  // A node for each block, and a root: growing would copy all of them in the middle of a step.
  const std::size_t n = node_of_.size() + static_cast<std::size_t>(options.host_blocks) + 1;
  nodes_.reserve(n);
  tokens_.reserve(n * static_cast<std::size_t>(options.block_tokens));
}

Hash128 PrefixCache::hash_of(const Hash128& parent, std::span<const Token> tokens) const {
  std::array<std::uint64_t, 64> words = {};
  HEDDLE_CHECK(tokens.size() <= 2 * (words.size() - 2));
  words[0] = parent.low;
  words[1] = parent.high;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    words[2 + i / 2] |= std::uint64_t{static_cast<std::uint32_t>(tokens[i])} << (i % 2 * 32);
  }
  return sip_hash(std::span(words).first(2 + (tokens.size() + 1) / 2), options_.key);
}

Hash128 PrefixCache::root_hash(std::string_view scope) const {
  std::vector<std::uint64_t> words(scope.size() / 8 + 1);
  for (std::size_t i = 0; i < scope.size(); ++i) {
    words[i / 8] |= std::uint64_t{static_cast<unsigned char>(scope[i])} << (i % 8 * 8);
  }
  words.push_back(scope.size());
  return sip_hash(words, options_.key);
}

PrefixNode PrefixCache::root(std::string_view scope) {
  if (const auto it = roots_.find(scope); it != roots_.end()) return it->second;
  const PrefixNode node = make(kNoNode, {}, -1);
  at(node).hash = root_hash(scope);
  at(node).scope = scope;
  roots_.emplace(scope, node);
  return node;
}

PrefixNode PrefixCache::make(PrefixNode parent, std::span<const Token> tokens, BlockId block) {
  PrefixNode node = static_cast<PrefixNode>(nodes_.size());
  if (unused_.empty()) {
    nodes_.emplace_back();
    tokens_.resize(nodes_.size() * static_cast<std::size_t>(options_.block_tokens));
  } else {
    node = unused_.back();
    unused_.pop_back();
    at(node) = Node{};
  }
  Node& n = at(node);
  n.n_tokens = static_cast<int>(tokens.size());
  std::ranges::copy(tokens, tokens_.begin() + std::ptrdiff_t{node} * options_.block_tokens);
  if (parent == kNoNode) return node;
  link(node, parent);
  set_block(node, block);
  return node;
}

/// `hash` is that of `tokens` behind the parent's.
PrefixNode PrefixCache::full_child(PrefixNode parent,
                                   std::span<const Token> tokens,
                                   Hash128 hash) const {
  if (at(parent).first_child == kNoNode) return kNoNode;
  const PrefixNode node = full_.find(hash, hashes());
  if (node == kNoNode) return kNoNode;
  const bool same = at(node).parent == parent && std::ranges::equal(tokens_of(node), tokens);
  return same ? node : kNoNode;
}

PrefixNode PrefixCache::insert(PrefixNode parent, std::span<const Token> tokens, BlockId block) {
  const auto n = static_cast<std::int64_t>(tokens.size());
  HEDDLE_CHECK(n >= 1 && n <= options_.block_tokens);
  HEDDLE_CHECK(at(parent).end() % options_.block_tokens == 0);
  const bool full = n == options_.block_tokens;
  const Hash128 hash = full ? hash_of(at(parent).hash, tokens) : Hash128{};
  if (full) full_.prefetch(hash);
  PrefixNode node = full ? full_child(parent, tokens, hash) : child_from(parent, tokens);
  if (node != kNoNode) {
    if (full && at(node).host >= 0) set_block(node, block);  // it is back
    refresh(node);
    return node;
  }
  node = make(parent, tokens, block);
  if (full) {
    at(node).hash = hash;
    if (full_.find(hash, hashes()) != kNoNode) {  // another text with this hash
      erase(node);
      return kNoNode;
    }
    full_.insert(node, hashes());
  }
  absorb(node);
  return node;
}

/// A sibling that is only the begin of `node` is not needed beside it.
void PrefixCache::absorb(PrefixNode node) {
  const PrefixNode begin = child_within(at(node).parent, tokens_of(node), node);
  if (begin == kNoNode) return;
  for (Snapshot snapshot : std::exchange(at(begin).snapshots, {})) {
    evictable_[snapshot.tier()].snapshots.erase(snapshot.key);
    list(node, snapshot);
    at(node).snapshots.push_back(snapshot);
  }
  note_states(begin);
  note_states(node);
  if (at(node).key) list(node);
  erase(begin);
}

bool PrefixCache::add_snapshot(PrefixNode node, std::int64_t position, BlockId slot) {
  HEDDLE_CHECK(options_.states && position > at(node).begin && position <= at(node).end());
  std::vector<Snapshot>& mine = at(node).snapshots;
  const auto there = std::ranges::find(mine, position, &Snapshot::position);
  if (there != mine.end()) {
    if (!there->slot.on_host) return false;
    drop_snapshot(node, static_cast<std::size_t>(there - mine.begin()));
  }
  if (mine.empty()) shorten_skips(node);
  Snapshot snapshot{.position = position,
                    .slot = {.id = slot},
                    .credit = evictable_[kDevice].state_credit,
                    .used = ++clock_};
  list(node, snapshot);
  mine.push_back(snapshot);
  ++stats_.snapshots;
  note_states(node);
  has_more_ = has_more_ || (position > last_cached_ && on_last_path(at(node).parent));
  refresh_states(node);
  if (at(node).key) list(node);
  return true;
}

/// The text goes on behind `node`: its states are as recent as each other, so that of them the one
/// goes first that saves the fewest tokens, of equals the one nearest to the begin.
void PrefixCache::refresh_states(PrefixNode node) {
  std::vector<std::pair<std::int64_t, PrefixNode>> states;
  for (PrefixNode n = node; n != kNoNode; n = states_above(n)) {
    for (const Snapshot& s : at(n).snapshots) states.emplace_back(s.position, n);
  }
  std::ranges::sort(states);
  for (const auto& [position, n] : states) {
    Snapshot& s = *std::ranges::find(at(n).snapshots, position, &Snapshot::position);
    s.credit = evictable_[s.tier()].state_credit;
    s.used = ++clock_;
    list(n, s);
  }
}

/// Those behind `from`, up to `to`.
void PrefixCache::drop_snapshots(PrefixNode node, std::int64_t from, std::int64_t to) {
  for (std::size_t i = at(node).snapshots.size(); i-- > 0;) {
    const std::int64_t position = at(node).snapshots[i].position;
    if (position > from && position <= to) drop_snapshot(node, i);
  }
}

void PrefixCache::discard(std::string_view scope,
                          std::span<const Token> tokens,
                          std::int64_t from) {
  const auto it = roots_.find(scope);
  if (it == roots_.end()) return;
  std::vector<PrefixNode> path;
  const auto block = static_cast<std::size_t>(options_.block_tokens);
  for (PrefixNode last = it->second; last != kNoNode;) {
    // A state that it left inside a block may lie in a node that goes on otherwise.
    std::vector<std::pair<PrefixNode, std::int64_t>> states;
    with_states(last, tokens, [&](PrefixNode c, std::int64_t known) {
      states.emplace_back(c, at(c).begin + known);
      return true;
    });
    for (const auto& [c, to] : states) drop_snapshots(c, from, to);
    const PrefixNode within = child_within(last, tokens);
    if (within != kNoNode) path.push_back(within);
    last = within != kNoNode && is_full(within) ? within : kNoNode;
    if (last != kNoNode) tokens = tokens.subspan(block);
  }
  // The deepest first: ends of sequences, then the blocks before them.
  for (std::size_t i = path.size(); i-- > 0;) {
    const PrefixNode node = path[i];
    if (at(node).end() <= from || at(node).n_on_device > 0 || !idle(node)) continue;
    // It may have taken the place of what was on the host: what lies below it there is lost too.
    if (at(node).first_child == kNoNode) {
      erase(node);
    } else {
      lose(node);
    }
  }
}

void PrefixCache::reset() {
  nodes_.clear();
  tokens_.clear();
  unused_.clear();
  roots_.clear();
  full_.clear();
  wide_.clear();
  last_path_.clear();
  has_more_ = true;
  for (Evictable& tier : evictable_) {
    tier.leaves.clear();
    tier.snapshots.clear();
  }
  host_blocks_.reset();
  host_slots_.reset();
  std::ranges::fill(node_of_, kNoNode);
  lost_.clear();
  stats_.blocks = stats_.snapshots = stats_.host_blocks = stats_.host_snapshots = 0;
}

void PrefixCache::clear() {
  clear_host();
  while (true) {
    const std::set<LeafKey>& leaves = evictable_[kDevice].leaves;
    const auto it =
        std::ranges::find_if(leaves, [&](const LeafKey& key) { return idle(std::get<2>(key)); });
    if (it == leaves.end()) break;
    erase(std::get<2>(*it));
  }
  lost_.clear();
}

void PrefixCache::count_owned(std::vector<int>& blocks, std::vector<int>& states) const {
  for (const Node& node : nodes_) {
    if (node.block >= 0) ++blocks[static_cast<std::size_t>(node.block)];
    for (const Snapshot& s : node.snapshots) {
      if (!s.slot.on_host) ++states[static_cast<std::size_t>(s.slot.id)];
    }
  }
}

PrefixCacheStats PrefixCache::stats() const {
  return stats_;
}

void PrefixCache::check() const {
  std::array<std::int64_t, kTiers> blocks = {};
  std::array<std::int64_t, kTiers> snapshots = {};
  std::array<std::size_t, kTiers> leaves = {};
  const std::set<PrefixNode> unused(unused_.begin(), unused_.end());
  HEDDLE_CHECK(unused.size() == unused_.size());
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const auto node = static_cast<PrefixNode>(i);
    if (unused.contains(node)) continue;
    const Node& n = at(node);
    check_children(node);
    if (n.parent == kNoNode) continue;
    ++blocks[n.tier()];
    leaves[n.tier()] += n.key ? 1 : 0;
    check_node(node);
    for (const Snapshot& s : n.snapshots) {
      HEDDLE_CHECK(s.position > n.begin && s.position <= n.end());
      HEDDLE_CHECK((s.slot.on_host ? host_slots_ : states_).references(s.slot.id) >= 1);
      HEDDLE_CHECK(evictable_[s.tier()].snapshots.contains(s.key));
      ++snapshots[s.tier()];
    }
  }
  for (const Tier tier : {kDevice, kHost}) {
    HEDDLE_CHECK(leaves[tier] == evictable_[tier].leaves.size());
    HEDDLE_CHECK(snapshots[tier] == std::ssize(evictable_[tier].snapshots));
  }
  HEDDLE_CHECK(blocks[kDevice] == stats_.blocks && blocks[kHost] == stats_.host_blocks);
  HEDDLE_CHECK(snapshots[kDevice] == stats_.snapshots && snapshots[kHost] == stats_.host_snapshots);
  HEDDLE_CHECK(host_blocks_.n_blocks() - host_blocks_.n_free() == stats_.host_blocks);
  HEDDLE_CHECK(host_slots_.n_blocks() - host_slots_.n_free() == stats_.host_snapshots);
  host_blocks_.check();
  host_slots_.check();
  check_skips();
}

void PrefixCache::check_node(PrefixNode node) const {
  const Node& n = at(node);
  HEDDLE_CHECK((n.block >= 0) != (n.host >= 0));
  HEDDLE_CHECK(is_full(node) ? full_.find(n.hash, hashes()) == node : n.first_child == kNoNode);
  HEDDLE_CHECK(!n.key || (is_leaf(node) && evictable_[n.tier()].leaves.contains(*n.key)));
  HEDDLE_CHECK(n.key || !is_leaf(node) || !idle(node));
  if (n.host >= 0) {
    HEDDLE_CHECK(n.n_on_device == 0 && host_blocks_.references(n.host) >= 1);
  } else {
    HEDDLE_CHECK(blocks_.references(n.block) >= 1);
    HEDDLE_CHECK(node_of_[static_cast<std::size_t>(n.block)] == node);
    HEDDLE_CHECK(at(n.parent).parent == kNoNode || at(n.parent).block >= 0);
  }
}

/// No skip passes a node with snapshots.
void PrefixCache::check_skips() const {
  const auto end_of = [&](PrefixNode node) { return node == kNoNode ? 0 : at(node).end(); };
  std::vector<std::pair<PrefixNode, PrefixNode>> open;  // a node, the nearest above with snapshots
  for (const auto& [scope, root] : roots_) open.emplace_back(root, kNoNode);
  while (!open.empty()) {
    const auto [node, above] = open.back();
    open.pop_back();
    HEDDLE_CHECK(end_of(skip(node)) >= end_of(above));
    const PrefixNode next = at(node).snapshots.empty() ? above : node;
    for (PrefixNode c = at(node).first_child; c != kNoNode; c = at(c).next) {
      open.emplace_back(c, next);
    }
  }
}

}  // namespace heddle
