#include "models/tokenizer/added_vocabulary.h"

#include "base/error.h"
#include "models/quote_text.h"

namespace heddle {

TokenId TokenTexts::end() const {
  TokenId id = rows();
  while (id > 0 && text(id - 1).empty()) --id;
  return id;
}

TokenId TokenTexts::first_gap() const {
  const TokenId last = end();
  for (TokenId id = 0; id < last; ++id) {
    if (text(id).empty()) return id;
  }
  return -1;
}

void AddedVocabulary::add(const ConfiguredToken& token, TokenId known, TokenTexts& texts) {
  const auto refuse = [&](const std::string& got, const std::string& allowed) {
    throw bad_input(token.where + ", got " + got + ", allowed " + allowed);
  };
  const std::string name = "token " + quote_text(token.token.text);
  ConfiguredToken added = token;
  if (known >= 0) {
    if (token.token.id >= 0 && token.token.id != known) {
      refuse("id " + std::to_string(token.token.id) + " for the " + name,
             std::to_string(known) + ", its id in the vocabulary");
    }
    added.token.id = known;
  } else if (token.token.id < 0 || token.token.id >= texts.rows()) {
    refuse(token.token.id < 0 ? "the unknown " + name : "id " + std::to_string(token.token.id),
           token.token.id < 0
               ? "a token of the vocabulary"
               : "0 to " + std::to_string(texts.rows() - 1) + ", the rows of the embedding");
  } else if (texts.has(token.token.id)) {
    refuse("id " + std::to_string(token.token.id) + " for the " + name,
           "another id: it is that of " + quote_text(texts.text(token.token.id)));
  }
  const TokenId id = added.token.id;
  if (index_.empty()) index_.assign(static_cast<std::size_t>(texts.rows()), -1);
  std::int32_t& place = index_[static_cast<std::size_t>(id)];
  if (place >= 0) {
    ConfiguredToken& there = tokens_[static_cast<std::size_t>(place)];
    there.token.control |= added.token.control;
    return;
  }
  place = static_cast<std::int32_t>(tokens_.size());
  texts.set(id, added.token.text);
  tokens_.push_back(std::move(added));
}

bool AddedVocabulary::is_special(TokenId id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= index_.size()) return false;
  const std::int32_t place = index_[static_cast<std::size_t>(id)];
  return place >= 0 && tokens_[static_cast<std::size_t>(place)].token.control;
}

std::vector<AddedToken> AddedVocabulary::list(bool normalized) const {
  std::vector<AddedToken> result;
  for (const ConfiguredToken& token : tokens_) {
    if (token.normalized == normalized) result.push_back(token.token);
  }
  return result;
}

}  // namespace heddle
