#pragma once
// JSON Schema to grammar pieces. Internal to engine/grammar/: only for files that walk schemas.

#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "engine/grammar/grammar_builder.h"
#include "engine/grammar/json_nodes.h"
#include "engine/grammar/json_schema_merge.h"

namespace heddle {

/// Every keyword that restricts values is kept or refused. What a schema leaves open is not always
/// used: properties and items that it does not describe are written only where it speaks of them
/// (docs/structured_output.md). Used once.
class JsonSchemaCompiler {
 public:
  JsonSchemaCompiler(GrammarBuilder& builder, const Json& document)
      : builder_(builder), nodes_(builder), merger_(builder, document), document_(document) {}
  GrammarNode compile();

 private:
  /// Where a schema stands, for messages and limits.
  struct Where {
    std::string pointer;
    int depth = 0;
    Where at(std::string_view key) const { return {pointer_to(pointer, key), depth}; }
  };
  enum Type : unsigned {
    kNull = 1,
    kBoolean = 2,
    kInteger = 4,
    kNumber = 8,
    kString = 16,
    kArray = 32,
    kObject = 64,
  };

  GrammarNode schema(const Json& schema, Where where);
  /// A schema that stands once in the document, or was merged, as a rule: schemas may be recursive.
  GrammarNode rule_of(const std::string& name, const Json& schema, const std::string& pointer);
  GrammarNode plain(const Json& schema, const Where& where);
  GrammarNode any_of(const Json& schema, const char* keyword, const Where& where);
  GrammarNode values(const Json& schema, const Where& where);
  void check_keywords(const Json& schema, const Where& where) const;
  unsigned types_of(const Json& schema, const Where& where) const;

  GrammarNode object(const Json& schema, const Where& where);
  GrammarNode array(const Json& schema, const Where& where);
  GrammarNode string(const Json& schema, const Where& where);
  GrammarNode number(const Json& schema, bool whole, const Where& where);
  struct NumberBound {
    Json value = {};
    bool open = false;
  };
  struct WrittenBound {
    std::optional<DecimalBound> bound = {};
    bool any_form = false;
  };
  std::optional<NumberBound> bound(const Json& schema, bool low, const Where& where) const;
  static WrittenBound written_bound(const std::optional<NumberBound>& bound,
                                    bool low,
                                    bool whole,
                                    const Where& where);
  std::optional<std::uint32_t> count(const Json& schema,
                                     const char* keyword,
                                     const Where& where) const;

  struct Property {
    std::string name;
    Json schema = {};
    bool required = false;
  };
  std::vector<Property> properties(const Json& schema, const Where& where) const;
  void check_property_counts(const Json& schema,
                             const std::vector<Property>& properties,
                             bool more,
                             const Where& where) const;

  GrammarBuilder& builder_;
  JsonNodes nodes_;
  SchemaMerger merger_;
  const Json& document_;
  std::map<std::string, GrammarBuilder::Rule> rules_;  // by pointer or merged text
  struct Pending {
    GrammarBuilder::Rule rule = {};
    Json schema = {};
    std::string pointer = {};
  };
  std::deque<Pending> pending_;
  std::size_t pending_bytes_ = 0;  // of names of rules, as a measure of what is kept
};

}  // namespace heddle
