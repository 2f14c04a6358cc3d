#include "engine/grammar/json_schema_compiler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

constexpr std::string_view kUnderstood[] = {"type",
                                            "properties",
                                            "required",
                                            "additionalProperties",
                                            "enum",
                                            "const",
                                            "anyOf",
                                            "oneOf",
                                            "allOf",
                                            "$ref",
                                            "items",
                                            "prefixItems",
                                            "minItems",
                                            "maxItems",
                                            "minLength",
                                            "maxLength",
                                            "pattern",
                                            "format",
                                            "minimum",
                                            "maximum",
                                            "exclusiveMinimum",
                                            "exclusiveMaximum",
                                            "nullable",
                                            "minProperties",
                                            "maxProperties"};

/// Keywords that are not understood, with the value that says nothing.
bool says_nothing(std::string_view keyword, const Json& value) {
  if (keyword == "uniqueItems") return value == Json(false);
  if (keyword == "patternProperties" || keyword == "dependentRequired" ||
      keyword == "dependentSchemas" || keyword == "dependencies") {
    return value == Json::object();
  }
  if (keyword == "unevaluatedProperties" || keyword == "unevaluatedItems" ||
      keyword == "propertyNames") {
    return value == Json(true) || value == Json::object();
  }
  if (keyword == "multipleOf") return false;
  return false;
}

constexpr std::pair<std::string_view, unsigned> kTypeOfKeyword[] = {
    {"properties", 64},      {"required", 64},       {"additionalProperties", 64},
    {"minProperties", 64},   {"maxProperties", 64},  {"items", 32},
    {"prefixItems", 32},     {"minItems", 32},       {"maxItems", 32},
    {"minLength", 16},       {"maxLength", 16},      {"pattern", 16},
    {"format", 16},          {"minimum", 8},         {"maximum", 8},
    {"exclusiveMinimum", 8}, {"exclusiveMaximum", 8}};

/// An integer that 64 bits do not hold was rounded when it was read: another would be written.
void refuse_rounded(const Json& value, const std::string& pointer) {
  constexpr double kFirstBeyond = 9223372036854775808.0;  // 2^63
  if (value.is_structured()) {
    for (const Json& item : value) refuse_rounded(item, pointer);
  } else if (value.is_number_float() && std::abs(value.get<double>()) >= kFirstBeyond) {
    refuse_schema(
        pointer,
        fmt::format("{} in 'enum' or 'const' is not supported, allowed: whole numbers from "
                    "-2^63 to 2^64 - 1 without point and exponent, others below 2^63 in "
                    "size",
                    value.dump()));
  }
}

}  // namespace

GrammarNode JsonSchemaCompiler::compile() {
  const GrammarNode root = schema(document_, {});
  while (!pending_.empty()) {
    const Pending next = std::move(pending_.front());
    pending_.pop_front();
    builder_.define(next.rule, schema(next.schema, {.pointer = next.pointer}));
  }
  return root;
}

GrammarNode JsonSchemaCompiler::rule_of(const std::string& name,
                                        const Json& schema,
                                        const std::string& pointer) {
  auto it = rules_.find(name);
  if (it == rules_.end()) {
    constexpr std::size_t kMostBytes = 8U << 20U;
    pending_bytes_ += name.size();
    if (pending_bytes_ > kMostBytes) refuse_schema(pointer, "too much has to be merged");
    it = rules_.emplace(name, builder_.declare(quote_text(name, 40))).first;
    pending_.push_back({it->second, schema, pointer});
  }
  return builder_.call(it->second);
}

void JsonSchemaCompiler::check_keywords(const Json& schema, const Where& where) const {
  for (const auto& item : schema.items()) {
    const std::string& k = item.key();
    if (is_annotation(k) || std::ranges::find(kUnderstood, k) != std::end(kUnderstood)) continue;
    if (says_nothing(k, item.value())) continue;
    refuse_schema(where.pointer, fmt::format("keyword {} is not supported", quote_text(k)));
  }
}

GrammarNode JsonSchemaCompiler::schema(const Json& schema, Where where) {
  builder_.check_time();
  if (++where.depth > builder_.limits().depth) {
    refuse_schema(where.pointer,
                  fmt::format("schemas nested deeper than {}", builder_.limits().depth));
  }
  if (schema.is_boolean()) return schema.get<bool>() ? nodes_.value() : builder_.never();
  if (!schema.is_object()) {
    refuse_schema(where.pointer, "a schema must be an object, true or false");
  }
  check_keywords(schema, where);
  if (schema.contains("$ref") && !restricts(schema, "$ref")) {
    const Json& target = merger_.resolve(where.pointer, schema["$ref"]);
    const auto text = schema["$ref"].get<std::string>();
    return rule_of(text, target, text.substr(1));
  }
  const bool all = schema.contains("allOf");
  if (all && !restricts(schema, "allOf") && schema["allOf"].is_array() &&
      schema["allOf"].size() == 1) {
    return this->schema(schema["allOf"][0], where.at("allOf").at("0"));
  }
  if (all || schema.contains("$ref")) {
    const Json merged = merger_.flatten(where.pointer, schema);
    return rule_of("merged " + merged.dump(), merged, where.pointer);
  }
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (schema.contains(keyword)) return any_of(schema, keyword, where);
  }
  return plain(schema, where);
}

