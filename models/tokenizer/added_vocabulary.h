#pragma once
// The added tokens of a model folder: found in the text before the model sees the rest.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/tokenizer_config.h"

namespace heddle {

/// The texts of all tokens by id: those of a model's vocabulary, then the added ones.
class TokenTexts {
 public:
  /// `rows`: of the embedding; no id may reach it.
  explicit TokenTexts(int rows) : texts_(static_cast<std::size_t>(rows)) {}

  int rows() const { return static_cast<int>(texts_.size()); }
  bool has(TokenId id) const { return id >= 0 && id < rows() && !text(id).empty(); }
  const std::string& text(TokenId id) const { return texts_[static_cast<std::size_t>(id)]; }
  void set(TokenId id, std::string text) { texts_[static_cast<std::size_t>(id)] = std::move(text); }
  TokenId end() const;        // one more than the greatest id
  TokenId first_gap() const;  // the least id without a text below end(); -1: none

 private:
  std::vector<std::string> texts_;  // "" where an id has no token
};

/// Added tokens of a vocabulary, merged from tokenizer.json and the configuration.
class AddedVocabulary {
 public:
  /// Adds one; a token that is there already stays as it is but for becoming special. Throws
  /// kBadInput for an id that another token has, or that is outside the embedding.
  void add(const ConfiguredToken& token, TokenId known, TokenTexts& texts);
  const std::vector<ConfiguredToken>& tokens() const { return tokens_; }
  bool is_special(TokenId id) const;
  /// Those that are looked for in the raw text or in the normalised one.
  std::vector<AddedToken> list(bool normalized) const;

 private:
  std::vector<ConfiguredToken> tokens_;
  std::vector<std::int32_t> index_;  // by id; -1: not added
};

}  // namespace heddle
