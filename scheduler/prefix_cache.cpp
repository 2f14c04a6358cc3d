#include "scheduler/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace heddle {
std::string_view name(ReuseMiss miss) {
  switch (miss) {
    case ReuseMiss::kNone:
      return "none";
    case ReuseMiss::kNoPrefix:
      return "no_prefix";
    case ReuseMiss::kDiverged:
      return "diverged_at";
    case ReuseMiss::kNoSnapshot:
      return "no_snapshot";
    case ReuseMiss::kEvicted:
      return "evicted";
    case ReuseMiss::kScope:
      return "scope";
    case ReuseMiss::kTooShort:
      return "too_short";
    case ReuseMiss::kDisabled:
      break;
  }
  return "disabled";
}

PrefixCache::PrefixCache(const PrefixCacheOptions& options, BlockPool& blocks, BlockPool& states)
    : options_(options),
      blocks_(blocks),
      states_(states),
      host_blocks_(options.host_blocks),
      host_slots_(options.host_slots),
      node_of_(static_cast<std::size_t>(blocks.n_blocks()), kNoNode),
      lost_(options.remembered_bytes) {
  HEDDLE_CHECK(options.block_tokens > 0 && options.state_block_tokens > 0);
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
  Node& p = at(parent);
  n.parent = parent;
  n.begin = p.end();
  n.next = p.first_child;
  if (n.next != kNoNode) at(n.next).previous = node;
  p.first_child = node;
  set_block(node, block);
  return node;
}

PrefixNode PrefixCache::full_child(PrefixNode parent, std::span<const Token> tokens) const {
  const PrefixNode node = full_.find(hash_of(at(parent).hash, tokens), hashes());
  if (node == kNoNode) return kNoNode;
  const bool same = at(node).parent == parent && std::ranges::equal(tokens_of(node), tokens);
  return same ? node : kNoNode;
}

std::int64_t PrefixCache::common(PrefixNode node, std::span<const Token> tokens) const {
  const std::span<const Token> mine = tokens_of(node);
  const auto end = mine.begin() + static_cast<std::ptrdiff_t>(std::min(mine.size(), tokens.size()));
  return std::mismatch(mine.begin(), end, tokens.begin()).first - mine.begin();
}

/// The last position up to `most` that the snapshot has the state of; -1: none.
std::int64_t PrefixCache::served(const Snapshot& snapshot, std::int64_t most) const {
  const std::int64_t position = std::min(snapshot.position, most);
  const std::int64_t first =
      snapshot.position / options_.state_block_tokens * options_.state_block_tokens;
  return position >= first ? position : -1;
}

