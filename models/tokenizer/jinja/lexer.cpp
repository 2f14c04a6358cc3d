#include "models/tokenizer/jinja/lexer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "models/tokenizer/jinja/runtime.h"
#include "models/tokenizer/jinja/unicode.h"

namespace heddle::jinja {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

bool is_number_char(char c) {
  return c >= '0' && c <= '9';
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}
  std::vector<Token> run();

 private:
  [[noreturn]] void fail(std::size_t at, std::string_view text) const {
    throw error_at(source_, at, text);
  }
  bool at(std::string_view text) const { return source_.substr(pos_).starts_with(text); }
  char peek(std::size_t ahead) const {
    return pos_ + ahead < source_.size() ? source_[pos_ + ahead] : '\0';
  }
  void add(Tok type, std::size_t begin, std::size_t end);
  void skip_space(std::size_t& pos) const;
  char sign_at(std::size_t pos) const;
  void data(std::size_t begin, std::size_t end, char sign, bool strip_line);
  void comment();
  bool raw();
  std::size_t find_raw_end(std::size_t from, std::size_t& begin, char& sign) const;
  bool end_tag(std::string_view end, bool trims_newline, std::size_t& pos) const;
  void tag(Tok begin, Tok end, std::string_view close);
  void expression_token();
  bool number();
  bool name();
  void string();
  void op();

  std::string_view source_;
  std::size_t pos_ = 0;
  bool line_starting_ = true;
  std::vector<char> brackets_;  // closers that are due
  std::vector<Token> tokens_;
};

void Lexer::add(Tok type, std::size_t begin, std::size_t end) {
  tokens_.push_back({type, static_cast<std::uint32_t>(begin), source_.substr(begin, end - begin)});
}

void Lexer::skip_space(std::size_t& pos) const {
  while (pos < source_.size()) {
    std::size_t next = pos;
    if (!is_space(next_char(source_, next))) return;
    pos = next;
  }
}

char Lexer::sign_at(std::size_t pos) const {
  const char c = pos < source_.size() ? source_[pos] : '\0';
  return c == '-' || c == '+' ? c : '\0';
}

/// Text before a tag that carries `sign`; strip_line: lstrip_blocks applies to the tag.
void Lexer::data(std::size_t begin, std::size_t end, char sign, bool strip_line) {
  const std::size_t last_newline = source_.substr(begin, end - begin).rfind('\n');
  const bool owns_line = last_newline != kNone || line_starting_;
  const std::size_t floor =
      sign == '-' ? begin : (last_newline == kNone ? begin : begin + last_newline + 1);
  if (sign == '-' || (sign != '+' && strip_line && owns_line)) {
    std::size_t kept = end;
    while (kept > floor) {
      std::size_t before = kept;
      if (!is_space(previous_char(source_, before))) break;
      kept = before;
    }
    if (sign == '-' || kept == floor) end = kept;
  }
  if (end > begin) add(Tok::kData, begin, end);
}

/// The end of a tag at `pos`, with its sign and what it swallows; moves `pos` behind.
bool Lexer::end_tag(std::string_view end, bool trims_newline, std::size_t& pos) const {
  const std::string_view rest = source_.substr(pos);
  if (rest.starts_with(end)) {
    pos += end.size();
    if (trims_newline && pos < source_.size() && source_[pos] == '\n') ++pos;
    return true;
  }
  const bool plus_allowed = trims_newline;
  if (rest.empty() || !rest.substr(1).starts_with(end)) return false;
  if (rest[0] != '-' && !(rest[0] == '+' && plus_allowed)) return false;
  pos += 1 + end.size();
  if (rest[0] == '-') skip_space(pos);
  return true;
}

void Lexer::comment() {
  const std::size_t begin = pos_;
  pos_ += sign_at(pos_ + 2) != '\0' ? 3 : 2;
  const std::size_t close = source_.find("#}", pos_);
  if (close == kNone) fail(begin, "a comment has no end '#}'");
  const bool sign = close > pos_ && sign_at(close - 1) != '\0';
  pos_ = sign ? close - 1 : close;
  end_tag("#}", true, pos_);
}

/// Where the raw block's text ends; returns the position behind the end tag, or kNone.
std::size_t Lexer::find_raw_end(std::size_t from, std::size_t& begin, char& sign) const {
  for (begin = source_.find("{%", from); begin != kNone; begin = source_.find("{%", begin + 1)) {
    sign = sign_at(begin + 2);
    std::size_t pos = begin + (sign != '\0' ? 3 : 2);
    skip_space(pos);
    if (!source_.substr(pos).starts_with("endraw")) continue;
    pos += 6;
    skip_space(pos);
    if (end_tag("%}", true, pos)) return pos;
  }
  return kNone;
}

