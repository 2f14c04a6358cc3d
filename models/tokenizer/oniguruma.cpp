// Oniguruma's syntax, as tokenizer.json files use it, in PCRE2's. Where both read a construct alike
// it is copied; where they differ it is respelled:
// - \s is the property White_Space (PCRE2's matches U+180E too), \w has Oniguruma's characters,
//   \h is a hexadecimal digit, \v a vertical tab;
// - \p{Han} is the script property, not the script extensions; long names of categories are
//   shortened;
// - a {n,m} followed by + is repeated, not possessive.
// What has neither spelling is refused: back references, named groups, nested or intersected
// classes, POSIX brackets, options other than (?i).

#include <array>
#include <cctype>
#include <utility>
#include <vector>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/regex.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

constexpr std::string_view kSpace = R"(\t-\r\x{85}\p{Z})";
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kHex = "0-9A-Fa-f";
constexpr std::size_t kMaxBytes = 16384;

/// General categories by their long names; PCRE2 knows only the short ones.
constexpr std::array<std::pair<std::string_view, std::string_view>, 38> kCategories = {{
    {"letter", "L"},
    {"lowercaseletter", "Ll"},
    {"uppercaseletter", "Lu"},
    {"titlecaseletter", "Lt"},
    {"casedletter", "L&"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"digit", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"space", "White_Space"},
    {"alpha", "Alphabetic"},
}};
constexpr std::array<std::string_view, 4> kBinary = {"alphabetic", "whitespace", "lowercase",
                                                     "uppercase"};

std::string loose(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == ' ' || c == '_' || c == '-') continue;
    out.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  return out;
}

class Rewriter {
 public:
  explicit Rewriter(std::string_view pattern) : in_(pattern) {}

