// What JSON Schema says of one type of values.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "engine/grammar/json_schema_compiler.h"
#include "engine/grammar/regex_parser.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

/// Formats that are kept; others are annotations, as the specification has it.
std::optional<std::string> pattern_of_format(std::string_view format) {
  const std::string year = "(?:\\d{3}[1-9]|\\d{2}[1-9]\\d|\\d[1-9]\\d{2}|[1-9]\\d{3})";
  const std::string day =
      "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|"
      "02-(?:0[1-9]|1\\d|2[0-8]))";
  const std::string leap_year =
      "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)";
  const std::string date = "(?:" + year + "-" + day + "|" + leap_year + "-02-29)";
  const std::string time =
      "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)";
  const std::string byte = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
  const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}";
  const std::string label = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,18}[A-Za-z0-9])?";
  if (format == "date") return date;
  if (format == "time") return time;
  if (format == "date-time") return date + "T" + time;
  if (format == "uuid") return "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
  if (format == "ipv4") return byte + "(?:\\." + byte + "){3}";
  if (format == "email") {
    return atom + "(?:\\." + atom + "){0,2}@" + label + "(?:\\." + label + "){1,3}";
  }
  return std::nullopt;
}

/// The first double within the bound: what is not beyond it does not round to what the bound
/// excludes. For bounds from 2^53 on, where not every integer is a double.
Json next_double_inside(const Json& bound, bool low, bool open) {
  Json value = bound.get<double>();
  const int side = compare_numbers(value, bound);
  if ((low ? side < 0 : side > 0) || (side == 0 && open)) {
    constexpr double kFar = std::numeric_limits<double>::infinity();
    value = std::nextafter(value.get<double>(), low ? kFar : -kFar);
  }
  return value;
}

}  // namespace

std::optional<std::uint32_t> JsonSchemaCompiler::count(const Json& schema,
                                                       const char* keyword,
                                                       const Where& where) const {
  const auto it = schema.find(keyword);
  if (it == schema.end()) return std::nullopt;
  const bool whole = it->is_number() && it->get<double>() >= 0 &&
                     it->get<double>() == std::floor(it->get<double>());
  if (!whole) {
    refuse_schema(where.pointer, fmt::format("'{}' must be a whole number from 0", keyword));
  }
  const std::size_t most = builder_.limits().states;
  if (it->get<double>() > static_cast<double>(most)) {
    refuse_schema(where.pointer,
                  fmt::format("'{}' is {}, the limit of states is {}", keyword, it->dump(), most));
  }
  return static_cast<std::uint32_t>(it->get<double>());
}

std::vector<JsonSchemaCompiler::Property> JsonSchemaCompiler::properties(const Json& schema,
                                                                         const Where& where) const {
  std::set<std::string> required;
  std::vector<std::string> order;  // of the required ones
  if (const auto it = schema.find("required"); it != schema.end()) {
    if (!it->is_array()) refuse_schema(where.pointer, "'required' must be a list of names");
    for (const Json& name : *it) {
      if (!name.is_string()) refuse_schema(where.pointer, "'required' must be a list of names");
      if (required.insert(name.get<std::string>()).second) order.push_back(name.get<std::string>());
    }
  }
  std::vector<Property> list;
  std::set<std::string> named;
  if (const auto it = schema.find("properties"); it != schema.end()) {
    if (!it->is_object()) refuse_schema(where.pointer, "'properties' must be an object");
    for (const auto& item : it->items()) {
      list.push_back({item.key(), item.value(), required.contains(item.key())});
      named.insert(item.key());
    }
  }
  const auto more = schema.find("additionalProperties");
  for (const std::string& name : order) {
    if (named.contains(name)) continue;
    list.push_back({name, more == schema.end() ? Json(true) : *more, true});
  }
  return list;
}

void JsonSchemaCompiler::check_property_counts(const Json& schema,
                                               const std::vector<Property>& list,
                                               bool more,
                                               const Where& where) const {
  const auto n_required = std::ranges::count_if(list, [](const Property& p) { return p.required; });
  const auto least = count(schema, "minProperties", where);
  const auto most = count(schema, "maxProperties", where);
  if (least && static_cast<std::ptrdiff_t>(*least) > n_required) {
    refuse_schema(where.pointer,
                  "'minProperties' above the number of required properties is not supported");
  }
  if (most && (more || *most < list.size())) {
    refuse_schema(where.pointer, "'maxProperties' below the number of properties is not supported");
  }
}

