#include "tools/serve/api/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "tools/serve/api/api_error.h"

namespace heddle::serve {
namespace {

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

std::string number_text(double value) {
  if (value == 0x1p63) return "9223372036854775807";  // of whole numbers of 64 bits
  if (value == std::floor(value) && std::fabs(value) < 1e19) return fmt::format("{:.0f}", value);
  return fmt::format("{}", value);
}

std::string_view kind_text(FieldKind kind) {
  switch (kind) {
    case FieldKind::kBool:
      return "a boolean";
    case FieldKind::kInt:
      return "a whole number";
    case FieldKind::kNumber:
      return "a number";
    case FieldKind::kText:
    case FieldKind::kChoice:
      return "a string";
    case FieldKind::kArray:
      return "an array";
    case FieldKind::kObject:
      return "an object";
    case FieldKind::kAny:
      return "any value";
  }
  return "";
}

bool has_kind(const Json& value, FieldKind kind) {
  switch (kind) {
    case FieldKind::kBool:
      return value.is_boolean();
    case FieldKind::kInt:
      return whole_number(value).has_value();
    case FieldKind::kNumber:
      return value.is_number();
    case FieldKind::kText:
    case FieldKind::kChoice:
      return value.is_string();
    case FieldKind::kArray:
      return value.is_array();
    case FieldKind::kObject:
      return value.is_object();
    case FieldKind::kAny:
      return true;
  }
  return false;
}

std::string range_text(const FieldSpec& field) {
  if (std::isinf(field.low) && std::isinf(field.high)) return std::string(kind_text(field.kind));
  return fmt::format("{} {} {}{} {}", kind_text(field.kind), field.low_open ? "above" : "from",
                     number_text(field.low), field.low_open ? " up" : "",
                     "to " + number_text(field.high));
}

void check_number(const FieldSpec& field, const Json& value) {
  const double number = value.get<double>();
  const bool in_range = (field.low_open ? number > field.low : number >= field.low) &&
                        number <= field.high && std::isfinite(number);
  if (in_range) return;
  throw invalid_value(field.name, fmt::format("{}: got {}, allowed {}", field.name,
                                              value.dump().substr(0, 32), range_text(field)));
}

void check_choice(const FieldSpec& field, const Json& value) {
  const auto words = words_of(field.choices);
  if (std::ranges::find(words, value.get_ref<const std::string&>()) != words.end()) return;
  throw invalid_value(field.name,
                      fmt::format("{}: allowed: {}", field.name, fmt::join(words, ", ")));
}

void check_refused(const FieldSpec& field, const Json& value) {
  if (!field.harmless.empty()) {
    const Json harmless = Json::parse(field.harmless);
    if (std::ranges::find(harmless, value) != harmless.end()) return;
  }
  throw unsupported(field.name, fmt::format("{} is not supported: {}", field.name, field.help));
}

void check_field(const FieldSpec& field, const Json& value) {
  if (value.is_null()) return;
  if (field.support == Support::kRefused) return check_refused(field, value);
  if (!has_kind(value, field.kind)) {
    throw invalid_type(field.name, fmt::format("{}: got {}, allowed {}", field.name,
                                               value.type_name(), range_text(field)));
  }
  if (field.kind == FieldKind::kInt || field.kind == FieldKind::kNumber) {
    check_number(field, value);
  }
  if (field.kind == FieldKind::kChoice) check_choice(field, value);
}

/// For a message: an unknown name may be anything.
std::string shown(std::string_view name) {
  std::string text;
  for (const char c : name.substr(0, 64)) text += c >= 0x20 && c < 0x7f && c != '"' ? c : '?';
  return text;
}

Json parse_body(std::string_view body, const ServerLimits& limits) {
  if (body.starts_with("\xEF\xBB\xBF")) {
    throw ApiError({.code = "invalid_json", .message = "body:1:1: a byte order mark"});
  }
  try {
    Json json = parse_json(body, "body", {.depth = limits.json_depth, .nodes = limits.json_nodes});
    bound_members(json, "body", limits);
    return json;
  } catch (const Error& e) {
    throw ApiError({.code = "invalid_json", .message = e.what()});
  }
}

}  // namespace

void bound_members(const Json& value, std::string_view source, const ServerLimits& limits) {
  std::vector<const Json*> open = {&value};
  while (!open.empty()) {
    const Json& next = *open.back();
    open.pop_back();
    if (next.is_object() && next.size() > limits.json_members) {
      throw bad_input(fmt::format("{}: members of an object, got {}, allowed up to {}", source,
                                  next.size(), limits.json_members));
    }
    for (const Json& item : next) {
      if (item.is_structured()) open.push_back(&item);
    }
  }
}

void add_member(Json& object, std::string name, Json value) {
  object.get_ref<Json::object_t&>().emplace_back(std::move(name), std::move(value));
}

std::string text_member(const Json& object, std::string_view name) {
  if (!object.is_object()) return "";
  const auto it = object.find(std::string(name));
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= ServerLimits::name_bytes &&
         std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  c == '_' || c == '-';
         });
}

