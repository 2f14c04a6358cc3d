// The children of the prefix cache's nodes: a list, and where there are many, in the order of their
// tokens, so that questions behind one system prompt are found in logarithmic time.

#include "scheduler/prefix_children.h"

#include <algorithm>

#include "base/error.h"

namespace heddle {

bool PrefixCache::ByTokens::operator()(PrefixNode a, PrefixNode b) const {
  return std::ranges::lexicographical_compare(cache->tokens_of(a), cache->tokens_of(b));
}

bool PrefixCache::ByTokens::operator()(PrefixNode a, std::span<const Token> b) const {
  return std::ranges::lexicographical_compare(cache->tokens_of(a), b);
}

bool PrefixCache::ByTokens::operator()(std::span<const Token> a, PrefixNode b) const {
  return std::ranges::lexicographical_compare(a, cache->tokens_of(b));
}

std::int64_t PrefixCache::common(PrefixNode node, std::span<const Token> tokens) const {
  const std::span<const Token> mine = tokens_of(node);
  const auto end = mine.begin() + static_cast<std::ptrdiff_t>(std::min(mine.size(), tokens.size()));
  return std::mismatch(mine.begin(), end, tokens.begin()).first - mine.begin();
}

void PrefixCache::link(PrefixNode node, PrefixNode parent) {
  Node& n = at(node);
  Node& p = at(parent);
  n.parent = parent;
  n.begin = p.end();
  n.skip = p.snapshots.empty() ? skip(parent) : parent;
  n.skip_from = skips_;
  n.next = p.first_child;
  if (n.next != kNoNode) at(n.next).previous = node;
  p.first_child = node;
  ++p.n_children;
  if (p.wide) {
    wide_.at(parent).all.insert(node);
  } else if (p.n_children > options_.few_children) {
    make_wide(parent);
  }
  has_more_ = has_more_ || last_path_.back() == parent;
}

void PrefixCache::make_wide(PrefixNode parent) {
  const ByTokens order{this};
  Children children{InOrder(order), InOrder(order)};
  for (PrefixNode c = at(parent).first_child; c != kNoNode; c = at(c).next) {
    children.all.insert(c);
    if (!at(c).snapshots.empty()) children.with_states.insert(c);
  }
  wide_.emplace(parent, std::move(children));
  at(parent).wide = true;
}

/// It has no snapshots and no children any more.
void PrefixCache::detach(PrefixNode node) {
  Node& n = at(node);
  Node& p = at(n.parent);
  --p.n_children;
  if (p.wide) {
    wide_.at(n.parent).all.erase(node);
    if (p.n_children <= options_.few_children / 2) {
      wide_.erase(n.parent);
      p.wide = false;
    }
  }
  (n.previous == kNoNode ? p.first_child : at(n.previous).next) = n.next;
  if (n.next != kNoNode) at(n.next).previous = n.previous;
}

/// After a change of its snapshots.
void PrefixCache::note_states(PrefixNode node) {
  const Node& n = at(node);
  if (n.parent == kNoNode || !at(n.parent).wide) return;
  InOrder& with_states = wide_.at(n.parent).with_states;
  if (n.snapshots.empty()) {
    with_states.erase(node);
  } else {
    with_states.insert(node);
  }
}

/// The child that agrees longest with `tokens`; none agrees: kNoNode.
PrefixNode PrefixCache::longest_child(PrefixNode parent, std::span<const Token> tokens) const {
  PrefixNode longest = kNoNode;
  std::int64_t most = 0;
  const auto consider = [&](PrefixNode c) {
    const std::int64_t known = common(c, tokens);
    if (known <= most) return;
    most = known;
    longest = c;
  };
  if (!at(parent).wide) {
    for (PrefixNode c = at(parent).first_child; c != kNoNode; c = at(c).next) consider(c);
    return longest;
  }
  const InOrder& all = wide_.at(parent).all;
  const auto behind = all.lower_bound(tokens);
  if (behind != all.end()) consider(*behind);
  if (behind != all.begin()) consider(*std::prev(behind));
  return longest;
}

/// A child that begins with all of `tokens`.
PrefixNode PrefixCache::child_from(PrefixNode parent, std::span<const Token> tokens) const {
  const PrefixNode longest = longest_child(parent, tokens);
  const auto n = static_cast<std::int64_t>(tokens.size());
  return longest != kNoNode && common(longest, tokens) == n ? longest : kNoNode;
}

/// The child that `tokens` begin with, other than `except`. There is no more than one: of two, one
/// would be the begin of the other.
PrefixNode PrefixCache::child_within(PrefixNode parent,
                                     std::span<const Token> tokens,
                                     PrefixNode except) const {
  const auto within = [&](PrefixNode c) {
    return c != except && common(c, tokens) == at(c).n_tokens;
  };
  if (!at(parent).wide) {
    for (PrefixNode c = at(parent).first_child; c != kNoNode; c = at(c).next) {
      if (within(c)) return c;
    }
    return kNoNode;
  }
  // Who comes between a begin of `tokens` and them begins with it, too.
  const InOrder& all = wide_.at(parent).all;
  auto before = all.upper_bound(tokens);
  for (int i = 0; i < 2 && before != all.begin(); ++i) {
    --before;
    if (within(*before)) return *before;
    if (*before != except) break;
  }
  return kNoNode;
}

void PrefixCache::check_children(PrefixNode parent) const {
  const Node& p = at(parent);
  int n = 0;
  int on_device = 0;
  std::size_t n_with_states = 0;
  for (PrefixNode c = p.first_child; c != kNoNode; c = at(c).next) {
    HEDDLE_CHECK(at(c).parent == parent && at(c).begin == p.end());
    ++n;
    on_device += at(c).block >= 0 ? 1 : 0;
    n_with_states += at(c).snapshots.empty() ? 0 : 1;
    if (!p.wide) continue;
    HEDDLE_CHECK(wide_.at(parent).all.contains(c));
    HEDDLE_CHECK(at(c).snapshots.empty() || wide_.at(parent).with_states.contains(c));
    HEDDLE_CHECK(child_within(parent, tokens_of(c), c) == kNoNode);
  }
  HEDDLE_CHECK(p.n_children == n && p.n_on_device == on_device);
  HEDDLE_CHECK(p.wide == wide_.contains(parent));
  if (!p.wide) return;
  HEDDLE_CHECK(wide_.at(parent).all.size() == static_cast<std::size_t>(n));
  HEDDLE_CHECK(wide_.at(parent).with_states.size() == n_with_states);
}

}  // namespace heddle
