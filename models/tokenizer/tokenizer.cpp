#include "models/tokenizer/tokenizer.h"

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/bpe.h"
#include "models/tokenizer/gguf_spec.h"
#include "models/tokenizer/input_text.h"
#include "models/tokenizer/normalize.h"
#include "models/tokenizer/pretokenize.h"
#include "models/tokenizer/spm_tokenizer.h"
#include "models/tokenizer/vocabulary.h"

namespace heddle {
namespace {

const PretokenizerKind& require_kind(const TokenizerSpec& spec) {
  const PretokenizerKind* kind = find_pretokenizer_kind(spec.pre);
  if (kind == nullptr) {
    const std::string got = spec.pre.empty() ? "nothing" : quote_text(spec.pre);
    throw spec_error(spec.source, "pre", got, pretokenizer_names());
  }
  return *kind;
}

class ByteLevelTokenizer final : public Tokenizer {
 public:
  explicit ByteLevelTokenizer(TokenizerSpec spec)
      : spec_(std::move(spec)),
        kind_(require_kind(spec_)),
        vocabulary_(spec_),
        bpe_(MergeTable(read_merges(spec_, vocabulary_)), vocabulary_.size(), kind_.whole_words),
        added_(added_tokens_of(vocabulary_, spec_.source)),
        pretokenizer_(kind_.patterns) {
    check_special_ids(spec_);
    facts_ = facts_of(spec_);
    spec_ = {};  // the vocabulary and the merge table hold all of it now
  }

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;

  std::string token_bytes(TokenId id, bool special) const override {
    if (!vocabulary_.contains(id)) {
      throw bad_input("token id is " + std::to_string(id) + ", allowed: 0 to " +
                      std::to_string(vocabulary_.size() - 1));
    }
    const bool hidden = vocabulary_.is_control(id) || vocabulary_.kind(id) == TokenKind::kUnused;
    if (hidden && !special) return {};
    return std::string(vocabulary_.bytes(id));
  }

  std::int32_t vocab_size() const override { return vocabulary_.size(); }

  bool is_control(TokenId id) const override {
    return vocabulary_.contains(id) && vocabulary_.is_control(id);
  }

  std::optional<TokenId> find(std::string_view token) const override {
    const TokenId id = vocabulary_.find_text(token);
    return id < 0 ? std::nullopt : std::optional<TokenId>(id);
  }

  const TokenizerFacts& facts() const override { return facts_; }

  std::string describe() const override {
    return "byte-level BPE, " + std::to_string(vocabulary_.size()) + " tokens, pre " + facts_.pre;
  }

 private:
  struct Pass;  // what one call of encode carries along
  void encode_plain(std::string_view text, Pass& pass) const;

  TokenizerSpec spec_;  // empty once the constructor is through
  TokenizerFacts facts_;
  const PretokenizerKind& kind_;
  TokenVocabulary vocabulary_;
  Bpe bpe_;
  AddedTokens added_;
  Pretokenizer pretokenizer_;
};

struct ByteLevelTokenizer::Pass {
  explicit Pass(const Pretokenizer& pretokenizer) : words(pretokenizer) {}
  Pretokenizer::Cursor words;
  Bpe::Scratch scratch;
  std::vector<TokenId> ids;
};

std::vector<TokenId> ByteLevelTokenizer::encode(std::string_view text,
                                                const EncodeOptions& options) const {
  const InputText input(text, options);
  Pass pass(pretokenizer_);
  if (options.add_special) pass.ids = facts_.prefix;
  std::size_t pos = 0;
  while (const auto match = added_.next(input.text(), pos, pos, input.scope())) {
    encode_plain(input.text().substr(pos, match->range.begin - pos), pass);
    pass.ids.push_back(match->id);
    pos = match->end;
  }
  encode_plain(input.text().substr(pos), pass);
  if (options.add_special) {
    pass.ids.insert(pass.ids.end(), facts_.suffix.begin(), facts_.suffix.end());
  }
  return std::move(pass.ids);
}

void ByteLevelTokenizer::encode_plain(std::string_view text, Pass& pass) const {
  if (text.empty()) return;
  std::string normalized;
  if (kind_.nfc && !is_surely_nfc(text)) {
    normalized = to_nfc(text);
    text = normalized;
  }
  pass.words.reset(text);
  for (std::string_view word; pass.words.next(word);) {
    const TokenId whole = vocabulary_.find_bytes(word);
    if (bpe_.take_whole(whole, pass.ids)) continue;
    pass.scratch.ids.clear();
    for (const char byte : word) {
      // A byte that is not in the vocabulary is left out, as the reference does for tokenizers
      // without an unknown token.
      const TokenId id = vocabulary_.byte_token(static_cast<unsigned char>(byte));
      if (id >= 0) pass.scratch.ids.push_back(id);
    }
    bpe_.merge(whole, pass.scratch, pass.ids);
  }
}

}  // namespace

std::string Tokenizer::next_bytes(TokenId id, DecodeState& /*state*/, bool special) const {
  return token_bytes(id, special);
}

std::string Tokenizer::decode(const std::vector<TokenId>& ids, bool special) const {
  std::string bytes;
  DecodeState state;
  for (const TokenId id : ids) bytes += next_bytes(id, state, special);
  return utf8_lossy(bytes);
}

std::unique_ptr<const Tokenizer> make_tokenizer(TokenizerSpec spec) {
  if (spec.model == "llama") return make_spm_tokenizer(std::move(spec));
  if (spec.model != "gpt2") {
    throw spec_error(spec.source, "model", quote_text(spec.model), "gpt2, llama");
  }
  return std::make_unique<const ByteLevelTokenizer>(std::move(spec));
}

}  // namespace heddle
