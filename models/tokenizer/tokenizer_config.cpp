#include "models/tokenizer/tokenizer_config.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "models/quote_text.h"

namespace heddle {
namespace {

constexpr std::int64_t kMaxId = std::numeric_limits<TokenId>::max();

/// The text of a token that may be found in a text.
const std::string& token_text(const JsonNode& node) {
  const std::string& text = node.text();
  if (text.empty() || text.size() > AddedTokens::kMaxBytes) {
    throw node.error(std::to_string(text.size()) + " bytes",
                     "a token of 1 to " + std::to_string(AddedTokens::kMaxBytes) + " bytes");
  }
  return text;
}

void read_special(const JsonNode& root, TokenizerConfig& config) {
  const auto read = [&](std::string_view key, std::optional<ConfiguredToken>* place) {
    if (!root.has_value(key) || (place != nullptr && place->has_value())) return;
    ConfiguredToken token = read_added_token(root[key]);
    token.token.control = true;
    if (place != nullptr) *place = token;
    config.special.push_back(std::move(token));
  };
  read("bos_token", &config.bos);
  read("eos_token", &config.eos);
  read("unk_token", &config.unk);
  read("pad_token", &config.pad);
  const std::string_view more = "additional_special_tokens";
  if (!root.has_value(more)) return;
  const JsonNode list = root[more];
  list.expect_array();
  for (std::size_t i = 0; i < list.size(); ++i) {
    config.special.push_back(read_added_token(list.at(i)));
    config.special.back().token.control = true;
  }
}

/// The default template: a text, or the one of that name in a list.
std::string read_template(const JsonNode& node) {
  if (node.is_string()) return node.text();
  if (!node.is_array()) throw node.wrong("a text or a list of named templates");
  for (std::size_t i = 0; i < node.size(); ++i) {
    if (node.at(i)["name"].text() == "default") return node.at(i)["template"].text();
  }
  throw node.error("a list without it", "a list with a template named 'default'");
}

}  // namespace

bool TokenizerConfig::heeds_add_flags() const {
  std::string name = tokenizer_class;
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  constexpr std::string_view kClasses[] = {"LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer",
                                           "CohereTokenizer"};
  return std::find(std::begin(kClasses), std::end(kClasses), name) != std::end(kClasses);
}

ConfiguredToken read_added_token(const JsonNode& node) {
  ConfiguredToken result;
  result.where = node.name();
  if (node.is_string()) {
    result.token.text = token_text(node);
    return result;
  }
  node.only(
      {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special", "__type"});
  result.token.text = token_text(node["content"]);
  result.token.control = node.boolean_or("special", false);
  result.token.single_word = node.boolean_or("single_word", false);
  result.token.lstrip = node.boolean_or("lstrip", false);
  result.token.rstrip = node.boolean_or("rstrip", false);
  result.normalized = node.boolean_or("normalized", !result.token.control);
  if (node.has("id")) result.token.id = static_cast<TokenId>(node["id"].integer(0, kMaxId));
  return result;
}

void read_tokenizer_config(const JsonNode& root, TokenizerConfig& config) {
  if (root.has_value("tokenizer_class")) config.tokenizer_class = root["tokenizer_class"].text();
  if (root.has_value("add_bos_token")) config.add_bos = root["add_bos_token"].boolean();
  if (root.has_value("add_eos_token")) config.add_eos = root["add_eos_token"].boolean();
  if (root.has_value("chat_template") && config.chat_template.empty()) {
    config.chat_template = read_template(root["chat_template"]);
  }
  read_special(root, config);
  if (!root.has_value("added_tokens_decoder")) return;
  const JsonNode added = root["added_tokens_decoder"];
  for (const std::string& key : added.keys()) {
    TokenId id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0) {
      throw added.error("a member " + quote_text(key), "token ids");
    }
    config.added.push_back(read_added_token(added[key]));
    config.added.back().token.id = id;
  }
}

void read_special_tokens_map(const JsonNode& root, TokenizerConfig& config) {
  read_special(root, config);
}

void read_added_tokens(const JsonNode& root, TokenizerConfig& config) {
  for (const std::string& key : root.keys()) {
    const JsonNode node = root[key];
    ConfiguredToken added;
    added.where = node.name();
    added.token.id = static_cast<TokenId>(node.integer(0, kMaxId));
    if (key.empty() || key.size() > AddedTokens::kMaxBytes) {
      throw root.error("a token of " + std::to_string(key.size()) + " bytes",
                       "1 to " + std::to_string(AddedTokens::kMaxBytes));
    }
    added.token.text = key;
    config.added.push_back(std::move(added));
  }
}

}  // namespace heddle