/// oneOf too: that only one of them holds cannot be told while the text is written.
GrammarNode JsonSchemaCompiler::any_of(const Json& schema,
                                       const char* keyword,
                                       const Where& where) {
  const Json& options = schema[keyword];
  if (!options.is_array() || options.empty()) {
    refuse_schema(where.pointer, fmt::format("'{}' must be a list of schemas", keyword));
  }
  if (std::string_view(keyword) == "anyOf" && schema.contains("oneOf")) {
    refuse_schema(where.pointer, "'anyOf' beside 'oneOf' is not supported");
  }
  const bool alone = !restricts(schema, keyword);
  Json common = schema;
  common.erase(keyword);
  std::vector<GrammarNode> ways;
  for (std::size_t i = 0; i < options.size(); ++i) {
    const Where here = where.at(keyword).at(std::to_string(i));
    if (alone) {
      ways.push_back(this->schema(options[i], here));
      continue;
    }
    // The option first: its keywords are those that the caller ordered by hand.
    const Json flat = merger_.flatten(here.pointer, common);
    const Json merged =
        merger_.merge(here.pointer, flat, merger_.flatten(here.pointer, options[i]));
    ways.push_back(rule_of("merged " + merged.dump(), merged, here.pointer));
  }
  return builder_.alternatives(ways);
}

unsigned JsonSchemaCompiler::types_of(const Json& schema, const Where& where) const {
  constexpr std::pair<std::string_view, unsigned> kNames[] = {
      {"null", kNull},     {"boolean", kBoolean}, {"integer", kInteger}, {"number", kNumber},
      {"string", kString}, {"array", kArray},     {"object", kObject}};
  unsigned types = 0;
  const auto type = schema.find("type");
  if (type == schema.end()) {
    for (const auto& item : schema.items()) {
      for (const auto& [keyword, kind] : kTypeOfKeyword) types |= item.key() == keyword ? kind : 0;
    }
    return types;
  }
  for (const Json& name : type->is_array() ? *type : Json::array({*type})) {
    const auto* const known = std::ranges::find_if(
        kNames, [&](const auto& n) { return name.is_string() && name == Json(n.first); });
    if (known == std::end(kNames)) {
      refuse_schema(where.pointer,
                    "'type' must be null, boolean, integer, number, string, array, object or a "
                    "list of them");
    }
    types |= known->second;
  }
  if (schema.contains("nullable") && schema["nullable"] == Json(true)) types |= kNull;
  if ((types & kNumber) != 0) types &= ~static_cast<unsigned>(kInteger);
  return types;
}

GrammarNode JsonSchemaCompiler::values(const Json& schema, const Where& where) {
  Json list = Json::array();
  if (schema.contains("enum")) {
    list = schema["enum"];
    if (!list.is_array()) refuse_schema(where.pointer, "'enum' must be a list");
  } else {
    list.push_back(schema["const"]);
  }
  for (const auto& item : schema.items()) {
    const std::string& k = item.key();
    if (is_annotation(k) || k == "enum" || k == "const" || k == "type" || k == "nullable") continue;
    refuse_schema(where.pointer,
                  fmt::format("{} beside 'enum' or 'const' is not supported", quote_text(k)));
  }
  const unsigned types = schema.contains("type") ? types_of(schema, where) : ~0U;
  const auto type_of = [](const Json& value) -> unsigned {
    if (value.is_null()) return kNull;
    if (value.is_boolean()) return kBoolean;
    if (value.is_string()) return kString;
    if (value.is_array()) return kArray;
    if (value.is_object()) return kObject;
    const bool whole = value.is_number_integer() ||
                       value.get<double>() == static_cast<double>(static_cast<long long>(
                                                  std::clamp(value.get<double>(), -9e18, 9e18)));
    return whole ? kInteger | kNumber : kNumber;
  };
  std::vector<std::string> scalars;
  std::vector<GrammarNode> ways;
  for (const Json& value : list) {
    if ((type_of(value) & types) == 0) continue;
    if (schema.contains("const") && !same_value(value, schema["const"])) continue;
    refuse_rounded(value, where.pointer);
    if (value.is_structured()) {
      ways.push_back(nodes_.exactly(value));
    } else {
      scalars.push_back(value.is_string() ? json_quote(value.get_ref<const std::string&>())
                                          : value.dump());
    }
  }
  if (!scalars.empty()) ways.push_back(builder_.one_of(scalars));
  return builder_.alternatives(ways);
}

GrammarNode JsonSchemaCompiler::plain(const Json& schema, const Where& where) {
  if (schema.contains("enum") || schema.contains("const")) return values(schema, where);
  const bool typed = schema.contains("type");
  const unsigned types = types_of(schema, where);
  if (types == 0 && !typed) return nodes_.value();
  std::vector<GrammarNode> ways;
  if ((types & kObject) != 0) ways.push_back(object(schema, where));
  if ((types & kArray) != 0) ways.push_back(array(schema, where));
  if ((types & kString) != 0) ways.push_back(string(schema, where));
  if ((types & kNumber) != 0) ways.push_back(number(schema, false, where));
  if ((types & kInteger) != 0) ways.push_back(number(schema, true, where));
  if ((types & kBoolean) != 0) ways.push_back(nodes_.boolean());
  if ((types & kNull) != 0) ways.push_back(builder_.literal("null"));
  return builder_.alternatives(ways);
}

GrammarNode json_schema_node(GrammarBuilder& builder, std::string_view schema) {
  try {
    builder.check_source("schema", schema.size());
    // Each schema is two levels of JSON deeper than the one that it is a property of.
    const JsonLimits limits{.depth = 4 * builder.limits().depth, .nodes = 100'000};
    const Json document = parse_json(schema, "schema", limits);
    return JsonSchemaCompiler(builder, document).compile();
  } catch (const Error& e) {
    const std::string text = e.what();
    if (text.starts_with("unsupported_schema")) throw;
    throw Error(e.kind(), "unsupported_schema: " + text);
  }
}

}  // namespace heddle
