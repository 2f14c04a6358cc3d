#include "engine/grammar/json_schema_merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "engine/grammar/json_decimal.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

constexpr int kMostMerges = 2000;
constexpr int kMostRefs = 32;  // one behind the other

const Json& value_or(const Json& schema, const std::string& keyword, const Json& otherwise) {
  const auto it = schema.find(keyword);
  return it == schema.end() ? otherwise : *it;
}

const Json& json_true() {
  static const Json value = true;
  return value;
}

bool is_true(const Json& schema) {
  return schema == json_true() || (schema.is_object() && !restricts(schema));
}

/// The schemas that make one, if it is nothing but an allOf.
std::vector<Json> parts_of(const Json& schema) {
  const bool list = schema.is_object() && schema.contains("allOf") && schema["allOf"].is_array() &&
                    !restricts(schema, "allOf");
  if (!list) return {schema};
  return {schema["allOf"].begin(), schema["allOf"].end()};
}

std::vector<std::string> types_of(const Json& type) {
  std::vector<std::string> types;
  for (const Json& t : type.is_array() ? type : Json::array({type})) {
    if (t.is_string()) types.push_back(t.get<std::string>());
  }
  return types;
}

Json common_types(const Json& a, const Json& b) {
  const std::vector<std::string> x = types_of(a);
  const std::vector<std::string> y = types_of(b);
  const auto has = [](const std::vector<std::string>& list, std::string_view type) {
    return std::ranges::find(list, type) != list.end();
  };
  Json types = Json::array();
  for (const std::string& type : x) {
    if (has(y, type)) {
      types.push_back(type);
    } else if (type == "integer" && has(y, "number")) {
      types.push_back("integer");
    } else if (type == "number" && has(y, "integer")) {
      types.push_back("integer");
    }
  }
  return types;
}

/// Source: RFC 3986, section 2.1. What is no escape stays.
std::string percent_decoded(std::string_view text) {
  const auto digit = [&](std::size_t i) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    const char c = i < text.size() ? text[i] : ' ';
    return kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c);
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escape =
        text[i] == '%' && digit(i + 1) != std::string::npos && digit(i + 2) != std::string::npos;
    out += escape ? static_cast<char>(digit(i + 1) * 16 + digit(i + 2)) : text[i];
    if (escape) i += 2;
  }
  return out;
}

/// What `text`, "#" and a JSON pointer, leads to; nullptr: nothing. Source: RFC 6901.
const Json* find_pointer(const Json& document, const std::string& text) {
  const Json* at = &document;
  for (std::size_t begin = 2; begin <= text.size();) {
    const std::size_t end = std::min(text.find('/', begin), text.size());
    std::string key;
    for (std::size_t i = begin; i < end; ++i) {
      const bool escape =
          text[i] == '~' && i + 1 < end && (text[i + 1] == '0' || text[i + 1] == '1');
      key += escape ? (text[++i] == '0' ? '~' : '/') : text[i];
    }
    begin = end + 1;
    const bool index = at->is_array() && !key.empty() && key.size() < 9 &&
                       key.find_first_not_of("0123456789") == std::string::npos;
    if (at->is_object() && at->contains(key)) {
      at = &at->at(key);
    } else if (index && std::stoul(key) < at->size()) {
      at = &at->at(std::stoul(key));
    } else {
      return nullptr;
    }
  }
  return at;
}

bool holds(const Json& list, const Json& value) {
  return std::ranges::any_of(list, [&](const Json& item) { return same_value(item, value); });
}

Json common_values(const Json& a, const Json& b) {
  Json values = Json::array();
  if (!a.is_array() || !b.is_array()) return values;
  for (const Json& value : a) {
    if (holds(b, value)) values.push_back(value);
  }
  return values;
}

/// A const is an enum of one.
void const_to_enum(Json& schema) {
  const auto it = schema.find("const");
  if (it == schema.end()) return;
  const Json value = *it;
  Json values = Json::array({value});
  if (schema.contains("enum")) values = common_values(schema["enum"], values);
  schema.erase("const");
  schema["enum"] = values;
}

/// `nullable` is one more type, and says nothing where there is no `type` beside it.
void nullable_to_type(Json& schema) {
  const auto it = schema.find("nullable");
  if (it == schema.end()) return;
  const bool nullable = *it == Json(true);
  schema.erase("nullable");
  if (!nullable || !schema.contains("type")) return;
  Json& type = schema["type"];
  if (!type.is_array()) type = Json::array({type});
  if (!holds(type, "null")) type.push_back("null");
}

