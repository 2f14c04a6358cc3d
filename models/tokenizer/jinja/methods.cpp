// Methods of strings, dicts and sequences.

#include <algorithm>

#include "models/tokenizer/jinja/builtins.h"
#include "models/tokenizer/jinja/format.h"
#include "models/tokenizer/jinja/operators.h"
#include "models/tokenizer/jinja/string_functions.h"
#include "models/tokenizer/jinja/unicode.h"

namespace heddle::jinja {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

bool absent(const Value& v) {
  return !v.given() || v.is(Type::kNone);
}

template <std::string (*convert)(std::string_view)>
Value converted(Call& call) {
  const Text& s = call.string(0);
  return call.derived(convert(s.bytes), {&s});
}

template <bool (*has)(char32_t)>
Value all_chars(Call& call) {
  const std::string_view s = call.string(0).bytes;
  for (std::size_t pos = 0; pos < s.size();) {
    if (!has(next_char(s, pos))) return Value::of(false);
  }
  return Value::of(!s.empty());
}

bool is_alnum(char32_t c) {
  return is_alpha(c) || is_numeric(c);
}

Value is_case(Call& call, std::string_view test) {
  Arguments arguments;
  arguments.positional.push_back(call.arg[0]);
  return call_builtin(call.rt, *find_test(test), arguments);
}

Value islower(Call& call) {
  return is_case(call, "lower");
}
Value isupper(Call& call) {
  return is_case(call, "upper");
}

Value stripped(Call& call, Side side) {
  return strip(call.rt, call.string(0), absent(call.arg[1]) ? nullptr : &call.string(1), side);
}

Value lstrip(Call& call) {
  return stripped(call, Side::kLeft);
}
Value rstrip(Call& call) {
  return stripped(call, Side::kRight);
}
Value strip_method(Call& call) {
  return stripped(call, Side::kBoth);
}

/// A text that a method puts beside its string: markup escapes it.
const Text& beside(Call& call, const Text& text) {
  return call.string(0).markup ? *escaped(call.rt, Value::of(&text)).text : text;
}

Value padded(Call& call, Side side) {
  const Text space = make_text(" ", false);
  const Text& fill = call.arg[2].given() ? call.string(2) : space;
  return pad(call.rt, call.string(0), call.integer(1, 0), beside(call, fill), side);
}

Value center(Call& call) {
  return padded(call, Side::kBoth);
}
Value ljust(Call& call) {
  return padded(call, Side::kLeft);
}
Value rjust(Call& call) {
  return padded(call, Side::kRight);
}

Value zfill(Call& call) {
  const Text& s = call.string(0);
  const std::int64_t missing = call.integer(1, 0) - s.n_chars;
  if (missing <= 0) return call.arg[0];
  call.rt.charge_product(missing, 1);
  const std::size_t sign = s.bytes.starts_with('-') || s.bytes.starts_with('+') ? 1 : 0;
  TextBuilder out;
  out.append(s, 0, sign);
  out.append(std::string(static_cast<std::size_t>(missing), '0'), false);
  out.append(s, sign, s.bytes.size());
  return call.rt.text(out);
}

/// The part of a string that the arguments start and end of find, count, ... choose.
struct Window {
  std::size_t begin = 0, end = 0;  // bytes
  bool valid = true;               // start is not behind end
};

Window window(Call& call, const Text& s, int first_arg) {
  const auto bound = [&](int i, std::int64_t fallback) {
    std::int64_t x = absent(call.arg[i]) ? fallback : call.integer(i, fallback);
    if (x < 0) x = std::max<std::int64_t>(x < -s.n_chars ? 0 : x + s.n_chars, 0);
    return x;
  };
  const std::int64_t start = bound(first_arg, 0);
  const std::int64_t end = std::min(bound(first_arg + 1, s.n_chars), s.n_chars);
  if (start > end) return {0, 0, false};
  if (!s.ascii()) call.rt.charge_bytes(s.bytes.size());
  return {char_offset(s, start), char_offset(s, end), true};
}

bool matches_end(Call& call, const Window& w, const Text& what, bool at_start) {
  const std::string_view part =
      std::string_view(call.string(0).bytes).substr(w.begin, w.end - w.begin);
  return w.valid && (at_start ? part.starts_with(what.bytes) : part.ends_with(what.bytes));
}

Value starts_or_ends(Call& call, bool at_start) {
  const Window w = window(call, call.string(0), 2);
  if (!call.arg[1].is(Type::kTuple)) {
    return Value::of(matches_end(call, w, call.string(1), at_start));
  }
  for (const Value& v : call.arg[1].list->items) {
    if (!v.is_string()) call.fail("a string or a tuple of strings is needed");
    if (matches_end(call, w, *v.text, at_start)) return Value::of(true);
  }
  return Value::of(false);
}

Value startswith(Call& call) {
  return starts_or_ends(call, true);
}
Value endswith(Call& call) {
  return starts_or_ends(call, false);
}

/// Index in characters of the first or last occurrence, or -1.
std::int64_t position(Call& call, bool last) {
  const Text& s = call.string(0);
  const Text& what = call.string(1);
  const Window w = window(call, s, 2);
  if (!w.valid) return -1;
  call.rt.charge_bytes(s.bytes.size());
  const std::string_view part = std::string_view(s.bytes).substr(w.begin, w.end - w.begin);
  if (last)
    call.rt.charge_product(1 + static_cast<std::int64_t>(part.size() / 64),
                           1 + static_cast<std::int64_t>(what.bytes.size() / 64));
  const std::size_t at = last ? part.rfind(what.bytes) : find_bytes(part, what.bytes, 0);
  if (at == kNone) return -1;
  return count_chars(std::string_view(s.bytes).substr(0, w.begin + at));
}

Value find(Call& call) {
  return Value::of(position(call, false));
}
Value rfind(Call& call) {
  return Value::of(position(call, true));
}

Value found_or_fail(Call& call, bool last) {
  const std::int64_t at = position(call, last);
  if (at < 0) call.fail("substring not found");
  return Value::of(at);
}

Value index(Call& call) {
  return found_or_fail(call, false);
}
Value rindex(Call& call) {
  return found_or_fail(call, true);
}

Value count(Call& call) {
  const Text& s = call.string(0);
  const Text& what = call.string(1);
  const Window w = window(call, s, 2);
  if (!w.valid) return Value::of(std::int64_t{0});
  call.rt.charge_bytes(s.bytes.size());
  const std::string_view part = std::string_view(s.bytes).substr(w.begin, w.end - w.begin);
  if (what.bytes.empty()) return Value::of(count_chars(part) + 1);
  std::int64_t n = 0;
  for (std::size_t at = find_bytes(part, what.bytes, 0); at != kNone;
       at = find_bytes(part, what.bytes, at + what.bytes.size())) {
    ++n;
  }
  return Value::of(n);
}

/// Pieces [begin, end) of s, in order.
using Pieces = std::vector<std::pair<std::size_t, std::size_t>>;

/// split() without a separator, from the left or the right.
Pieces split_spaces(const Text& text, std::int64_t limit, bool from_right) {
  const std::string_view s = text.bytes;
  Pieces words;
  for (std::size_t pos = 0; pos < s.size();) {
    std::size_t next = pos;
    if (is_space(next_char(s, next))) {
      pos = next;
      continue;
    }
    const std::size_t begin = pos;
    while (pos < s.size()) {
      next = pos;
      if (is_space(next_char(s, next))) break;
      pos = next;
    }
    words.emplace_back(begin, pos);
  }
  // Once the limit is reached, the rest keeps its white space at the far end.
  if (limit < 0 || static_cast<std::int64_t>(words.size()) <= limit) return words;
  const auto n_rest = static_cast<std::size_t>(static_cast<std::int64_t>(words.size()) - limit);
  if (from_right) {
    words[n_rest - 1].first = 0;
    words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(n_rest - 1));
  } else {
    words[static_cast<std::size_t>(limit)].second = s.size();
    words.resize(static_cast<std::size_t>(limit) + 1);
  }
  return words;
}

