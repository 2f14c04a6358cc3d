#include "models/tokenizer/folder_facts.h"

#include <optional>

#include "base/error.h"
#include "models/quote_text.h"

namespace heddle {

void add_configured_tokens(const TokenizerConfig& config,
                           const std::function<TokenId(const std::string&)>& known,
                           AddedVocabulary& added,
                           TokenTexts& texts) {
  const auto find = [&](const std::string& text) {
    const TokenId id = known(text);
    if (id >= 0) return id;
    for (const ConfiguredToken& token : added.tokens()) {
      if (token.token.text == text) return token.token.id;
    }
    return TokenId{-1};
  };
  for (const ConfiguredToken& token : config.added) {
    added.add(token, find(token.token.text), texts);
  }
  for (const ConfiguredToken& token : config.special) {
    // A padding or unknown token that the vocabulary lacks is never needed.
    const TokenId id = find(token.token.text);
    if (id >= 0) added.add(token, id, texts);
  }
}

void fill_facts(const TokenizerConfig& config,
                const std::function<TokenId(const std::string&)>& find,
                TokenizerFacts& facts) {
  const auto id_of = [&](const std::optional<ConfiguredToken>& token, bool needed) {
    if (!token) return std::optional<TokenId>();
    const TokenId id = find(token->token.text);
    if (id < 0 && needed) {
      throw bad_input(token->where + ", got " + quote_text(token->token.text) +
                      ", allowed a token of the vocabulary");
    }
    return id < 0 ? std::optional<TokenId>() : std::optional<TokenId>(id);
  };
  facts.bos = id_of(config.bos, true);
  facts.eos = id_of(config.eos, true);
  facts.unk = id_of(config.unk, false);
  facts.pad = id_of(config.pad, false);
  if (!config.heeds_add_flags()) return;
  facts.prefix.clear();
  facts.suffix.clear();
  if (config.add_bos.value_or(true) && facts.bos) facts.prefix.push_back(*facts.bos);
  if (config.add_eos.value_or(false) && facts.eos) facts.suffix.push_back(*facts.eos);
}

}  // namespace heddle
