#include "engine/grammar/token_trie.h"

#include <algorithm>
#include <limits>

namespace heddle {

TokenTrie::TokenTrie(const std::vector<std::string>& texts) {
  offsets_.push_back(0);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    // A token of 64 KiB is never chosen: depths have 16 bits.
    const bool usable = texts[i].size() <= std::numeric_limits<std::uint16_t>::max();
    if (usable) bytes_ += texts[i];
    offsets_.push_back(static_cast<std::uint32_t>(bytes_.size()));
    if (usable && !texts[i].empty()) tokens_.push_back(static_cast<std::int32_t>(i));
  }
  std::ranges::sort(tokens_, [this](std::int32_t a, std::int32_t b) {
    const std::string_view x = text(a);
    const std::string_view y = text(b);
    return x != y ? x < y : a < b;
  });
  std::vector<std::uint32_t> open;  // nodes from the root to the last one
  std::string_view last;
  const auto close_to = [&](std::size_t depth) {
    for (; open.size() > depth; open.pop_back()) {
      nodes_[open.back()].end = static_cast<std::uint32_t>(nodes_.size());
    }
  };
  for (std::uint32_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view t = text(tokens_[i]);
    longest_ = std::max(longest_, t.size());
    const auto common = static_cast<std::size_t>(std::ranges::mismatch(t, last).in1 - t.begin());
    close_to(common);
    for (std::size_t depth = common; depth < t.size(); ++depth) {
      open.push_back(static_cast<std::uint32_t>(nodes_.size()));
      nodes_.push_back({.first_token = i,
                        .depth = static_cast<std::uint16_t>(depth + 1),
                        .byte = static_cast<std::uint8_t>(t[depth])});
    }
    Node& node = nodes_[open.back()];
    // More equal texts than that are the same to a grammar; the others are never chosen.
    if (node.n_tokens < std::numeric_limits<std::uint16_t>::max()) ++node.n_tokens;
    last = t;
  }
  close_to(0);
}

}  // namespace heddle
