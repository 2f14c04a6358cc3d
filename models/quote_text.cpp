#include "models/quote_text.h"

#include <fmt/format.h>

#include <iterator>

namespace heddle {

std::string quote_text(std::string_view text, std::size_t limit) {
  std::string result = "'";
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f || c == '\'' || c == '\\') {
      fmt::format_to(std::back_inserter(result), "\\x{:02x}", byte);
    } else {
      result += c;
    }
  }
  result += text.size() > limit ? "...'" : "'";
  return result;
}

}  // namespace heddle