/// At "{%": a raw block is taken whole.
bool Lexer::raw() {
  std::size_t pos = pos_ + (sign_at(pos_ + 2) != '\0' ? 3 : 2);
  skip_space(pos);
  if (!source_.substr(pos).starts_with("raw")) return false;
  pos += 3;
  skip_space(pos);
  if (!end_tag("%}", false, pos)) return false;
  line_starting_ = source_[pos - 1] == '\n';
  std::size_t text_end = 0;
  char sign = '\0';
  const std::size_t end = find_raw_end(pos, text_end, sign);
  if (end == kNone) fail(pos_, "a raw block has no 'endraw'");
  data(pos, text_end, sign, true);
  pos_ = end;
  return true;
}

void Lexer::tag(Tok begin, Tok end, std::string_view close) {
  const std::size_t start = pos_;
  add(begin, pos_, pos_ + 2);
  pos_ += sign_at(pos_ + 2) != '\0' ? 3 : 2;
  // "{{+ x }}": a plus is no mark there but an operator.
  if (begin == Tok::kVariableBegin && source_[pos_ - 1] == '+') --pos_;
  brackets_.clear();
  for (;;) {
    skip_space(pos_);
    if (pos_ >= source_.size()) {
      fail(start, begin == Tok::kBlockBegin ? "a tag has no end '%}'" : "'{{' has no end '}}'");
    }
    const std::size_t here = pos_;
    if (brackets_.empty() && end_tag(close, end == Tok::kBlockEnd, pos_)) {
      add(end, here, here + 2);
      return;
    }
    expression_token();
  }
}

bool Lexer::number() {
  const auto digits = [&](std::size_t& p, auto&& accepts) {
    const std::size_t first = p;
    while (p < source_.size() &&
           (accepts(source_[p]) || (source_[p] == '_' && p > first && p + 1 < source_.size() &&
                                    accepts(source_[p + 1])))) {
      ++p;
    }
    return p > first;
  };
  if (!is_number_char(peek(0))) return false;
  const std::size_t begin = pos_;
  std::size_t p = pos_;
  digits(p, is_number_char);
  if (begin == 0 || source_[begin - 1] != '.') {
    bool real = false;
    std::size_t q = p + 1;
    if (p < source_.size() && source_[p] == '.' && digits(q, is_number_char)) {
      p = q;
      real = true;
    }
    if (p < source_.size() && (source_[p] == 'e' || source_[p] == 'E')) {
      q = p + 1;
      if (q < source_.size() && (source_[q] == '+' || source_[q] == '-')) ++q;
      if (digits(q, is_number_char)) {
        p = q;
        real = true;
      }
    }
    if (real) {
      add(Tok::kFloat, begin, p);
      pos_ = p;
      return true;
    }
  }
  const char kind = static_cast<char>(peek(1) | 0x20);
  p = begin + 2;
  std::size_t q = p + (p < source_.size() && source_[p] == '_' ? 1 : 0);
  const auto hex = [](char c) {
    return is_number_char(c) ||
           (static_cast<char>(c | 0x20) >= 'a' && static_cast<char>(c | 0x20) <= 'f');
  };
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  const auto binary = [](char c) { return c == '0' || c == '1'; };
  if (peek(0) == '0' && ((kind == 'x' && digits(q, hex)) || (kind == 'o' && digits(q, octal)) ||
                         (kind == 'b' && digits(q, binary)))) {
    p = q;
  } else {
    p = begin;
    digits(p, [&](char c) { return peek(0) == '0' ? c == '0' : is_number_char(c); });
  }
  add(Tok::kInteger, begin, p);
  pos_ = p;
  return true;
}

bool Lexer::name() {
  std::size_t p = pos_;
  while (p < source_.size()) {
    std::size_t next = p;
    const char32_t c = next_char(source_, next);
    if (c != '_' && !is_alpha(c) && !is_numeric(c)) break;
    p = next;
  }
  if (p == pos_) return false;
  add(Tok::kName, pos_, p);
  pos_ = p;
  return true;
}

void Lexer::string() {
  const char quote = source_[pos_];
  std::size_t p = pos_ + 1;
  while (p < source_.size() && source_[p] != quote) p += source_[p] == '\\' ? 2 : 1;
  if (p >= source_.size()) fail(pos_, "a string has no closing quote");
  add(Tok::kString, pos_, p + 1);
  pos_ = p + 1;
}

