#pragma once
// The `model` of a tokenizer.json: words to token ids.

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "models/tokenizer/added_vocabulary.h"
#include "models/tokenizer/bpe.h"
#include "models/tokenizer/json_node.h"
#include "models/tokenizer/token_table.h"
#include "models/tokenizer/unigram.h"

namespace heddle {

/// The spellings of a model and of the added tokens.
struct JsonVocabulary {
  JsonVocabulary(int rows, std::size_t n_tokens) : texts(rows), ids(n_tokens) {}
  TokenTexts texts;  // of all
  TokenTable ids;    // of the model's own tokens
  AddedVocabulary added;
};

/// Reads `model.vocab`, an object (BPE) or a list (Unigram); nothing is added yet. `rows`: of the
/// embedding. Throws kBadInput for ids or texts that are double, and for ids outside the embedding.
JsonVocabulary read_json_vocabulary(const JsonNode& model, int rows);

/// BPE of a tokenizer.json, over bytes or over characters. Immutable.
class JsonBpe {
 public:
  JsonBpe(const JsonNode& model, const JsonVocabulary& vocabulary, bool byte_level);
  void encode(std::string_view word, Bpe::Scratch& scratch, std::vector<TokenId>& out) const;
  bool byte_fallback() const { return byte_fallback_; }

 private:
  static Bpe make_bpe(const JsonNode& model, const JsonVocabulary& vocabulary);
  void begin_word(std::string_view word, std::vector<TokenId>& ids) const;
  TokenId symbol(std::string_view character) const;
  bool append_bytes(std::string_view character, std::vector<TokenId>& ids) const;

  bool byte_level_ = false;
  bool byte_fallback_ = false;
  bool fuse_unknown_ = false;
  TokenId unknown_ = -1;
  TokenTable words_;                     // spelled as bytes or as text; no special token
  std::array<TokenId, 256> byte_ids_{};  // of one byte (byte level), or of <0x41> (byte fallback)
  Bpe bpe_;
};

Unigram read_unigram(const JsonNode& model, const JsonVocabulary& vocabulary);

}  // namespace heddle
