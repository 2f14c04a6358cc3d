#pragma once
// /tokenize, /detokenize and /apply-template: answers that need the tokenizer alone.

#include "base/json.h"
#include "tools/serve/api/fields.h"
#include "tools/serve/driver.h"
#include "tools/serve/limits.h"

namespace heddle::serve {

/// {count, max_model_len, tokens, token_strs if asked for} of a prompt or of messages. Throws
/// ApiError, as the others do.
Json tokenize(const Fields& fields, const ModelFacts& facts, const ServerLimits& limits);
/// {prompt, content}, the same text.
Json detokenize(const Fields& fields, const ModelFacts& facts);
/// {prompt, count, tokens}
Json apply_template(const Fields& fields, const ModelFacts& facts, const ServerLimits& limits);

}  // namespace heddle::serve
