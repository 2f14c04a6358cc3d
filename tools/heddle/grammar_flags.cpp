#include "tools/heddle/grammar_flags.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "tools/heddle/io.h"

namespace heddle::cli {
namespace {

/// A text, or with @ before it the file that has it.
std::string text_or_file(const std::string& value) {
  return value.starts_with("@") ? read_input(value.substr(1)) : value;
}

}  // namespace

GrammarPtr grammar_of(const Arguments& args) {
  int n_given = 0;
  for (const char* flag : {"json-schema", "regex", "grammar", "choice"}) {
    n_given += args.has(flag) ? 1 : 0;
  }
  if (n_given > 1) {
    throw bad_input("only one of --json-schema, --regex, --grammar and --choice may be given");
  }
  if (const auto schema = args.text("json-schema")) {
    return json_schema_grammar(text_or_file(*schema));
  }
  if (const auto pattern = args.text("regex")) return regex_grammar(*pattern);
  if (const auto text = args.text("grammar")) return ebnf_grammar(text_or_file(*text));
  const std::vector<std::string> choices = args.texts("choice");
  return choices.empty() ? nullptr : choice_grammar(choices);
}

}  // namespace heddle::cli
