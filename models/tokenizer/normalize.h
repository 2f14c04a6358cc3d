#pragma once
// Unicode normal forms (Unicode Standard Annex 15), through utf8proc's tables.

#include <string>
#include <string_view>

namespace heddle {

/// True where the text is surely in NFC, found in one quick pass; false: perhaps not.
bool is_surely_nfc(std::string_view text);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// A normal form of valid UTF-8. Linear but for the sort of each run of combining marks.
std::string to_normal_form(std::string_view text, NormalForm form);

inline std::string to_nfc(std::string_view text) {
  return to_normal_form(text, NormalForm::kNfc);
}

}  // namespace heddle
