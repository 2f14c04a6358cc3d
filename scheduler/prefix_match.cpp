// What the prefix cache has of a text, and why not more.

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/prefix_children.h"

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

/// The last position up to `most` that the snapshot has the state of; -1: none.
std::int64_t PrefixCache::served(const Snapshot& snapshot, std::int64_t most) const {
  const std::int64_t position = std::min(snapshot.position, most);
  const std::int64_t first =
      snapshot.position / options_.state_block_tokens * options_.state_block_tokens;
  return position >= first ? position : -1;
}

PrefixCache::Match PrefixCache::match(std::string_view scope, std::span<const Token> tokens) {
  Match match;
  ++stats_.lookups;
  last_path_.clear();
  has_more_ = true;  // until the path is known
  const auto n_tokens = static_cast<std::int64_t>(tokens.size());
  const std::int64_t most = n_tokens - 1;
  const auto it = roots_.find(scope);
  if (it == roots_.end() || most < 1) {
    match.reuse.miss = why(scope, tokens, match.reuse, {});
    return match;
  }
  const auto block = static_cast<std::size_t>(options_.block_tokens);
  std::vector<PrefixNode>& path = last_path_;
  path.push_back(it->second);
  std::span<const Token> rest = tokens;
  Hash128 hash = at(path.back()).hash;
  for (; rest.size() >= block; rest = rest.subspan(block)) {
    hash = hash_of(hash, rest.first(block));
    const PrefixNode next = full_child(path.back(), rest.first(block), hash);
    if (next == kNoNode) break;
    path.push_back(next);
  }
  const std::int64_t path_end = at(path.back()).end();
  // What lies past the full blocks.
  const PrefixNode tail = longest_child(path.back(), rest);
  const std::int64_t n_known = path_end + (tail == kNoNode ? 0 : common(tail, rest));
  std::int64_t cached = options_.states ? 0 : std::min(n_known, most);
  PrefixNode state_node = kNoNode;
  // A state may lie in any child that agrees far enough; the deepest have the last ones.
  for (std::size_t i = path.size(); options_.states && i-- > 0;) {
    const std::int64_t begin = at(path[i]).end();
    with_states(path[i], tokens.subspan(static_cast<std::size_t>(begin)),
                [&](PrefixNode c, std::int64_t known) {
                  for (const Snapshot& snapshot : at(c).snapshots) {
                    const std::int64_t position = served(snapshot, std::min(begin + known, most));
                    if (position <= cached) continue;
                    cached = position;
                    match.state = snapshot.slot;
                    state_node = c;
                  }
                  return begin + known > cached;  // who agrees less serves no more
                });
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
  last_cached_ = cached;
  has_more_ = false;
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

bool PrefixCache::on_last_path(PrefixNode node) const {
  const auto depth = static_cast<std::size_t>(at(node).end() / options_.block_tokens);
  return depth < last_path_.size() && last_path_[depth] == node;
}

}  // namespace heddle