void Lexer::op() {
  constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
  constexpr std::string_view kOne = "+-/*%~[](){}><=.:|,;";
  const std::string_view two = source_.substr(pos_, 2);
  const bool is_two = std::find(std::begin(kTwo), std::end(kTwo), two) != std::end(kTwo);
  const char c = source_[pos_];
  if (!is_two && kOne.find(c) == kNone) {
    std::size_t end = pos_;
    next_char(source_, end);
    fail(pos_, "unexpected character '" + std::string(source_.substr(pos_, end - pos_)) + "'");
  }
  if (c == '(' || c == '[' || c == '{') {
    brackets_.push_back(c == '(' ? ')' : (c == '[' ? ']' : '}'));
  } else if (c == ')' || c == ']' || c == '}') {
    if (brackets_.empty()) fail(pos_, std::string("unexpected '") + c + "'");
    if (brackets_.back() != c) {
      fail(pos_, std::string("unexpected '") + c + "', expected '" + brackets_.back() + "'");
    }
    brackets_.pop_back();
  }
  add(Tok::kOperator, pos_, pos_ + (is_two ? 2 : 1));
  pos_ += is_two ? 2 : 1;
}

void Lexer::expression_token() {
  if (number() || name()) return;
  if (peek(0) == '\'' || peek(0) == '"') return string();
  op();
}

std::vector<Token> Lexer::run() {
  while (pos_ < source_.size()) {
    const std::size_t begin = pos_;
    std::size_t open = begin;
    for (;; ++open) {
      open = source_.find('{', open);
      if (open == kNone || open + 1 >= source_.size()) {
        open = source_.size();
        break;
      }
      const char kind = source_[open + 1];
      if (kind == '{' || kind == '%' || kind == '#') break;
    }
    pos_ = open;
    if (open == source_.size()) {
      add(Tok::kData, begin, open);
      break;
    }
    const char kind = source_[open + 1];
    const char sign = sign_at(open + 2);
    data(begin, open, kind == '{' && sign == '+' ? '\0' : sign, kind != '{');
    if (kind == '#') {
      comment();
    } else if (kind == '{') {
      tag(Tok::kVariableBegin, Tok::kVariableEnd, "}}");
    } else if (!raw()) {
      tag(Tok::kBlockBegin, Tok::kBlockEnd, "%}");
    }
    line_starting_ = source_[pos_ - 1] == '\n';
  }
  tokens_.push_back({Tok::kEnd, static_cast<std::uint32_t>(source_.size()), {}});
  return std::move(tokens_);
}

/// Value of `n` digits of `base` at `pos`; false if there are fewer.
bool digits_at(std::string_view s, std::size_t pos, std::size_t n, char32_t& value) {
  value = 0;
  if (pos + n > s.size()) return false;
  for (const char c : s.substr(pos, n)) {
    const char lower = static_cast<char>(c | 0x20);
    if (is_number_char(c)) {
      value = value * 16 + static_cast<char32_t>(c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      value = value * 16 + static_cast<char32_t>(lower - 'a' + 10);
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

std::string normalize_source(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

std::string unescape(std::string_view source, const Token& token) {
  const std::string_view s = token.text.substr(1, token.text.size() - 2);
  const auto fail = [&](std::size_t pos) {
    throw error_at(source, token.at + 1 + pos, "bad escape in a string");
  };
  constexpr std::string_view kFrom = "\\'\"abfnrtv";
  constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
  std::string out;
  for (std::size_t i = 0; i < s.size();) {
    if (s[i] != '\\') {
      out.push_back(s[i++]);
      continue;
    }
    const std::size_t start = i++;  // the lexer leaves at least one character behind a backslash
    const char c = s[i];
    const std::size_t simple = kFrom.find(c);
    if (simple != kNone) {
      out.push_back(kTo[simple]);
      ++i;
    } else if (c == '\n') {
      ++i;
    } else if (c >= '0' && c <= '7') {
      char32_t value = 0;
      for (int n = 0; n < 3 && i < s.size() && s[i] >= '0' && s[i] <= '7'; ++n) {
        value = value * 8 + static_cast<char32_t>(s[i++] - '0');
      }
      append_char(out, value);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t n = c == 'x' ? 2 : (c == 'u' ? 4 : 8);
      char32_t value = 0;
      if (!digits_at(s, i + 1, n, value)) fail(start);
      if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) fail(start);
      append_char(out, value);
      i += 1 + n;
    } else if (c == 'N') {
      fail(start);
    } else {
      out.push_back('\\');
    }
  }
  return out;
}

}  // namespace heddle::jinja
