#pragma once
// What a tokenizer.json's `decoder` does, token by token.

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "models/tokenizer/json_node.h"
#include "models/tokenizer/tokenizer.h"

namespace heddle {

/// Tokens to bytes; the text is their concatenation. Immutable.
class TokenDecoder {
 public:
  TokenDecoder() = default;  // none: the tokens with a space between them
  /// Throws kBadInput for an unknown type or member, or an order of steps that needs the whole
  /// text.
  explicit TokenDecoder(const JsonNode& node);

  /// The bytes of a token, by its spelling, at a place in a text.
  std::string bytes(std::string_view token, DecodeState& state) const;

  struct Replace {
    std::string from, to;
  };
  struct Metaspace {
    std::string replacement;
    bool drop_first = true;
  };

 private:
  void add(const JsonNode& node, int depth);
  void add_strip(const JsonNode& node);
  std::string spell(std::string_view token, bool first) const;

  std::vector<std::variant<Replace, Metaspace>> steps_;
  bool joined_ = false;         // false: a space between tokens
  bool byte_level_ = false;     // GPT-2's alphabet
  bool byte_fallback_ = false;  // <0x41> is a byte
  bool fused_ = false;          // later steps see one text
  char strip_ = ' ';            // character and number of it that the text loses at its begin
  int n_strip_ = 0;
};

/// The byte that <0x41> stands for; -1: another token.
int byte_of_token(std::string_view token);

}  // namespace heddle
