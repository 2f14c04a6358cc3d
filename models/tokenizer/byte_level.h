#pragma once
// GPT-2's alphabet: every byte is written as one printable character, so that vocabularies are
// text. Bytes that are printable in Latin-1 stand for themselves; the other 68 are, in order,
// U+0100, U+0101, ... (space is U+0120). Source: Radford et al. 2019, the published encoder.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace heddle {

/// The bytes that `text` spells in the alphabet; nothing if a character of it is outside.
std::optional<std::string> decode_byte_level(std::string_view text);

/// The same, appended to `bytes`, which stays unchanged where false is returned.
bool append_byte_level(std::string_view text, std::string& bytes);

/// The spelling of `bytes` in the alphabet.
std::string encode_byte_level(std::string_view bytes);

}  // namespace heddle
