#pragma once
#include <memory>

#include "models/tokenizer/tokenizer.h"

namespace heddle {

/// GGUF's kind "llama": SentencePiece BPE. A text, and what follows a control token, begins with a
/// space if spec.add_space_prefix. Throws kBadInput as make_tokenizer does.
std::unique_ptr<const Tokenizer> make_spm_tokenizer(TokenizerSpec spec);

}  // namespace heddle
