#include "models/tokenizer/byte_level.h"

#include <array>

#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

struct Alphabet {
  std::array<char16_t, 256> letter_of_byte{};
  std::array<std::int16_t, 0x100 + 68> byte_of_letter{};  // -1: not a letter

  constexpr Alphabet() {
    for (auto& byte : byte_of_letter) byte = -1;
    char16_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
      const char16_t letter = printable ? static_cast<char16_t>(byte) : next++;
      letter_of_byte[byte] = letter;
      byte_of_letter[letter] = static_cast<std::int16_t>(byte);
    }
  }
};

constexpr Alphabet kAlphabet;

}  // namespace

bool append_byte_level(std::string_view text, std::string& bytes) {
  const std::size_t old_size = bytes.size();
  for (std::size_t pos = 0; pos < text.size();) {
    const Utf8Step step = utf8_step(text, pos);
    const int byte = step.valid && step.code_point < kAlphabet.byte_of_letter.size()
                         ? kAlphabet.byte_of_letter[step.code_point]
                         : -1;
    if (byte < 0) {
      bytes.resize(old_size);
      return false;
    }
    bytes.push_back(static_cast<char>(byte));
    pos += step.length;
  }
  return true;
}

std::optional<std::string> decode_byte_level(std::string_view text) {
  std::string bytes;
  if (!append_byte_level(text, bytes)) return std::nullopt;
  return bytes;
}

std::string encode_byte_level(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    append_utf8(text, kAlphabet.letter_of_byte[static_cast<unsigned char>(byte)]);
  }
  return text;
}

}  // namespace heddle
