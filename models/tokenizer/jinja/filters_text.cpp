// Filters that make strings.

#include <algorithm>
#include <array>

#include "models/tokenizer/jinja/builtins.h"
#include "models/tokenizer/jinja/format.h"
#include "models/tokenizer/jinja/json.h"
#include "models/tokenizer/jinja/operators.h"
#include "models/tokenizer/jinja/string_functions.h"
#include "models/tokenizer/jinja/unicode.h"

namespace heddle::jinja {
namespace {

Value capitalize(Call& call) {
  const Text& s = call.text(0);
  return call.derived(to_capitalized(s.bytes), {&s});
}

Value lower(Call& call) {
  const Text& s = call.text(0);
  return call.derived(to_lower(s.bytes), {&s});
}

Value upper(Call& call) {
  const Text& s = call.text(0);
  return call.derived(to_upper(s.bytes), {&s});
}

/// Jinja's title, not str.title: words begin behind white space and -({[<.
Value title(Call& call) {
  const Text& s = call.text(0);
  const std::string_view bytes = s.bytes;
  const auto separates = [](char32_t c) {
    return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  };
  std::string out;
  for (std::size_t begin = 0; begin < bytes.size();) {
    std::size_t end = begin;
    const bool separator = separates(next_char(bytes, end));
    const std::size_t first = end;
    for (std::size_t pos = end; pos < bytes.size(); end = pos) {
      if (separates(next_char(bytes, pos)) != separator) break;
    }
    out += to_upper(bytes.substr(begin, first - begin));
    out += to_lower(bytes.substr(first, end - first));
    begin = end;
  }
  return call.derived(std::move(out), {&s});
}

Value center(Call& call) {
  return pad(call.rt, call.text(0), call.integer(1, 80), make_text(" ", false), Side::kBoth);
}

Value escape(Call& call) {
  return escaped(call.rt, call.arg[0]);
}

Value safe(Call& call) {
  return as_markup(call.rt, to_text(call.rt, call.arg[0]));
}

Value format(Call& call) {
  const auto& all = call.all;
  if (all.positional.size() > 1 && !all.named.empty()) {
    call.fail("takes positional or keyword arguments, not both");
  }
  const Text& s = call.text(0);
  if (all.named.empty()) {
    std::vector<Value> values(all.positional.begin() + 1, all.positional.end());
    return format_percent(call.rt, s, call.rt.list(std::move(values), Type::kTuple));
  }
  Dict* values = call.rt.heap.add_dict();
  for (const auto& [key, value] : all.named) call.rt.insert(*values, Value::of(key), value);
  return format_percent(call.rt, s, call.rt.dict(values));
}

Value indent(Call& call) {
  const Text& s = call.string(0);
  Value width = Value::of(std::int64_t{4});
  if (call.arg[1].given()) width = call.arg[1];
  if (!width.is_string()) {
    if (!width.is_integer()) call.fail("the width must be an integer or a string");
    width = arithmetic(call.rt, Op::kMul, call.rt.text(" ", false), width);
  }
  const bool first = call.flag(2, false);
  const bool blank = call.flag(3, false);
  Text ended = s;
  ended.bytes.push_back('\n');
  TextBuilder out;
  bool is_first = true;
  for (const auto& [begin, end] : lines_of(ended, false)) {
    if (!is_first) out.append("\n", false);
    if (is_first ? first : (blank || end > begin)) {
      call.rt.charge_bytes(width.view().size());
      out.append(*width.text);
    }
    out.append(ended, begin, end);
    is_first = false;
  }
  return call.rt.text(out);
}

Value replace_filter(Call& call) {
  const std::int64_t count = call.arg[3].is(Type::kNone) ? -1 : call.integer(3, -1);
  return replace(call.rt, call.text(0), call.text(1), call.text(2), count);
}

Value string(Call& call) {
  return to_text(call.rt, call.arg[0]);
}

Value trim(Call& call) {
  const bool spaces = !call.arg[1].given() || call.arg[1].is(Type::kNone);
  return strip(call.rt, call.text(0), spaces ? nullptr : &call.string(1), Side::kBoth);
}

Value truncate(Call& call) {
  const std::int64_t size = call.integer(1, 255);
  const bool kill_words = call.flag(2, false);
  const Text three = make_text("...", false);
  const Text& dots = call.arg[3].given() ? call.string(3) : three;
  const bool no_leeway = !call.arg[4].given() || call.arg[4].is(Type::kNone);
  const std::int64_t leeway = no_leeway ? 5 : call.integer(4, 5);
  if (size < dots.n_chars) call.fail("the length is below that of the end");
  if (leeway < 0) call.fail("the leeway is negative");
  const std::int64_t length_now = length(call.arg[0]);  // short lists pass, as in Python
  if (length_now >= 0 && (leeway > length_now || length_now - leeway <= size)) return call.arg[0];
  const Text& s = call.string(0);
  std::size_t end = char_offset(s, size - dots.n_chars);
  if (!kill_words) {
    const std::size_t space = std::string_view(s.bytes).substr(0, end).rfind(' ');
    if (space != std::string_view::npos) end = space;
  }
  return joined(call.rt, call.rt.slice(s, 0, end), Value::of(&dots));
}

Value wordcount(Call& call) {
  const Text& s = call.text(0);
  std::int64_t n = 0;
  bool inside = false;
  for (std::size_t pos = 0; pos < s.bytes.size();) {
    const char32_t c = next_char(s.bytes, pos);
    const bool word = c == '_' || is_alpha(c) || is_numeric(c);
    n += word && !inside ? 1 : 0;
    inside = word;
  }
  return Value::of(n);
}

/// json.dumps as transformers sets the filter up: no HTML escapes, ensure_ascii off.
Value tojson(Call& call) {
  JsonStyle style;
  style.ensure_ascii = call.flag(1, false);
  style.sort_keys = call.flag(4, false);
  const Value& width = call.arg[2];
  if (width.given() && !width.is(Type::kNone)) {
    style.indented = true;
    style.item_separator = ",";
    if (width.is_string()) {
      style.indent = width.text->bytes;
    } else {
      const std::int64_t n = call.integer(2, 0);
      if (n > 1000) call.fail("an indent over 1000");
      style.indent.assign(static_cast<std::size_t>(std::max<std::int64_t>(n, 0)), ' ');
    }
  }
  bool untrusted = width.is_string() && width.text->any_untrusted();
  const Value& separators = call.arg[3];
  if (separators.given() && !separators.is(Type::kNone)) {
    const auto& parts = items_of(call.rt, separators);
    if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string()) {
      call.fail("separators must be two strings");
    }
    style.item_separator = parts[0].text->bytes;
    style.key_separator = parts[1].text->bytes;
    untrusted = untrusted || parts[0].text->any_untrusted() || parts[1].text->any_untrusted();
  }
  std::string json = to_json(call.rt, call.arg[0], style, untrusted);
  return call.rt.text(std::move(json), untrusted);
}

constexpr Builtin kFilters[] = {
    {"capitalize", capitalize, 1, {"s"}, kKeepsMarkup},
    {"center", center, 1, {"value", "width"}, kKeepsMarkup},
    {"e", escape, 1, {"value"}},
    {"escape", escape, 1, {"value"}},
    {"format", format, 1, {"value"}, kVariadic},
    {"indent", indent, 1, {"s", "width", "first", "blank"}, kKeepsMarkup},
    {"lower", lower, 1, {"s"}, kKeepsMarkup},
    {"replace", replace_filter, 3, {"s", "old", "new", "count"}},
    {"safe", safe, 1, {"value"}},
    {"string", string, 1, {"value"}},
    {"title", title, 1, {"s"}},
    {"tojson", tojson, 1, {"x", "ensure_ascii", "indent", "separators", "sort_keys"}},
    {"trim", trim, 1, {"value", "chars"}},
    {"truncate", truncate, 1, {"s", "length", "killwords", "end", "leeway"}},
    {"upper", upper, 1, {"s"}, kKeepsMarkup},
    {"wordcount", wordcount, 1, {"s"}},
};

}  // namespace

std::span<const Builtin> text_filters() {
  return kFilters;
}

}  // namespace heddle::jinja
