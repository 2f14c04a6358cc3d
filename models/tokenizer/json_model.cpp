#include "models/tokenizer/json_model.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/token_decoder.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

void add_token(const JsonNode& vocab, JsonVocabulary& out, const std::string& text, TokenId id) {
  if (text.empty()) throw vocab.error("an empty token", "texts");
  if (out.texts.has(id)) {
    throw vocab.error("id " + std::to_string(id) + " for " + quote_text(text) + " and for " +
                          quote_text(out.texts.text(id)),
                      "distinct ids");
  }
  out.texts.set(id, text);
  if (out.ids.insert(text, id) >= 0) {
    throw vocab.error(quote_text(text) + " twice", "distinct tokens");
  }
}

std::string byte_token(unsigned byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte >> 4U] + kDigits[byte & 15U] + ">";
}

/// "a b" or ["a", "b"].
std::pair<std::string_view, std::string_view> merge_parts(const JsonNode& node) {
  if (node.is_array()) {
    if (node.size() != 2 || !node.at(0).is_string() || !node.at(1).is_string()) {
      throw node.wrong("two tokens");
    }
    return {node.at(0).text(), node.at(1).text()};
  }
  const std::string_view text = node.text();
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
    throw node.wrong("two tokens with one space between them");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

std::vector<Merge> read_json_merges(const JsonNode& list, const JsonVocabulary& vocabulary) {
  list.expect_array();
  if (list.size() > MergeTable::kMaxMerges) {
    throw list.error(std::to_string(list.size()) + " merges",
                     "up to " + std::to_string(MergeTable::kMaxMerges));
  }
  std::vector<Merge> merges;
  merges.reserve(list.size());
  std::string merged;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonNode node = list.at(i);
    const auto [left, right] = merge_parts(node);
    merged.assign(left).append(right);
    const auto require = [&](std::string_view token) {
      const TokenId id = vocabulary.ids.find(token);
      if (id < 0)
        throw node.error("the unknown token " + quote_text(token), "tokens of /model/vocab");
      return id;
    };
    const Merge merge{require(left), require(right), require(merged), true};
    merges.push_back(merge);
    merges.back().usable = !vocabulary.added.is_special(merge.result);
  }
  return merges;
}

void refuse_unless_empty(const JsonNode& model, std::string_view key) {
  if (model.has_value(key) && !model[key].text().empty()) throw model[key].wrong("none");
}

}  // namespace

JsonVocabulary read_json_vocabulary(const JsonNode& model, int rows) {
  const JsonNode vocab = model["vocab"];
  JsonVocabulary out(rows, vocab.size());
  const std::string allowed = "0 to " + std::to_string(rows - 1) + ", the rows of the embedding";
  if (vocab.is_array()) {
    if (vocab.size() > static_cast<std::size_t>(rows)) {
      throw vocab.error(std::to_string(vocab.size()) + " tokens", "up to " + std::to_string(rows));
    }
    for (std::size_t i = 0; i < vocab.size(); ++i) {
      const JsonNode entry = vocab.at(i);
      if (!entry.is_array() || entry.size() != 2) throw entry.wrong("[token, score]");
      add_token(entry, out, entry.at(0).text(), static_cast<TokenId>(i));
    }
    return out;
  }
  if (!vocab.is_object()) throw vocab.wrong("an object");
  for (const auto& [text, id] : vocab.value().get_ref<const Json::object_t&>()) {
    const bool in_range = id.is_number_integer() && (id.is_number_unsigned() || id >= 0) &&
                          id.get<std::uint64_t>() < static_cast<std::uint64_t>(rows);
    if (!in_range) {
      throw vocab.error("id " + id.dump().substr(0, 40) + " for " + quote_text(text), allowed);
    }
    add_token(vocab, out, text, static_cast<TokenId>(id.get<std::uint64_t>()));
  }
  return out;
}

Bpe JsonBpe::make_bpe(const JsonNode& model, const JsonVocabulary& vocabulary) {
  model.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (model.has_value("dropout") && model["dropout"].number() != 0.0) {
    throw model["dropout"].wrong("null: token ids must not depend on chance");
  }
  refuse_unless_empty(model, "continuing_subword_prefix");
  refuse_unless_empty(model, "end_of_word_suffix");
  return Bpe(MergeTable(read_json_merges(model["merges"], vocabulary)), vocabulary.texts.rows(),
             model.boolean_or("ignore_merges", false));
}

