#pragma once

#include <string_view>

namespace heddle::serve {

/// index.html, which the build puts into the program.
std::string_view chat_page();

/// The page loads nothing, and talks with its own server alone.
inline constexpr std::string_view kPagePolicy =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors "
    "'none'";

}  // namespace heddle::serve
