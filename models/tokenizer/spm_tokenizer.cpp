#include "models/tokenizer/spm_tokenizer.h"

#include <cmath>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/gguf_spec.h"
#include "models/tokenizer/input_text.h"
#include "models/tokenizer/spm_bpe.h"
#include "models/tokenizer/spm_pieces.h"
#include "models/tokenizer/token_decoder.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

SpmPieces read_pieces(const TokenizerSpec& spec) {
  check_token_types(spec);
  if (spec.scores.size() != spec.tokens.size()) {
    throw spec_error(spec.source, "scores", std::to_string(spec.scores.size()) + " entries",
                     std::to_string(spec.tokens.size()) + ", one per token");
  }
  SpmPieces pieces(static_cast<int>(spec.tokens.size()));
  TokenTable seen(spec.tokens.size());
  for (std::size_t i = 0; i < spec.tokens.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string& text = spec.tokens[i];
    const auto kind = static_cast<TokenKind>(spec.types[i]);
    const auto refuse = [&](const std::string& allowed) {
      throw spec_error(spec.source, "tokens[" + std::to_string(i) + "]",
                       quote_text(text) + " of " + std::to_string(text.size()) + " bytes", allowed);
    };
    if (!std::isfinite(spec.scores[i])) {
      throw spec_error(spec.source, "scores[" + std::to_string(i) + "]",
                       std::to_string(spec.scores[i]), "finite numbers");
    }
    if (kind == TokenKind::kByte && byte_of_token(text) < 0) refuse("<0x00> to <0xFF> for bytes");
    if (text.size() > SpmBpe::kMaxPiece || !is_valid_utf8(text)) {
      refuse("UTF-8 of up to " + std::to_string(SpmBpe::kMaxPiece) + " bytes");
    }
    const bool piece = kind == TokenKind::kNormal || kind == TokenKind::kUserDefined;
    if (piece && seen.insert(text, id) >= 0) refuse("distinct tokens");
    pieces.set(id, text, kind);
  }
  pieces.set_rule({.strip_one = spec.add_space_prefix, .strip_all = spec.remove_extra_whitespaces});
  return pieces;
}

/// Control tokens are looked for in the raw text; user-defined ones where spaces are U+2581, as
/// SentencePiece does it.
std::vector<AddedToken> tokens_of(const SpmPieces& pieces, bool control) {
  std::vector<AddedToken> tokens;
  for (TokenId id = 0; id < pieces.rows(); ++id) {
    const bool wanted =
        control ? pieces.is_control(id) : pieces.kind(id) == TokenKind::kUserDefined;
    if (!wanted || pieces.text(id).empty()) continue;
    tokens.push_back({.text = pieces.text(id), .id = id, .control = control});
  }
  return tokens;
}

class SpmTokenizer final : public SpmPieceTokenizer {
 public:
  explicit SpmTokenizer(TokenizerSpec spec)
      : SpmPieceTokenizer(read_pieces(spec)),
        bpe_(pieces_, spec.scores),
        control_(tokens_of(pieces_, true)),
        user_(tokens_of(pieces_, false)),
        prefix_space_(spec.add_space_prefix),
        squeeze_(spec.remove_extra_whitespaces) {
    check_special_ids(spec);
    facts_ = facts_of(spec);
  }

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string describe() const override {
    return "SentencePiece BPE, " + std::to_string(pieces_.rows()) + " tokens";
  }

 private:
  void encode_plain(std::string_view text, std::vector<TokenId>& ids) const;

  SpmBpe bpe_;
  AddedTokens control_;
  AddedTokens user_;
  bool prefix_space_ = true;
  bool squeeze_ = false;
};

std::vector<TokenId> SpmTokenizer::encode(std::string_view text,
                                          const EncodeOptions& options) const {
  const InputText input(text, options);
  std::vector<TokenId> ids;
  if (options.add_special) ids = facts_.prefix;
  std::size_t pos = 0;
  while (const auto match = control_.next(input.text(), pos, pos, input.scope())) {
    encode_plain(input.text().substr(pos, match->range.begin - pos), ids);
    ids.push_back(match->id);
    pos = match->end;
  }
  encode_plain(input.text().substr(pos), ids);
  if (options.add_special) ids.insert(ids.end(), facts_.suffix.begin(), facts_.suffix.end());
  return ids;
}

/// A text, or what follows a control token.
void SpmTokenizer::encode_plain(std::string_view text, std::vector<TokenId>& ids) const {
  std::string squeezed;
  if (squeeze_) {
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    bool space = true;  // spaces at the begin vanish, others become one
    for (const char c : text) {
      if (c != ' ' || !space) squeezed.push_back(c);
      space = c == ' ';
    }
    text = squeezed;
  }
  if (text.empty()) return;
  const std::string spelled =
      (prefix_space_ ? std::string(kSpaceSymbol) : std::string()) + with_space_symbols(text);
  const std::string_view whole = spelled;
  const TokenId unknown = facts_.unk.value_or(-1);
  std::size_t pos = 0;
  while (const auto match = user_.next(whole, pos, pos, {})) {
    bpe_.encode(whole.substr(pos, match->range.begin - pos), unknown, ids);
    ids.push_back(match->id);
    pos = match->end;
  }
  bpe_.encode(whole.substr(pos), unknown, ids);
}

}  // namespace

std::unique_ptr<const Tokenizer> make_spm_tokenizer(TokenizerSpec spec) {
  return std::make_unique<const SpmTokenizer>(std::move(spec));
}

}  // namespace heddle
