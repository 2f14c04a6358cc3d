#include "engine/grammar/json_decimal.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace heddle {
namespace {

constexpr double kExactIntegers = 9007199254740992.0;  // 2^53: all up to it are doubles

/// The digits of a number from 0, without an exponent.
int compare_magnitudes(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size() ? -1 : 1;
  const int whole = a.whole.compare(b.whole);
  return whole != 0 ? whole : a.fraction.compare(b.fraction);
}

}  // namespace

Decimal decimal_of(const Json& number) {
  std::string text = number.dump();
  if (number.is_number_float()) {
    const auto value = number.get<double>();
    text =
        std::abs(value) < kExactIntegers ? fmt::format("{}", value) : fmt::format("{:.0f}", value);
  }
  Decimal d;
  if (text[0] == '-') {
    d.negative = true;
    text.erase(0, 1);
  }
  int exponent = 0;
  if (const std::size_t e = text.find('e'); e != std::string::npos) {
    const char* first = text.data() + e + 1;
    std::from_chars(first + (*first == '+' ? 1 : 0), text.data() + text.size(), exponent);
    text.resize(e);
  }
  const std::size_t point = std::min(text.find('.'), text.size());
  std::string digits = text.substr(0, point);
  if (point < text.size()) digits += text.substr(point + 1);
  auto n_whole = static_cast<std::ptrdiff_t>(point) + exponent;
  if (n_whole < 0) digits.insert(0, static_cast<std::size_t>(-n_whole), '0');
  n_whole = std::max<std::ptrdiff_t>(n_whole, 0);
  if (static_cast<std::size_t>(n_whole) > digits.size()) {
    digits.resize(static_cast<std::size_t>(n_whole), '0');
  }
  d.whole = digits.substr(0, static_cast<std::size_t>(n_whole));
  d.fraction = digits.substr(static_cast<std::size_t>(n_whole));
  d.whole.erase(0, std::min(d.whole.find_first_not_of('0'), d.whole.size()));
  d.fraction.erase(d.fraction.find_last_not_of('0') + 1);
  if (d.whole.empty()) d.whole.assign(1, '0');
  if (d.whole == "0" && d.fraction.empty()) d.negative = false;
  return d;
}

int compare_numbers(const Json& a, const Json& b) {
  if (a.is_number_float() && b.is_number_float()) {
    const auto x = a.get<double>();
    const auto y = b.get<double>();
    return x < y ? -1 : x > y ? 1 : 0;
  }
  const Decimal x = decimal_of(a);
  const Decimal y = decimal_of(b);
  if (x.negative != y.negative) return x.negative ? -1 : 1;
  const int magnitudes = compare_magnitudes(x, y);
  return x.negative ? -magnitudes : magnitudes;
}

bool same_value(const Json& a, const Json& b) {
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0;
  if (a.is_array() && b.is_array()) return std::ranges::equal(a, b, same_value);
  if (!a.is_object() || !b.is_object()) return a == b;
  const auto& x = a.get_ref<const Json::object_t&>();
  const auto& y = b.get_ref<const Json::object_t&>();
  return std::ranges::equal(x, y, [](const auto& one, const auto& other) {
    return one.first == other.first && same_value(one.second, other.second);
  });
}

}  // namespace heddle
