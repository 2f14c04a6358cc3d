#pragma once
#include <string>
#include <string_view>

namespace heddle::needle {

/// The text without the blanks at its begin and end.
inline std::string without_blanks(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(' ') + 1 - begin));
}

}  // namespace heddle::needle
