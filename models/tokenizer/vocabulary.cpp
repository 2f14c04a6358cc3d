#include "models/tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/gguf_spec.h"
#include "models/tokenizer/token_table.h"

namespace heddle {
TokenVocabulary::TokenVocabulary(const TokenizerSpec& spec) {
  const std::size_t count = spec.tokens.size();
  check_token_types(spec);
  kinds_.reserve(count);
  for (const std::int32_t type : spec.types) kinds_.push_back(static_cast<TokenKind>(type));
  store(spec);

  slots_.resize(std::bit_ceil(count * 2));
  // Byte-level tokens first: the check for equal spellings below relies on it.
  for (const bool byte_level : {true, false}) {
    for (std::size_t i = 0; i < count; ++i) {
      const auto id = static_cast<TokenId>(i);
      if (byte_level_[i] != byte_level || bytes(id).empty()) continue;
      const TokenId twin = find_text(spec.tokens[i]);
      if (twin >= 0) {
        throw spec_error(spec.source, "tokens[" + std::to_string(i) + "]",
                         quote_text(spec.tokens[i]) + " as in tokens[" + std::to_string(twin) + "]",
                         "distinct tokens");
      }
      insert(id);
    }
  }
  for (unsigned byte = 0; byte < byte_tokens_.size(); ++byte) {
    const char text = static_cast<char>(byte);
    byte_tokens_[byte] = find_bytes({&text, 1});
  }
}

void TokenVocabulary::store(const TokenizerSpec& spec) {
  std::size_t total = 0;
  for (const std::string& token : spec.tokens) total += token.size();
  arena_.reserve(total);
  starts_.reserve(spec.tokens.size() + 1);
  byte_level_.reserve(spec.tokens.size());
  for (std::size_t i = 0; i < spec.tokens.size(); ++i) {
    starts_.push_back(arena_.size());
    const bool spelled = kinds_[i] == TokenKind::kNormal || kinds_[i] == TokenKind::kByte;
    const bool byte_level = spelled && append_byte_level(spec.tokens[i], arena_);
    if (!byte_level) arena_.append(spec.tokens[i]);
    byte_level_.push_back(byte_level);
    longest_ = std::max<std::size_t>(longest_, arena_.size() - starts_.back());
  }
  starts_.push_back(arena_.size());
}

std::string_view TokenVocabulary::bytes(TokenId id) const {
  const auto i = static_cast<std::size_t>(id);
  return std::string_view(arena_).substr(starts_[i], starts_[i + 1] - starts_[i]);
}

TokenId TokenVocabulary::lookup(std::string_view bytes_wanted, bool byte_level) const {
  if (bytes_wanted.empty() || bytes_wanted.size() > longest_) return -1;
  const std::uint64_t hash = hash_bytes(bytes_wanted);
  const auto tag = static_cast<std::uint32_t>(hash >> 32U);
  for (std::size_t i = hash & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.id < 0) return -1;
    if (slot.tag == tag && byte_level_[static_cast<std::size_t>(slot.id)] == byte_level &&
        bytes(slot.id) == bytes_wanted) {
      return slot.id;
    }
  }
}

void TokenVocabulary::insert(TokenId id) {
  const std::uint64_t hash = hash_bytes(bytes(id));
  std::size_t i = hash & (slots_.size() - 1);
  while (slots_[i].id >= 0) i = (i + 1) & (slots_.size() - 1);
  slots_[i] = {static_cast<std::uint32_t>(hash >> 32U), id};
}

TokenId TokenVocabulary::find_bytes(std::string_view bytes_wanted) const {
  return lookup(bytes_wanted, true);
}

TokenId TokenVocabulary::find_text(std::string_view text) const {
  if (const std::optional<std::string> spelled = decode_byte_level(text)) {
    const TokenId id = lookup(*spelled, true);
    if (id >= 0) return id;
  }
  return lookup(text, false);
}

}  // namespace heddle
