#include "engine/grammar/grammar.h"

#include <fmt/format.h>

#include "base/error.h"
#include "engine/grammar/grammar_builder.h"
#include "engine/grammar/grammar_lattice.h"

namespace heddle {

bool Grammar::matches(std::string_view text) const {
  constexpr std::size_t kMostBytes = 64U << 20U;
  GrammarLattice lattice(program_);
  GrammarLattice::ConfigId at = lattice.start();
  for (const char c : text) {
    at = lattice.step(at, static_cast<std::uint8_t>(c));
    if (at == GrammarLattice::kDead) return false;
    if (lattice.memory_bytes() > kMostBytes) {
      GrammarLattice::ConfigId* const root = &at;
      lattice.collect({&root, 1});
    }
  }
  return lattice.complete(at);
}

GrammarPtr json_object_grammar(const GrammarLimits& limits) {
  GrammarBuilder builder(limits);
  return builder.build(json_object_node(builder));
}

GrammarPtr json_schema_grammar(std::string_view schema, const GrammarLimits& limits) {
  GrammarBuilder builder(limits);
  const GrammarNode root = json_schema_node(builder, schema);
  try {
    return builder.build(root);
  } catch (const Error& e) {
    throw Error(e.kind(), fmt::format("unsupported_schema: {}", e.what()));
  }
}

GrammarPtr regex_grammar(std::string_view pattern, const GrammarLimits& limits) {
  GrammarBuilder builder(limits);
  return builder.build(regex_node(builder, pattern));
}

GrammarPtr choice_grammar(std::span<const std::string> choices, const GrammarLimits& limits) {
  GrammarBuilder builder(limits);
  if (choices.empty()) throw bad_input("choice: there are none, allowed: at least 1");
  std::size_t bytes = 0;
  for (const std::string& choice : choices) {
    if (choice.empty()) throw bad_input("choice: one is empty, allowed: at least 1 byte");
    bytes += choice.size();
  }
  builder.check_source("choice", bytes);
  return builder.build(builder.one_of(choices));
}

GrammarPtr ebnf_grammar(std::string_view text, const GrammarLimits& limits) {
  GrammarBuilder builder(limits);
  return builder.build(ebnf_node(builder, text));
}

}  // namespace heddle
