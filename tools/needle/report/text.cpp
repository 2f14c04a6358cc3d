#include "tools/needle/report/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace heddle::needle {
namespace {

/// Code points are read one by one; `size` 0: no UTF-8 here.
struct CodePoint {
  char32_t value = 0;
  std::size_t size = 0;
};

CodePoint code_point_at(std::string_view text, std::size_t i) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[i + k]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || i + size > text.size()) return {};
  char32_t value = first & (0x7fU >> size);
  for (std::size_t k = 1; k < size; ++k) {
    if ((byte(k) & 0xc0U) != 0x80U) return {};
    value = value << 6 | (byte(k) & 0x3fU);
  }
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xd800 && value < 0xe000;
  if (value < kLeast[size] || value > 0x10ffff || surrogate) return {};
  return {value, size};
}

std::size_t code_points(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
  }));
}

void append_padded(std::string& line, const std::string& field, std::size_t width, bool left) {
  const std::string pad(width - std::min(width, code_points(field)), ' ');
  line += left ? field + pad : pad + field;
}

}  // namespace

std::string length_label(std::int64_t tokens) {
  constexpr std::int64_t kKilo = 1024;
  if (tokens > 0 && tokens % (kKilo * kKilo) == 0)
    return fmt::format("{}M", tokens / kKilo / kKilo);
  if (tokens > 0 && tokens % kKilo == 0) return fmt::format("{}k", tokens / kKilo);
  return fmt::format("{}", tokens);
}

std::string depth_label(double depth) {
  const double tenths = std::round(depth * 10.0);
  return std::fmod(tenths, 10.0) == 0.0 ? fmt::format("{:.0f}", tenths / 10.0)
                                        : fmt::format("{:.1f}", tenths / 10.0);
}

std::string percent(std::optional<double> share) {
  return share ? fmt::format("{:.1f}", *share * 100.0) : "-";
}

std::string duration_text(double seconds) {
  if (!(seconds >= 0.0)) return "-";
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(std::min(std::round(seconds), 1e15));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string bytes_text(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (bytes >= 1024.0 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string grouped(std::int64_t number) {
  std::string text = fmt::format("{}", number);
  const std::size_t first = number < 0 ? 1 : 0;
  for (std::size_t i = text.size(); i > first + 3; i -= 3) text.insert(i - 3, ",");
  return text;
}

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string clean_text(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint point = code_point_at(text, i);
    const char32_t c = point.value;
    const bool control = (c < 0x20 && c != '\t' && c != '\n') || (c >= 0x7f && c < 0xa0);
    const bool none = (c & 0xfffeU) == 0xfffeU || (c >= 0xfdd0 && c < 0xfdf0);
    if (point.size == 0 || none) {
      result += "\xef\xbf\xbd";
    } else if (control) {
      fmt::format_to(std::back_inserter(result), "\\x{:02x}", static_cast<unsigned>(c));
    } else {
      result += text.substr(i, point.size);
    }
    i += std::max<std::size_t>(point.size, 1);
  }
  return result;
}

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : clean_text(text)) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string cut(std::string_view text, std::size_t n) {
  std::size_t i = 0;
  for (std::size_t seen = 0; i < text.size(); ++seen) {
    if (seen == n) return std::string(text.substr(0, i)) + "...";
    i += std::max<std::size_t>(code_point_at(text, i).size, 1);
  }
  return std::string(text);
}

std::string aligned(const std::vector<std::vector<std::string>>& lines, std::size_t n_left) {
  std::vector<std::size_t> widths;
  for (const auto& line : lines) {
    widths.resize(std::max(widths.size(), line.size()), 0);
    for (std::size_t i = 0; i < line.size(); ++i) {
      widths[i] = std::max(widths[i], code_points(line[i]));
    }
  }
  std::string result;
  for (const auto& fields : lines) {
    std::string line;
    for (std::size_t i = 0; i < fields.size(); ++i) {
      if (i > 0) line += "  ";
      append_padded(line, fields[i], widths[i], i < n_left);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    result += line + "\n";
  }
  return result;
}

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace heddle::needle
