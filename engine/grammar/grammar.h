#pragma once
// Which texts an answer may be: compiled once, asked byte by byte (docs/structured_output.md).

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "engine/grammar/grammar_program.h"

namespace heddle {

/// What one grammar may take. What needs more is refused with kBadInput naming the limit.
struct GrammarLimits {
  std::size_t source_bytes = 64U << 10U;  // of a schema, pattern or grammar text
  int depth = 32;                         // of schemas within schemas
  std::size_t states = 1'000'000;         // of the automaton
  std::size_t memory_bytes = 64U << 20U;  // of the automaton
  double seconds = 2.0;                   // to compile
};

/// A set of texts (byte strings, all of them UTF-8 where the parts are). Immutable; shared between
/// requests and threads. Made by the functions below and by GrammarBuilder. It holds one text at
/// least, and whatever may begin a text can be gone on with to the end of one.
class Grammar {
 public:
  explicit Grammar(GrammarProgram program) : program_(std::move(program)) {}
  const GrammarProgram& program() const { return program_; }
  /// Whether the whole text is one of them. Throws kRuntime where the grammar is so ambiguous that
  /// telling takes too much.
  bool matches(std::string_view text) const;
  std::size_t memory_bytes() const { return program_.memory_bytes(); }

 private:
  GrammarProgram program_;
};

using GrammarPtr = std::shared_ptr<const Grammar>;

/// Any JSON object.
GrammarPtr json_object_grammar(const GrammarLimits& limits = {});
/// The values of a JSON Schema. Throws kBadInput: "unsupported_schema: POINTER: ...".
GrammarPtr json_schema_grammar(std::string_view schema, const GrammarLimits& limits = {});
/// What a regular expression matches as a whole. Throws kBadInput: "regex:POSITION: ...".
GrammarPtr regex_grammar(std::string_view pattern, const GrammarLimits& limits = {});
/// One of these texts, at least one, none of them empty. Throws kBadInput.
GrammarPtr choice_grammar(std::span<const std::string> choices, const GrammarLimits& limits = {});
/// A grammar in GBNF whose rule `root` is the text. Throws kBadInput: "grammar:LINE:COLUMN: ...".
GrammarPtr ebnf_grammar(std::string_view text, const GrammarLimits& limits = {});

}  // namespace heddle
