#pragma once
// The fields of request bodies as data: one table that the reader, /openapi.json and docs/api.md
// share.

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tools/serve/limits.h"

namespace heddle::serve {

enum class Endpoint : unsigned {
  kChat,
  kCompletions,
  kResponses,
  kEmbeddings,
  kTokenize,
  kDetokenize,
  kTemplate,
};

enum class FieldKind { kBool, kInt, kNumber, kText, kChoice, kArray, kObject, kAny };

enum class Support {
  kHonoured,
  kNeutral,  // accepted, without effect on the answer
  kRefused,  // 400 unless the value is what happens anyway
};

/// One field of the top level of a body. Everywhere null stands for absent.
struct FieldSpec {
  std::string_view name;
  unsigned endpoints = 0;  // bit 1 << Endpoint
  FieldKind kind = FieldKind::kAny;
  std::string_view help = {};
  double low = -std::numeric_limits<double>::infinity();  // of numbers, ends included
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;
  std::string_view choices = {};   // kChoice: "auto none"
  std::string_view schema = {};    // kArray, kObject, kAny: JSON Schema; "": of the kind alone
  std::string_view fallback = {};  // the default, as JSON or in words
  Support support = Support::kHonoured;
  std::string_view harmless = {};  // kRefused: JSON list of values that are taken all the same
  bool required = false;
};

std::span<const FieldSpec> field_table();
std::vector<const FieldSpec*> fields_of(Endpoint endpoint);
/// JSON Schema of one field, with the limits that are in force.
Json field_schema(const FieldSpec& field, const ServerLimits& limits);

/// A body that the table has passed, and of it what the table knows of the endpoint.
class Fields {
 public:
  /// Throws ApiError: not JSON, not an object, types, ranges, what is missing or not supported.
  /// `strict`: a field that is not known is an error, too; else it is left out, and named.
  static Fields read(std::string_view body,
                     Endpoint endpoint,
                     const ServerLimits& limits,
                     bool strict);

  const Json* find(std::string_view name) const;  // nullptr: absent or null
  std::optional<std::int64_t> integer(std::string_view name) const;
  std::optional<double> number(std::string_view name) const;
  std::optional<std::string> text(std::string_view name) const;
  bool on(std::string_view name, bool fallback = false) const;
  const std::vector<std::string>& unknown() const { return unknown_; }

 private:
  std::vector<Json> values_;  // one: the body (a Json is not complete here)
  std::vector<std::string> unknown_;
};

/// Throws kBadInput if an object in `value` has more members than ServerLimits::json_members: what
/// looks for one of them is linear.
void bound_members(const Json& value, std::string_view source, const ServerLimits& limits);

/// Adds a member to an object that has none of that name, which is not looked for.
void add_member(Json& object, std::string name, Json value);

/// A member of an object if it is a string; "": there is none.
std::string text_member(const Json& object, std::string_view name);

/// 1 to ServerLimits::name_bytes of [A-Za-z0-9_-]: names of functions and schemas, salts, sessions.
bool is_name(std::string_view text);

/// A whole number, also written 5.0; nullopt: it is none, or not one of 64 bits.
std::optional<std::int64_t> whole_number(const Json& value);

}  // namespace heddle::serve