/// States: none (of the properties before i was written), some, and about to write property i.
GrammarNode JsonSchemaCompiler::object(const Json& schema, const Where& where) {
  GrammarBuilder& b = builder_;
  const std::vector<Property> list = properties(schema, where);
  const auto additional = schema.find("additionalProperties");
  const bool open = additional == schema.end() && list.empty();
  const bool more = open || (additional != schema.end() && *additional != Json(false));
  check_property_counts(schema, list, more, where);

  GrammarBuilder::Graph graph;
  std::uint32_t none = graph.add_state();
  std::uint32_t some = graph.add_state();
  const GrammarNode nothing = b.empty();
  const GrammarNode comma = nodes_.comma();
  graph.edges.push_back({0, none, nodes_.indent()});
  std::vector<std::string> names;
  for (const Property& p : list) {
    names.push_back(p.name);
    const std::uint32_t about = graph.add_state();
    const std::uint32_t next_none = graph.add_state();
    const std::uint32_t next_some = graph.add_state();
    const GrammarNode pair =
        b.sequence({b.literal(json_quote(p.name)), nodes_.colon(),
                    this->schema(p.schema, where.at("properties").at(p.name))});
    graph.edges.push_back({none, about, nothing});
    graph.edges.push_back({some, about, comma});
    graph.edges.push_back({about, next_some, pair});
    if (!p.required) {
      graph.edges.push_back({none, next_none, nothing});
      graph.edges.push_back({some, next_some, nothing});
    }
    none = next_none;
    some = next_some;
  }
  if (more) {
    const std::uint32_t about = graph.add_state();
    const GrammarNode key = names.empty() ? nodes_.string() : nodes_.key_besides(names);
    const GrammarNode value =
        open ? nodes_.value() : this->schema(*additional, where.at("additionalProperties"));
    graph.edges.push_back({none, about, nothing});
    graph.edges.push_back({some, about, comma});
    graph.edges.push_back({about, some, b.sequence({key, nodes_.colon(), value})});
  }
  const std::uint32_t end = graph.add_state();
  graph.edges.push_back({none, end, nothing});
  graph.edges.push_back({some, end, nodes_.indent()});
  graph.accepting = {end};
  const GrammarNode all = b.sequence({b.literal("{"), b.graph(std::move(graph)), b.literal("}")});
  return open ? b.shared(all) : all;  // any object: one of the levels that values have
}

GrammarNode JsonSchemaCompiler::array(const Json& schema, const Where& where) {
  GrammarBuilder& b = builder_;
  const std::uint32_t least = count(schema, "minItems", where).value_or(0);
  const auto most = count(schema, "maxItems", where);
  if (most && *most < least) return b.never();
  std::vector<GrammarNode> first;
  if (const auto it = schema.find("prefixItems"); it != schema.end()) {
    if (!it->is_array()) refuse_schema(where.pointer, "'prefixItems' must be a list of schemas");
    for (std::size_t i = 0; i < it->size(); ++i) {
      first.push_back(this->schema((*it)[i], where.at("prefixItems").at(std::to_string(i))));
    }
  }
  const auto items = schema.find("items");
  if (items != schema.end() && items->is_array()) {
    refuse_schema(where.pointer, "'items' as a list is not supported: use 'prefixItems'");
  }
  const GrammarNode rest =
      b.shared(items == schema.end() ? nodes_.value() : this->schema(*items, where.at("items")));
  const auto n_first = static_cast<std::uint32_t>(first.size());
  // Items behind those that the schema describes are written where there must be so many.
  const bool closed = n_first > 0 && items == schema.end();
  const bool endless = !most && !closed;
  const std::uint32_t n = most && !closed ? *most
                          : closed        ? std::min(std::max(n_first, least), most.value_or(~0U))
                                          : std::max({n_first, least, 1U});
  GrammarBuilder::Graph graph;
  const std::uint32_t end = graph.add_state();
  const GrammarNode comma = nodes_.comma();
  const GrammarNode indent = nodes_.indent();
  std::uint32_t at = graph.add_state();
  graph.edges.push_back({0, at, indent});
  if (least == 0) graph.edges.push_back({at, end, b.empty()});
  for (std::uint32_t i = 0; i < n; ++i) {
    std::uint32_t about = at;
    if (i > 0) {
      about = graph.add_state();
      graph.edges.push_back({at, about, comma});
    }
    at = graph.add_state();
    graph.edges.push_back({about, at, i < n_first ? first[i] : rest});
    if (i + 1 >= least) graph.edges.push_back({at, end, indent});
  }
  if (endless) graph.edges.push_back({at, at, b.sequence({comma, rest})});
  graph.accepting = {end};
  return b.sequence({b.literal("["), b.graph(std::move(graph)), b.literal("]")});
}

