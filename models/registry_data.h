#pragma once
#include <string_view>

namespace heddle {

/// configs/models/registry.json as it was when the program was built (CMake writes the definition).
std::string_view registry_json();

/// From the folder of an installed executable to what is installed for it: "../share/heddle".
std::string_view data_from_bin();

}  // namespace heddle
