#pragma once

#include <string>

#include "base/json.h"
#include "tools/serve/limits.h"

namespace heddle::serve {

/// The OpenAPI document of the server: from the tables of routes and fields.
Json openapi_document(const ServerLimits& limits, const std::string& version);

}  // namespace heddle::serve