GrammarNode JsonSchemaCompiler::string(const Json& schema, const Where& where) {
  GrammarBuilder& b = builder_;
  const auto text_of = [&](const char* keyword) -> std::optional<std::string> {
    const auto it = schema.find(keyword);
    if (it == schema.end()) return std::nullopt;
    if (!it->is_string()) refuse_schema(where.pointer, fmt::format("'{}' must be a text", keyword));
    return it->get<std::string>();
  };
  const auto least = count(schema, "minLength", where);
  const auto most = count(schema, "maxLength", where);
  if (least && most && *least > *most) return b.never();
  const auto pattern = text_of("pattern");
  const auto format = pattern_of_format(text_of("format").value_or(""));
  if (!pattern && !format) {
    if (!least.value_or(0) && !most) return nodes_.string();
    return nodes_.string_of(least.value_or(0), most.value_or(GrammarBuilder::kNoEnd));
  }
  if (pattern && format) {
    refuse_schema(where.pointer, "'pattern' beside this 'format' is not supported");
  }
  RegexPiece piece;
  try {
    piece = parse_regex(b, pattern ? *pattern : *format, JsonNodes::character, pattern.has_value());
  } catch (const Error& e) {
    refuse_schema(where.at(pattern ? "pattern" : "format").pointer, e.what());
  }
  if ((least && *least > piece.least) || (most && *most < piece.most)) {
    refuse_schema(
        where.pointer,
        fmt::format("'minLength' and 'maxLength' beside '{}' must not restrict it further",
                    pattern ? "pattern" : "format"));
  }
  return b.sequence({b.literal("\""), piece.node, b.literal("\"")});
}

std::optional<JsonSchemaCompiler::NumberBound> JsonSchemaCompiler::bound(const Json& schema,
                                                                         bool low,
                                                                         const Where& where) const {
  const char* const closed_key = low ? "minimum" : "maximum";
  const char* const open_key = low ? "exclusiveMinimum" : "exclusiveMaximum";
  const auto closed = schema.find(closed_key);
  const auto open = schema.find(open_key);
  for (const auto& [it, key] : {std::pair(closed, closed_key), std::pair(open, open_key)}) {
    const bool draft4 = key == open_key && it != schema.end() && it->is_boolean();
    if (it != schema.end() && !it->is_number() && !draft4) {
      refuse_schema(where.pointer, fmt::format("'{}' must be a number", key));
    }
  }
  const bool has_closed = closed != schema.end();
  if (open != schema.end() && open->is_boolean()) {  // as draft 4 has it
    if (!has_closed) return std::nullopt;
    return NumberBound{.value = *closed, .open = open->get<bool>()};
  }
  if (open == schema.end()) {
    if (!has_closed) return std::nullopt;
    return NumberBound{.value = *closed};
  }
  const int order = has_closed ? compare_numbers(*open, *closed) : 0;
  const bool open_wins = !has_closed || (low ? order >= 0 : order <= 0);
  return NumberBound{.value = open_wins ? *open : *closed, .open = open_wins};
}

/// Without a value: none of the numbers that are written without bounds lies outside (`any_form`),
/// or none of those that are written with them.
JsonSchemaCompiler::WrittenBound JsonSchemaCompiler::written_bound(
    const std::optional<NumberBound>& bound, bool low, bool whole, const Where& where) {
  if (!bound) return {.any_form = true};
  constexpr double kExactIntegers = 9007199254740992.0;  // 2^53
  constexpr double kLeastInteger = -9223372036854775808.0;
  Json value = bound->value;
  bool open = bound->open;
  if (!whole && std::abs(value.get<double>()) >= kExactIntegers) {
    value = next_double_inside(value, low, open);
    open = false;
  }
  const Decimal decimal = decimal_of(value);
  // It may have been an integer that 64 bits do not hold, and was rounded when it was read.
  const bool rounded = value.is_number_float() && value.get<double>() <= kLeastInteger;
  const std::size_t n_digits = decimal.whole.size();
  if (n_digits <= JsonNodes::kMostBoundDigits && !rounded) {
    return {.bound = DecimalBound{.value = decimal, .open = open}};
  }
  if (low != decimal.negative) {
    refuse_schema(where.pointer, fmt::format("numbers of more than {} digits are not supported",
                                             JsonNodes::kMostBoundDigits));
  }
  if (n_digits <= JsonNodes::kMostBoundDigits) {
    return {.bound = DecimalBound{.value = decimal_of(Json(-9223372036854775807))}};
  }
  return {.any_form = whole || n_digits > JsonNodes::kMostDigits + 101};
}

GrammarNode JsonSchemaCompiler::number(const Json& schema, bool whole, const Where& where) {
  const WrittenBound low = written_bound(bound(schema, true, where), true, whole, where);
  const WrittenBound high = written_bound(bound(schema, false, where), false, whole, where);
  if (low.any_form && high.any_form) return whole ? nodes_.integer() : nodes_.number();
  return builder_.shared(nodes_.number_between(low.bound, high.bound, whole));
}

}  // namespace heddle