bool is_object_keyword(std::string_view k) {
  return k == "properties" || k == "additionalProperties";
}
bool is_array_keyword(std::string_view k) {
  return k == "items" || k == "prefixItems";
}

/// Of two numbers under a keyword, the one that allows less; nullptr for keywords of other kinds.
const Json* stricter(std::string_view k, const Json& a, const Json& b) {
  if (!a.is_number() || !b.is_number()) return nullptr;
  const bool low = k == "minimum" || k == "exclusiveMinimum" || k == "minLength" ||
                   k == "minItems" || k == "minProperties";
  const bool high = k == "maximum" || k == "exclusiveMaximum" || k == "maxLength" ||
                    k == "maxItems" || k == "maxProperties";
  if (!low && !high) return nullptr;
  return (compare_numbers(a, b) < 0) == low ? &b : &a;
}

}  // namespace

void refuse_schema(const std::string& pointer, const std::string& what) {
  throw bad_input(fmt::format("unsupported_schema: {}: {}",
                              pointer.empty() ? "the schema" : quote_text(pointer, 200), what));
}

std::string pointer_to(const std::string& pointer, std::string_view key) {
  std::string step;
  for (const char c : key) step += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return pointer + "/" + step;
}

bool is_annotation(std::string_view keyword) {
  constexpr std::string_view kNames[] = {"title",
                                         "description",
                                         "default",
                                         "examples",
                                         "example",
                                         "deprecated",
                                         "readOnly",
                                         "writeOnly",
                                         "$schema",
                                         "$id",
                                         "id",
                                         "$comment",
                                         "$anchor",
                                         "$vocabulary",
                                         "$defs",
                                         "definitions",
                                         "xml",
                                         "externalDocs",
                                         "contentEncoding",
                                         "contentMediaType",
                                         "contentSchema",
                                         "discriminator"};
  return std::ranges::find(kNames, keyword) != std::end(kNames) || keyword.starts_with("x-");
}

bool restricts(const Json& schema, std::string_view but, std::string_view or_this) {
  return std::ranges::any_of(schema.items(), [&](const auto& item) {
    return !is_annotation(item.key()) && item.key() != but && item.key() != or_this;
  });
}

const Json& SchemaMerger::resolve(const std::string& pointer, const Json& ref) const {
  if (!ref.is_string()) refuse_schema(pointer, "'$ref' must be a text");
  const auto& text = ref.get_ref<const std::string&>();
  if (text.empty() || text[0] != '#' || (text.size() > 1 && text[1] != '/')) {
    refuse_schema(pointer, fmt::format("'$ref' is {}, allowed: '#' and JSON pointers behind it",
                                       quote_text(text)));
  }
  if (const Json* found = find_pointer(document_, percent_decoded(text))) return *found;
  if (const Json* found = find_pointer(document_, text)) return *found;  // not encoded at all
  refuse_schema(pointer, fmt::format("'$ref' {} leads nowhere", quote_text(text)));
}

Json SchemaMerger::flatten(const std::string& pointer, const Json& schema, int depth) {
  if (schema.is_boolean()) return schema;
  if (!schema.is_object()) refuse_schema(pointer, "a schema must be an object, true or false");
  if (depth > kMostRefs) {
    refuse_schema(pointer,
                  fmt::format("more than {} '$ref' or 'allOf' within each other", kMostRefs));
  }
  Json flat = schema;
  const_to_enum(flat);
  nullable_to_type(flat);
  std::vector<Json> parts;
  if (const auto ref = schema.find("$ref"); ref != schema.end()) {
    parts.push_back(flatten(pointer, resolve(pointer, *ref), depth + 1));
    flat.erase("$ref");
  }
  if (const auto all = schema.find("allOf"); all != schema.end()) {
    if (!all->is_array() || all->empty())
      refuse_schema(pointer, "'allOf' must be a list of schemas");
    for (const Json& part : *all) {
      parts.push_back(flatten(pointer_to(pointer, "allOf"), part, depth + 1));
    }
    flat.erase("allOf");
  }
  // In the order of the text: what stands beside comes last.
  if (parts.empty()) return flat;
  if (restricts(flat)) parts.push_back(flat);
  Json merged = parts[0];
  for (std::size_t i = 1; i < parts.size(); ++i)
    merged = merge(pointer, std::move(merged), parts[i]);
  return merged;
}

