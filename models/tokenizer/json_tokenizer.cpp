#include "models/tokenizer/json_tokenizer.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/folder_facts.h"
#include "models/tokenizer/input_text.h"
#include "models/tokenizer/json_model.h"
#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/token_decoder.h"
#include "models/tokenizer/word_cutter.h"

namespace heddle {
namespace {

using Model = std::variant<JsonBpe, Unigram>;

/// What the post-processor puts around one text.
struct Surround {
  std::vector<TokenId> prefix, suffix;
};

class SurroundReader {
 public:
  explicit SurroundReader(const JsonVocabulary& vocabulary) : vocabulary_(vocabulary) {}

  void add(const JsonNode& node, int depth = 0) {
    const JsonNode type = node["type"];
    if (type.text() == "Sequence" && depth < 8) {
      node.only({"type", "processors"});
      const JsonNode list = node["processors"];
      list.expect_array();
      for (std::size_t i = 0; i < list.size(); ++i) add(list.at(i), depth + 1);
    } else if (type.text() == "ByteLevel") {
      node.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});  // positions only
    } else if (type.text() == "TemplateProcessing") {
      node.only({"type", "single", "pair", "special_tokens"});
      add_template(node["single"], node["special_tokens"]);
    } else if (type.text() == "BertProcessing" || type.text() == "RobertaProcessing") {
      node.only({"type", "sep", "cls", "trim_offsets", "add_prefix_space"});
      wrap({{token_pair(node["cls"])}, {token_pair(node["sep"])}});
    } else {
      throw type.wrong(
          "Sequence (up to 8 deep), TemplateProcessing, ByteLevel, BertProcessing, "
          "RobertaProcessing");
    }
  }

  Surround take() { return std::move(surround_); }

 private:
  void wrap(Surround outer) {
    outer.prefix.insert(outer.prefix.end(), surround_.prefix.begin(), surround_.prefix.end());
    surround_.suffix.insert(surround_.suffix.end(), outer.suffix.begin(), outer.suffix.end());
    surround_.prefix = std::move(outer.prefix);
  }

  TokenId token_id(const JsonNode& node) const {
    const auto id = static_cast<TokenId>(node.integer(0, vocabulary_.texts.end() - 1));
    if (!vocabulary_.texts.has(id)) throw node.wrong("the id of a token");
    return id;
  }

  /// ["<s>", 1]
  TokenId token_pair(const JsonNode& node) const {
    if (!node.is_array() || node.size() != 2) throw node.wrong("[token, id]");
    return token_id(node.at(1));
  }

  void add_template(const JsonNode& single, const JsonNode& special) {
    single.expect_array();
    Surround outer;
    bool text_seen = false;
    for (std::size_t i = 0; i < single.size(); ++i) {
      const JsonNode part = single.at(i);
      part.only({"SpecialToken", "Sequence"});
      if (part.size() != 1) throw part.error("an object of several members", "one");
      if (part.has("Sequence")) {
        const JsonNode id = part["Sequence"]["id"];
        if (id.text() != "A" || text_seen) throw id.wrong("A, once");
        text_seen = true;
        continue;
      }
      const JsonNode ids = special[part["SpecialToken"]["id"].text()]["ids"];
      ids.expect_array();
      std::vector<TokenId>& side = text_seen ? outer.suffix : outer.prefix;
      for (std::size_t k = 0; k < ids.size(); ++k) side.push_back(token_id(ids.at(k)));
    }
    if (!text_seen) throw single.error("no Sequence A", "one");
    wrap(std::move(outer));
  }

  const JsonVocabulary& vocabulary_;
  Surround surround_;
};

class JsonTokenizer final : public Tokenizer {
 public:
  JsonTokenizer(const JsonNode& root, const TokenizerConfig& config, int rows);

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;

  std::string token_bytes(TokenId id, bool special) const override {
    DecodeState state{.begun = true, .n_stripped = 1 << 20};
    return next_bytes(id, state, special);
  }

  std::string next_bytes(TokenId id, DecodeState& state, bool special) const override {
    if (id < 0 || id >= vocab_size()) {
      throw bad_input("token id is " + std::to_string(id) + ", allowed: 0 to " +
                      std::to_string(vocab_size() - 1));
    }
    if (!vocabulary_.texts.has(id) || (!special && is_control(id))) return {};
    return decoder_.bytes(vocabulary_.texts.text(id), state);
  }

