#pragma once
// Regular expressions to grammar pieces. Internal to engine/grammar/.

#include <cstdint>
#include <functional>
#include <string_view>

#include "engine/grammar/grammar_builder.h"

namespace heddle {

/// How the characters of a text are written: in UTF-8, or as within a JSON string.
using CharacterWriter = std::function<GrammarNode(GrammarBuilder&, const CodePointSet&)>;

struct RegexPiece {
  static constexpr std::uint64_t kNoEnd = ~std::uint64_t{0};
  GrammarNode node = {};
  std::uint64_t least = 0;  // characters of a text that matches
  std::uint64_t most = 0;
};

/// The texts that match as a whole; with `search` those that have a part that matches. `write`
/// gives one character of a set. Throws kBadInput: "regex:POSITION: ..." for what is no regular
/// expression, and for what a finite automaton does not do.
RegexPiece parse_regex(GrammarBuilder& builder,
                       std::string_view pattern,
                       const CharacterWriter& write,
                       bool search);

/// \d \w \s or their complements by their letter, as ECMA-262 has them; nullptr for other letters.
const CodePointSet* class_of_letter(char letter);

}  // namespace heddle
