#pragma once
// JSON as grammar pieces. Internal to engine/grammar/.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/grammar/grammar_builder.h"
#include "engine/grammar/json_decimal.h"

namespace heddle {

/// An end of a range of numbers.
struct DecimalBound {
  Decimal value;
  bool open = false;  // the value itself is not allowed
};

/// Where white space may stand, all of it bounded: one space after ':' and ','; a newline and up to
/// 32 spaces after '{', '[' and ',' and before '}' and ']'. None before or behind the value.
/// Strings: every JSON escape, lone surrogates excepted. Numbers: up to 20 digits before and behind
/// the point, exponents of two digits, so that every one is a finite double; integers 18 digits, so
/// that every one is an int64. Nested values of any kind: kMostNesting levels.
class JsonNodes {
 public:
  static constexpr std::uint32_t kMostDigits = 20;
  static constexpr std::uint32_t kMostIntegerDigits = 18;
  static constexpr std::uint32_t kMostExponentDigits = 2;
  static constexpr std::uint32_t kMostIndent = 32;
  /// Of numbers within bounds, before and behind the point together: so many survive a double.
  /// Those with more before it (a bound has more) have none behind it.
  static constexpr std::size_t kMostBoundedDigits = 15;
  /// Of a bound, before the point; what is written has no more than its bounds.
  static constexpr std::size_t kMostBoundDigits = 19;

  explicit JsonNodes(GrammarBuilder& builder) : builder_(builder) {}

  GrammarNode string();
  GrammarNode string_of(std::uint32_t least, std::uint32_t most);  // characters
  GrammarNode number();
  GrammarNode integer();
  /// Plain decimals from low to high, whole or with a fraction.
  GrammarNode number_between(const std::optional<DecimalBound>& low,
                             const std::optional<DecimalBound>& high,
                             bool whole);
  GrammarNode value();      // of any kind
  GrammarNode container();  // any object or array
  GrammarNode object();     // any
  GrammarNode array();      // any
  GrammarNode boolean();
  GrammarNode exactly(const Json& value);
  /// A key that is none of these. Only characters that need no escape.
  GrammarNode key_besides(std::span<const std::string> names);

  GrammarNode indent();  // or nothing: behind an opening, before a closing bracket
  GrammarNode comma();
  GrammarNode colon();
  /// One character of a set, as strings hold it: escaped in one way where it must be.
  static GrammarNode character(GrammarBuilder& builder, const CodePointSet& set);

 private:
  GrammarNode any_character();  // in every way of writing it
  GrammarNode newline();
  GrammarNode list(char open, GrammarNode item, char close);
  GrammarNode digits(std::uint32_t least, std::uint32_t most);
  GrammarNode keep(std::optional<GrammarNode>& place, GrammarNode node);

  GrammarBuilder& builder_;
  std::optional<GrammarNode> string_, counted_character_, number_, integer_, newline_, key_;
  std::optional<GrammarBuilder::Rule> container_;
};

}  // namespace heddle
