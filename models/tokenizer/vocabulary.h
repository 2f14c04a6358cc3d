#pragma once
// The tokens of a byte-level vocabulary: id -> bytes and bytes -> id, in one arena and one open
// addressing table (49,152 tokens: about 2 MB).

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace heddle {

/// Token kinds of GGUF.
enum class TokenKind : std::uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

/// Immutable after construction. Tokens of the kinds normal and byte are spelled in the byte-level
/// alphabet and stand for bytes; the others, and spellings outside the alphabet, stand for
/// themselves and are never found by find_bytes.
class TokenVocabulary {
 public:
  /// Validates tokens and types. Throws kBadInput.
  explicit TokenVocabulary(const TokenizerSpec& spec);

  std::int32_t size() const { return static_cast<std::int32_t>(kinds_.size()); }
  bool contains(TokenId id) const { return id >= 0 && id < size(); }
  TokenKind kind(TokenId id) const { return kinds_[static_cast<std::size_t>(id)]; }
  /// Control and unknown tokens: never produced from plain text.
  bool is_control(TokenId id) const {
    return kind(id) == TokenKind::kControl || kind(id) == TokenKind::kUnknown;
  }
  /// What the token stands for.
  std::string_view bytes(TokenId id) const;
  /// The byte-level token that stands for exactly these bytes; -1: none.
  TokenId find_bytes(std::string_view bytes) const;
  /// The token of one byte; -1: none.
  TokenId byte_token(unsigned char byte) const { return byte_tokens_[byte]; }
  /// The token that is spelled so in the file; -1: none.
  TokenId find_text(std::string_view text) const;

 private:
  struct Slot {
    std::uint32_t tag = 0;
    TokenId id = -1;
  };
  TokenId lookup(std::string_view bytes, bool byte_level) const;
  void insert(TokenId id);
  void store(const TokenizerSpec& spec);

  std::string arena_;
  std::vector<std::uint64_t> starts_;  // size() + 1 positions in arena_
  std::vector<TokenKind> kinds_;
  std::vector<bool> byte_level_;
  std::vector<Slot> slots_;  // a power of two, at most half full
  std::array<TokenId, 256> byte_tokens_{};
  std::size_t longest_ = 0;  // bytes of the longest token
};

}  // namespace heddle