JsonBpe::JsonBpe(const JsonNode& model, const JsonVocabulary& vocabulary, bool byte_level)
    : byte_level_(byte_level),
      byte_fallback_(model.boolean_or("byte_fallback", false)),
      fuse_unknown_(model.boolean_or("fuse_unk", false)),
      words_(static_cast<std::size_t>(vocabulary.texts.end())),
      bpe_(make_bpe(model, vocabulary)) {
  if (byte_level_ && byte_fallback_) {
    throw model["byte_fallback"].wrong("false beside a ByteLevel pre-tokenizer");
  }
  if (model.has_value("unk_token")) {
    unknown_ = vocabulary.ids.find(model["unk_token"].text());
    if (unknown_ < 0) throw model["unk_token"].wrong("a token of /model/vocab");
  }
  for (TokenId id = 0; id < vocabulary.texts.end(); ++id) {
    const std::string& text = vocabulary.texts.text(id);
    // No plain text may become a special token; an added token is not the model's.
    if (text.empty() || vocabulary.added.is_special(id) || vocabulary.ids.find(text) != id)
      continue;
    if (!byte_level_) {
      words_.insert(text, id);
    } else if (const auto bytes = decode_byte_level(text)) {
      words_.insert(*bytes, id);
    }
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    byte_ids_[byte] = byte_level_ ? words_.find({&c, 1}) : vocabulary.ids.find(byte_token(byte));
  }
}

void JsonBpe::encode(std::string_view word,
                     Bpe::Scratch& scratch,
                     std::vector<TokenId>& out) const {
  const TokenId whole = words_.find(word);
  if (bpe_.take_whole(whole, out)) return;
  scratch.ids.clear();
  begin_word(word, scratch.ids);
  bpe_.merge(whole, scratch, out);
}

TokenId JsonBpe::symbol(std::string_view character) const {
  return byte_level_ ? byte_ids_[static_cast<unsigned char>(character.front())]
                     : words_.find(character);
}

bool JsonBpe::append_bytes(std::string_view character, std::vector<TokenId>& ids) const {
  if (!byte_fallback_) return false;
  for (const char c : character) {
    if (byte_ids_[static_cast<unsigned char>(c)] < 0) return false;
  }
  for (const char c : character) ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
  return true;
}

/// One token per byte or character. Unknown ones become the unknown token, in a row only one if the
/// model fuses them; without an unknown token they are left out.
void JsonBpe::begin_word(std::string_view word, std::vector<TokenId>& ids) const {
  bool pending = false;  // an unknown token that is still to be written
  const auto flush = [&] {
    if (pending) ids.push_back(unknown_);
    pending = false;
  };
  for (std::size_t pos = 0; pos < word.size();) {
    const std::size_t length = byte_level_ ? 1 : utf8_step(word, pos).length;
    const std::string_view character = word.substr(pos, length);
    pos += length;
    const TokenId id = symbol(character);
    if (id >= 0) {
      flush();
      ids.push_back(id);
    } else if (!append_bytes(character, ids) && unknown_ >= 0) {
      if (!fuse_unknown_) flush();
      pending = true;
    }
  }
  flush();
}

Unigram read_unigram(const JsonNode& model, const JsonVocabulary& vocabulary) {
  model.only({"type", "unk_id", "vocab", "byte_fallback"});
  const JsonNode vocab = model["vocab"];
  vocab.expect_array();
  Unigram::Options options;
  if (model.has_value("unk_id")) {
    options.unknown = static_cast<TokenId>(
        model["unk_id"].integer(0, static_cast<std::int64_t>(vocab.size()) - 1));
  }
  if (model.boolean_or("byte_fallback", false)) {
    for (unsigned byte = 0; byte < 256; ++byte) {
      options.byte_tokens.push_back(vocabulary.ids.find(byte_token(byte)));
    }
  }
  std::vector<UnigramPiece> pieces;
  pieces.reserve(vocab.size());
  for (std::size_t i = 0; i < vocab.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string& text = vocabulary.texts.text(id);
    if (text.size() > Unigram::kMaxPiece) {
      throw vocab.at(i).error("a token of " + std::to_string(text.size()) + " bytes",
                              "up to " + std::to_string(Unigram::kMaxPiece));
    }
    const bool usable = !vocabulary.added.is_special(id);
    pieces.push_back({text, id, vocab.at(i).at(1).number(), usable});
  }
  return Unigram(pieces, std::move(options));
}

}  // namespace heddle
