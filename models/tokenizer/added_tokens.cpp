#include "models/tokenizer/added_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/gguf_spec.h"
#include "models/tokenizer/unicode.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

bool overlaps(const std::vector<ByteRange>* ranges, ByteRange range) {
  if (ranges == nullptr) return false;
  auto it = std::partition_point(ranges->begin(), ranges->end(),
                                 [&](const ByteRange& other) { return other.end <= range.begin; });
  while (it != ranges->end() && it->begin == it->end) ++it;  // an empty range covers nothing
  return it != ranges->end() && it->begin < range.end;
}

ByteRange source_range(ByteRange range, const AddedTokens::Scope& scope) {
  if (scope.origin == nullptr) return {range.begin + scope.source, range.end + scope.source};
  return {(*scope.origin)[range.begin], std::size_t{(*scope.origin)[range.end - 1]} + 1};
}

/// Position of the character that ends before `pos` > 0.
std::size_t previous_character(std::string_view text, std::size_t pos) {
  --pos;
  while (pos > 0 && (static_cast<unsigned char>(text[pos]) & 0xC0U) == 0x80U) --pos;
  return pos;
}

bool is_single_word(std::string_view text, ByteRange range) {
  if (range.begin > 0) {
    const std::size_t before = previous_character(text, range.begin);
    if (is_word_character(utf8_step(text, before).code_point)) return false;
  }
  return range.end == text.size() || !is_word_character(utf8_step(text, range.end).code_point);
}

std::size_t skip_space_back(std::string_view text, std::size_t pos, std::size_t least) {
  while (pos > least) {
    const std::size_t before = previous_character(text, pos);
    if (before < least || !is_white_space(utf8_step(text, before).code_point)) break;
    pos = before;
  }
  return pos;
}

std::size_t skip_space(std::string_view text, std::size_t pos) {
  while (pos < text.size()) {
    const Utf8Step step = utf8_step(text, pos);
    if (!is_white_space(step.code_point)) break;
    pos += step.length;
  }
  return pos;
}

}  // namespace

AddedTokens::AddedTokens(const std::vector<AddedToken>& tokens) : tokens_(tokens) {
  nodes_.emplace_back();
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::string& text = tokens_[i].text;
    HEDDLE_CHECK(!text.empty() && text.size() <= kMaxBytes && is_valid_utf8(text));
    begins_[static_cast<unsigned char>(text.front())] = true;
    std::uint32_t at = 0;
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (const Node* existing = child(nodes_[at], byte)) {
        at = static_cast<std::uint32_t>(existing - nodes_.data());
        continue;
      }
      const auto created = static_cast<std::uint32_t>(nodes_.size());
      nodes_[at].children.emplace_back(byte, created);
      nodes_.emplace_back();
      at = created;
    }
    if (nodes_[at].token < 0) nodes_[at].token = static_cast<std::int32_t>(i);
  }
}

const AddedTokens::Node* AddedTokens::child(const Node& node, unsigned char byte) const {
  for (const auto& [edge, index] : node.children) {
    if (edge == byte) return &nodes_[index];
  }
  return nullptr;
}

AddedTokens::Found AddedTokens::longest_at(std::string_view text,
                                           std::size_t pos,
                                           const Scope& scope) const {
  Found longest;
  const Node* node = &nodes_.front();
  for (std::size_t end = pos; end < text.size();) {
    node = child(*node, static_cast<unsigned char>(text[end++]));
    if (node == nullptr) break;
    if (node->token < 0) continue;
    const AddedToken& token = tokens_[static_cast<std::size_t>(node->token)];
    if (token.control &&
        (!scope.parse_special || overlaps(scope.plain, source_range({pos, end}, scope)))) {
      continue;
    }
    longest = {end, &token};
  }
  return longest;
}

std::optional<AddedTokens::Match> AddedTokens::next(std::string_view text,
                                                    std::size_t pos,
                                                    std::size_t taken,
                                                    const Scope& scope) const {
  while (pos < text.size()) {
    if (!begins_[static_cast<unsigned char>(text[pos])]) {
      ++pos;
      continue;
    }
    const Found found = longest_at(text, pos, scope);
    if (found.token == nullptr) {
      ++pos;
      continue;
    }
    Match match{{pos, found.end}, found.end, found.token->id};
    if (found.token->single_word && !is_single_word(text, match.range)) {
      pos = found.end;
      continue;
    }
    if (found.token->lstrip) match.range.begin = skip_space_back(text, pos, taken);
    if (found.token->rstrip) match.range.end = skip_space(text, found.end);
    return match;
  }
  return std::nullopt;
}

std::vector<AddedToken> added_tokens_of(const TokenVocabulary& vocabulary,
                                        const std::string& source) {
  std::vector<AddedToken> tokens;
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const bool control = vocabulary.is_control(id);
    if (!control && vocabulary.kind(id) != TokenKind::kUserDefined) continue;
    const std::string_view text = vocabulary.bytes(id);
    if (text.empty()) continue;
    if (text.size() > AddedTokens::kMaxBytes || !is_valid_utf8(text)) {
      throw spec_error(source, "tokens[" + std::to_string(id) + "]",
                       quote_text(text) + " of " + std::to_string(text.size()) + " bytes",
                       "UTF-8 of up to " + std::to_string(AddedTokens::kMaxBytes) +
                           " bytes for control and user-defined tokens");
    }
    tokens.push_back({.text = std::string(text), .id = id, .control = control});
  }
  return tokens;
}

}  // namespace heddle
