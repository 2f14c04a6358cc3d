#include "scheduler/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace heddle {
namespace {

/// Attention over so many keys costs about as much as everything else of a token.
constexpr double kKeysOfOneToken = 8192.0;

}  // namespace

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
      node_of_(static_cast<std::size_t>(blocks.n_blocks()), kNoNode) {
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

PrefixNode PrefixCache::root(std::string_view scope) {
  if (const auto it = roots_.find(scope); it != roots_.end()) return it->second;
  const PrefixNode node = make(kNoNode, {}, -1);
  std::vector<std::uint64_t> words(scope.size() / 8 + 1);
  for (std::size_t i = 0; i < scope.size(); ++i) {
    words[i / 8] |= std::uint64_t{static_cast<unsigned char>(scope[i])} << (i % 8 * 8);
  }
  words.push_back(scope.size());
  at(node).hash = sip_hash(words, options_.key);
  at(node).scope = scope;
  roots_.emplace(scope, node);
  return node;
}

PrefixNode PrefixCache::make(PrefixNode parent, std::span<const Token> tokens, BlockId block) {
  PrefixNode node = static_cast<PrefixNode>(nodes_.size());
  if (unused_.empty()) {
    nodes_.emplace_back();
  } else {
    node = unused_.back();
    unused_.pop_back();
    at(node) = Node{};
  }
  Node& n = at(node);
  n.tokens.assign(tokens.begin(), tokens.end());
  n.block = block;
  if (parent == kNoNode) return node;
  Node& p = at(parent);
  unlist(parent);
  n.parent = parent;
  n.begin = p.end();
  n.next = p.first_child;
  if (n.next != kNoNode) at(n.next).previous = node;
  p.first_child = node;
  n.credit = block_credit_;
  n.used = ++clock_;
  list(node);
  blocks_.share(block);
  node_of_[static_cast<std::size_t>(block)] = node;
  ++stats_.blocks;
  return node;
}

PrefixNode PrefixCache::full_child(PrefixNode parent, std::span<const Token> tokens) const {
  const auto it = full_.find(hash_of(at(parent).hash, tokens));
  if (it == full_.end()) return kNoNode;
  const Node& n = at(it->second);
  const bool same = n.parent == parent && std::ranges::equal(n.tokens, tokens);
  return same ? it->second : kNoNode;
}

std::int64_t PrefixCache::common(PrefixNode node, std::span<const Token> tokens) const {
  const std::vector<Token>& mine = at(node).tokens;
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
    match.reuse.miss = why(scope, tokens, match.reuse, {}, kNoNode);
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
    match.partial = at(source).block;
    refresh(source);
  }
  for (const PrefixNode node : path) refresh(node);
  if (state_node != kNoNode) {
    refresh(state_node);
    for (Snapshot& s : at(state_node).snapshots) {
      if (s.slot != match.state) continue;
      s.credit = state_credit_;
      s.used = ++clock_;
      list(state_node, s);
    }
  }
  match.path.assign(path.begin() + 1, path.begin() + 1 + n_full);
  match.reuse.miss = why(scope, tokens, match.reuse, path, tail);
  return match;
}

ReuseMiss PrefixCache::why(std::string_view scope,
                           std::span<const Token> tokens,
                           const Reuse& reuse,
                           std::span<const PrefixNode> path,
                           PrefixNode tail) const {
  const auto n_tokens = static_cast<std::int64_t>(tokens.size());
  if (n_tokens < 2) return ReuseMiss::kTooShort;
  if (reuse.n_cached == n_tokens - 1) return ReuseMiss::kNone;
  if (reuse.n_cached < std::min(reuse.n_known, n_tokens - 1)) {
    const auto lost = [&](PrefixNode node) {
      return at(node).lost_snapshot && at(node).end() > reuse.n_cached;
    };
    const bool any = std::ranges::any_of(path, lost) || (tail != kNoNode && lost(tail));
    return any ? ReuseMiss::kEvicted : ReuseMiss::kNoSnapshot;
  }
  if (path.empty()) return scope.empty() ? ReuseMiss::kNoPrefix : ReuseMiss::kScope;
  const auto done = static_cast<std::size_t>(at(path.back()).end());
  const auto block = static_cast<std::size_t>(options_.block_tokens);
  if (tokens.size() >= done + block) {
    const Hash128 next = hash_of(at(path.back()).hash, tokens.subspan(done, block));
    if (evicted_.contains(next)) return ReuseMiss::kEvicted;
  }
  return reuse.n_known > 0 ? ReuseMiss::kDiverged : ReuseMiss::kNoPrefix;
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
    refresh(node);
    return node;
  }
  node = make(parent, tokens, block);
  if (full) {
    at(node).hash = hash_of(at(parent).hash, tokens);
    if (!full_.emplace(at(node).hash, node).second) {  // another text with this hash
      erase(node);
      return kNoNode;
    }
    evicted_.erase(at(node).hash);
  }
  absorb(node);
  return node;
}