Pieces split_at(
    Call& call, const Text& text, const Text& separator, std::int64_t limit, bool from_right) {
  const std::string_view s = text.bytes;
  const std::string_view sep = separator.bytes;
  Pieces pieces;
  if (!from_right) {
    std::size_t begin = 0;
    for (; limit != 0; --limit) {
      const std::size_t at = find_bytes(s, sep, begin);
      if (at == kNone) break;
      pieces.emplace_back(begin, at);
      begin = at + sep.size();
    }
    pieces.emplace_back(begin, s.size());
    return pieces;
  }
  call.rt.charge_product(1 + static_cast<std::int64_t>(s.size() / 64),
                         1 + static_cast<std::int64_t>(sep.size() / 64));
  std::size_t end = s.size();
  for (; limit != 0 && end >= sep.size(); --limit) {
    const std::size_t at = s.rfind(sep, end - sep.size());
    if (at == kNone) break;
    pieces.emplace_back(at + sep.size(), end);
    end = at;
  }
  pieces.emplace_back(0, end);
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

Value pieces_to_list(Call& call, const Text& s, const Pieces& pieces, Type type) {
  std::vector<Value> items;
  for (const auto& [begin, end] : pieces) items.push_back(call.rt.slice(s, begin, end));
  return call.rt.list(std::move(items), type);
}

Value split_method(Call& call, bool from_right) {
  const Text& s = call.string(0);
  const std::int64_t limit = call.integer(2, -1);
  call.rt.charge_bytes(s.bytes.size());
  if (absent(call.arg[1])) {
    return pieces_to_list(call, s, split_spaces(s, limit, from_right), Type::kList);
  }
  if (call.string(1).bytes.empty()) call.fail("an empty separator");
  return pieces_to_list(call, s, split_at(call, s, call.string(1), limit, from_right), Type::kList);
}

Value split(Call& call) {
  return split_method(call, false);
}
Value rsplit(Call& call) {
  return split_method(call, true);
}

Value partition_method(Call& call, bool from_right) {
  const Text& s = call.string(0);
  const Text& separator = call.string(1);
  if (separator.bytes.empty()) call.fail("an empty separator");
  Pieces pieces = split_at(call, s, separator, 1, from_right);
  if (pieces.size() == 2) {
    pieces.insert(pieces.begin() + 1, {pieces[0].second, pieces[1].first});
  } else if (from_right) {
    pieces = {{0, 0}, {0, 0}, {0, s.bytes.size()}};
  } else {
    const std::size_t end = s.bytes.size();
    pieces = {{0, end}, {end, end}, {end, end}};
  }
  return pieces_to_list(call, s, pieces, Type::kTuple);
}

Value partition(Call& call) {
  return partition_method(call, false);
}
Value rpartition(Call& call) {
  return partition_method(call, true);
}

Value splitlines(Call& call) {
  const Text& s = call.string(0);
  return pieces_to_list(call, s, lines_of(s, call.flag(1, false)), Type::kList);
}

Value join(Call& call) {
  const Text& separator = call.string(0);
  TextBuilder out;
  bool is_first = true;
  for (const Value& item : items_of(call.rt, call.arg[1])) {
    const Value v = separator.markup ? escaped(call.rt, item) : item;
    if (!v.is_string()) call.fail("expected a string in the sequence, got '" + type_name(v) + "'");
    call.rt.charge_bytes(v.view().size() + separator.bytes.size());
    if (!is_first) out.append(separator);
    is_first = false;
    out.append(*v.text);
  }
  return call.rt.text(out);
}

Value removeprefix(Call& call) {
  const Text& s = call.string(0);
  const Text& prefix = call.string(1);
  return call.rt.slice(s, s.bytes.starts_with(prefix.bytes) ? prefix.bytes.size() : 0,
                       s.bytes.size());
}

Value removesuffix(Call& call) {
  const Text& s = call.string(0);
  const Text& suffix = call.string(1);
  return call.rt.slice(
      s, 0, s.bytes.size() - (s.bytes.ends_with(suffix.bytes) ? suffix.bytes.size() : 0));
}

Value replace_method(Call& call) {
  return replace(call.rt, call.string(0), call.string(1), beside(call, call.string(2)),
                 call.integer(3, -1));
}

Value format(Call& call) {
  return format_braces(call.rt, call.string(0), call.all);
}

constexpr Builtin kStringMethods[] = {
    {"capitalize", converted<to_capitalized>, 1, {"self"}, kKeepsMarkup},
    {"center", center, 2, {"self", "width", "fillchar"}, kKeepsMarkup},
    {"count", count, 2, {"self", "sub", "start", "end"}},
    {"endswith", endswith, 2, {"self", "suffix", "start", "end"}},
    {"find", find, 2, {"self", "sub", "start", "end"}},
    {"format", format, 1, {"self"}, kVariadic},
    {"index", index, 2, {"self", "sub", "start", "end"}},
    {"isalnum", all_chars<is_alnum>, 1, {"self"}},
    {"isalpha", all_chars<is_alpha>, 1, {"self"}},
    {"isdecimal", all_chars<is_decimal>, 1, {"self"}},
    {"isdigit", all_chars<is_digit>, 1, {"self"}},
    {"islower", islower, 1, {"self"}},
    {"isnumeric", all_chars<is_numeric>, 1, {"self"}},
    {"isspace", all_chars<is_space>, 1, {"self"}},
    {"isupper", isupper, 1, {"self"}},
    {"join", join, 2, {"self", "iterable"}, kKeepsMarkup},
    {"ljust", ljust, 2, {"self", "width", "fillchar"}, kKeepsMarkup},
    {"lower", converted<to_lower>, 1, {"self"}, kKeepsMarkup},
    {"lstrip", lstrip, 1, {"self", "chars"}},
    {"partition", partition, 2, {"self", "sep"}},
    {"removeprefix", removeprefix, 2, {"self", "prefix"}},
    {"removesuffix", removesuffix, 2, {"self", "suffix"}},
    {"replace", replace_method, 3, {"self", "old", "new", "count"}, kKeepsMarkup},
    {"rfind", rfind, 2, {"self", "sub", "start", "end"}},
    {"rindex", rindex, 2, {"self", "sub", "start", "end"}},
    {"rjust", rjust, 2, {"self", "width", "fillchar"}, kKeepsMarkup},
    {"rpartition", rpartition, 2, {"self", "sep"}},
    {"rsplit", rsplit, 1, {"self", "sep", "maxsplit"}},
    {"rstrip", rstrip, 1, {"self", "chars"}},
    {"split", split, 1, {"self", "sep", "maxsplit"}},
    {"splitlines", splitlines, 1, {"self", "keepends"}},
    {"startswith", startswith, 2, {"self", "prefix", "start", "end"}},
    {"strip", strip_method, 1, {"self", "chars"}},
    {"swapcase", converted<swap_case>, 1, {"self"}, kKeepsMarkup},
    {"title", converted<to_title>, 1, {"self"}, kKeepsMarkup},
    {"upper", converted<to_upper>, 1, {"self"}, kKeepsMarkup},
    {"zfill", zfill, 2, {"self", "width"}, kKeepsMarkup},
};

const Dict& self_dict(Call& call) {
  return *call.arg[0].dict;
}

Value get(Call& call) {
  const Value* found = call.rt.find(self_dict(call), call.arg[1]);
  if (found != nullptr) return *found;
  return call.arg[2].given() ? call.arg[2] : Value::none();
}

Value view(Call& call, const char* name, std::vector<Value> items) {
  const Value v = call.rt.list(std::move(items), Type::kView);
  v.list->view_name = name;
  return v;
}

Value items(Call& call) {
  std::vector<Value> out;
  for (const auto& [key, value] : self_dict(call).entries) {
    out.push_back(call.rt.tuple(key, value));
  }
  return view(call, "dict_items", std::move(out));
}

Value keys(Call& call) {
  std::vector<Value> out;
  for (const auto& entry : self_dict(call).entries) out.push_back(entry.first);
  return view(call, "dict_keys", std::move(out));
}

Value values(Call& call) {
  std::vector<Value> out;
  for (const auto& entry : self_dict(call).entries) out.push_back(entry.second);
  return view(call, "dict_values", std::move(out));
}

Value copy(Call& call) {
  if (call.arg[0].is(Type::kList)) return call.rt.list(call.arg[0].list->items);
  Dict* out = call.rt.heap.add_dict();
  for (const auto& [key, value] : self_dict(call).entries) call.rt.insert(*out, key, value);
  return call.rt.dict(out);
}

Value count_items(Call& call) {
  std::int64_t n = 0;
  for (const Value& v : items_of(call.rt, call.arg[0]))
    n += equals(call.rt, v, call.arg[1]) ? 1 : 0;
  return Value::of(n);
}

Value index_of_item(Call& call) {
  const auto& all = items_of(call.rt, call.arg[0]);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (equals(call.rt, all[i], call.arg[1])) return Value::of(static_cast<std::int64_t>(i));
  }
  call.fail("the value is not in the sequence");
}

constexpr Builtin kContainerMethods[] = {
    {"copy", copy, 1, {"self"}},
    {"count", count_items, 2, {"self", "value"}},
    {"get", get, 2, {"self", "key", "default"}},
    {"index", index_of_item, 2, {"self", "value"}},
    {"items", items, 1, {"self"}},
    {"keys", keys, 1, {"self"}},
    {"values", values, 1, {"self"}},
};

}  // namespace

std::span<const Builtin> string_methods() {
  return kStringMethods;
}
std::span<const Builtin> container_methods() {
  return kContainerMethods;
}

}  // namespace heddle::jinja
