#pragma once
// A tokenizer.json: normalizer, pre-tokenizer, model, post-processor, decoder and added tokens.
// What a file names and this reader does not know is refused, never skipped: see
// docs/tokenizers.md for the list.

#include <memory>

#include "models/tokenizer/json_node.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/tokenizer_config.h"

namespace heddle {

/// `rows`: of the embedding; ids from the greatest token on to there have no text. Throws
/// kBadInput: "FILE: tokenizer: POINTER, got X, allowed Y".
std::unique_ptr<const Tokenizer> make_json_tokenizer(const JsonNode& root,
                                                     const TokenizerConfig& config,
                                                     int rows);

}  // namespace heddle