/// Siblings that are only the begin of `node` are not needed beside it.
void PrefixCache::absorb(PrefixNode node) {
  const std::span<const Token> tokens = at(node).tokens;
  for (PrefixNode c = at(node).next; c != kNoNode;) {
    const PrefixNode next = at(c).next;
    Node& old = at(c);
    if (old.tokens.size() < tokens.size() &&
        common(c, tokens) == static_cast<std::int64_t>(old.tokens.size())) {
      at(node).lost_snapshot = at(node).lost_snapshot || old.lost_snapshot;
      for (Snapshot snapshot : std::exchange(old.snapshots, {})) {
        snapshots_.erase(snapshot.key);
        list(node, snapshot);
        at(node).snapshots.push_back(snapshot);
      }
      if (at(node).key) list(node);
      erase(c);
    }
    c = next;
  }
}

bool PrefixCache::has_snapshot(PrefixNode node, std::int64_t position) const {
  return std::ranges::any_of(at(node).snapshots,
                             [&](const Snapshot& s) { return s.position == position; });
}

bool PrefixCache::add_snapshot(PrefixNode node, std::int64_t position, BlockId slot) {
  HEDDLE_CHECK(options_.states && position > at(node).begin && position <= at(node).end());
  if (has_snapshot(node, position)) return false;
  Snapshot snapshot{.position = position, .slot = slot, .credit = state_credit_, .used = ++clock_};
  list(node, snapshot);
  at(node).snapshots.push_back(snapshot);
  ++stats_.snapshots;
  if (at(node).key) list(node);
  return true;
}

/// Of a block, in blocks' worth of computing: its own tokens, and those that its snapshots save.
double PrefixCache::worth(PrefixNode node) const {
  const Node& n = at(node);
  double tokens =
      static_cast<double>(n.tokens.size()) * (1.0 + static_cast<double>(n.begin) / kKeysOfOneToken);
  for (const Snapshot& s : n.snapshots) tokens += worth(node, s);
  return tokens / options_.block_tokens;
}

/// Tokens that would be replayed without it.
double PrefixCache::worth(PrefixNode node, const Snapshot& snapshot) const {
  std::int64_t before = 0;
  for (PrefixNode n = node; n != kNoNode && before == 0; n = at(n).parent) {
    for (const Snapshot& s : at(n).snapshots) {
      if (s.position < snapshot.position) before = std::max(before, s.position);
    }
  }
  return static_cast<double>(snapshot.position - before);
}

void PrefixCache::refresh(PrefixNode node) {
  Node& n = at(node);
  if (n.parent == kNoNode) return;
  n.credit = block_credit_;
  n.used = ++clock_;
  if (n.key) list(node);
}

/// Puts a leaf where it belongs among those that can be evicted.
void PrefixCache::list(PrefixNode node) {
  unlist(node);
  Node& n = at(node);
  n.key = {n.credit + worth(node), n.used, node};
  leaves_.insert(*n.key);
}

void PrefixCache::unlist(PrefixNode node) {
  Node& n = at(node);
  if (n.key) leaves_.erase(*n.key);
  n.key.reset();
}

void PrefixCache::list(PrefixNode node, Snapshot& snapshot) {
  snapshots_.erase(snapshot.key);
  snapshot.key = {snapshot.credit + worth(node, snapshot), snapshot.used, node, snapshot.slot};
  snapshots_.insert(snapshot.key);
}

void PrefixCache::released(BlockId block) {
  const PrefixNode node = node_of_[static_cast<std::size_t>(block)];
  if (node == kNoNode || at(node).key || at(node).first_child != kNoNode || !idle(node)) return;
  list(node);
}

void PrefixCache::drop_snapshot(PrefixNode node, std::size_t index) {
  Node& n = at(node);
  snapshots_.erase(n.snapshots[index].key);
  states_.release(n.snapshots[index].slot);
  n.snapshots.erase(n.snapshots.begin() + static_cast<std::ptrdiff_t>(index));
  --stats_.snapshots;
  if (n.key) list(node);
}

bool PrefixCache::evict_block() {
  while (!leaves_.empty()) {
    const auto [value, used, node] = *leaves_.begin();
    if (!idle(node)) {
      unlist(node);  // until it is released
      continue;
    }
    block_credit_ = std::max(block_credit_, value);
    if (static_cast<int>(at(node).tokens.size()) == options_.block_tokens &&
        options_.remembered > 0) {
      if (evicted_order_.size() == options_.remembered) {
        evicted_.erase(evicted_order_.front());
        evicted_order_.pop_front();
      }
      if (evicted_.insert(at(node).hash).second) evicted_order_.push_back(at(node).hash);
    }
    ++stats_.evicted_blocks;
    erase(node);
    return true;
  }
  return false;
}

bool PrefixCache::evict_snapshot() {
  while (!snapshots_.empty()) {
    const auto [value, used, node, slot] = *snapshots_.begin();
    std::vector<Snapshot>& mine = at(node).snapshots;
    const auto it = std::ranges::find(mine, slot, &Snapshot::slot);
    // One before it may have gone since: then it is worth more.
    if (it->credit + worth(node, *it) > value) {
      list(node, *it);
      continue;
    }
    drop_snapshot(node, static_cast<std::size_t>(it - mine.begin()));
    at(node).lost_snapshot = true;
    state_credit_ = std::max(state_credit_, value);
    ++stats_.evicted_snapshots;
    return true;
  }
  return false;
}

