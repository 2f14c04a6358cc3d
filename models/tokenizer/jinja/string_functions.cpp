#include "models/tokenizer/jinja/string_functions.h"

#include <algorithm>

#include "models/tokenizer/jinja/format.h"
#include "models/tokenizer/jinja/operators.h"
#include "models/tokenizer/jinja/unicode.h"

namespace heddle::jinja {
namespace {

bool is_line_end(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

std::string_view entity(char c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&#34;";
    default:
      return "&#39;";
  }
}

bool is_untrusted(const Text& text, std::size_t pos) {
  const auto it = std::partition_point(text.untrusted.begin(), text.untrusted.end(),
                                       [&](const ByteRange& r) { return r.end <= pos; });
  return it != text.untrusted.end() && it->begin <= pos;
}

}  // namespace

Value strip(Runtime& rt, const Text& text, const Text* chars, Side side) {
  const std::string_view s = text.bytes;
  if (chars != nullptr) {
    rt.charge_product(1 + static_cast<std::int64_t>(chars->bytes.size() / 16), 1);
  }
  const auto drops = [&](std::size_t begin, std::size_t end) {
    std::size_t pos = begin;
    if (chars == nullptr) return is_space(next_char(s, pos));
    rt.charge_bytes(chars->bytes.size());
    return chars->bytes.find(s.substr(begin, end - begin)) != std::string::npos;
  };
  std::size_t begin = 0;
  std::size_t end = s.size();
  while (side != Side::kRight && begin < end) {
    std::size_t next = begin;
    next_char(s, next);
    if (!drops(begin, next)) break;
    begin = next;
  }
  while (side != Side::kLeft && end > begin) {
    std::size_t before = end;
    previous_char(s, before);
    if (!drops(before, end)) break;
    end = before;
  }
  return rt.slice(text, begin, end);
}

Value replace(Runtime& rt, const Text& text, const Text& from, const Text& to, std::int64_t count) {
  const bool untrusted = text.any_untrusted() || from.any_untrusted() || to.any_untrusted();
  const std::string_view s = text.bytes;
  std::string out;
  std::size_t pos = 0;
  for (; count != 0; --count) {
    std::size_t at = pos;
    if (from.bytes.empty()) {  // between all characters
      rt.charge_bytes(to.bytes.size());
      out += to.bytes;
      if (pos >= s.size()) return rt.text(std::move(out), untrusted);
      next_char(s, at);
      out.append(s, pos, at - pos);
      pos = at;
      continue;
    }
    at = find_bytes(s, from.bytes, pos);
    if (at == std::string_view::npos) break;
    rt.charge_bytes(to.bytes.size());
    out.append(s, pos, at - pos);
    out += to.bytes;
    pos = at + from.bytes.size();
  }
  out.append(s, pos, s.size() - pos);
  return rt.text(std::move(out), untrusted);
}

Value pad(Runtime& rt, const Text& text, std::int64_t width, const Text& fill, Side side) {
  if (fill.n_chars != 1) rt.fail("the fill character must be exactly one character long");
  const std::int64_t missing = width - text.n_chars;
  if (missing <= 0) return Value::of(&text);
  rt.charge_product(missing, 1);
  std::int64_t left = side == Side::kLeft ? 0 : missing;
  if (side == Side::kBoth) left = missing / 2 + (missing & width & 1);
  TextBuilder out;
  for (std::int64_t i = 0; i < left; ++i) out.append(fill);
  out.append(text);
  for (std::int64_t i = left; i < missing; ++i) out.append(fill);
  return rt.text(out);
}

Value escaped(Runtime& rt, const Value& v) {
  const Value plain = to_text(rt, v);
  const Text& text = *plain.text;
  if (text.markup) return plain;
  const std::string_view s = text.bytes;
  TextBuilder out;
  for (std::size_t begin = 0; begin < s.size(); ++begin) {
    const std::size_t at = std::min(s.find_first_of("&<>\"'", begin), s.size());
    out.append(text, begin, at);
    if (at < s.size()) out.append(entity(s[at]), is_untrusted(text, at));
    begin = at;
  }
  return as_markup(rt, rt.text(out));
}

Value as_markup(Runtime& rt, const Value& v) {
  if (v.text->markup) return v;
  Text text = *v.text;
  text.markup = true;
  return rt.text(std::move(text));
}

Value joined(Runtime& rt, const Value& a, const Value& b) {
  const bool markup = a.text->markup || b.text->markup;
  TextBuilder out;
  append_text(rt, out, markup ? escaped(rt, a) : a);
  append_text(rt, out, markup ? escaped(rt, b) : b);
  const Value text = rt.text(out);
  return markup ? as_markup(rt, text) : text;
}

std::vector<std::pair<std::size_t, std::size_t>> lines_of(const Text& text, bool keep_ends) {
  std::vector<std::pair<std::size_t, std::size_t>> lines;
  const std::string_view s = text.bytes;
  std::size_t begin = 0;
  for (std::size_t pos = 0; pos < s.size();) {
    const std::size_t end = pos;
    const char32_t c = next_char(s, pos);
    if (!is_line_end(c)) continue;
    if (c == '\r' && pos < s.size() && s[pos] == '\n') ++pos;
    lines.emplace_back(begin, keep_ends ? pos : end);
    begin = pos;
  }
  if (begin < s.size()) lines.emplace_back(begin, s.size());
  return lines;
}

}  // namespace heddle::jinja
