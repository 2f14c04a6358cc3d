#include "engine/grammar/json_nodes.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "engine/grammar/utf8_states.h"

namespace heddle {
namespace {

const CodePointSet& plain_characters() {
  static const CodePointSet set{{0x20, 0x21}, {0x23, 0x5B}, {0x5D, CodePointSet::kLast}};
  return set;
}

GrammarNode hex_digit(GrammarBuilder& b) {
  return b.code_points({{'0', '9'}, {'A', 'F'}, {'a', 'f'}});
}

}  // namespace

GrammarNode JsonNodes::keep(std::optional<GrammarNode>& place, GrammarNode node) {
  place = node;
  return node;
}

GrammarNode JsonNodes::newline() {
  if (newline_) return *newline_;
  GrammarBuilder& b = builder_;
  return keep(newline_,
              b.shared(b.sequence({b.literal("\n"), b.repeat(b.literal(" "), 0, kMostIndent)})));
}

GrammarNode JsonNodes::indent() {
  return builder_.optional(newline());
}

GrammarNode JsonNodes::comma() {
  GrammarBuilder& b = builder_;
  return b.sequence({b.literal(","), b.alternatives({b.empty(), b.literal(" "), newline()})});
}

GrammarNode JsonNodes::colon() {
  GrammarBuilder& b = builder_;
  return b.sequence({b.literal(":"), b.optional(b.literal(" "))});
}

GrammarNode JsonNodes::any_character() {
  GrammarBuilder& b = builder_;
  const GrammarNode hex = hex_digit(b);
  const GrammarNode d = b.code_points({{'D', 'D'}, {'d', 'd'}});
  const GrammarNode not_d =
      b.code_points({{'0', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}});
  const GrammarNode unit = b.alternatives(
      {b.sequence({not_d, hex, hex, hex}), b.sequence({d, b.code_points({{'0', '7'}}), hex, hex}),
       b.sequence({d, b.code_points({{'8', '9'}, {'A', 'B'}, {'a', 'b'}}), hex, hex,
                   b.literal("\\u"), d, b.code_points({{'C', 'F'}, {'c', 'f'}}), hex, hex})});
  std::vector<GrammarNode> escapes = {b.sequence({b.literal("u"), unit})};
  for (const char c : std::string_view("\"\\/bfnrt")) {
    escapes.push_back(b.literal(std::string_view(&c, 1)));
  }
  return b.alternatives(
      {b.code_points(plain_characters()), b.sequence({b.literal("\\"), b.alternatives(escapes)})});
}

GrammarNode JsonNodes::character(GrammarBuilder& b, const CodePointSet& set) {
  std::vector<GrammarNode> ways;
  const CodePointSet plain = set.without(plain_characters().complement());
  if (!plain.empty()) ways.push_back(b.code_points(plain));
  constexpr std::pair<char, const char*> kShort[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"},
                                                     {'\f', "\\f"}, {'\n', "\\n"},  {'\r', "\\r"},
                                                     {'\t', "\\t"}};
  for (std::uint32_t c = 0; c <= '\\'; ++c) {
    if (plain_characters().contains(c) || !set.contains(c)) continue;
    const auto* const known = std::ranges::find_if(
        kShort, [&](const auto& s) { return s.first == static_cast<char>(c); });
    ways.push_back(
        b.literal(known != std::end(kShort) ? known->second : fmt::format("\\u{:04x}", c)));
  }
  return b.alternatives(ways);
}

GrammarNode JsonNodes::string() {
  if (string_) return *string_;
  GrammarBuilder& b = builder_;
  return keep(
      string_,
      b.shared(b.sequence({b.literal("\""), b.repeat(any_character(), 0), b.literal("\"")})));
}

GrammarNode JsonNodes::string_of(std::uint32_t least, std::uint32_t most) {
  GrammarBuilder& b = builder_;
  if (!counted_character_) counted_character_ = b.shared(any_character());
  return b.sequence({b.literal("\""), b.repeat(*counted_character_, least, most), b.literal("\"")});
}

GrammarNode JsonNodes::digits(std::uint32_t least, std::uint32_t most) {
  return builder_.repeat(builder_.byte_range('0', '9'), least, most);
}

GrammarNode JsonNodes::number() {
  if (number_) return *number_;
  GrammarBuilder& b = builder_;
  const GrammarNode whole = b.alternatives(
      {b.literal("0"), b.sequence({b.byte_range('1', '9'), digits(0, kMostDigits - 1)})});
  const GrammarNode fraction = b.sequence({b.literal("."), digits(1, kMostDigits)});
  const GrammarNode exponent = b.sequence({b.code_points({{'E', 'E'}, {'e', 'e'}}),
                                           b.optional(b.code_points({{'+', '+'}, {'-', '-'}})),
                                           digits(1, kMostExponentDigits)});
  return keep(number_, b.shared(b.sequence({b.optional(b.literal("-")), whole, b.optional(fraction),
                                            b.optional(exponent)})));
}

GrammarNode JsonNodes::integer() {
  if (integer_) return *integer_;
  GrammarBuilder& b = builder_;
  return keep(integer_,
              b.shared(b.alternatives(
                  {b.literal("0"), b.sequence({b.optional(b.literal("-")), b.byte_range('1', '9'),
                                               digits(0, kMostIntegerDigits - 1)})})));
}

GrammarNode JsonNodes::boolean() {
  return builder_.alternatives({builder_.literal("true"), builder_.literal("false")});
}

GrammarNode JsonNodes::list(char open, GrammarNode item, char close) {
  GrammarBuilder& b = builder_;
  const GrammarNode more = b.repeat(b.sequence({comma(), item}), 0);
  return b.sequence({b.literal(std::string_view(&open, 1)), indent(),
                     b.optional(b.sequence({item, more, indent()})),
                     b.literal(std::string_view(&close, 1))});
}

GrammarNode JsonNodes::container() {
  GrammarBuilder& b = builder_;
  if (!container_) {
    container_ = b.declare("container");
    b.limit_nesting(*container_);
    b.define(*container_, b.alternatives({object(), array()}));
  }
  return b.call(*container_);
}

GrammarNode JsonNodes::value() {
  return builder_.alternatives(
      {container(), string(), number(), boolean(), builder_.literal("null")});
}

GrammarNode JsonNodes::object() {
  return list('{', builder_.sequence({string(), colon(), value()}), '}');
}

GrammarNode JsonNodes::array() {
  return list('[', value(), ']');
}

GrammarNode JsonNodes::exactly(const Json& value) {
  GrammarBuilder& b = builder_;
  if (!value.is_structured()) {
    return b.literal(value.is_string() ? json_quote(value.get_ref<const std::string&>())
                                       : value.dump());
  }
  const bool object = value.is_object();
  std::vector<GrammarNode> parts = {b.literal(object ? "{" : "["), indent()};
  bool first = true;
  for (const auto& [key, item] : value.items()) {
    if (!std::exchange(first, false)) parts.push_back(comma());
    if (object) {
      parts.push_back(b.literal(json_quote(key)));
      parts.push_back(colon());
    }
    parts.push_back(exactly(item));
  }
  if (!first) parts.push_back(indent());
  parts.push_back(b.literal(object ? "}" : "]"));
  return b.sequence(parts);
}

GrammarNode JsonNodes::key_besides(std::span<const std::string> names) {
  GrammarBuilder& b = builder_;
  // A state: how far the key is a name's begin (0: at its begin; kOff: it is none), and where it is
  // within a character.
  constexpr std::size_t kOff = ~std::size_t{0};
  struct Branch {
    std::map<std::uint8_t, std::size_t> next;
    bool name = false;
  };
  std::vector<Branch> tree(1);
  for (const std::string& name : names) {
    std::size_t at = 0;
    for (const char c : name) {
      const auto [it, added] = tree[at].next.try_emplace(static_cast<std::uint8_t>(c), tree.size());
      at = it->second;
      if (added) tree.emplace_back();
    }
    tree[at].name = true;
  }
  GrammarBuilder::Graph graph;
  std::map<std::pair<std::size_t, int>, std::uint32_t> states = {{{0, 0}, 0}};
  std::vector<std::pair<std::size_t, int>> open = {{0, 0}};
  const auto edge = [&](std::uint32_t from, int low, int high, std::size_t at, int within) {
    const auto [it, added] = states.try_emplace({at, within}, graph.n_states);
    if (added) {
      graph.add_state();
      open.emplace_back(at, within);
    }
    // Quotes, backslashes and control characters would be escaped.
    for (const auto& [first, last] : {std::pair(0x20, 0x21), {0x23, 0x5B}, {0x5D, 0xFF}}) {
      const int a = std::max(low, first);
      const int z = std::min(high, last);
      if (a > z) continue;
      graph.edges.push_back(
          {from, it->second,
           b.byte_range(static_cast<std::uint8_t>(a), static_cast<std::uint8_t>(z))});
    }
  };
  while (!open.empty()) {
    const auto [at, within] = open.back();
    open.pop_back();
    const std::uint32_t from = states.at({at, within});
    if (within == 0 && (at == kOff || !tree[at].name)) graph.accepting.push_back(from);
    for (const Utf8Edge& utf8 : utf8_edges(within)) {
      int low = utf8.low;
      if (at != kOff) {
        for (const auto& [byte, next] : tree[at].next) {
          if (byte < low || byte > utf8.high) continue;
          if (low < byte) edge(from, low, byte - 1, kOff, utf8.target);
          edge(from, byte, byte, next, utf8.target);
          low = byte + 1;
        }
      }
      if (low <= utf8.high) edge(from, low, utf8.high, kOff, utf8.target);
    }
  }
  return b.sequence({b.literal("\""), b.graph(std::move(graph)), b.literal("\"")});
}

GrammarNode json_object_node(GrammarBuilder& builder) {
  // A rule of its own: it is one of the levels.
  return builder.shared(JsonNodes(builder).object());
}

GrammarNode json_value_node(GrammarBuilder& builder) {
  return JsonNodes(builder).value();
}

}  // namespace heddle
