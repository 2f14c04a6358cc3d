#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace heddle {

/// Text from a file for an error message: in single quotes, control and non-ASCII bytes and quotes
/// as \xNN, cut after `limit` bytes.
std::string quote_text(std::string_view text, std::size_t limit = 64);

}  // namespace heddle
