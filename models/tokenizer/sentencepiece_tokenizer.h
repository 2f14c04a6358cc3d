#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/tokenizer_config.h"

namespace heddle {

/// A SentencePiece model file through libsentencepiece, and the added tokens of the configuration
/// around it. `rows`: of the embedding. Throws kBadInput: "SOURCE: tokenizer: WHAT, got X, allowed
/// Y".
std::unique_ptr<const Tokenizer> make_sentencepiece_tokenizer(std::string_view file,
                                                              const std::string& source,
                                                              const TokenizerConfig& config,
                                                              int rows);

}  // namespace heddle
