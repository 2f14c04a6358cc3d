#pragma once
#include <string>
#include <vector>

#include "models/gguf.h"
#include "models/tokenizer/tokenizer.h"

namespace heddle {

/// The tokenizer.ggml.* keys of a file whose embedding has `vocab` rows. Kinds and lengths are
/// checked here, the values in make_tokenizer. Throws kBadInput: "FILE: tokenizer: ...".
TokenizerSpec read_gguf_tokenizer(const GgufDirectory& file, int vocab);

/// Ids that end an answer, as the file names them (end of sequence, turn and message); ascending.
std::vector<TokenId> read_gguf_stop_ids(const GgufDirectory& file);

}  // namespace heddle
