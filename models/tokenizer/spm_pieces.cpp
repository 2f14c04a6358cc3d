#include "models/tokenizer/spm_pieces.h"

#include <algorithm>

#include "base/error.h"
#include "models/tokenizer/token_decoder.h"

namespace heddle {

std::string with_spaces(std::string_view piece) {
  std::string out;
  for (std::size_t pos = 0; pos < piece.size();) {
    if (piece.substr(pos, kSpaceSymbol.size()) == kSpaceSymbol) {
      out.push_back(' ');
      pos += kSpaceSymbol.size();
    } else {
      out.push_back(piece[pos++]);
    }
  }
  return out;
}

std::string with_space_symbols(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    if (c == ' ') {
      out += kSpaceSymbol;
    } else {
      out.push_back(c);
    }
  }
  return out;
}

SpmPieces::SpmPieces(int rows)
    : texts_(static_cast<std::size_t>(rows)),
      kinds_(static_cast<std::size_t>(rows), TokenKind::kUnused) {
  byte_tokens_.fill(-1);
}

void SpmPieces::set(TokenId id, std::string text, TokenKind kind) {
  const int byte = kind == TokenKind::kByte ? byte_of_token(text) : -1;
  if (byte >= 0) byte_tokens_[static_cast<std::size_t>(byte)] = id;
  texts_[static_cast<std::size_t>(id)] = std::move(text);
  kinds_[static_cast<std::size_t>(id)] = kind;
}

TokenId SpmPieces::find(std::string_view text) const {
  if (text.empty()) return -1;
  const auto it = std::find(texts_.begin(), texts_.end(), text);
  return it == texts_.end() ? -1 : static_cast<TokenId>(it - texts_.begin());
}

TokenId SpmPieces::end() const {
  TokenId id = rows();
  while (id > 0 && text(id - 1).empty()) --id;
  return id;
}

std::string SpmPieces::bytes(TokenId id, DecodeState& state, bool special) const {
  if (!contains(id)) {
    throw bad_input("token id is " + std::to_string(id) + ", allowed: 0 to " +
                    std::to_string(rows() - 1));
  }
  const bool hidden = is_control(id) || kind(id) == TokenKind::kUnused;
  if (hidden && !special) return {};
  std::string_view piece = text(id);
  if (kind(id) == TokenKind::kByte) {
    state.begun = true;
    return std::string(1, static_cast<char>(byte_of_token(piece)));
  }
  const bool strip = rule_.strip_all || (rule_.strip_one && state.n_stripped == 0);
  if (!state.begun && strip && piece.starts_with(kSpaceSymbol)) {
    piece.remove_prefix(kSpaceSymbol.size());
    ++state.n_stripped;
    if (!rule_.strip_all) state.begun = true;
  }
  state.begun |= !piece.empty();
  return with_spaces(piece);
}

}  // namespace heddle
