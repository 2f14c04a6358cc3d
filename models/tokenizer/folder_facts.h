#pragma once
#include <functional>
#include <string>

#include "models/tokenizer/added_vocabulary.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/tokenizer_config.h"

namespace heddle {

/// Adds the tokens that the configuration names. `known` gives the id that the model's own
/// vocabulary has for a text, -1: none.
void add_configured_tokens(const TokenizerConfig& config,
                           const std::function<TokenId(const std::string&)>& known,
                           AddedVocabulary& added,
                           TokenTexts& texts);

/// The ids of bos, eos, unk and pad, and what surrounds a text where the tokenizer's class goes by
/// add_bos_token and add_eos_token. `facts` has the tokenizer's own prefix and suffix already.
void fill_facts(const TokenizerConfig& config,
                const std::function<TokenId(const std::string&)>& find,
                TokenizerFacts& facts);

}  // namespace heddle
