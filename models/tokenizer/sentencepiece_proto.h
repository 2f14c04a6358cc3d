#pragma once
// The protobuf of a SentencePiece model, read by hand: libsentencepiece trusts what it loads, so
// everything that it will rely on is checked here first.

#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/vocabulary.h"

namespace heddle {

/// Views the file's bytes.
struct SentencePieceModel {
  struct Piece {
    std::string_view text;
    float score = 0.0F;
    TokenKind kind = TokenKind::kNormal;
  };
  std::vector<Piece> pieces;
  bool bpe = false;  // false: unigram
  bool byte_fallback = false;
  std::string_view charsmap;  // "" if there is none
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  TokenId unk = 0, bos = 1, eos = 2, pad = -1;  // -1: none
};

/// Throws kBadInput: "SOURCE: tokenizer: WHAT, got X, allowed Y".
SentencePieceModel read_sentencepiece(std::string_view file, const std::string& source);

}  // namespace heddle