PrefixCache::Match PrefixCache::match(std::string_view scope, std::span<const Token> tokens) {
  Match match;
  const auto n_tokens = static_cast<std::int64_t>(tokens.size());
  const std::int64_t most = n_tokens - 1;
  const auto it = roots_.find(scope);
  if (it == roots_.end() || most < 1) {
    match.reuse.miss = why(scope, tokens, match.reuse, {});
    return match;
  }
  const auto block = static_cast<std::size_t>(options_.block_tokens);
  std::vector<PrefixNode> path = {it->second};
  std::span<const Token> rest = tokens;
  for (; rest.size() >= block; rest = rest.subspan(block)) {
    const PrefixNode next = full_child(path.back(), rest.first(block));
    if (next == kNoNode) break;
    path.push_back(next);
  }
  const std::int64_t path_end = at(path.back()).end();
  // What lies past the full blocks: the child that agrees longest.
  PrefixNode tail = kNoNode;
  std::int64_t n_known = path_end;
  for (PrefixNode c = at(path.back()).first_child; c != kNoNode; c = at(c).next) {
    const std::int64_t known = path_end + common(c, rest);
    if (known <= n_known) continue;
    n_known = known;
    tail = c;
  }
  std::int64_t cached = options_.states ? 0 : std::min(n_known, most);
  PrefixNode state_node = kNoNode;
  // A state may lie in any child that agrees far enough; the deepest have the last ones.
  for (std::size_t i = path.size(); options_.states && i-- > 0;) {
    const std::int64_t begin = at(path[i]).end();
    for (PrefixNode c = at(path[i]).first_child; c != kNoNode; c = at(c).next) {
      if (at(c).snapshots.empty()) continue;
      const std::int64_t known = begin + common(c, tokens.subspan(static_cast<std::size_t>(begin)));
      for (const Snapshot& snapshot : at(c).snapshots) {
        const std::int64_t position = served(snapshot, std::min(known, most));
        if (position <= cached) continue;
        cached = position;
        match.state = snapshot.slot;
        state_node = c;
      }
    }
    if (cached > 0 && cached >= begin) break;
  }
  match.reuse.n_known = n_known;
  match.reuse.n_cached = cached;
  const std::int64_t n_full = cached / options_.block_tokens;
  if (cached % options_.block_tokens != 0) {
    const bool in_path = n_full + 1 < static_cast<std::int64_t>(path.size());
    const PrefixNode source = in_path           ? path[static_cast<std::size_t>(n_full + 1)]
                              : options_.states ? state_node
                                                : tail;
    match.partial = place(source);
    refresh(source);
  }
  refresh(path.back());  // those above are as recent once they are leaves
  if (state_node != kNoNode) {
    refresh(state_node);
    for (Snapshot& s : at(state_node).snapshots) {
      if (s.slot != match.state) continue;
      s.credit = evictable_[s.tier()].state_credit;
      s.used = ++clock_;
      list(state_node, s);
    }
  }
  match.path.assign(path.begin() + 1, path.begin() + 1 + n_full);
  match.reuse.miss = why(scope, tokens, match.reuse, path);
  return match;
}

ReuseMiss PrefixCache::why(std::string_view scope,
                           std::span<const Token> tokens,
                           const Reuse& reuse,
                           std::span<const PrefixNode> path) const {
  const auto n_tokens = static_cast<std::int64_t>(tokens.size());
  if (n_tokens < 2) return ReuseMiss::kTooShort;
  if (reuse.n_cached == n_tokens - 1) return ReuseMiss::kNone;
  // A scope of which all was evicted has no root.
  if (path.empty() && was_evicted(root_hash(scope), 0, tokens, reuse)) return ReuseMiss::kEvicted;
  for (std::size_t i = path.size(); i-- > 0;) {
    const Node& n = at(path[i]);
    if (n.end() + options_.block_tokens <= reuse.n_cached) break;
    if (was_evicted(n.hash, n.end(), tokens, reuse)) return ReuseMiss::kEvicted;
  }
  if (path.empty()) return scope.empty() ? ReuseMiss::kNoPrefix : ReuseMiss::kScope;
  if (reuse.n_cached < std::min(reuse.n_known, n_tokens - 1)) return ReuseMiss::kNoSnapshot;
  return reuse.n_known > 0 ? ReuseMiss::kDiverged : ReuseMiss::kNoPrefix;
}

/// Of what began at `begin`, more of these tokens than are known, or a state behind n_cached.
bool PrefixCache::was_evicted(const Hash128& before,
                              std::int64_t begin,
                              std::span<const Token> tokens,
                              const Reuse& reuse) const {
  const auto most = static_cast<std::int64_t>(tokens.size()) - 1;
  const std::int64_t n = std::min<std::int64_t>(options_.block_tokens, most + 1 - begin);
  tokens = tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n));
  const std::int64_t blocks = begin + lost_.common(before, LostPrefixes::kBlock, tokens);
  if (std::min(blocks, most) > reuse.n_known) return true;
  if (!options_.states) return false;
  const std::int64_t fold = options_.state_block_tokens;
  for (std::int64_t group = begin / fold; group <= (begin + options_.block_tokens) / fold;
       ++group) {
    const std::int64_t common = lost_.common(before, group, tokens);
    const std::int64_t position = std::min(begin + common, most);
    if (common >= 0 && position >= group * fold && position > reuse.n_cached) return true;
  }
  return false;
}

