#pragma once
// Schemas that must hold together, as one. Internal to engine/grammar/.

#include <string>
#include <string_view>

#include "base/json.h"
#include "engine/grammar/grammar_builder.h"

namespace heddle {

/// Throws kBadInput: "unsupported_schema: POINTER: WHAT".
[[noreturn]] void refuse_schema(const std::string& pointer, const std::string& what);

/// `pointer` and one more step.
std::string pointer_to(const std::string& pointer, std::string_view key);

/// Keywords that say nothing about which values are allowed.
bool is_annotation(std::string_view keyword);
/// Whether a schema has a keyword, besides those given, that does.
bool restricts(const Json& schema, std::string_view but = {}, std::string_view or_this = {});

/// Resolves $ref and allOf of one document.
class SchemaMerger {
 public:
  /// Both must outlive it. The builder's time is kept.
  SchemaMerger(const GrammarBuilder& builder, const Json& document)
      : builder_(builder), document_(document) {}

  /// The schema that a $ref names. Throws for others than those within the document.
  const Json& resolve(const std::string& pointer, const Json& ref) const;
  /// A boolean, or an object that allows the same values and has neither $ref nor allOf.
  Json flatten(const std::string& pointer, const Json& schema, int depth = 0);
  /// A schema of the values that both allow; both flat.
  Json merge(const std::string& pointer, Json a, const Json& b);
  /// Of two schemas in any form, in a form that does not grow by repetition.
  static Json both(const Json& a, const Json& b);

 private:
  void merge_objects(Json& into, const Json& a, const Json& b) const;
  void merge_arrays(Json& into, const Json& a, const Json& b) const;

  const GrammarBuilder& builder_;
  const Json& document_;
  int n_merges_ = 0;
};

}  // namespace heddle
