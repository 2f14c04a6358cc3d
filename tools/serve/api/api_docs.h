#pragma once

#include <string>

#include "tools/serve/limits.h"

namespace heddle::serve {

/// The tables of docs/api.md: routes, fields of each endpoint, errors, limits.
std::string api_markdown(const ServerLimits& limits);

}  // namespace heddle::serve
