#pragma once
#include <string_view>

namespace heddle {

/// configs/models/registry.json as it was when the program was built (CMake writes the definition).
std::string_view registry_json();

}  // namespace heddle
