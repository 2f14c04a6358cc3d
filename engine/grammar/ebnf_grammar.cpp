// Grammars in GBNF, as llama.cpp reads them: NAME ::= alternatives, over bytes of UTF-8.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "base/error.h"
#include "engine/grammar/grammar_builder.h"
#include "engine/grammar/regex_parser.h"
#include "models/quote_text.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

class EbnfParser {
 public:
  EbnfParser(GrammarBuilder& builder, std::string_view text) : builder_(builder), text_(text) {}

  GrammarNode parse() {
    skip_space(true);
    while (more()) rule();
    for (const auto& [name, known] : rules_) {
      if (builder_.defined(known.rule)) continue;
      at_ = known.first_use;
      fail(fmt::format("rule {} is not defined", quote_text(name)));
    }
    const auto root = rules_.find("root");
    if (root == rules_.end()) fail("there is no rule 'root'");
    return builder_.call(root->second.rule);
  }

 private:
  static constexpr int kMostGroups = 100;  // within each other
  struct Known {
    GrammarBuilder::Rule rule;
    std::size_t first_use = 0;
  };

  [[noreturn]] void fail(const std::string& what) const {
    const std::string_view before = text_.substr(0, at_);
    const auto line = std::ranges::count(before, '\n') + 1;
    const std::size_t begin = before.rfind('\n') + 1;  // npos + 1 is 0
    throw bad_input(fmt::format("grammar:{}:{}: {}", line, at_ - begin + 1, what));
  }
  bool more() const { return at_ < text_.size(); }
  char peek() const { return more() ? text_[at_] : '\0'; }
  bool take(std::string_view token) {
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    return true;
  }

  /// Comments too; newlines where a rule cannot end.
  void skip_space(bool newlines) {
    while (more()) {
      const char c = peek();
      if (c == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (c == ' ' || c == '\t' || (newlines && (c == '\n' || c == '\r'))) {
        ++at_;
      } else {
        break;
      }
    }
  }

  /// To an alternative that begins on a later line.
  void skip_to_bar() {
    const std::size_t begin = at_;
    skip_space(true);
    if (peek() != '|') at_ = begin;
  }

  std::string name() {
    const std::size_t begin = at_;
    while (is_name_character(peek())) ++at_;
    if (at_ == begin) fail("a rule's name is expected");
    return std::string(text_.substr(begin, at_ - begin));
  }

  GrammarBuilder::Rule rule_of(const std::string& name) {
    const auto it = rules_.find(name);
    if (it != rules_.end()) return it->second.rule;
    return rules_.emplace(name, Known{builder_.declare(name), at_}).first->second.rule;
  }

  void rule() {
    const std::size_t begin = at_;
    const std::string rule_name = name();
    const GrammarBuilder::Rule rule = rule_of(rule_name);
    skip_space(false);
    if (!take("::=")) fail("'::=' is expected");
    if (builder_.defined(rule)) {
      at_ = begin;
      fail(fmt::format("rule {} is defined twice", quote_text(rule_name)));
    }
    skip_space(true);
    builder_.define(rule, alternatives(0));
    if (more() && peek() != '\n' && peek() != '\r') {
      fail(fmt::format("{} is not expected", quote_text(text_.substr(at_, 1))));
    }
    skip_space(true);
  }

  GrammarNode alternatives(int depth) {
    std::vector<GrammarNode> ways;
    for (;;) {
      ways.push_back(sequence(depth));
      if (depth == 0) skip_to_bar();
      if (!take("|")) break;
      skip_space(true);
    }
    return builder_.alternatives(ways);
  }

  GrammarNode sequence(int depth) {
    std::vector<GrammarNode> parts;
    for (;;) {
      const auto part = atom(depth);
      if (!part) break;
      parts.push_back(repeated(*part, depth > 0));
    }
    return builder_.sequence(parts);
  }

  std::optional<GrammarNode> atom(int depth) {
    const char c = peek();
    if (c == '"') return literal();
    if (c == '[') return builder_.code_points(character_class());
    if (c == '.') {
      ++at_;
      return builder_.code_points(CodePointSet().complement());
    }
    if (c == '(') {
      if (depth + 1 > kMostGroups) fail(fmt::format("groups nested deeper than {}", kMostGroups));
      ++at_;
      skip_space(true);
      const GrammarNode group = alternatives(depth + 1);
      if (!take(")")) fail("')' is expected");
      return group;
    }
    if (is_name_character(c)) return builder_.call(rule_of(name()));
    return std::nullopt;
  }

  std::uint32_t number() {
    constexpr std::uint64_t kMost = 1'000'000'000;
    if (peek() < '0' || peek() > '9') fail("a number is expected");
    std::uint64_t n = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      n = std::min(n * 10 + static_cast<std::uint64_t>(peek() - '0'), kMost);
    }
    return static_cast<std::uint32_t>(n);
  }

