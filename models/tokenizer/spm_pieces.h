#pragma once
// The pieces of a SentencePiece vocabulary, whatever file they came from: spelled with U+2581 for a
// space, some of them single bytes.

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/vocabulary.h"

namespace heddle {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

/// Filled once, then immutable. Ids without a piece are unused and have no text.
class SpmPieces {
 public:
  struct SpaceRule {
    bool strip_one = true;   // the space that the encoder puts before a text
    bool strip_all = false;  // and all others: texts begin with no space
  };
  explicit SpmPieces(int rows);

  void set(TokenId id, std::string text, TokenKind kind);
  void set_rule(SpaceRule rule) { rule_ = rule; }

  int rows() const { return static_cast<int>(kinds_.size()); }
  bool contains(TokenId id) const { return id >= 0 && id < rows(); }
  const std::string& text(TokenId id) const { return texts_[static_cast<std::size_t>(id)]; }
  TokenKind kind(TokenId id) const { return kinds_[static_cast<std::size_t>(id)]; }
  bool is_control(TokenId id) const {
    return kind(id) == TokenKind::kControl || kind(id) == TokenKind::kUnknown;
  }
  TokenId byte_token(unsigned char byte) const { return byte_tokens_[byte]; }  // -1: none
  TokenId find(std::string_view text) const;  // looks at all of them; -1: none
  TokenId end() const;                        // one more than the greatest id with a piece

  /// What Tokenizer::next_bytes and token_bytes promise.
  std::string bytes(TokenId id, DecodeState& state, bool special) const;

 private:
  std::vector<std::string> texts_;
  std::vector<TokenKind> kinds_;
  std::array<TokenId, 256> byte_tokens_{};
  SpaceRule rule_;
};

/// What tokenizers over such pieces answer alike.
class SpmPieceTokenizer : public Tokenizer {
 public:
  std::string token_bytes(TokenId id, bool special) const final {
    DecodeState state{.begun = true, .n_stripped = 1};
    return next_bytes(id, state, special);
  }
  std::string next_bytes(TokenId id, DecodeState& state, bool special) const override {
    return pieces_.bytes(id, state, special);
  }
  std::int32_t vocab_size() const final { return pieces_.rows(); }
  bool is_control(TokenId id) const final { return pieces_.contains(id) && pieces_.is_control(id); }
  std::optional<TokenId> find(std::string_view token) const final {
    const TokenId id = pieces_.find(token);
    return id < 0 ? std::nullopt : std::optional<TokenId>(id);
  }
  const TokenizerFacts& facts() const final { return facts_; }

 protected:
  explicit SpmPieceTokenizer(SpmPieces pieces) : pieces_(std::move(pieces)) {}

  SpmPieces pieces_;
  TokenizerFacts facts_;
};

/// U+2581 as spaces.
std::string with_spaces(std::string_view piece);
/// Spaces as U+2581.
std::string with_space_symbols(std::string_view text);

}  // namespace heddle
