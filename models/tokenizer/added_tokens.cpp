#include "models/tokenizer/added_tokens.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

constexpr std::size_t kMaxBytes = 1024;  // bounds the work per position of the text

bool overlaps(const std::vector<ByteRange>* ranges, ByteRange range) {
  if (ranges == nullptr) return false;
  auto it = std::partition_point(ranges->begin(), ranges->end(),
                                 [&](const ByteRange& other) { return other.end <= range.begin; });
  while (it != ranges->end() && it->begin == it->end) ++it;  // an empty range covers nothing
  return it != ranges->end() && it->begin < range.end;
}

}  // namespace

AddedTokens::AddedTokens(const TokenVocabulary& vocabulary, const std::string& source) {
  nodes_.emplace_back();
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const bool control = vocabulary.is_control(id);
    if (!control && vocabulary.kind(id) != TokenKind::kUserDefined) continue;
    const std::string_view text = vocabulary.bytes(id);
    if (text.empty()) continue;
    if (text.size() > kMaxBytes || !is_valid_utf8(text)) {
      throw bad_input(source + ": tokenizer.ggml.tokens[" + std::to_string(id) + "] is '" +
                      printable_text(text) + "' of " + std::to_string(text.size()) +
                      " bytes, allowed for control and user-defined tokens: UTF-8 of up to " +
                      std::to_string(kMaxBytes) + " bytes");
    }
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
    nodes_[at].id = id;
    nodes_[at].control = control;
  }
}

const AddedTokens::Node* AddedTokens::child(const Node& node, unsigned char byte) const {
  for (const auto& [edge, index] : node.children) {
    if (edge == byte) return &nodes_[index];
  }
  return nullptr;
}

std::optional<AddedTokens::Match> AddedTokens::next(std::string_view text,
                                                    std::size_t pos,
                                                    const Scope& scope) const {
  for (; pos < text.size(); ++pos) {
    if (!begins_[static_cast<unsigned char>(text[pos])]) continue;
    std::optional<Match> longest;
    const Node* node = &nodes_.front();
    for (std::size_t end = pos; end < text.size();) {
      node = child(*node, static_cast<unsigned char>(text[end++]));
      if (node == nullptr) break;
      if (node->id < 0) continue;
      const ByteRange range{pos, end};
      if (node->control && (!scope.parse_special || overlaps(scope.plain, range))) continue;
      longest = Match{range, node->id};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace heddle
