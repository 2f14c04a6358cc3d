#pragma once
// The texts of a vocabulary as a tree over bytes, laid out in the order of a walk. Internal to
// engine/grammar/.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace heddle {

/// Immutable. Tokens without text are not in it.
class TokenTrie {
 public:
  /// `texts`: of every token.
  explicit TokenTrie(const std::vector<std::string>& texts);

  /// Nodes in the order of a depth-first walk; the root is none of them.
  struct Node {
    std::uint32_t end = 0;          // the node behind its subtree
    std::uint32_t first_token = 0;  // of tokens(): those that end here, then those below
    std::uint16_t depth = 0;        // bytes from the root, at least 1
    std::uint16_t n_tokens = 0;     // that end here
    std::uint8_t byte = 0;          // the last of them
  };
  std::span<const Node> nodes() const { return nodes_; }
  /// Tokens by their texts, ascending.
  std::span<const std::int32_t> tokens() const { return tokens_; }
  std::string_view text(std::int32_t token) const {
    const auto t = static_cast<std::size_t>(token);
    return std::string_view(bytes_).substr(offsets_[t], offsets_[t + 1] - offsets_[t]);
  }
  /// The bytes from the root to a node.
  std::string_view path(const Node& node) const {
    return text(tokens_[node.first_token]).substr(0, node.depth);
  }
  std::size_t longest() const { return longest_; }
  std::int64_t n_tokens() const { return static_cast<std::int64_t>(offsets_.size()) - 1; }

 private:
  std::string bytes_;
  std::vector<std::uint32_t> offsets_;
  std::vector<std::int32_t> tokens_;
  std::vector<Node> nodes_;
  std::size_t longest_ = 0;
};

}  // namespace heddle
