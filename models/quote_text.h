#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace heddle {

/// Text of a file or a request for an error message: in single quotes; as \xNN what is not UTF-8,
/// control characters, characters that show nothing or turn the direction of what follows, quotes
/// and backslashes; cut at the character that reaches `limit` bytes.
std::string quote_text(std::string_view text, std::size_t limit = 64);

}  // namespace heddle
