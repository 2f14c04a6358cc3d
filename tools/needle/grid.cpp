#include "tools/needle/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "models/quote_text.h"
#include "tools/needle/blanks.h"

namespace heddle::needle {
namespace {

constexpr std::int64_t kKilo = 1024;

/// The parts between commas, blanks around them left out; a comma may end the list ("25,").
std::vector<std::string> parts_of(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    std::string part = without_blanks(std::string_view(text).substr(begin, end - begin));
    if (!part.empty() || parts.empty() || end < text.size()) parts.push_back(std::move(part));
    begin = end + 1;
  }
  return parts;
}

template <typename T>
std::optional<T> number_of(std::string_view text) {
  T value{};
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

Error bad_lengths(const std::string& part) {
  return bad_input(fmt::format(
      "--lengths: {} is not valid; allowed: a list like 1k,2k,3000, or A..B:N, N lengths "
      "from A to B; lengths from {} to {} tokens, at most {} of them",
      quote_text(part), kShortestLength, kLongestLength, kMostLengths));
}

Error bad_depths(const std::string& part) {
  return bad_input(fmt::format(
      "--depths: {} is not valid; allowed: N, so many depths from 0 to 100 (1 to {}), or "
      "a list like 0,50,100 (of one: 50,), in percent",
      quote_text(part), kMostDepths));
}

std::int64_t length_of(const std::string& part) {
  std::string_view digits = part;
  std::int64_t unit = 1;
  if (!digits.empty() && (digits.back() == 'k' || digits.back() == 'K')) unit = kKilo;
  if (!digits.empty() && (digits.back() == 'm' || digits.back() == 'M')) unit = kKilo * kKilo;
  if (unit > 1) digits.remove_suffix(1);
  const auto value = number_of<std::int64_t>(digits);
  if (!value || *value < 1 || *value > kLongestLength / unit || *value * unit < kShortestLength) {
    throw bad_lengths(part);
  }
  return *value * unit;
}

template <typename T>
std::vector<T> rising(std::vector<T> values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

std::vector<std::int64_t> even_lengths(const std::string& text, std::size_t dots) {
  const std::size_t colon = text.find(':', dots);
  if (colon == std::string::npos) throw bad_lengths(text);
  const std::int64_t low = length_of(text.substr(0, dots));
  const std::int64_t high = length_of(text.substr(dots + 2, colon - dots - 2));
  const auto n = number_of<std::size_t>(std::string_view(text).substr(colon + 1));
  if (!n || *n < 2 || *n > kMostLengths || high < low) throw bad_lengths(text);
  std::vector<std::int64_t> lengths;
  for (std::size_t i = 0; i < *n; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(*n - 1);
    lengths.push_back(low + std::llround(share * static_cast<double>(high - low)));
  }
  return rising(std::move(lengths));
}

double three_decimals(double value) {
  return std::round(value * 1000.0) / 1000.0 + 0.0;  // not -0
}

std::vector<double> even_depths(std::size_t n, bool sigmoid) {
  if (n == 1) return {50.0};
  std::vector<double> depths;
  for (std::size_t i = 0; i < n; ++i) {
    const double x = 100.0 * static_cast<double>(i) / static_cast<double>(n - 1);
    const bool bent = sigmoid && i > 0 && i + 1 < n;  // the ends stay 0 and 100
    depths.push_back(three_decimals(bent ? 100.0 / (1.0 + std::exp(-0.1 * (x - 50.0))) : x));
  }
  return rising(std::move(depths));
}

}  // namespace

std::vector<std::int64_t> read_lengths(const std::string& text) {
  if (const std::size_t dots = text.find(".."); dots != std::string::npos) {
    return even_lengths(text, dots);
  }
  std::vector<std::int64_t> lengths;
  for (const std::string& part : parts_of(text)) lengths.push_back(length_of(part));
  if (lengths.size() > kMostLengths) throw bad_lengths(text);
  return rising(std::move(lengths));
}

std::vector<std::int64_t> default_lengths(std::int64_t context) {
  if (context < kKilo) return {context};
  std::vector<std::int64_t> lengths;
  for (std::int64_t length = kKilo; length <= context; length *= 2) lengths.push_back(length);
  return lengths;
}

std::vector<double> read_depths(const std::string& text, bool sigmoid) {
  if (text.find(',') == std::string::npos) {
    const auto n = number_of<std::size_t>(text);
    if (!n || *n < 1 || *n > kMostDepths) throw bad_depths(text);
    return even_depths(*n, sigmoid);
  }
  std::vector<double> depths;
  for (const std::string& part : parts_of(text)) {
    const auto depth = number_of<double>(part);
    if (!depth || !(*depth >= 0.0 && *depth <= 100.0)) throw bad_depths(part);
    depths.push_back(three_decimals(*depth));
  }
  if (depths.size() > kMostDepths) throw bad_depths(text);
  return rising(std::move(depths));
}

std::string length_text(std::int64_t length) {
  return length % kKilo == 0 ? fmt::format("{}k", length / kKilo) : fmt::format("{}", length);
}

}  // namespace heddle::needle
