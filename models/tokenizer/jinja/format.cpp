#include "models/tokenizer/jinja/format.h"

#include <string.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "models/tokenizer/jinja/operators.h"
#include "models/tokenizer/jinja/string_functions.h"

namespace heddle::jinja {
namespace {

constexpr int kMaxPrecision = 400;

struct Spec {
  std::string fill = " ";
  char align = '\0';  // < > ^ =, or the default of the type
  char sign = '-';    // + - or space
  bool alternate = false;
  std::int64_t width = 0;
  int precision = -1;
  char group = '\0';  // , or _
  char type = '\0';
};

bool is_digit_char(char c) {
  return c >= '0' && c <= '9';
}

/// Digits at `pos`, at most a billion.
std::int64_t read_number(std::string_view s, std::size_t& pos) {
  std::int64_t n = 0;
  for (; pos < s.size() && is_digit_char(s[pos]); ++pos) {
    n = std::min<std::int64_t>(n * 10 + (s[pos] - '0'), 1'000'000'000);
  }
  return n;
}

int checked_precision(Runtime& rt, std::int64_t n) {
  if (n > kMaxPrecision) rt.fail("a precision over " + std::to_string(kMaxPrecision) + " digits");
  return static_cast<int>(n);
}

/// `body` (digits, no sign) with sign, prefix, and padding.
std::string padded(Runtime& rt, const Spec& spec, const std::string& sign, std::string body) {
  const std::int64_t size = count_chars(sign) + count_chars(body);
  if (spec.width <= size) return sign + body;
  const std::int64_t missing = spec.width - size;
  rt.charge_bytes(static_cast<std::size_t>(missing) * spec.fill.size());
  const auto fill = [&](std::int64_t n) {
    std::string out;
    for (std::int64_t i = 0; i < n; ++i) out += spec.fill;
    return out;
  };
  switch (spec.align) {
    case '<':
      return sign + body + fill(missing);
    case '^':
      return fill(missing / 2) + sign + body + fill(missing - missing / 2);
    case '=':
      return sign + fill(missing) + body;
    default:
      return fill(missing) + sign + body;
  }
}

std::string grouped(std::string digits, char separator, std::size_t every) {
  const std::size_t whole =
      std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  for (std::size_t i = whole; i > every; i -= every) digits.insert(i - every, 1, separator);
  return digits;
}

std::string sign_of(const Spec& spec, bool negative) {
  if (negative) return "-";
  return spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string format_integer(Runtime& rt, const Spec& spec, std::int64_t x) {
  const std::uint64_t magnitude =
      x < 0 ? std::uint64_t{0} - static_cast<std::uint64_t>(x) : static_cast<std::uint64_t>(x);
  std::string digits;
  const unsigned base = spec.type == 'x' || spec.type == 'X'
                            ? 16
                            : (spec.type == 'o' ? 8 : (spec.type == 'b' ? 2 : 10));
  for (std::uint64_t rest = magnitude; rest > 0 || digits.empty(); rest /= base) {
    digits.push_back((spec.type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[rest % base]);
  }
  std::reverse(digits.begin(), digits.end());
  if (spec.precision > static_cast<int>(digits.size())) {
    digits.insert(0, static_cast<std::size_t>(spec.precision) - digits.size(), '0');
  }
  if (spec.group != '\0') digits = grouped(std::move(digits), spec.group, base == 10 ? 3 : 4);
  std::string sign = sign_of(spec, x < 0);
  if (spec.alternate && base != 10) sign += std::string("0") + spec.type;
  return padded(rt, spec, sign, std::move(digits));
}

std::string format_real(Runtime& rt, const Spec& spec, double x) {
  const char type = spec.type == '%' ? 'f' : spec.type;
  const double value = spec.type == '%' ? x * 100 : x;
  const std::string format = std::string(spec.alternate ? "%#.*" : "%.*") + type;
  const int precision = spec.precision < 0 ? 6 : spec.precision;
  const double magnitude = std::fabs(value);
  const int n = std::snprintf(nullptr, 0, format.c_str(), precision, magnitude);
  std::string body(static_cast<std::size_t>(n) + 1, '\0');
  std::snprintf(body.data(), body.size(), format.c_str(), precision, magnitude);
  body.pop_back();
  if (spec.group != '\0' && std::isfinite(x)) body = grouped(std::move(body), spec.group, 3);
  if (spec.type == '%') body += '%';
  return padded(rt, spec, sign_of(spec, std::signbit(value) && !std::isnan(value)),
                std::move(body));
}

/// Collects the result of a format and whether any operand taints it.
struct Output {
  Runtime& rt;
  std::string bytes;
  bool untrusted;
  bool markup;  // the format is, and escapes what it takes

  const Text& str(const Value& v) {
    const Text& text = *(markup ? escaped(rt, v) : to_text(rt, v)).text;
    untrusted = untrusted || text.any_untrusted();
    return text;
  }
  Value take() {
    const Value text = rt.text(std::move(bytes), untrusted);
    return markup ? as_markup(rt, text) : text;
  }
  std::string string(const Spec& spec, const Text& text) {
    std::string body = text.bytes;
    if (spec.precision >= 0 && spec.precision < text.n_chars) {
      body.resize(char_offset(text, spec.precision));
    }
    return padded(rt, spec, "", std::move(body));
  }
};

class PercentFormatter {
 public:
  PercentFormatter(Runtime& rt, const Text& format, const Value& values)
      : rt_(rt),
        s_(format.bytes),
        values_(values),
        out_{rt, {}, format.any_untrusted(), format.markup} {}
  Value run();

 private:
  void directive();
  void convert(Spec& spec, const Value& v);
  Value next();
  Value keyed();
  std::int64_t star_or_number();
  char at() const { return pos_ < s_.size() ? s_[pos_] : '\0'; }

  Runtime& rt_;
  std::string_view s_;
  const Value& values_;
  Output out_;
  std::size_t pos_ = 0;
  std::size_t n_used_ = 0;
};

Value PercentFormatter::next() {
  if (values_.is(Type::kTuple)) {
    if (n_used_ >= values_.list->items.size()) rt_.fail("not enough arguments for format string");
    return values_.list->items[n_used_++];
  }
  if (n_used_++ > 0) rt_.fail("not enough arguments for format string");
  return values_;
}

Value PercentFormatter::keyed() {
  const std::size_t begin = ++pos_;
  int depth = 1;
  for (; pos_ < s_.size(); ++pos_) {
    if (s_[pos_] == '(') ++depth;
    if (s_[pos_] == ')' && --depth == 0) break;
  }
  if (depth > 0) rt_.fail("incomplete format key");
  const std::string_view name = s_.substr(begin, pos_++ - begin);
  if (!values_.is(Type::kDict)) rt_.fail("format requires a mapping");
  const Value* found = values_.dict->find(name);
  if (found == nullptr) rt_.fail("the format's key " + quoted(name) + " is not there");
  n_used_ = 1;
  return *found;
}

std::int64_t PercentFormatter::star_or_number() {
  if (at() != '*') return read_number(s_, pos_);
  ++pos_;
  const Value v = next();
  if (!v.is_integer() || out_.markup) rt_.fail("* wants int");
  return v.as_integer();
}

void PercentFormatter::convert(Spec& spec, const Value& v) {
  if (out_.markup && std::string_view("cxXo").find(spec.type) != s_.npos) {
    rt_.fail(std::string("markup cannot format by %") + spec.type);
  }
  switch (spec.type) {
    case 's':
      out_.bytes += out_.string(spec, out_.str(v));
      return;
    case 'r':
      out_.bytes += out_.string(spec, out_.str(rt_.text(repr(rt_, v, out_.untrusted), false)));
      return;
    case 'c': {
      const bool code = v.is_integer() && v.as_integer() >= 0 && v.as_integer() < 0x110000 &&
                        (v.as_integer() < 0xD800 || v.as_integer() > 0xDFFF);
      if (!code && !(v.is_string() && v.text->n_chars == 1)) rt_.fail("%c requires a character");
      std::string c;
      if (code) append_char(c, static_cast<char32_t>(v.as_integer()));
      spec.precision = -1;
      out_.bytes += out_.string(spec, code ? make_text(c, false) : out_.str(v));
      return;
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
      if (!(v.is_integer() || (decimal && v.is(Type::kFloat)))) {
        rt_.fail(std::string("%") + spec.type + " requires a number, got '" + type_name(v) + "'");
      }
      if (v.is(Type::kFloat) && !(std::fabs(v.real) < 0x1p63)) {
        rt_.fail("a float does not fit in 64 bits");
      }
      if (decimal) spec.type = 'd';
      out_.bytes += format_integer(
          rt_, spec, v.is(Type::kFloat) ? static_cast<std::int64_t>(v.real) : v.as_integer());
      return;
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      if (!v.is_number()) rt_.fail("a format requires a number, got '" + type_name(v) + "'");
      out_.bytes += format_real(rt_, spec, v.as_real());
      return;
    default:
      rt_.fail(std::string("unsupported format character ") +
               quoted(std::string_view(&spec.type, 1)));
  }
}

void PercentFormatter::directive() {
  ++pos_;
  const bool has_key = at() == '(';
  Value v;
  if (has_key) v = keyed();
  Spec spec;
  bool zero = false;
  for (;; ++pos_) {
    const char c = at();
    if (c == '-') {
      spec.align = '<';
    } else if (c == '+' || (c == ' ' && spec.sign != '+')) {
      spec.sign = c;
    } else if (c == '#') {
      spec.alternate = true;
    } else if (c == '0') {
      zero = true;
    } else if (c != ' ') {
      break;
    }
  }
  spec.width = star_or_number();
  if (spec.width < 0) {
    spec.align = '<';
    spec.width = -std::max<std::int64_t>(spec.width, -1'000'000'000);
  }
  spec.width = std::min<std::int64_t>(spec.width, 1'000'000'000);
  if (at() == '.') {
    ++pos_;
    spec.precision = checked_precision(rt_, std::max<std::int64_t>(star_or_number(), 0));
  }
  if (at() == 'h' || at() == 'l' || at() == 'L') ++pos_;
  if (pos_ >= s_.size()) rt_.fail("incomplete format");
  spec.type = s_[pos_++];
  if (spec.type == '%') {
    out_.bytes.push_back('%');
    return;
  }
  if (zero && spec.align == '\0' && std::string_view("srca").find(spec.type) == s_.npos) {
    spec.align = '=';
    spec.fill = "0";
  }
  convert(spec, has_key ? v : next());
}

Value PercentFormatter::run() {
  while (pos_ < s_.size()) {
    rt_.charge();
    const std::size_t percent = std::min(s_.find('%', pos_), s_.size());
    out_.bytes.append(s_, pos_, percent - pos_);
    pos_ = percent;
    if (pos_ < s_.size()) directive();
  }
  const std::size_t n_values = values_.is(Type::kTuple) ? values_.list->items.size() : 1;
  const bool mapping = values_.is(Type::kDict) || values_.is(Type::kList) ||
                       values_.is(Type::kUndefined) || values_.is(Type::kRange);
  if (n_used_ < n_values && !mapping) {
    rt_.fail("not all arguments converted during string formatting");
  }
  return out_.take();
}

class BraceFormatter {
 public:
  BraceFormatter(Runtime& rt, const Text& format, const Arguments& arguments)
      : rt_(rt),
        s_(format.bytes),
        arguments_(arguments),
        out_{rt, {}, format.any_untrusted(), format.markup} {}
  Value run();

 private:
  void field(std::string_view text);
  Value lookup(std::string_view path);
  Value first(std::string_view name);
  Spec parse_spec(std::string_view text);
  void convert(const Spec& spec, const Value& v);

  Runtime& rt_;
  std::string_view s_;
  const Arguments& arguments_;
  Output out_;
  std::size_t n_automatic_ = 0;
};

Value BraceFormatter::first(std::string_view name) {
  std::size_t pos = 0;
  const std::int64_t number = read_number(name, pos);
  if (pos == name.size()) {
    const std::size_t i = name.empty() ? n_automatic_++ : static_cast<std::size_t>(number);
    if (i + 1 >= arguments_.positional.size()) rt_.fail("a replacement index is out of range");
    return arguments_.positional[i + 1];  // [0] is the format itself
  }
  for (const auto& [key, value] : arguments_.named) {
    if (key->bytes == name) return value;
  }
  rt_.fail("the format's name " + quoted(name) + " is not given");
}

Value BraceFormatter::lookup(std::string_view path) {
  std::size_t pos = std::min(path.find_first_of(".["), path.size());
  Value v = first(path.substr(0, pos));
  while (pos < path.size()) {
    rt_.charge();
    const bool item = path[pos] == '[';
    const std::size_t begin = pos + 1;
    const std::size_t end =
        item ? path.find(']', begin) : std::min(path.find_first_of(".[", begin), path.size());
    if (end == path.npos || end == begin) rt_.fail("a bad field in a format string");
    const std::string_view name = path.substr(begin, end - begin);
    std::size_t digits_end = 0;
    const std::int64_t number = read_number(name, digits_end);
    if (!item) {
      v = get_attribute(rt_, v, name);
    } else if (digits_end == name.size()) {
      v = get_item(rt_, v, Value::of(number));
    } else {
      v = get_item(rt_, v, rt_.text(std::string(name), out_.untrusted));
    }
    pos = item ? end + 1 : end;
    if (pos < path.size() && path[pos] != '.' && path[pos] != '[') {
      rt_.fail("a bad field in a format string");
    }
  }
  return v;
}

Spec BraceFormatter::parse_spec(std::string_view text) {
  Spec spec;
  std::size_t pos = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const auto at = [&] { return pos < text.size() ? text[pos] : '\0'; };
  if (!text.empty()) {
    std::size_t behind = 0;
    next_char(text, behind);
    if (behind < text.size() && is_align(text[behind])) {
      spec.fill = std::string(text.substr(0, behind));
      spec.align = text[behind];
      pos = behind + 1;
    } else if (is_align(at())) {
      spec.align = text[pos++];
    }
  }
  if (at() == '+' || at() == '-' || at() == ' ') spec.sign = text[pos++];
  if (at() == '#') {
    spec.alternate = true;
    ++pos;
  }
  if (at() == '0') {
    if (spec.align == '\0') {
      spec.align = '=';
      spec.fill = "0";
    }
    ++pos;
  }
  spec.width = read_number(text, pos);
  if (at() == ',' || at() == '_') spec.group = text[pos++];
  if (at() == '.') {
    ++pos;
    if (!is_digit_char(at())) rt_.fail("a format specification lacks its precision");
    spec.precision = checked_precision(rt_, read_number(text, pos));
  }
  if (pos < text.size()) spec.type = text[pos++];
  if (pos < text.size()) rt_.fail("a bad format specification " + quoted(text));
  return spec;
}

void BraceFormatter::convert(const Spec& given, const Value& v) {
  Spec spec = given;
  const auto is_type = [&](std::string_view types) {
    return spec.type == '\0' || types.find(spec.type) != types.npos;
  };
  if (v.is_string()) {
    if (!is_type("s") || spec.sign != '-' || spec.alternate || spec.group != '\0' ||
        spec.align == '=') {
      rt_.fail("a bad format specification for a string");
    }
    if (spec.align == '\0') spec.align = '<';
    out_.bytes += out_.string(spec, out_.str(v));
  } else if (v.is_integer() && is_type("dboxX") && spec.precision < 0) {
    if (spec.type == '\0') spec.type = 'd';
    out_.bytes += format_integer(rt_, spec, v.as_integer());
  } else if (v.is_number() && spec.type != '\0' && is_type("eEfFgG%")) {
    out_.bytes += format_real(rt_, spec, v.as_real());
  } else if (v.is(Type::kFloat) && spec.type == '\0' && spec.precision < 0) {
    out_.bytes +=
        padded(rt_, spec, sign_of(spec, std::signbit(v.real)), float_repr(std::fabs(v.real)));
  } else {
    rt_.fail("a format specification does not fit a value of type '" + type_name(v) + "'");
  }
}

void BraceFormatter::field(std::string_view text) {
  if (text.find('{') != text.npos) rt_.fail("nested fields in a format are not supported");
  const std::size_t colon = std::min(text.find(':'), text.size());
  const std::string_view head = text.substr(0, colon);
  const std::size_t bang = std::min(head.find('!'), head.size());
  Value v = lookup(head.substr(0, bang));
  if (bang < head.size()) {
    const std::string_view conversion = head.substr(bang + 1);
    if (conversion == "r") {
      bool untrusted = false;
      const std::string shown = repr(rt_, v, untrusted);
      v = rt_.text(shown, untrusted);
    } else if (conversion == "s") {
      TextBuilder plain;
      append_text(rt_, plain, v);
      v = rt_.text(plain);
    } else {
      rt_.fail("unknown conversion " + quoted(conversion));
    }
  }
  if (colon + 1 >= text.size()) {
    out_.bytes += out_.str(v).bytes;
    return;
  }
  if (!out_.markup) return convert(parse_spec(text.substr(colon + 1)), v);
  if (v.is_string() && v.text->markup) rt_.fail("markup takes no format specification");
  const std::string before = std::exchange(out_.bytes, {});
  out_.markup = false;  // escaped once it is formatted
  convert(parse_spec(text.substr(colon + 1)), v);
  out_.markup = true;
  out_.bytes = before + out_.str(rt_.text(std::move(out_.bytes), false)).bytes;
}

Value BraceFormatter::run() {
  for (std::size_t pos = 0; pos < s_.size();) {
    rt_.charge();
    const char c = s_[pos];
    if (c != '{' && c != '}') {
      const std::size_t end = std::min(s_.find_first_of("{}", pos), s_.size());
      out_.bytes.append(s_, pos, end - pos);
      pos = end;
    } else if (pos + 1 < s_.size() && s_[pos + 1] == c) {
      out_.bytes.push_back(c);
      pos += 2;
    } else {
      const std::size_t end = c == '{' ? s_.find('}', pos) : s_.npos;
      if (end == s_.npos) rt_.fail(std::string("single '") + c + "' in a format string");
      field(s_.substr(pos + 1, end - pos - 1));
      pos = end + 1;
    }
  }
  return out_.take();
}

}  // namespace

Value format_percent(Runtime& rt, const Text& format, const Value& values) {
  return PercentFormatter(rt, format, values).run();
}

Value format_braces(Runtime& rt, const Text& format, const Arguments& arguments) {
  return BraceFormatter(rt, format, arguments).run();
}

double round_half_even(double x, int n_digits) {
  if (!std::isfinite(x) || n_digits > 320) return x;
  if (n_digits < -320) return std::copysign(0.0, x);
  if (n_digits >= 0) {
    char buffer[1024];
    std::snprintf(buffer, sizeof buffer, "%.*f", n_digits, x);
    return std::strtod(buffer, nullptr);
  }
  const double scale = std::pow(10.0, -n_digits);
  return std::nearbyint(x / scale) * scale;
}

std::size_t find_bytes(std::string_view text, std::string_view what, std::size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (what.empty()) return from;
  const void* const at = ::memmem(text.data() + from, text.size() - from, what.data(), what.size());
  return at == nullptr ? std::string_view::npos
                       : static_cast<std::size_t>(static_cast<const char*>(at) - text.data());
}

}  // namespace heddle::jinja