  std::int32_t vocab_size() const override { return vocabulary_.texts.rows(); }
  bool is_control(TokenId id) const override { return vocabulary_.added.is_special(id); }
  std::optional<TokenId> find(std::string_view token) const override {
    const TokenId id = find_text(token);
    return id < 0 ? std::nullopt : std::optional<TokenId>(id);
  }
  const TokenizerFacts& facts() const override { return facts_; }
  std::string describe() const override { return description_; }

 private:
  struct Pass {
    Bpe::Scratch bpe;
    Unigram::Scratch unigram;
    AddedTokens::Scope scope;
    std::vector<TokenId> ids;
  };
  static JsonVocabulary read_vocabulary(const JsonNode& root,
                                        const TokenizerConfig& config,
                                        int rows);
  static Model read_model(const JsonNode& root, const JsonVocabulary& vocabulary, bool byte_level);
  TokenId find_text(std::string_view token) const;
  void encode_plain(std::string_view text, std::size_t source, Pass& pass) const;
  void encode_words(std::string_view text, bool at_start, Pass& pass) const;

  JsonVocabulary vocabulary_;
  Normalizer normalizer_;
  WordCutter cutter_;
  Model model_;
  TokenDecoder decoder_;
  AddedTokens raw_added_;
  AddedTokens normalized_added_;
  bool normalized_specials_ = false;
  TokenizerFacts facts_;
  std::string description_;
};

JsonVocabulary JsonTokenizer::read_vocabulary(const JsonNode& root,
                                              const TokenizerConfig& config,
                                              int rows) {
  root.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
             "post_processor", "decoder", "model"});
  JsonVocabulary vocabulary = read_json_vocabulary(root["model"], rows);
  const auto known = [&](const std::string& text) { return vocabulary.ids.find(text); };
  if (root.has_value("added_tokens")) {
    const JsonNode list = root["added_tokens"];
    list.expect_array();
    for (std::size_t i = 0; i < list.size(); ++i) {
      const ConfiguredToken token = read_added_token(list.at(i));
      vocabulary.added.add(token, known(token.token.text), vocabulary.texts);
    }
  }
  add_configured_tokens(config, known, vocabulary.added, vocabulary.texts);
  const TokenId gap = vocabulary.texts.first_gap();
  if (gap >= 0) {
    throw root["model"]["vocab"].error("no token with id " + std::to_string(gap) +
                                           " but ones up to " +
                                           std::to_string(vocabulary.texts.end() - 1),
                                       "ids without gaps");
  }
  if (vocabulary.texts.end() == 0) throw root["model"]["vocab"].error("no token", "some");
  return vocabulary;
}

Model JsonTokenizer::read_model(const JsonNode& root,
                                const JsonVocabulary& vocabulary,
                                bool byte_level) {
  const JsonNode model = root["model"];
  // Files of before 2021 name no type; their merges tell BPE from the others.
  const std::string type = model.has("type")     ? model["type"].text()
                           : model.has("merges") ? "BPE"
                                                 : "";
  if (type == "BPE") return JsonBpe(model, vocabulary, byte_level);
  if (type == "Unigram") {
    if (byte_level) throw model["type"].wrong("BPE after a ByteLevel pre-tokenizer");
    return read_unigram(model, vocabulary);
  }
  throw model["type"].wrong("BPE, Unigram");
}

template <typename Part>
Part read_part(const JsonNode& root, std::string_view key) {
  return root.has_value(key) ? Part(root[key]) : Part();
}

/// As the normaliser leaves them: what is looked for in a normalised text.
std::vector<AddedToken> normalized_tokens(const AddedVocabulary& added,
                                          const Normalizer& normalizer) {
  std::vector<AddedToken> result;
  for (AddedToken& token : added.list(/*normalized=*/true)) {
    NormalText text{token.text, {}, false};
    normalizer.apply(text);
    if (text.text.empty() || text.text.size() > AddedTokens::kMaxBytes) continue;  // never found
    token.text = std::move(text.text);
    result.push_back(std::move(token));
  }
  return result;
}

