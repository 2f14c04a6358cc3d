#include "models/tokenizer/spm_bpe.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "base/error.h"
#include "models/tokenizer/utf8.h"

namespace heddle {

struct SpmBpe::State {
  std::string_view text;
  std::vector<Symbol> symbols;
  std::vector<Pair> queue;
  /// Where an unused piece was put together: its text -> bytes of its left half. The last pair that
  /// was looked at counts, as in the reference.
  std::unordered_map<std::string_view, std::size_t> halves;
  TokenId unknown = -1;
  bool in_unknown_run = false;
};

SpmBpe::SpmBpe(const SpmPieces& pieces, std::vector<float> scores)
    : pieces_(pieces), scores_(std::move(scores)), ids_(static_cast<std::size_t>(pieces.rows())) {
  for (TokenId id = 0; id < pieces_.rows(); ++id) {
    const TokenKind kind = pieces_.kind(id);
    const bool usable =
        kind == TokenKind::kNormal || kind == TokenKind::kUserDefined || kind == TokenKind::kUnused;
    if (usable && !pieces_.text(id).empty()) ids_.insert(pieces_.text(id), id);
  }
}

void SpmBpe::consider(std::int32_t left, std::int32_t right, State& state) const {
  if (left < 0 || right < 0) return;
  const Symbol& a = state.symbols[static_cast<std::size_t>(left)];
  const Symbol& b = state.symbols[static_cast<std::size_t>(right)];
  const std::string_view joined = state.text.substr(a.begin, a.size + b.size);
  const TokenId id = ids_.find(joined);
  if (id < 0) return;
  state.queue.push_back(
      {scores_[static_cast<std::size_t>(id)], left, right, joined.size(), a.size});
  std::push_heap(state.queue.begin(), state.queue.end());
  if (pieces_.kind(id) == TokenKind::kUnused) state.halves[joined] = a.size;
}

void SpmBpe::merge(State& state) const {
  auto& symbols = state.symbols;
  for (std::size_t pos = 0; pos < state.text.size();) {
    const std::size_t size = utf8_step(state.text, pos).length;
    const auto index = static_cast<std::int32_t>(symbols.size());
    symbols.push_back({pos, size, index - 1, index + 1});
    pos += size;
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;
  for (std::size_t i = 1; i < symbols.size(); ++i) {
    consider(static_cast<std::int32_t>(i) - 1, static_cast<std::int32_t>(i), state);
  }
  while (!state.queue.empty()) {
    std::pop_heap(state.queue.begin(), state.queue.end());
    const Pair pair = state.queue.back();
    state.queue.pop_back();
    Symbol& left = symbols[static_cast<std::size_t>(pair.left)];
    Symbol& right = symbols[static_cast<std::size_t>(pair.right)];
    if (left.size == 0 || right.size == 0 || left.size + right.size != pair.size) continue;
    left.size += right.size;
    right.size = 0;
    left.next = right.next;
    if (right.next >= 0) symbols[static_cast<std::size_t>(right.next)].previous = pair.left;
    consider(left.previous, pair.left, state);
    consider(pair.left, left.next, state);
  }
}

/// The tokens of a finished symbol. The depth of taking unused pieces apart is bounded by their
/// size; a list stands for the recursion.
void SpmBpe::put(std::string_view text, State& state, std::vector<TokenId>& out) const {
  std::vector<std::string_view> parts = {text};
  while (!parts.empty()) {
    const std::string_view part = parts.back();
    parts.pop_back();
    const TokenId id = ids_.find(part);
    if (id >= 0 && pieces_.kind(id) == TokenKind::kUnused) {
      const auto half = state.halves.find(part);
      if (half != state.halves.end()) {
        parts.push_back(part.substr(half->second));
        parts.push_back(part.substr(0, half->second));
        continue;
      }
    }
    if (id >= 0) {
      out.push_back(id);
      state.in_unknown_run = false;
      continue;
    }
    bool all = true;
    for (const char c : part) all &= pieces_.byte_token(static_cast<unsigned char>(c)) >= 0;
    if (all) {
      for (const char c : part) out.push_back(pieces_.byte_token(static_cast<unsigned char>(c)));
    } else if (state.unknown >= 0 && !state.in_unknown_run) {
      out.push_back(state.unknown);
      state.in_unknown_run = true;
    }
  }
}

void SpmBpe::encode(std::string_view text, TokenId unknown, std::vector<TokenId>& out) const {
  HEDDLE_CHECK(text.size() < static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()));
  State state;
  state.text = text;
  state.unknown = unknown;
  merge(state);
  for (std::int32_t i = state.symbols.empty() ? -1 : 0; i >= 0;) {
    const Symbol& symbol = state.symbols[static_cast<std::size_t>(i)];
    put(text.substr(symbol.begin, symbol.size), state, out);
    i = symbol.next;
  }
}

}  // namespace heddle
