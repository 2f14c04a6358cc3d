#pragma once
#include <string_view>

#include "models/tokenizer/chat_template.h"
#include "models/tokenizer/jinja/ast.h"

namespace heddle::jinja {

/// Parses valid UTF-8. Throws kBadInput "line 12, column 7: ..." for syntax, for unknown
/// filters, tests and tags, and for nesting over limits.depth.
Template parse(std::string_view source, const TemplateLimits& limits);

}  // namespace heddle::jinja