PrefixNode PrefixCache::insert(PrefixNode parent, std::span<const Token> tokens, BlockId block) {
  const auto n = static_cast<std::int64_t>(tokens.size());
  HEDDLE_CHECK(n >= 1 && n <= options_.block_tokens);
  HEDDLE_CHECK(at(parent).end() % options_.block_tokens == 0);
  const bool full = n == options_.block_tokens;
  PrefixNode node = full ? full_child(parent, tokens) : kNoNode;
  for (PrefixNode c = at(parent).first_child; !full && c != kNoNode; c = at(c).next) {
    if (common(c, tokens) == n) {
      node = c;
      break;
    }
  }
  if (node != kNoNode) {
    if (full && at(node).host >= 0) set_block(node, block);  // it is back
    refresh(node);
    return node;
  }
  node = make(parent, tokens, block);
  if (full) {
    at(node).hash = hash_of(at(parent).hash, tokens);
    if (full_.find(at(node).hash, hashes()) != kNoNode) {  // another text with this hash
      erase(node);
      return kNoNode;
    }
    full_.insert(node, hashes());
  }
  absorb(node);
  return node;
}

/// Siblings that are only the begin of `node` are not needed beside it.
void PrefixCache::absorb(PrefixNode node) {
  const std::span<const Token> tokens = tokens_of(node);
  for (PrefixNode c = at(node).next; c != kNoNode;) {
    const PrefixNode next = at(c).next;
    Node& old = at(c);
    if (old.n_tokens < at(node).n_tokens && common(c, tokens) == old.n_tokens) {
      for (Snapshot snapshot : std::exchange(old.snapshots, {})) {
        evictable_[snapshot.tier()].snapshots.erase(snapshot.key);
        list(node, snapshot);
        at(node).snapshots.push_back(snapshot);
      }
      if (at(node).key) list(node);
      erase(c);
    }
    c = next;
  }
}

bool PrefixCache::add_snapshot(PrefixNode node, std::int64_t position, BlockId slot) {
  HEDDLE_CHECK(options_.states && position > at(node).begin && position <= at(node).end());
  std::vector<Snapshot>& mine = at(node).snapshots;
  const auto there = std::ranges::find(mine, position, &Snapshot::position);
  if (there != mine.end()) {
    if (!there->slot.on_host) return false;
    drop_snapshot(node, static_cast<std::size_t>(there - mine.begin()));
  }
  Snapshot snapshot{.position = position,
                    .slot = {.id = slot},
                    .credit = evictable_[kDevice].state_credit,
                    .used = ++clock_};
  list(node, snapshot);
  mine.push_back(snapshot);
  ++stats_.snapshots;
  refresh_states(node);
  if (at(node).key) list(node);
  return true;
}

/// The text goes on behind `node`: its states are as recent as each other, so that of them the one
/// goes first that saves the fewest tokens, of equals the one nearest to the begin.
void PrefixCache::refresh_states(PrefixNode node) {
  std::vector<std::pair<std::int64_t, PrefixNode>> states;
  for (PrefixNode n = node; n != kNoNode; n = at(n).parent) {
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
    PrefixNode next = kNoNode;
    // A state that it left inside a block may lie in a node that goes on otherwise.
    for (PrefixNode c = at(last).first_child; c != kNoNode; c = at(c).next) {
      const std::int64_t known = common(c, tokens);
      drop_snapshots(c, from, at(c).begin + known);
      if (known != at(c).n_tokens) continue;
      path.push_back(c);
      if (is_full(c)) next = c;
    }
    last = next;
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
    int on_device = 0;
    for (PrefixNode c = n.first_child; c != kNoNode; c = at(c).next) {
      HEDDLE_CHECK(!unused.contains(c) && at(c).parent == node && at(c).begin == n.end());
      on_device += at(c).block >= 0 ? 1 : 0;
    }
    HEDDLE_CHECK(n.n_on_device == on_device);
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

}  // namespace heddle
