#pragma once
// SentencePiece's precompiled character map: a double-array trie from character sequences to
// replacements, as tokenizer.json files carry it in base64.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace heddle {

/// Immutable. Every walk is bounded: offsets that lead out of the array match nothing.
class Charsmap {
 public:
  /// `blob`: uint32 size of the trie (little-endian), the trie, replacements that end in NUL.
  /// Throws kBadInput, "a character map of N bytes whose ...", for a blob of another shape.
  explicit Charsmap(std::string_view blob);

  /// Throws kBadInput unless another reader, which bounds nothing, would stay inside the arrays
  /// too.
  void check_for_library() const;

  /// Does any key begin with `text`?
  bool begins_key(std::string_view text) const;

  /// What the shortest key that begins `text` is replaced by; nothing: no key does.
  std::optional<std::string_view> replacement(std::string_view text) const;

 private:
  std::vector<std::uint32_t> units_;
  std::string replacements_;  // ends in NUL
};

/// Nothing for a text that is not base64 (RFC 4648, with padding).
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace heddle
