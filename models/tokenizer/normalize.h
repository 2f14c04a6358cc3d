#pragma once
// Unicode normal form C (Unicode Standard Annex 15), through utf8proc's tables.

#include <string>
#include <string_view>

namespace heddle {

/// True where the text is surely in NFC, found in one quick pass; false: perhaps not.
bool is_surely_nfc(std::string_view text);

/// NFC of valid UTF-8. Linear but for the sort of each run of combining marks.
std::string to_nfc(std::string_view text);

}  // namespace heddle
