#pragma once
// The tokenizer and the chat template of a model folder.

#include <memory>
#include <string>

#include "models/folder.h"
#include "models/tokenizer/tokenizer.h"

namespace heddle {

struct FolderTokenizer {
  std::unique_ptr<const Tokenizer> tokenizer;
  std::string chat_template;         // "" if the folder has none
  std::string chat_template_source;  // "FILE: chat_template", for errors
};

/// Reads tokenizer.json if there is one, else tokenizer.model. `rows`: of the embedding; the
/// tokenizer's vocab_size(). Ids without a token (padding of the embedding) give no text and are
/// never produced. tokenizer_config.json, special_tokens_map.json, added_tokens.json and
/// chat_template.jinja are heeded where they are. Throws kBadInput: "FILE: tokenizer: POINTER, got
/// X, allowed Y".
FolderTokenizer folder_tokenizer(const Folder& folder, int rows);

}  // namespace heddle