JsonTokenizer::JsonTokenizer(const JsonNode& root, const TokenizerConfig& config, int rows)
    : vocabulary_(read_vocabulary(root, config, rows)),
      normalizer_(read_part<Normalizer>(root, "normalizer")),
      cutter_(read_part<WordCutter>(root, "pre_tokenizer")),
      model_(read_model(root, vocabulary_, cutter_.byte_level())),
      decoder_(read_part<TokenDecoder>(root, "decoder")),
      raw_added_(vocabulary_.added.list(/*normalized=*/false)),
      normalized_added_(normalized_tokens(vocabulary_.added, normalizer_)) {
  for (const ConfiguredToken& token : vocabulary_.added.tokens()) {
    normalized_specials_ |= token.normalized && token.token.control;
  }
  SurroundReader surround(vocabulary_);
  if (root.has_value("post_processor")) surround.add(root["post_processor"]);
  Surround around = surround.take();
  facts_.prefix = std::move(around.prefix);
  facts_.suffix = std::move(around.suffix);
  fill_facts(
      config, [&](const std::string& text) { return find_text(text); }, facts_);
  const auto* bpe = std::get_if<JsonBpe>(&model_);
  facts_.model = bpe != nullptr ? "BPE" : "Unigram";
  description_ = bpe == nullptr         ? "Unigram"
                 : cutter_.byte_level() ? "byte-level BPE"
                 : bpe->byte_fallback() ? "BPE with byte fallback"
                                        : "BPE";
  description_ += ", " + std::to_string(vocabulary_.texts.end()) + " tokens, tokenizer.json";
}

TokenId JsonTokenizer::find_text(std::string_view token) const {
  const TokenId id = vocabulary_.ids.find(token);
  if (id >= 0) return id;
  for (const ConfiguredToken& added : vocabulary_.added.tokens()) {
    if (added.token.text == token) return added.token.id;
  }
  return -1;
}

std::vector<TokenId> JsonTokenizer::encode(std::string_view text,
                                           const EncodeOptions& options) const {
  const InputText input(text, options);
  Pass pass;
  pass.scope = input.scope();
  if (options.add_special) pass.ids = facts_.prefix;
  std::size_t done = 0;
  std::size_t pos = 0;
  while (const auto match = raw_added_.next(input.text(), pos, done, input.scope())) {
    if (match->range.begin > done) {
      encode_plain(input.text().substr(done, match->range.begin - done), done, pass);
    }
    pass.ids.push_back(match->id);
    done = match->range.end;
    pos = match->end;
  }
  if (done < input.text().size()) encode_plain(input.text().substr(done), done, pass);
  if (options.add_special) {
    pass.ids.insert(pass.ids.end(), facts_.suffix.begin(), facts_.suffix.end());
  }
  return std::move(pass.ids);
}

/// A part of the text, from byte `source` of it on, in which no raw added token is.
void JsonTokenizer::encode_plain(std::string_view text, std::size_t source, Pass& pass) const {
  NormalText normal{std::string(text), {}, false};
  AddedTokens::Scope scope = pass.scope;
  scope.source = source;
  if (normalized_specials_ && scope.parse_special && !scope.plain->empty() &&
      !normalizer_.empty()) {
    normal.tracked = true;
    normal.origin.resize(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
      normal.origin[i] = static_cast<std::uint32_t>(source + i);
    }
    scope.origin = &normal.origin;
  }
  normalizer_.apply(normal);
  const std::string_view whole = normal.text;
  std::size_t done = 0;
  std::size_t pos = 0;
  while (const auto match = normalized_added_.next(whole, pos, done, scope)) {
    if (match->range.begin > done) {
      encode_words(whole.substr(done, match->range.begin - done), source + done == 0, pass);
    }
    pass.ids.push_back(match->id);
    done = match->range.end;
    pos = match->end;
  }
  if (done < whole.size()) encode_words(whole.substr(done), source + done == 0, pass);
}

void JsonTokenizer::encode_words(std::string_view text, bool at_start, Pass& pass) const {
  Words words{std::string(text), {}, at_start};
  cutter_.apply(words);
  for (const ByteRange& range : words.ranges) {
    const std::string_view word =
        std::string_view(words.text).substr(range.begin, range.end - range.begin);
    if (const auto* bpe = std::get_if<JsonBpe>(&model_)) {
      bpe->encode(word, pass.bpe, pass.ids);
    } else {
      std::get<Unigram>(model_).encode(word, pass.unigram, pass.ids);
    }
  }
}

}  // namespace

std::unique_ptr<const Tokenizer> make_json_tokenizer(const JsonNode& root,
                                                     const TokenizerConfig& config,
                                                     int rows) {
  return std::make_unique<const JsonTokenizer>(root, config, rows);
}

}  // namespace heddle
