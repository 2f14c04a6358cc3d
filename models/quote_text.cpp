#include "models/quote_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

bool shows_itself(char32_t c) {
  constexpr std::pair<char32_t, char32_t> kHidden[] = {
      {0x00, 0x1F},     {0x27, 0x27},     {0x5C, 0x5C},      {0x7F, 0x9F},     {0xAD, 0xAD},
      {0x61C, 0x61C},   {0x180E, 0x180E}, {0x200B, 0x200F},  {0x2028, 0x202E}, {0x2060, 0x206F},
      {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB}, {0xE0000, 0xE0FFF}};
  return std::none_of(std::begin(kHidden), std::end(kHidden),
                      [&](const auto& range) { return c >= range.first && c <= range.second; });
}

}  // namespace

std::string quote_text(std::string_view text, std::size_t limit) {
  std::string result = "'";
  std::size_t pos = 0;
  while (pos < std::min(limit, text.size())) {
    const Utf8Step step = utf8_step(text, pos);
    const std::string_view part = text.substr(pos, step.length);
    if (step.valid && shows_itself(step.code_point)) {
      result += part;
    } else {
      for (const char c : part) {
        fmt::format_to(std::back_inserter(result), "\\x{:02x}", static_cast<unsigned char>(c));
      }
    }
    pos += step.length;
  }
  result += pos < text.size() ? "...'" : "'";
  return result;
}

}  // namespace heddle
