// The only file that sees libsentencepiece. Its shared library exports the symbols of an old
// protobuf of its own: nothing else in the process may use protobuf.

#include "models/tokenizer/sentencepiece_tokenizer.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/charsmap.h"
#include "models/tokenizer/folder_facts.h"
#include "models/tokenizer/input_text.h"
#include "models/tokenizer/sentencepiece_proto.h"
#include "models/tokenizer/spm_pieces.h"
#include "models/tokenizer/token_table.h"
#include "models/tokenizer/unicode.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

/// Classes whose ids are those of the file; others shift or reorder them.
void check_class(const TokenizerConfig& config, const std::string& source) {
  std::string name = config.tokenizer_class;
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  constexpr std::string_view kKnown[] = {"", "LlamaTokenizer", "CodeLlamaTokenizer",
                                         "GemmaTokenizer"};
  if (std::find(std::begin(kKnown), std::end(kKnown), name) != std::end(kKnown)) return;
  throw bad_input(fmt::format(
      "{}: tokenizer: tokenizer_class, got {}, allowed LlamaTokenizer, CodeLlamaTokenizer, "
      "GemmaTokenizer with a SentencePiece file (others need a tokenizer.json)",
      source, quote_text(config.tokenizer_class)));
}

/// Without byte fallback the library makes one token of a run of unknown characters, in time that
/// grows with the square of the run. The begin of a run gives the same token: what no piece
/// contains and no rule of the character map begins with is left out beyond it.
class UnknownRuns {
 public:
  UnknownRuns() = default;
  explicit UnknownRuns(const SentencePieceModel& model) : on_(!model.byte_fallback) {
    if (!on_) return;
    if (!model.charsmap.empty()) map_.emplace(model.charsmap);
    for (const SentencePieceModel::Piece& piece : model.pieces) {
      if (piece.kind == TokenKind::kControl || piece.kind == TokenKind::kUnknown) continue;
      for (std::size_t pos = 0; pos < piece.text.size();) {
        const Utf8Step step = utf8_step(piece.text, pos);
        known_.insert(step.code_point);
        pos += step.length;
      }
    }
  }

  std::string cut(std::string_view text) const {
    if (!on_ || text.size() <= kKept) return std::string(text);
    std::string out;
    std::size_t run = 0;
    for (std::size_t pos = 0; pos < text.size();) {
      const Utf8Step step = utf8_step(text, pos);
      const std::string_view character = text.substr(pos, step.length);
      run = is_inert(step.code_point, character) ? run + 1 : 0;
      if (run <= kKept) out += character;
      pos += step.length;
    }
    return out;
  }

 private:
  static constexpr std::size_t kKept = 32;  // more than a rule of a character map has characters

  bool is_inert(char32_t c, std::string_view character) const {
    return !is_white_space(c) && known_.count(c) == 0 && !(map_ && map_->begins_key(character));
  }

  bool on_ = false;
  std::optional<Charsmap> map_;
  std::unordered_set<char32_t> known_;
};

class SentencePieceTokenizer final : public SpmPieceTokenizer {
 public:
  SentencePieceTokenizer(std::string_view file,
                         const std::string& source,
                         const TokenizerConfig& config,
                         int rows)
      : SpmPieceTokenizer(SpmPieces(rows)), texts_(rows) {
    check_class(config, source);
    const SentencePieceModel model = read_sentencepiece(file, source);
    n_model_ = model.pieces.size();
    if (n_model_ > static_cast<std::size_t>(rows)) {
      throw bad_input(
          fmt::format("{}: tokenizer: pieces, got {}, allowed up to {}, the rows of the embedding",
                      source, n_model_, rows));
    }
    const auto status = processor_.LoadFromSerializedProto(file);
    if (!status.ok() || processor_.GetPieceSize() != static_cast<int>(n_model_)) {
      throw bad_input(fmt::format("{}: tokenizer: file, got {}, allowed a SentencePiece model",
                                  source, quote_text(status.ToString(), 200)));
    }
    fill(model, config);
    control_ = AddedTokens(added_.list(/*normalized=*/false));
  }

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override {
    const InputText input(text, options);
    std::vector<TokenId> ids;
    if (options.add_special) ids = facts_.prefix;
    std::size_t done = 0;
    std::size_t pos = 0;
    while (const auto match = control_.next(input.text(), pos, done, input.scope())) {
      if (match->range.begin > done) {
        encode_plain(input.text().substr(done, match->range.begin - done), ids);
      }
      ids.push_back(match->id);
      done = match->range.end;
      pos = match->end;
    }
    if (done < input.text().size()) encode_plain(input.text().substr(done), ids);
    if (options.add_special) ids.insert(ids.end(), facts_.suffix.begin(), facts_.suffix.end());
    return ids;
  }
  std::string next_bytes(TokenId id, DecodeState& state, bool special) const override {
    if (special && pieces_.contains(id) && is_control(id)) state.begun = true;
    return pieces_.bytes(id, state, special);
  }
  std::string describe() const override {
    return fmt::format("SentencePiece {}, {} tokens, tokenizer.model", bpe_ ? "BPE" : "unigram",
                       pieces_.end());
  }