Json SchemaMerger::both(const Json& a, const Json& b) {
  if (is_true(a)) return b;
  if (is_true(b)) return a;
  if (a == Json(false) || b == Json(false)) return false;
  Json parts = Json::array();
  for (const Json& schema : {a, b}) {
    for (const Json& part : parts_of(schema)) {
      if (!holds(parts, part)) parts.push_back(part);
    }
  }
  if (parts.size() == 1) return parts[0];
  Json all;
  all["allOf"] = parts;
  return all;
}

void SchemaMerger::merge_objects(Json& into, const Json& a, const Json& b) const {
  const Json none = Json::object();
  const Json& in_a = value_or(a, "properties", none);
  const Json& in_b = value_or(b, "properties", none);
  const Json& more_a = value_or(a, "additionalProperties", json_true());
  const Json& more_b = value_or(b, "additionalProperties", json_true());
  if (!in_a.is_object() || !in_b.is_object()) return;  // refused later
  Json properties = Json::object();
  for (const Json* side : {&in_a, &in_b}) {
    for (const auto& item : side->items()) {
      const std::string& key = item.key();
      if (properties.contains(key)) continue;
      properties[key] = both(value_or(in_a, key, more_a), value_or(in_b, key, more_b));
    }
  }
  if (!properties.empty()) into["properties"] = properties;
  if (a.contains("additionalProperties") || b.contains("additionalProperties")) {
    into["additionalProperties"] = both(more_a, more_b);
  }
}

void SchemaMerger::merge_arrays(Json& into, const Json& a, const Json& b) const {
  const Json none = Json::array();
  const Json& in_a = value_or(a, "prefixItems", none);
  const Json& in_b = value_or(b, "prefixItems", none);
  const Json& rest_a = value_or(a, "items", json_true());
  const Json& rest_b = value_or(b, "items", json_true());
  if (!in_a.is_array() || !in_b.is_array()) return;  // refused later
  Json items = Json::array();
  for (std::size_t i = 0; i < std::max(in_a.size(), in_b.size()); ++i) {
    items.push_back(both(i < in_a.size() ? in_a[i] : rest_a, i < in_b.size() ? in_b[i] : rest_b));
  }
  if (!items.empty()) into["prefixItems"] = items;
  if (a.contains("items") || b.contains("items")) into["items"] = both(rest_a, rest_b);
}

Json SchemaMerger::merge(const std::string& pointer, Json a, const Json& b) {
  builder_.check_time();
  if (++n_merges_ > kMostMerges) {
    refuse_schema(pointer, fmt::format("more than {} schemas to be merged", kMostMerges));
  }
  if (is_true(a)) return b;
  if (is_true(b)) return a;
  if (a.is_boolean() || b.is_boolean()) return false;
  Json merged;
  for (const auto& item : a.items()) {
    const std::string& k = item.key();
    if (!is_annotation(k) && !is_object_keyword(k) && !is_array_keyword(k))
      merged[k] = item.value();
  }
  for (const auto& item : b.items()) {
    const std::string& k = item.key();
    const Json& theirs = item.value();
    if (is_annotation(k) || is_object_keyword(k) || is_array_keyword(k)) continue;
    const auto mine = merged.find(k);
    if (mine == merged.end() || same_value(*mine, theirs)) {
      merged[k] = theirs;
    } else if (k == "type") {
      *mine = common_types(*mine, theirs);
    } else if (k == "enum") {
      *mine = common_values(*mine, theirs);
    } else if (k == "required" && mine->is_array() && theirs.is_array()) {
      for (const Json& name : theirs) {
        if (std::ranges::find(*mine, name) == mine->end()) mine->push_back(name);
      }
    } else if (const Json* limit = stricter(k, *mine, theirs)) {
      const Json value = *limit;
      *mine = value;
    } else {
      refuse_schema(pointer, fmt::format("two different '{}' that must hold together", k));
    }
  }
  if (a.contains("properties") || b.contains("properties") || a.contains("additionalProperties") ||
      b.contains("additionalProperties")) {
    merge_objects(merged, a, b);
  }
  merge_arrays(merged, a, b);
  return merged;
}

}  // namespace heddle
