#pragma once
// Template source to tokens, with Jinja's whitespace control: trim_blocks and lstrip_blocks are on,
// one trailing newline of the source is dropped.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace heddle::jinja {

enum class Tok : std::uint8_t {
  kData,
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  Tok type = Tok::kEnd;
  std::uint32_t at = 0;   // offset in the source
  std::string_view text;  // part of the source; a string keeps its quotes
};

/// "\r\n" and "\r" become "\n"; one newline at the end is dropped.
std::string normalize_source(std::string_view source);

/// Tokens of a normalized source, kEnd last. Throws the error of the first bad character.
std::vector<Token> tokenize(std::string_view source);

/// The value of a string token. Throws for a bad escape.
std::string unescape(std::string_view source, const Token& token);

}  // namespace heddle::jinja
