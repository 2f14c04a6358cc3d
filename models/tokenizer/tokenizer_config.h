#pragma once
// What tokenizer_config.json, special_tokens_map.json and added_tokens.json say about a tokenizer.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/json_node.h"

namespace heddle {

/// A token that is found in the raw text or, if `normalized`, in the normalised one.
struct ConfiguredToken {
  AddedToken token;  // id -1: the vocabulary knows it
  bool normalized = false;
  std::string where;  // "FILE: tokenizer: POINTER", for errors
};

struct TokenizerConfig {
  std::string tokenizer_class;
  std::optional<ConfiguredToken> bos, eos, unk, pad;
  std::vector<ConfiguredToken> special;  // bos, eos, ... and additional_special_tokens
  std::vector<ConfiguredToken> added;    // with ids
  std::optional<bool> add_bos, add_eos;  // as the file has it; not every class heeds it
  std::string chat_template;             // "" if there is none
  std::string chat_template_source;      // "FILE: chat_template", for errors

  /// Do tokenizers of this class put BOS and EOS as add_bos and add_eos say?
  bool heeds_add_flags() const;
};

/// Reads one added token: its text, or an object with its options.
ConfiguredToken read_added_token(const JsonNode& node);

/// Adds what a file says to `config`; what is there already stays.
void read_tokenizer_config(const JsonNode& root, TokenizerConfig& config);
void read_special_tokens_map(const JsonNode& root, TokenizerConfig& config);
void read_added_tokens(const JsonNode& root, TokenizerConfig& config);  // added_tokens.json

}  // namespace heddle
