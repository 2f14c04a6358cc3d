#pragma once
#include <string_view>

namespace heddle::cli {

/// "0.1.0 (465f5d3)"
std::string program_version();

/// "1a2b3c4d5e6f", "+" after it: with changes; "unknown" outside git. Made at build time.
std::string_view commit();
std::string_view compiler();  // "GCC 12.2.0"

}  // namespace heddle::cli
