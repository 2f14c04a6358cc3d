#pragma once
#include <cstdint>

#include "models/tokenizer/chat_template.h"
#include "models/tokenizer/jinja/ast.h"
#include "models/tokenizer/jinja/runtime.h"

namespace heddle::jinja {

/// Variables of a render, before it starts.
using Variables = std::vector<std::pair<std::string, Value>>;

/// Renders `parsed`; the values live in rt.heap. Throws kBadInput.
Text render(Runtime& rt, const Template& parsed, const Variables& variables);

}  // namespace heddle::jinja