  std::string rewrite() {
    if (in_.size() > kMaxBytes) {
      throw bad_input("a pattern of " + std::to_string(in_.size()) + " bytes, allowed: up to " +
                      std::to_string(kMaxBytes));
    }
    while (at_ < in_.size()) item();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::size_t position, const std::string& what) const {
    throw bad_input(what + " at position " + std::to_string(position) + " of a pattern");
  }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0';
  }
  void begin_atom() { atom_ = out_.size(); }

  void item() {
    switch (peek()) {
      case '\\':
        begin_atom();
        escape(/*in_class=*/false);
        break;
      case '[':
        begin_atom();
        char_class();
        break;
      case '(':
        group();
        break;
      case ')':
        if (!groups_.empty()) {
          atom_ = groups_.back();
          groups_.pop_back();
        }
        copy();
        break;
      case '{':
        interval();
        break;
      case '*':
      case '+':
      case '?':
        copy();
        break;
      default:
        begin_atom();
        copy_character();
    }
  }
  void copy() { out_.push_back(in_[at_++]); }
  void copy_character() {
    const std::size_t length = utf8_step(in_, at_).length;
    out_.append(in_.substr(at_, length));
    at_ += length;
  }

  void group() {
    const std::size_t begin = at_;
    groups_.push_back(out_.size());
    if (peek(1) != '?') {
      out_ += "(?:";  // nothing refers to the capture
      ++at_;
      return;
    }
    for (const std::string_view kind :
         {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?-i:"}) {
      if (in_.substr(at_).substr(0, kind.size()) != kind) continue;
      out_ += kind;
      at_ += kind.size();
      return;
    }
    if (in_.substr(at_, 4) == "(?i)") {  // holds to the end of the enclosing group, as in PCRE2
      groups_.pop_back();
      out_ += "(?i)";
      at_ += 4;
      return;
    }
    refuse(begin, "a group " + quote_text(in_.substr(begin), 4));
  }

  /// {n,m}; Oniguruma takes other braces literally, and {n,m}+ as a repeated group.
  void interval() {
    std::size_t end = at_ + 1;
    bool digits = false;
    int commas = 0;
    for (; end < in_.size() && in_[end] != '}'; ++end) {
      if (in_[end] == ',') {
        ++commas;
      } else if (in_[end] >= '0' && in_[end] <= '9') {
        digits = true;
      } else {
        refuse(at_, "a brace that is not {n}, {n,} or {n,m}");
      }
    }
    if (end == in_.size() || !digits || commas > 1 || in_[at_ + 1] == ',') {
      refuse(at_, "a brace that is not {n}, {n,} or {n,m}");
    }
    out_.append(in_.substr(at_, end + 1 - at_));
    at_ = end + 1;
    if (peek() == '+') {
      out_.insert(atom_, "(?:");
      out_ += ")";
    }
  }

  void char_class() {
    const std::size_t begin = at_;
    const bool negated = peek(1) == '^';
    out_ += negated ? "[^" : "[";
    at_ += negated ? 2 : 1;
    if (peek() == ']') refuse(begin, "an empty character class");
    while (peek() != ']') {
      if (at_ >= in_.size()) refuse(begin, "a character class without an end");
      if (peek() == '[') refuse(at_, "a class within a class");
      if (peek() == '&' && peek(1) == '&') refuse(at_, "an intersection of classes");
      if (peek() == '\\') {
        escape(/*in_class=*/true);
      } else {
        copy_character();
      }
    }
    copy();
  }

  void put_class(std::string_view members, bool complement, bool in_class, std::size_t begin) {
    if (in_class) {
      if (complement) refuse(begin, "a complement such as \\W within a class");
      out_ += members;
    } else {
      out_ += complement ? "[^" : "[";
      out_ += members;
      out_ += "]";
    }
  }

  void escape(bool in_class) {
    const std::size_t begin = at_;
    if (at_ + 1 >= in_.size()) refuse(begin, "a backslash at the end");
    const char c = in_[at_ + 1];
    at_ += 2;
    switch (c) {
      case 's':
        put_class(kSpace, false, in_class, begin);
        return;
      case 'S':
        if (in_class) {
          out_ += R"(\P{White_Space})";
        } else {
          put_class(kSpace, true, false, begin);
        }
        return;
      case 'w':
        put_class(kWord, false, in_class, begin);
        return;
      case 'W':
        put_class(kWord, true, in_class, begin);
        return;
      case 'h':
        put_class(kHex, false, in_class, begin);
        return;
      case 'H':
        put_class(kHex, true, in_class, begin);
        return;
      case 'd':
        out_ += R"(\p{Nd})";
        return;
      case 'D':
        out_ += R"(\P{Nd})";
        return;
      case 'p':
      case 'P':
        property(c == 'P', begin);
        return;
      case 'v':
        out_ += R"(\x{B})";
        return;
      case 'u':
        code_point(4, begin);
        return;
      case 'x':
        hexadecimal(begin);
        return;
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'e':
      case 'a':
        out_ += std::string("\\") + c;
        return;
      case 'A':
      case 'z':
      case 'Z':
        if (in_class) refuse(begin, std::string("an escape \\") + c + " within a class");
        out_ += std::string("\\") + c;
        return;
      case 'b':
      case 'B':
        boundary(c == 'B', in_class, begin);
        return;
      default:
        if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
          refuse(begin, std::string("an escape \\") + c);
        }
        --at_;
        if (static_cast<unsigned char>(c) < 0x80) {
          out_.push_back('\\');
          copy();
        } else {
          copy_character();
        }
    }
  }

  void boundary(bool complement, bool in_class, std::size_t begin) {
    if (in_class) refuse(begin, "an escape \\b within a class");
    const std::string word = "[" + std::string(kWord) + "]";
    out_ += complement ? "(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))"
                       : "(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))";
  }

  void property(bool complement, std::size_t begin) {
    const std::size_t end = in_.find('}', at_);
    if (peek() != '{' || end == std::string_view::npos) refuse(begin, "a property without braces");
    std::string_view name = in_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    if (!name.empty() && name.front() == '^') {
      complement = !complement;
      name.remove_prefix(1);
    }
    if (name.empty() || name.size() > 40) refuse(begin, "a property without a name");
    for (const char c : name) {
      const bool allowed = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' ||
                           c == ' ' || c == '-' || c == '&';
      if (!allowed) refuse(begin, "a property " + quote_text(name));
    }
    out_ += complement ? "\\P{" : "\\p{";
    out_ += property_name(name);
    out_ += "}";
  }

  static std::string property_name(std::string_view name) {
    const std::string key = loose(name);
    for (const auto& [known, category] : kCategories) {
      if (key == known) return std::string(category);
    }
    for (const std::string_view binary : kBinary) {
      if (key == binary) return std::string(name);
    }
    if (key == "any") return "Any";
    if (key.size() <= 2) {  // a category: L, Nd
      std::string category = key;
      category[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(category[0])));
      return category;
    }
    return "sc:" + std::string(name);
  }

  void code_point(std::size_t digits, std::size_t begin) {
    if (at_ + digits > in_.size()) refuse(begin, "a \\u without four digits");
    for (std::size_t i = 0; i < digits; ++i) {
      if (std::isxdigit(static_cast<unsigned char>(in_[at_ + i])) == 0) {
        refuse(begin, "a \\u without four digits");
      }
    }
    out_ += "\\x{" + std::string(in_.substr(at_, digits)) + "}";
    at_ += digits;
  }

  /// \x{...} is a character; \xHH is a byte, so only an ASCII one is a character.
  void hexadecimal(std::size_t begin) {
    if (peek() == '{') {
      const std::size_t end = in_.find('}', at_);
      if (end == std::string_view::npos || end - at_ < 2 || end - at_ > 9) {
        refuse(begin, "a \\x{ without hexadecimal digits");
      }
      const std::size_t digits = end - at_ - 1;
      ++at_;
      for (std::size_t i = 0; i < digits; ++i) {
        if (std::isxdigit(static_cast<unsigned char>(in_[at_ + i])) == 0) {
          refuse(begin, "a \\x{ without hexadecimal digits");
        }
      }
      out_ += "\\x{" + std::string(in_.substr(at_, digits)) + "}";
      at_ = end + 1;
      return;
    }
    if (at_ + 2 > in_.size() || in_[at_] < '0' || in_[at_] > '7' ||
        std::isxdigit(static_cast<unsigned char>(in_[at_ + 1])) == 0) {
      refuse(begin, "a \\x that is no ASCII character");
    }
    out_ += "\\x{" + std::string(in_.substr(at_, 2)) + "}";
    at_ += 2;
  }

  std::string_view in_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t atom_ = 0;             // where the last atom begins in out_
  std::vector<std::size_t> groups_;  // where the open groups begin in out_
};

}  // namespace

std::string pcre2_from_oniguruma(std::string_view pattern) {
  return Rewriter(pattern).rewrite();
}

}  // namespace heddle
