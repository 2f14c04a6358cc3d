#pragma once
// Tokens that are found in the raw text, before it is cut into words.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/byte_range.h"
#include "models/tokenizer/vocabulary.h"

namespace heddle {

struct AddedToken {
  std::string text;
  TokenId id = -1;
  bool control = false;      // special: found only where the scope allows it
  bool single_word = false;  // not found inside a word
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
};

/// A trie; immutable after construction. Matches are leftmost, then longest.
class AddedTokens {
 public:
  struct Match {
    ByteRange range;      // with the white space that it takes along
    std::size_t end = 0;  // of the token itself: where the search goes on
    TokenId id = -1;
  };
  /// Where the search may stop at control tokens.
  struct Scope {
    bool parse_special = true;
    const std::vector<ByteRange>* plain = nullptr;  // sorted and disjoint; no control token there
    /// For a text that was rewritten: the place in the source of each byte, to which `plain`
    /// refers; nullptr: the text is the source from byte `source` on.
    const std::vector<std::uint32_t>* origin = nullptr;
    std::size_t source = 0;
  };
  static constexpr std::size_t kMaxBytes = 1024;  // bounds the work per position of the text

  /// Of tokens with equal texts the first counts. Texts are UTF-8, not empty, up to kMaxBytes.
  explicit AddedTokens(const std::vector<AddedToken>& tokens);

  /// The first match at or after `pos`. It takes along no white space before `taken`.
  std::optional<Match> next(std::string_view text,
                            std::size_t pos,
                            std::size_t taken,
                            const Scope& scope) const;
  bool empty() const { return tokens_.empty(); }

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::uint32_t>> children;
    std::int32_t token = -1;  // index of the one that ends here
  };
  struct Found {
    std::size_t end = 0;
    const AddedToken* token = nullptr;
  };
  const Node* child(const Node& node, unsigned char byte) const;
  Found longest_at(std::string_view text, std::size_t pos, const Scope& scope) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::array<bool, 256> begins_{};  // bytes that begin a token
};

/// The control, unknown and user-defined tokens of a GGUF vocabulary. Throws kBadInput for one that
/// is not UTF-8 or is too long to be looked for.
std::vector<AddedToken> added_tokens_of(const TokenVocabulary& vocabulary,
                                        const std::string& source);

}  // namespace heddle
