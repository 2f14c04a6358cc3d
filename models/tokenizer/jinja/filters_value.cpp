// Filters on numbers and single values.

#include <charconv>
#include <cmath>
#include <optional>

#include "models/tokenizer/jinja/builtins.h"
#include "models/tokenizer/jinja/format.h"
#include "models/tokenizer/jinja/operators.h"
#include "models/tokenizer/jinja/string_functions.h"

namespace heddle::jinja {
namespace {

Value absolute(Call& call) {
  const Value& v = call.arg[0];
  if (v.is(Type::kFloat)) return Value::of(std::fabs(v.real));
  if (!v.is_integer()) call.fail("a number is needed, got '" + type_name(v) + "'");
  return v.as_integer() < 0 ? negate(call.rt, v) : positive(call.rt, v);
}

Value default_value(Call& call) {
  const Value& v = call.arg[0];
  if (!v.is(Type::kUndefined) && (!call.flag(2, false) || truthy(v))) return v;
  return call.arg[1].given() ? call.arg[1] : call.rt.text("", false);
}

/// A number as Python's int() and float() read it: white space around it, single underscores
/// between digits. Empty if an underscore is elsewhere.
std::string number_text(Runtime& rt, const Text& text) {
  const Value stripped = strip(rt, text, nullptr, Side::kBoth);
  const std::string_view s = stripped.view();
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    const auto digit = [&](std::size_t k) {
      return k < s.size() && std::isxdigit(static_cast<unsigned char>(s[k])) != 0;
    };
    if (s[i] != '_') {
      out.push_back(s[i]);
    } else if (i == 0 || !digit(i - 1) || !digit(i + 1)) {
      return "";
    }
  }
  return out;
}

std::optional<std::int64_t> parse_integer(Call& call, const Text& text, std::int64_t base) {
  std::string s = number_text(call.rt, text);
  const bool negative = s.starts_with('-');
  if (negative || s.starts_with('+')) s.erase(0, 1);
  const char kind = s.size() > 2 && s[0] == '0' ? static_cast<char>(s[1] | 0x20) : '\0';
  const std::int64_t prefix = kind == 'x' ? 16 : (kind == 'o' ? 8 : (kind == 'b' ? 2 : 0));
  if (prefix != 0 && (base == 0 || base == prefix)) {
    s.erase(0, 2);
    base = prefix;
  } else if (base == 0) {
    base = 10;
    if (s.size() > 1 && s[0] == '0' && s.find_first_not_of('0') != s.npos) return {};
  }
  if (base < 2 || base > 36) return {};
  if (negative) s.insert(0, 1, '-');
  if (s.empty() || s == "-" || s.find_first_of("+", 0) != s.npos || s.starts_with("--")) return {};
  std::int64_t x = 0;
  const auto end = std::from_chars(s.data(), s.data() + s.size(), x, static_cast<int>(base));
  if (end.ptr != s.data() + s.size()) return {};
  if (end.ec == std::errc::result_out_of_range) {
    call.fail("integer overflow: " + quoted(s) + " does not fit in 64 bits");
  }
  return x;
}

std::optional<double> parse_real(Call& call, const Text& text) {
  std::string s = number_text(call.rt, text);
  bool negative = false;
  if (s.starts_with('-') || s.starts_with('+')) {
    negative = s[0] == '-';
    s.erase(0, 1);
  }
  for (char& c : s) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (s == "nan") return std::nan("");
  double x = 0;
  if (s == "inf" || s == "infinity") {
    x = INFINITY;
  } else {
    if (s.empty() || (s[0] != '.' && (s[0] < '0' || s[0] > '9'))) return {};
    const auto end = std::from_chars(s.data(), s.data() + s.size(), x);
    if (end.ptr != s.data() + s.size()) return {};
    if (end.ec == std::errc::result_out_of_range) {
      const bool tiny = s.find("e-") != s.npos || s.find_first_of("123456789") > s.find('.');
      x = tiny ? 0.0 : INFINITY;
    }
  }
  return negative ? -x : x;
}

std::int64_t truncated(Call& call, double x) {
  if (!(std::fabs(x) < 0x1p63)) call.fail("integer overflow: a float does not fit in 64 bits");
  return static_cast<std::int64_t>(x);
}

Value to_integer(Call& call) {
  const Value& v = call.arg[0];
  const Value fallback = call.arg[1].given() ? call.arg[1] : Value::of(std::int64_t{0});
  if (v.is(Type::kUndefined)) call.rt.fail(v.undefined->why);
  if (v.is_integer()) return Value::of(v.as_integer());
  if (v.is(Type::kFloat)) {
    return std::isnan(v.real) ? fallback : Value::of(truncated(call, v.real));
  }
  if (!v.is_string()) return fallback;
  if (const auto x = parse_integer(call, *v.text, call.integer(2, 10))) return Value::of(*x);
  const auto real = parse_real(call, *v.text);
  return real && std::isfinite(*real) ? Value::of(truncated(call, *real)) : fallback;
}

Value to_float(Call& call) {
  const Value& v = call.arg[0];
  const Value fallback = call.arg[1].given() ? call.arg[1] : Value::of(0.0);
  if (v.is(Type::kUndefined)) call.rt.fail(v.undefined->why);
  if (v.is_number()) return Value::of(v.as_real());
  if (!v.is_string()) return fallback;
  const auto x = parse_real(call, *v.text);
  return x ? Value::of(*x) : fallback;
}

Value round_integer(Call& call, std::int64_t x, std::int64_t precision) {
  if (precision >= 0) return Value::of(x);
  if (precision < -18) return Value::of(std::int64_t{0});
  std::int64_t unit = 1;
  for (std::int64_t i = precision; i < 0; ++i) unit *= 10;
  const std::int64_t below = checked(call.rt, Op::kFloorDiv, x, unit);
  const std::int64_t rest = checked(call.rt, Op::kMod, x, unit);
  const bool up = rest * 2 > unit || (rest * 2 == unit && (below & 1) != 0);
  return Value::of(checked(call.rt, Op::kMul, below + (up ? 1 : 0), unit));
}

Value round_filter(Call& call) {
  const Value& v = call.arg[0];
  const std::int64_t precision = call.integer(1, 0);
  const std::string method = call.arg[2].given() ? call.string(2).bytes : "common";
  if (!v.is_number()) call.fail("a number is needed, got '" + type_name(v) + "'");
  if (method == "common") {
    if (v.is_integer()) return round_integer(call, v.as_integer(), precision);
    const std::int64_t n = std::min<std::int64_t>(std::max<std::int64_t>(precision, -400), 400);
    const double x = round_half_even(v.real, static_cast<int>(n));
    if (std::isinf(x) && std::isfinite(v.real)) call.fail("the rounded value is too large");
    return Value::of(x);
  }
  if (method != "ceil" && method != "floor") call.fail("the method must be common, ceil or floor");
  if (precision > 300 || precision < -300) call.fail("the precision is out of range");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double x = v.as_real() * scale;
  if (!std::isfinite(x)) call.fail("a finite number is needed");
  return Value::of((method == "ceil" ? std::ceil(x) : std::floor(x)) / scale);
}

constexpr Builtin kFilters[] = {
    {"abs", absolute, 1, {"x"}},
    {"d", default_value, 1, {"value", "default_value", "boolean"}},
    {"default", default_value, 1, {"value", "default_value", "boolean"}},
    {"float", to_float, 1, {"value", "default"}},
    {"int", to_integer, 1, {"value", "default", "base"}},
    {"round", round_filter, 1, {"value", "precision", "method"}},
};

}  // namespace

std::span<const Builtin> value_filters() {
  return kFilters;
}

}  // namespace heddle::jinja
