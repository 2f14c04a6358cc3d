#pragma once
#include <string>

#include "base/error.h"
#include "models/tokenizer/tokenizer.h"

namespace heddle {

/// kBadInput: "FILE: tokenizer: tokenizer.ggml.KEY, got X, allowed Y".
Error spec_error(const std::string& source,
                 const std::string& key,
                 const std::string& got,
                 const std::string& allowed);

/// Checks that every kind of GGUF tokenizer shares; each throws kBadInput.
void check_token_types(const TokenizerSpec& spec);  // how many tokens and types, and their range
void check_special_ids(const TokenizerSpec& spec);  // within the vocabulary, there where needed

TokenizerFacts facts_of(const TokenizerSpec& spec);

}  // namespace heddle
