#pragma once
// Internal to scheduler/: a template of PrefixCache.

#include <algorithm>
#include <iterator>

#include "scheduler/prefix_cache.h"

namespace heddle {

/// Calls visit(child, tokens that it has in common with `tokens`) for children that have snapshots.
/// Where there are many, those that agree longest come first, until it returns false.
template <typename Visit>
void PrefixCache::with_states(PrefixNode parent,
                              std::span<const Token> tokens,
                              const Visit& visit) const {
  if (!at(parent).wide) {
    for (PrefixNode c = at(parent).first_child; c != kNoNode; c = at(c).next) {
      if (!at(c).snapshots.empty()) visit(c, common(c, tokens));
    }
    return;
  }
  const InOrder& all = wide_.at(parent).with_states;
  auto behind = all.lower_bound(tokens);
  auto before = std::make_reverse_iterator(behind);
  while (behind != all.end() || before != all.rend()) {
    const std::int64_t b = behind == all.end() ? -1 : common(*behind, tokens);
    const std::int64_t a = before == all.rend() ? -1 : common(*before, tokens);
    if (!visit(b >= a ? *behind : *before, std::max(a, b))) return;
    if (b >= a) {
      ++behind;
    } else {
      ++before;
    }
  }
}

}  // namespace heddle
