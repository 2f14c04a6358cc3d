#pragma once
// Tokens that are found in the raw text, before it is cut into words.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/byte_range.h"
#include "models/tokenizer/vocabulary.h"

namespace heddle {

/// A trie of the control, unknown and user-defined tokens; immutable after construction. Matches
/// are leftmost, then longest.
class AddedTokens {
 public:
  struct Match {
    ByteRange range;
    TokenId id = -1;
  };
  /// Where the search may stop at control tokens.
  struct Scope {
    bool parse_special = true;
    const std::vector<ByteRange>* plain = nullptr;  // sorted and disjoint; no control token there
  };

  /// Throws kBadInput for a token that is not UTF-8 or is too long to be looked for.
  AddedTokens(const TokenVocabulary& vocabulary, const std::string& source);

  /// The first match at or after `pos`.
  std::optional<Match> next(std::string_view text, std::size_t pos, const Scope& scope) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::uint32_t>> children;
    TokenId id = -1;  // of the token that ends here
    bool control = false;
  };
  const Node* child(const Node& node, unsigned char byte) const;

  std::vector<Node> nodes_;
  std::array<bool, 256> begins_{};  // bytes that begin a token
};

}  // namespace heddle