  /// And the space behind it: as in llama.cpp it may stand before and in a repetition.
  GrammarNode repeated(GrammarNode part, bool newlines) {
    for (int n = 0;; ++n) {
      skip_space(newlines);
      if (n > 4) fail("more than four quantifiers of one part");
      if (take("*")) {
        part = builder_.repeat(part, 0);
      } else if (take("+")) {
        part = builder_.repeat(part, 1);
      } else if (take("?")) {
        part = builder_.optional(part);
      } else if (take("{")) {
        part = counted(part, newlines);
      } else {
        return part;
      }
    }
  }

  GrammarNode counted(GrammarNode part, bool newlines) {
    skip_space(newlines);
    const bool from_zero = peek() == ',';
    const std::uint32_t least = from_zero ? 0 : number();
    std::uint32_t most = least;
    skip_space(newlines);
    if (take(",")) {
      skip_space(newlines);
      most = peek() == '}' && !from_zero ? GrammarBuilder::kNoEnd : number();
      skip_space(newlines);
    }
    if (!take("}")) fail("'}' is expected");
    if (least > most) fail("the minimum is above the maximum");
    return builder_.repeat(part, least, most);
  }

  std::uint32_t hex(int n_digits) {
    std::uint32_t value = 0;
    for (int i = 0; i < n_digits; ++i, ++at_) {
      const char c = peek();
      const char lower = static_cast<char>(c | 0x20);
      const bool digit = c >= '0' && c <= '9';
      if (!digit && (lower < 'a' || lower > 'f')) {
        fail(fmt::format("an escape that needs {} hexadecimal digits", n_digits));
      }
      value = value * 16 + static_cast<std::uint32_t>(digit ? c - '0' : lower - 'a' + 10);
    }
    return value;
  }

  /// One character of a literal or a class; a byte above 7F by \x is that code point.
  std::uint32_t character() {
    if (!take("\\")) {
      const Utf8Step step = utf8_step(text_, at_);
      if (!step.valid) fail("bytes that are not UTF-8");
      at_ += step.length;
      return step.code_point;
    }
    const char c = peek();
    if (more()) ++at_;
    switch (c) {
      case 'n':
        return '\n';
      case 't':
        return '\t';
      case 'r':
        return '\r';
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^':
        return static_cast<std::uint32_t>(c);
      case 'x':
        return hex(2);
      case 'u':
        return scalar(hex(4));
      case 'U':
        return scalar(hex(8));
      default:
        fail(
            "an escape that is not known; known: \\n \\t \\r \\\\ \\\" \\[ \\] \\- \\^ \\x \\u "
            "\\U");
    }
  }

  std::uint32_t scalar(std::uint32_t c) const {
    if (c > CodePointSet::kLast || (c >= 0xD800 && c <= 0xDFFF)) fail("not a character of Unicode");
    return c;
  }

  GrammarNode literal() {
    ++at_;
    std::string text;
    while (peek() != '"') {
      if (!more() || peek() == '\n') fail("a literal does not end");
      append_utf8(text, character());
    }
    ++at_;
    return builder_.literal(text);
  }

  CodePointSet character_class() {
    ++at_;
    const bool complement = take("^");
    CodePointSet set;
    while (peek() != ']') {
      if (!more() || peek() == '\n') fail("a class does not end");
      if (peek() == '\\' && at_ + 1 < text_.size()) {
        if (const CodePointSet* named = class_of_letter(text_[at_ + 1])) {
          set.add(*named);
          at_ += 2;
          continue;
        }
      }
      const std::uint32_t low = character();
      std::uint32_t high = low;
      const bool range = peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']';
      if (range) {
        ++at_;
        high = character();
      }
      if (high < low) fail("a range whose end is before its begin");
      set.add(low, high);
    }
    ++at_;
    return complement ? set.complement() : set;
  }

  GrammarBuilder& builder_;
  std::string_view text_;
  std::size_t at_ = 0;
  std::map<std::string, Known, std::less<>> rules_;
};

}  // namespace

GrammarNode ebnf_node(GrammarBuilder& builder, std::string_view text) {
  builder.check_source("grammar", text.size());
  return EbnfParser(builder, text).parse();
}

}  // namespace heddle
