#pragma once
// How the outputs write lengths, shares, depths and texts that others made.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace heddle::needle {

/// "1k", "64k", "1M" (of 1,024); "1500" where it is no multiple.
std::string length_label(std::int64_t tokens);
/// "50", "33.3".
std::string depth_label(double depth);
/// "100.0", "63.6"; "-" where it is absent.
std::string percent(std::optional<double> share);
/// "1.4 s", "2 min 5 s", "3 h 12 min".
std::string duration_text(double seconds);
/// "812 B", "1.5 MiB".
std::string bytes_text(double bytes);
/// "1,234,567".
std::string grouped(std::int64_t number);

/// A field of a CSV line: quoted where RFC 4180 asks for it.
std::string csv_field(std::string_view text);

/// `text` as UTF-8 of characters that XML may hold: other control characters than tab and newline
/// are told as \x1b, bytes that are no UTF-8 and what is no character become U+FFFD.
std::string clean_text(std::string_view text);
/// clean_text() with & < > " ' as entities: for XML and HTML, inside attributes, too.
std::string escaped(std::string_view text);
/// The first `n` code points, and "..." where there are more. Any bytes.
std::string cut(std::string_view text, std::size_t n);

/// Columns set apart by two spaces, the first `n_left` to the left, the others to the right; lines
/// end without spaces. Widths are code points.
std::string aligned(const std::vector<std::vector<std::string>>& lines, std::size_t n_left = 1);

/// Names joined by ", ".
std::string joined(const std::vector<std::string>& names);

}  // namespace heddle::needle