void PrefixCache::erase(PrefixNode node) {
  Node& n = at(node);
  HEDDLE_CHECK(n.first_child == kNoNode);
  for (const Snapshot& s : n.snapshots) {
    snapshots_.erase(s.key);
    states_.release(s.slot);
  }
  stats_.snapshots -= static_cast<std::int64_t>(n.snapshots.size());
  const auto full = full_.find(n.hash);
  if (full != full_.end() && full->second == node) full_.erase(full);
  const PrefixNode parent = n.parent;
  if (parent == kNoNode) {
    roots_.erase(n.scope);
  } else {
    unlist(node);
    PrefixNode& owner = node_of_[static_cast<std::size_t>(n.block)];
    if (owner == node) owner = kNoNode;  // else the one that absorbs it
    blocks_.release(n.block);
    --stats_.blocks;
    (n.previous == kNoNode ? at(parent).first_child : at(n.previous).next) = n.next;
    if (n.next != kNoNode) at(n.next).previous = n.previous;
  }
  at(node) = Node{};
  unused_.push_back(node);
  if (parent == kNoNode || at(parent).first_child != kNoNode) return;
  if (at(parent).parent == kNoNode) {
    erase(parent);
  } else {
    list(parent);
  }
}

void PrefixCache::discard(std::string_view scope,
                          std::span<const Token> tokens,
                          std::int64_t from) {
  const auto it = roots_.find(scope);
  if (it == roots_.end()) return;
  std::vector<PrefixNode> path;
  PrefixNode last = it->second;
  const auto block = static_cast<std::size_t>(options_.block_tokens);
  for (; tokens.size() >= block; tokens = tokens.subspan(block)) {
    const PrefixNode next = full_child(last, tokens.first(block));
    if (next == kNoNode) break;
    path.push_back(next);
    last = next;
  }
  for (PrefixNode c = at(last).first_child; c != kNoNode; c = at(c).next) {
    if (common(c, tokens) == static_cast<std::int64_t>(at(c).tokens.size())) path.push_back(c);
  }
  for (const PrefixNode node : path) {
    for (std::size_t i = at(node).snapshots.size(); i-- > 0;) {
      if (at(node).snapshots[i].position > from) drop_snapshot(node, i);
    }
  }
  // The deepest first: ends of sequences, then the blocks before them.
  for (std::size_t i = path.size(); i-- > 0;) {
    const PrefixNode node = path[i];
    if (at(node).end() > from && at(node).first_child == kNoNode && idle(node)) erase(node);
  }
}

void PrefixCache::clear() {
  for (bool found = true; found;) {
    found = false;
    for (const auto& [credit, used, node] : leaves_) {
      if (!idle(node)) continue;
      erase(node);
      found = true;
      break;
    }
  }
}

void PrefixCache::count_owned(std::vector<int>& blocks, std::vector<int>& states) const {
  for (const Node& node : nodes_) {
    if (node.block >= 0) ++blocks[static_cast<std::size_t>(node.block)];
    for (const Snapshot& s : node.snapshots) ++states[static_cast<std::size_t>(s.slot)];
  }
}

PrefixCacheStats PrefixCache::stats() const {
  return stats_;
}

void PrefixCache::check() const {
  std::int64_t blocks = 0;
  std::int64_t snapshots = 0;
  std::set<PrefixNode> idle(unused_.begin(), unused_.end());
  HEDDLE_CHECK(idle.size() == unused_.size());
  std::size_t n_leaves = 0;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const auto node = static_cast<PrefixNode>(i);
    if (idle.contains(node)) continue;
    const Node& n = at(node);
    for (PrefixNode c = n.first_child; c != kNoNode; c = at(c).next) {
      HEDDLE_CHECK(!idle.contains(c) && at(c).parent == node && at(c).begin == n.end());
    }
    if (n.parent == kNoNode) continue;
    ++blocks;
    HEDDLE_CHECK(blocks_.references(n.block) >= 1);
    const bool full = static_cast<int>(n.tokens.size()) == options_.block_tokens;
    HEDDLE_CHECK(full ? full_.at(n.hash) == node : n.first_child == kNoNode);
    if (n.first_child == kNoNode) {
      n_leaves += n.key ? 1 : 0;
      HEDDLE_CHECK(n.key ? leaves_.contains(*n.key) : !this->idle(node));
    }
    HEDDLE_CHECK(node_of_[static_cast<std::size_t>(n.block)] == node);
    for (const Snapshot& s : n.snapshots) {
      HEDDLE_CHECK(s.position > n.begin && s.position <= n.end());
      HEDDLE_CHECK(states_.references(s.slot) >= 1 && snapshots_.contains(s.key));
      ++snapshots;
    }
  }
  HEDDLE_CHECK(n_leaves == leaves_.size());
  HEDDLE_CHECK(static_cast<std::size_t>(snapshots) == snapshots_.size());
  HEDDLE_CHECK(blocks == stats_.blocks && snapshots == stats_.snapshots);
}

}  // namespace heddle
