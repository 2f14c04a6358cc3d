#include "engine/grammar/regex_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

const CodePointSet& digits() {
  static const CodePointSet set{{'0', '9'}};
  return set;
}
const CodePointSet& word_characters() {
  static const CodePointSet set{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
  return set;
}
const CodePointSet& spaces() {
  static const CodePointSet set{
      {'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
      {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
  return set;
}

std::uint64_t times(std::uint64_t a, std::uint64_t b) {
  if (a == 0 || b == 0) return 0;
  return a > RegexPiece::kNoEnd / b ? RegexPiece::kNoEnd : a * b;
}
std::uint64_t plus(std::uint64_t a, std::uint64_t b) {
  return a > RegexPiece::kNoEnd - b ? RegexPiece::kNoEnd : a + b;
}

class RegexParser {
 public:
  RegexParser(GrammarBuilder& builder, std::string_view pattern, const CharacterWriter& write)
      : builder_(builder), text_(pattern), write_(write) {}

  RegexPiece parse(bool search) {
    std::vector<RegexPiece> ways;
    do {
      ways.push_back(whole_way(search));
    } while (take('|'));
    if (at_ < text_.size()) fail("')' without '('");
    return any_of(ways);
  }

 private:
  static constexpr int kMostGroups = 100;  // within each other

  [[noreturn]] void fail(const std::string& what) const {
    throw bad_input(fmt::format("regex:{}: {} in {}", at_ + 1, what, quote_text(text_)));
  }
  bool more() const { return at_ < text_.size(); }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool take(std::string_view token) {
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    return true;
  }
  bool take(char c) { return take(std::string_view(&c, 1)); }

  RegexPiece any_of(const std::vector<RegexPiece>& ways) {
    std::vector<GrammarNode> nodes;
    RegexPiece all{.least = RegexPiece::kNoEnd};
    for (const RegexPiece& way : ways) {
      nodes.push_back(way.node);
      all.least = std::min(all.least, way.least);
      all.most = std::max(all.most, way.most);
    }
    all.node = builder_.alternatives(nodes);
    return all;
  }

  /// One alternative of the whole expression: anchors may stand at its ends.
  RegexPiece whole_way(bool search) {
    const bool from_begin = take('^');
    RegexPiece way = sequence(0);
    const bool to_end = take('$');
    if (more() && peek() != '|' && peek() != ')') fail("'$' stands before the end");
    if (!search || (from_begin && to_end)) return way;
    const GrammarNode rest = builder_.repeat(write_(builder_, CodePointSet().complement()), 0);
    std::vector<GrammarNode> parts = {way.node};
    if (!from_begin) parts.insert(parts.begin(), rest);
    if (!to_end) parts.push_back(rest);
    return {.node = builder_.sequence(parts), .least = way.least, .most = RegexPiece::kNoEnd};
  }

  RegexPiece alternatives(int depth) {
    std::vector<RegexPiece> ways;
    do {
      ways.push_back(sequence(depth));
    } while (take('|'));
    return any_of(ways);
  }

  RegexPiece sequence(int depth) {
    std::vector<GrammarNode> nodes;
    RegexPiece all;
    while (more() && peek() != '|' && peek() != ')') {
      if (peek() == '$' && depth == 0) break;
      const RegexPiece next = repeated(depth);
      nodes.push_back(next.node);
      all.least = plus(all.least, next.least);
      all.most = plus(all.most, next.most);
    }
    all.node = builder_.sequence(nodes);
    return all;
  }

  RegexPiece repeated(int depth) {
    const RegexPiece part = atom(depth);
    const auto bounds = quantifier();
    if (!bounds) return part;
    const auto [least, most] = *bounds;
    take('?');  // lazy: the same texts
    if (peek() == '+') fail("possessive quantifiers are not supported,");
    if (quantifier()) fail("two quantifiers");
    const bool endless = most == GrammarBuilder::kNoEnd && part.most > 0;
    return {.node = builder_.repeat(part.node, least, most),
            .least = times(part.least, least),
            .most = endless ? RegexPiece::kNoEnd : times(part.most, most)};
  }

  std::optional<std::uint32_t> number() {
    constexpr std::uint32_t kMost = 1'000'000'000;
    if (peek() < '0' || peek() > '9') return std::nullopt;
    std::uint64_t n = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      n = std::min<std::uint64_t>(n * 10 + static_cast<std::uint64_t>(peek() - '0'), kMost);
    }
    return static_cast<std::uint32_t>(n);
  }

  std::optional<std::pair<std::uint32_t, std::uint32_t>> quantifier() {
    constexpr std::uint32_t kNoEnd = GrammarBuilder::kNoEnd;
    if (take('*')) return std::pair(0U, kNoEnd);
    if (take('+')) return std::pair(1U, kNoEnd);
    if (take('?')) return std::pair(0U, 1U);
    if (peek() != '{') return std::nullopt;
    const std::size_t begin = at_++;
    if (peek() == ',' && peek(1) >= '0' && peek(1) <= '9') fail("a quantifier without a minimum");
    const auto least = number();
    std::optional<std::uint32_t> most = least;
    if (least && take(',')) {
      most = number();
      if (!most) most = kNoEnd;
    }
    if (!least || !take('}')) {  // a brace like any other character
      at_ = begin;
      return std::nullopt;
    }
    if (*least > *most) fail("a quantifier whose minimum is above its maximum");
    return std::pair(*least, *most);
  }

  RegexPiece one(const CodePointSet& set) {
    return {.node = write_(builder_, set), .least = 1, .most = 1};
  }

  RegexPiece atom(int depth) {
    switch (peek()) {
      case '(':
        return group(depth);
      case '[':
        return one(character_class());
      case '.':
        ++at_;
        return one(CodePointSet{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}.complement());
      case '^':
      case '$':
        fail("an anchor that is not at an end");
      case '*':
      case '+':
      case '?':
        fail("a quantifier with nothing before it");
      case '\\': {
        if (const CodePointSet* set = letter_class()) return one(*set);
        const std::uint32_t c = escaped(false);
        return one({{c, c}});
      }
      default: {
        const std::uint32_t c = character();
        return one({{c, c}});
      }
    }
  }

  RegexPiece group(int depth) {
    if (depth + 1 > kMostGroups) fail(fmt::format("groups nested deeper than {}", kMostGroups));
    ++at_;
    if (take('?')) {
      const bool named =
          take("P<") || (peek() == '<' && peek(1) != '=' && peek(1) != '!' && take('<'));
      if (named) {
        const std::size_t end = text_.find('>', at_);
        if (end == std::string_view::npos || end == at_) fail("a group's name does not end");
        at_ = end + 1;
      } else if (!take(':')) {
        fail("lookaround, flags and other '(?' groups are not supported,");
      }
    }
    RegexPiece piece = alternatives(depth + 1);
    if (!take(')')) fail("'(' without ')'");
    return piece;
  }

  std::uint32_t character() {
    const Utf8Step step = utf8_step(text_, at_);
    if (!step.valid) fail("bytes that are not UTF-8");
    at_ += step.length;
    return step.code_point;
  }

  /// After a backslash: the class of a letter, if it is one.
  const CodePointSet* letter_class() {
    const CodePointSet* set = class_of_letter(peek(1));
    if (set != nullptr) at_ += 2;
    return set;
  }

  std::uint32_t hex(int n_digits) {
    std::uint32_t value = 0;
    for (int i = 0; i < n_digits; ++i, ++at_) {
      const char c = peek();
      const char lower = static_cast<char>(c | 0x20);
      if (c >= '0' && c <= '9') {
        value = value * 16 + static_cast<std::uint32_t>(c - '0');
      } else if (lower >= 'a' && lower <= 'f') {
        value = value * 16 + static_cast<std::uint32_t>(lower - 'a' + 10);
      } else {
        fail(fmt::format("an escape that needs {} hexadecimal digits", n_digits));
      }
    }
    return value;
  }

  std::uint32_t unicode_escape() {
    std::uint32_t c = hex(4);
    if (c >= 0xD800 && c < 0xDC00 && take("\\u")) {
      const std::uint32_t low = hex(4);
      if (low < 0xDC00 || low > 0xDFFF) fail("half of a surrogate pair");
      return 0x10000 + ((c - 0xD800) << 10U) + (low - 0xDC00);
    }
    if (c >= 0xD800 && c <= 0xDFFF) fail("half of a surrogate pair");
    return c;
  }

  std::uint32_t escaped(bool in_class) {
    ++at_;
    if (!more()) fail("a backslash at the end");
    const char c = peek();
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!letter && (c < '0' || c > '9')) return character();
    ++at_;
    switch (c) {
      case 'n':
        return '\n';
      case 't':
        return '\t';
      case 'r':
        return '\r';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case 'x':
        return hex(2);
      case 'u':
        return unicode_escape();
      case '0':
        if (peek() < '0' || peek() > '9') return 0;
        break;
      case 'b':
        if (in_class) return '\b';
        break;
      default:
        break;
    }
    --at_;
    fail(fmt::format("'\\{}' is not supported", c));
  }

  CodePointSet character_class() {
    ++at_;
    const bool complement = take('^');
    if (peek() == ']') fail("an empty class");
    CodePointSet set;
    while (peek() != ']') {
      if (!more()) fail("'[' without ']'");
      if (peek() == '\\') {
        if (const CodePointSet* named = letter_class()) {
          set.add(*named);
          if (peek() == '-' && peek(1) != ']') fail("a range that begins with a class");
          continue;
        }
      }
      const std::uint32_t low = peek() == '\\' ? escaped(true) : character();
      std::uint32_t high = low;
      if (peek() == '-' && peek(1) != ']' && at_ + 1 < text_.size()) {
        ++at_;
        if (peek() == '\\' && class_of_letter(peek(1)) != nullptr)
          fail("a range that ends with a class");
        high = peek() == '\\' ? escaped(true) : character();
      }
      if (high < low) fail("a range whose end is before its begin");
      set.add(low, high);
    }
    ++at_;
    return complement ? set.complement() : set;
  }

  GrammarBuilder& builder_;
  std::string_view text_;
  const CharacterWriter& write_;
  std::size_t at_ = 0;
};

}  // namespace

const CodePointSet* class_of_letter(char letter) {
  static const CodePointSet kNoDigits = digits().complement();
  static const CodePointSet kNoWord = word_characters().complement();
  static const CodePointSet kNoSpaces = spaces().complement();
  switch (letter) {
    case 'd':
      return &digits();
    case 'D':
      return &kNoDigits;
    case 'w':
      return &word_characters();
    case 'W':
      return &kNoWord;
    case 's':
      return &spaces();
    case 'S':
      return &kNoSpaces;
    default:
      return nullptr;
  }
}

RegexPiece parse_regex(GrammarBuilder& builder,
                       std::string_view pattern,
                       const CharacterWriter& write,
                       bool search) {
  return RegexParser(builder, pattern, write).parse(search);
}

GrammarNode regex_node(GrammarBuilder& builder, std::string_view pattern) {
  builder.check_source("regex", pattern.size());
  const CharacterWriter write = [](GrammarBuilder& b, const CodePointSet& set) {
    return b.code_points(set);
  };
  return parse_regex(builder, pattern, write, false).node;
}

}  // namespace heddle