std::optional<std::int64_t> whole_number(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return std::nullopt;
    }
    return static_cast<std::int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  // -2^63 as a float may have been less: what an integer cannot hold is read as one.
  if (!(number > -0x1p63 && number < 0x1p63) || number != std::floor(number)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

Fields Fields::read(std::string_view body,
                    Endpoint endpoint,
                    const ServerLimits& limits,
                    bool strict) {
  Fields fields;
  Json object = parse_body(body, limits);
  if (!object.is_object()) {
    throw ApiError(
        {.code = "invalid_json",
         .message = fmt::format("the body is {}, allowed an object", object.type_name())});
  }
  const auto specs = fields_of(endpoint);
  Json& known = fields.values_.emplace_back(Json::object());
  for (auto& [name, value] : object.get_ref<Json::object_t&>()) {
    const auto spec =
        std::ranges::find_if(specs, [&key = name](const auto* s) { return s->name == key; });
    if (spec != specs.end()) {
      check_field(**spec, value);
      add_member(known, name, std::move(value));
    } else if (strict) {
      throw ApiError({.code = "unknown_parameter",
                      .message = fmt::format("'{}' is not a field of this endpoint", shown(name)),
                      .param = shown(name)});
    } else {
      fields.unknown_.push_back(shown(name));
    }
  }
  for (const FieldSpec* spec : specs) {
    if (!spec->required || fields.find(spec->name) != nullptr) continue;
    throw ApiError({.code = "missing_required_parameter",
                    .message = fmt::format("{} is missing", spec->name),
                    .param = std::string(spec->name)});
  }
  return fields;
}

const Json* Fields::find(std::string_view name) const {
  const auto it = values_[0].find(std::string(name));
  return it == values_[0].end() || it->is_null() ? nullptr : &*it;
}

std::optional<std::int64_t> Fields::integer(std::string_view name) const {
  const Json* value = find(name);
  return value == nullptr ? std::nullopt : whole_number(*value);
}

std::optional<double> Fields::number(std::string_view name) const {
  const Json* value = find(name);
  return value == nullptr ? std::nullopt : std::optional(value->get<double>());
}

std::optional<std::string> Fields::text(std::string_view name) const {
  const Json* value = find(name);
  return value == nullptr ? std::nullopt : std::optional(value->get<std::string>());
}

bool Fields::on(std::string_view name, bool fallback) const {
  const Json* value = find(name);
  return value == nullptr ? fallback : value->get<bool>();
}

namespace {

/// A bound as JSON: whole where the field is.
Json bound(const FieldSpec& field, double value) {
  if (field.kind != FieldKind::kInt) return value;
  return value >= 0x1p63 ? std::numeric_limits<std::int64_t>::max()
                         : static_cast<std::int64_t>(value);
}

/// Of the bounds that a server may be told, and of those of several fields.
void set_limits(Json& schema, std::string_view name, const ServerLimits& limits) {
  if (name == "n" || name == "best_of") schema["maximum"] = limits.choices;
  if (name == "messages") schema["maxItems"] = limits.messages;
  if (name == "tools") schema["maxItems"] = limits.tools;
  if (name == "logit_bias") schema["maxProperties"] = limits.logit_biases;
  if (name == "stop_token_ids") schema["maxItems"] = limits.logit_biases;
  if (name == "stop") {
    schema["anyOf"][0]["maxLength"] = limits.stop_bytes;
    schema["anyOf"][1]["maxItems"] = limits.stops;
    schema["anyOf"][1]["items"]["maxLength"] = limits.stop_bytes;
  }
  if (name == "metadata") {
    schema["maxProperties"] = limits.metadata_pairs;
    schema["propertyNames"] = {{"maxLength", limits.metadata_key_chars}};
    schema["additionalProperties"] = {{"type", "string"},
                                      {"maxLength", limits.metadata_value_chars}};
  }
}

}  // namespace

Json field_schema(const FieldSpec& field, const ServerLimits& limits) {
  Json schema = field.schema.empty() ? Json::object() : Json::parse(field.schema);
  if (field.support == Support::kRefused) {
    schema = {{"enum", field.harmless.empty() ? Json::array() : Json::parse(field.harmless)},
              {"description", fmt::format("Not supported: {}", field.help)}};
    schema["enum"].push_back(nullptr);
    return schema;
  }
  if (field.schema.empty()) {
    constexpr std::string_view kTypes[] = {"boolean", "integer", "number", "string",
                                           "string",  "array",   "object"};
    if (field.kind != FieldKind::kAny) {
      schema["type"] = kTypes[static_cast<std::size_t>(field.kind)];
    }
    if (std::isfinite(field.low)) {
      schema[field.low_open ? "exclusiveMinimum" : "minimum"] = bound(field, field.low);
    }
    if (std::isfinite(field.high)) schema["maximum"] = bound(field, field.high);
    for (const std::string_view word : words_of(field.choices)) schema["enum"].push_back(word);
  }
  set_limits(schema, field.name, limits);
  if (field.name == "prompt" && field.kind == FieldKind::kAny) {  // lists of texts, of token ids
    for (const int way : {1, 3}) schema["anyOf"][way]["maxItems"] = limits.prompts;
  }
  schema["description"] = field.help;
  Json out =
      field.required ? std::move(schema) : Json{{"anyOf", {std::move(schema), {{"type", "null"}}}}};
  if (field.fallback.empty()) return out;
  if (Json::accept(field.fallback)) {
    out["default"] = Json::parse(field.fallback);
  } else {
    Json& described = field.required ? out : out["anyOf"][0];
    described["description"] = fmt::format("{} [default: {}]", field.help, field.fallback);
  }
  return out;
}

}  // namespace heddle::serve