 private:
  void fill(const SentencePieceModel& model, const TokenizerConfig& config);
  void encode_plain(std::string_view text, std::vector<TokenId>& ids) const {
    std::vector<int> found;
    const auto status = processor_.Encode(unknown_runs_.cut(text), &found);
    if (!status.ok()) {
      throw bad_input("libsentencepiece: " + quote_text(status.ToString(), 200));
    }
    ids.insert(ids.end(), found.begin(), found.end());
  }

  sentencepiece::SentencePieceProcessor processor_;
  UnknownRuns unknown_runs_;
  std::size_t n_model_ = 0;
  bool bpe_ = false;
  TokenTexts texts_;
  AddedVocabulary added_;
  AddedTokens control_{{}};
};

void SentencePieceTokenizer::fill(const SentencePieceModel& model, const TokenizerConfig& config) {
  bpe_ = model.bpe;
  unknown_runs_ = UnknownRuns(model);
  TokenTable ids(n_model_);
  for (std::size_t i = 0; i < n_model_; ++i) {
    const SentencePieceModel::Piece& piece = model.pieces[i];
    const auto id = static_cast<TokenId>(i);
    pieces_.set(id, std::string(piece.text), piece.kind);
    texts_.set(id, std::string(piece.text));
    ids.insert(piece.text, id);
  }
  pieces_.set_rule(
      {.strip_one = model.add_dummy_prefix, .strip_all = model.remove_extra_whitespaces});
  const auto known = [&](const std::string& text) { return ids.find(text); };
  for (TokenId id = 0; id < static_cast<TokenId>(n_model_); ++id) {
    if (!pieces_.is_control(id)) continue;
    ConfiguredToken token;
    token.token = {.text = texts_.text(id), .id = id, .control = true};
    added_.add(token, id, texts_);
  }
  add_configured_tokens(config, known, added_, texts_);
  for (const ConfiguredToken& token : added_.tokens()) {
    const TokenId id = token.token.id;
    if (pieces_.is_control(id) || (ids.find(token.token.text) >= 0 && !token.token.control))
      continue;
    pieces_.set(id, token.token.text,
                token.token.control ? TokenKind::kControl : TokenKind::kUserDefined);
  }
  const auto id_or_none = [](TokenId id) {
    return id < 0 ? std::nullopt : std::optional<TokenId>(id);
  };
  facts_.model = "sentencepiece";
  fill_facts(
      config, [&](const std::string& text) { return pieces_.find(text); }, facts_);
  if (!facts_.bos) facts_.bos = id_or_none(model.bos);
  if (!facts_.eos) facts_.eos = id_or_none(model.eos);
  if (!facts_.unk) facts_.unk = id_or_none(model.unk);
  if (!facts_.pad) facts_.pad = id_or_none(model.pad);
  facts_.prefix.clear();
  facts_.suffix.clear();
  if (config.add_bos.value_or(true) && facts_.bos) facts_.prefix.push_back(*facts_.bos);
  if (config.add_eos.value_or(false) && facts_.eos) facts_.suffix.push_back(*facts_.eos);
}

}  // namespace

std::unique_ptr<const Tokenizer> make_sentencepiece_tokenizer(std::string_view file,
                                                              const std::string& source,
                                                              const TokenizerConfig& config,
                                                              int rows) {
  return std::make_unique<const SentencePieceTokenizer>(file, source, config, rows);
}

}  // namespace heddle
