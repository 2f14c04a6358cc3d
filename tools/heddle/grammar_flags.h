#pragma once
#include "engine/grammar/grammar.h"
#include "tools/heddle/flags.h"

namespace heddle::cli {

/// Of --json-schema, --regex, --grammar or --choice; nullptr: none of them. Throws kBadInput for
/// more than one, and for what is no grammar.
GrammarPtr grammar_of(const Arguments& args);

}  // namespace heddle::cli
