// What a session file needs of the prefix cache: the longest path of a text that is there, and a
// place for one that comes from elsewhere.

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "base/error.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/prefix_children.h"
#include "scheduler/recovery.h"
#include "scheduler/scheduler.h"

namespace heddle {
namespace {

/// Which `n` of the positions (ascending) are kept: the last, and those that save most tokens of
/// replay.
std::vector<std::size_t> most_useful(std::span<const std::int64_t> positions, std::int64_t n) {
  if (n <= 0 || positions.empty()) return {};
  const std::size_t size = positions.size();
  std::vector<std::size_t> before(size);  // of those that are kept; `size`: none
  std::vector<std::size_t> after(size);
  const auto saved = [&](std::size_t i) {
    return positions[i] - (before[i] == size ? 0 : positions[before[i]]);
  };
  std::set<std::pair<std::int64_t, std::size_t>> least_first;
  for (std::size_t i = 0; i < size; ++i) {
    before[i] = i == 0 ? size : i - 1;
    after[i] = i + 1;
    least_first.emplace(i + 1 == size ? std::numeric_limits<std::int64_t>::max() : saved(i), i);
  }
  while (static_cast<std::int64_t>(least_first.size()) > n) {
    const std::size_t out = least_first.begin()->second;
    least_first.erase(least_first.begin());
    const std::size_t next = after[out];  // the last one never goes before others
    if (next + 1 < size) least_first.erase({saved(next), next});
    before[next] = before[out];
    if (before[out] < size) after[before[out]] = next;
    if (next + 1 < size) least_first.emplace(saved(next), next);
  }
  std::vector<std::size_t> kept;
  for (const auto& [tokens, i] : least_first) kept.push_back(i);
  std::ranges::sort(kept);
  return kept;
}

}  // namespace

CachedPath PrefixCache::path(std::string_view scope, std::span<const Token> tokens) const {
  CachedPath found;
  const auto it = roots_.find(scope);
  if (it == roots_.end()) return found;
  const auto block = static_cast<std::size_t>(options_.block_tokens);
  PrefixNode last = it->second;
  Hash128 hash = at(last).hash;
  for (PrefixNode next = last; next != kNoNode; last = next) {
    const std::span<const Token> rest = tokens.subspan(static_cast<std::size_t>(found.n_tokens));
    const bool full = rest.size() >= block;
    if (full) hash = hash_of(hash, rest.first(block));
    next = full ? full_child(last, rest.first(block), hash) : kNoNode;
    with_states(last, rest, [&](PrefixNode c, std::int64_t known) {
      for (const Snapshot& snapshot : at(c).snapshots) {
        const std::int64_t position = served(snapshot, found.n_tokens + known);
        if (position > 0) found.snapshots.push_back({position, snapshot.slot});
      }
      return true;
    });
    const PrefixNode longest = next != kNoNode ? next : longest_child(last, rest);
    const std::int64_t n = longest == kNoNode ? 0 : common(longest, rest);
    HEDDLE_CHECK(next == kNoNode || n == options_.block_tokens);
    if (n > 0) found.blocks.push_back(place(longest));
    found.n_tokens += n;
    if (next == kNoNode) break;
  }
  std::ranges::sort(found.snapshots, {}, &CachedPath::Snapshot::position);
  const auto same = [](const auto& a, const auto& b) { return a.position == b.position; };
  found.snapshots.erase(std::unique(found.snapshots.begin(), found.snapshots.end(), same),
                        found.snapshots.end());
  return found;
}

AdoptedPath Scheduler::adopt(std::string_view scope,
                             std::span<const Token> tokens,
                             std::span<const std::int64_t> snapshots) {
  const Recovery recovery(*this);
  AdoptedPath adopted;
  const auto n_tokens = static_cast<std::int64_t>(tokens.size());
  std::vector<PrefixNode> path;
  while (options_.prefix_cache && adopted.n_tokens < n_tokens) {
    const std::optional<BlockId> block = pool_.allocate();
    if (!block) break;
    const std::int64_t n =
        std::min<std::int64_t>(options_.block_tokens, n_tokens - adopted.n_tokens);
    const auto part =
        tokens.subspan(static_cast<std::size_t>(adopted.n_tokens), static_cast<std::size_t>(n));
    const PrefixNode node =
        cache_.insert(path.empty() ? cache_.root(scope) : path.back(), part, *block);
    const bool taken = node != kNoNode && cache_.place(node) == CachePlace{.id = *block};
    release(*block);  // the tree's now, or free again
    if (node == kNoNode) break;
    path.push_back(node);
    adopted.blocks.push_back(taken ? *block : -1);
    adopted.n_tokens += n;
  }
  adopt_snapshots(path, snapshots, adopted);
  return adopted;
}

void Scheduler::adopt_snapshots(std::span<const PrefixNode> path,
                                std::span<const std::int64_t> snapshots,
                                AdoptedPath& adopted) {
  // Those past the end of what found room go with it.
  const auto n_fitting = std::ranges::upper_bound(snapshots, adopted.n_tokens) - snapshots.begin();
  const std::span<const std::int64_t> fitting =
      snapshots.first(static_cast<std::size_t>(n_fitting));
  // Sequences that run, or will, find slots without taking any of these away.
  const auto n_running = static_cast<std::int64_t>(running_.size());
  const std::int64_t room = states_.n_free() - (options_.max_running - n_running);
  for (const std::size_t i : most_useful(fitting, has_states() ? room : 0)) {
    const std::optional<BlockId> slot = states_.allocate();
    HEDDLE_CHECK(slot.has_value());
    const auto node = path[static_cast<std::size_t>((fitting[i] - 1) / options_.block_tokens)];
    if (cache_.add_snapshot(node, fitting[i], *slot)) {
      adopted.snapshots.push_back({i, *slot});
    } else {
      states_.release(*slot);
    }
  }
}

}  // namespace heddle
