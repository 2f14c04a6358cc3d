// Expressions, by precedence: if, or, and, not, comparisons, + -, ~, * / // %, **, unary.

#include <algorithm>
#include <charconv>
#include <utility>

#include "models/tokenizer/jinja/builtins.h"
#include "models/tokenizer/jinja/parser_impl.h"

namespace heddle::jinja {
namespace {

enum Precedence : int { kOr = 1, kAnd, kNot, kCompare, kSum, kConcat, kProduct, kPower };

std::string without_underscores(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != '_') out.push_back(c);
  }
  return out;
}

}  // namespace

ExprPtr Parser::new_expr(ExprKind kind, std::uint32_t at) const {
  auto e = std::make_unique<Expr>();
  e->kind = kind;
  e->at = at;
  return e;
}

ExprPtr Parser::new_expr(ExprKind kind, std::uint32_t at, ExprPtr only) const {
  ExprPtr e = new_expr(kind, at);
  add(*e, std::move(only));
  return e;
}

void Parser::grow(Expr& parent, const Expr& child) const {
  parent.height = std::max(parent.height, child.height + 1);
  if (parent.height > max_depth_) {
    fail(parent.at,
         "an expression is nested deeper than " + std::to_string(max_depth_) + " levels");
  }
}

void Parser::add(Expr& parent, ExprPtr child) const {
  if (child) grow(parent, *child);
  parent.args.push_back(std::move(child));
}

ExprPtr Parser::string_const(std::uint32_t at, std::string text) const {
  ExprPtr e = new_expr(ExprKind::kConst, at);
  e->text = make_text(std::move(text), false);
  e->value = Value::of(&e->text);
  return e;
}

ExprPtr Parser::expression(bool with_if) {
  const std::size_t n_unknown = unknown_.size();
  ExprPtr e = binary(kOr);
  while (with_if && is_name("if")) {
    ExprPtr choice = new_expr(ExprKind::kIf, now().at, std::move(e));
    ++pos_;
    add(*choice, binary(kOr));
    const Level level(*this);  // the else part may be a choice again
    add(*choice, skip_name("else") ? expression() : nullptr);
    e = std::move(choice);
    unknown_.resize(n_unknown);
  }
  return e;
}

/// The binary operator at hand and its precedence; 0 if there is none.
int Parser::peek_operator(Op& op) const {
  struct Entry {
    std::string_view text;
    int level;
    Op op;
  };
  static constexpr Entry kOperators[] = {
      {"+", kSum, Op::kAdd},     {"-", kSum, Op::kSub},     {"~", kConcat, Op::kConcat},
      {"*", kProduct, Op::kMul}, {"/", kProduct, Op::kDiv}, {"//", kProduct, Op::kFloorDiv},
      {"%", kProduct, Op::kMod}, {"**", kPower, Op::kPow},  {"==", kCompare, Op::kEq},
      {"!=", kCompare, Op::kNe}, {"<", kCompare, Op::kLt},  {"<=", kCompare, Op::kLe},
      {">", kCompare, Op::kGt},  {">=", kCompare, Op::kGe}, {"or", kOr, Op::kAdd},
      {"and", kAnd, Op::kAdd},   {"in", kCompare, Op::kIn}, {"not", kCompare, Op::kNotIn},
  };
  if (now().type != Tok::kOperator && now().type != Tok::kName) return 0;
  for (const Entry& entry : kOperators) {
    if (entry.text != now().text) continue;
    if (entry.op == Op::kNotIn && (ahead().type != Tok::kName || ahead().text != "in")) return 0;
    op = entry.op;
    return entry.level;
  }
  return 0;
}

ExprPtr Parser::not_expression() {
  const std::uint32_t at = tokens_[pos_++].at;
  return new_expr(ExprKind::kNot, at, binary(kNot));
}

/// Precedence climbing over operators of `lowest` and tighter ones. A chain of one precedence is
/// one node however long, so that its length needs no stack.
ExprPtr Parser::binary(int lowest) {
  const Level level(*this);
  ExprPtr left = lowest <= kNot && is_name("not") ? not_expression() : unary(true);
  int chain = 0;  // precedence of the chain that `left` is
  Op op = Op::kAdd;
  for (int next = peek_operator(op); next != 0 && next >= lowest; next = peek_operator(op)) {
    if (next != chain) {
      left = new_expr(next == kOr        ? ExprKind::kOr
                      : next == kAnd     ? ExprKind::kAnd
                      : next == kCompare ? ExprKind::kCompare
                                         : ExprKind::kChain,
                      now().at, std::move(left));
      chain = next;
    }
    left->ops.push_back(op);
    pos_ += op == Op::kNotIn ? 2 : 1;
    add(*left, binary(next + 1));
  }
  return left;
}

ExprPtr Parser::unary(bool with_filters) {
  const bool minus = is_op("-");
  if (!minus && !is_op("+")) return postfix(primary(), with_filters);
  const Level level(*this);
  const std::uint32_t at = tokens_[pos_++].at;
  ExprPtr e = new_expr(minus ? ExprKind::kNegate : ExprKind::kPositive, at, unary(false));
  return postfix(std::move(e), with_filters);
}

ExprPtr Parser::primary() {
  switch (now().type) {
    case Tok::kName:
      return name();
    case Tok::kString:
      return string();
    case Tok::kInteger:
    case Tok::kFloat:
      return number();
    default:
      break;
  }
  if (is_op("[")) return list();
  if (is_op("{")) return dict();
  if (skip_op("(")) {
    ExprPtr e = tuple(true, true);
    expect_op(")");
    return e;
  }
  unexpected("an expression");
}

ExprPtr Parser::name() {
  const Token& token = tokens_[pos_++];
  const std::string_view n = token.text;
  ExprPtr e = new_expr(ExprKind::kConst, token.at);
  if (n == "true" || n == "True" || n == "false" || n == "False") {
    e->value = Value::of(n == "true" || n == "True");
  } else if (n == "none" || n == "None") {
    e->value = Value::none();
  } else {
    e->kind = ExprKind::kName;
    e->name = out_.names.id(n);
    uses_.caller = uses_.caller || n == "caller";
    uses_.varargs = uses_.varargs || n == "varargs";
    uses_.kwargs = uses_.kwargs || n == "kwargs";
  }
  return e;
}

ExprPtr Parser::number() {
  const Token& token = tokens_[pos_++];
  ExprPtr e = new_expr(ExprKind::kConst, token.at);
  const std::string digits = without_underscores(token.text);
  const char* const end = digits.data() + digits.size();
  if (token.type == Tok::kFloat) {
    double x = 0;
    if (std::from_chars(digits.data(), end, x).ec != std::errc()) {
      fail(token.at, "the number " + quoted(token.text) + " is out of range");
    }
    e->value = Value::of(x);
    return e;
  }
  const char kind = digits.size() > 1 ? static_cast<char>(digits[1] | 0x20) : '\0';
  const int base = kind == 'x' ? 16 : (kind == 'o' ? 8 : (kind == 'b' ? 2 : 10));
  std::int64_t x = 0;
  if (std::from_chars(digits.data() + (base == 10 ? 0 : 2), end, x, base).ec != std::errc()) {
    fail(token.at, "integer overflow: " + quoted(token.text) + " does not fit in 64 bits");
  }
  e->value = Value::of(x);
  return e;
}

ExprPtr Parser::string() {
  const std::uint32_t at = now().at;
  std::string text;
  while (now().type == Tok::kString) text += unescape(out_.source, tokens_[pos_++]);
  return string_const(at, std::move(text));
}

bool Parser::is_tuple_end(std::string_view end_name) const {
  return now().type == Tok::kVariableEnd || now().type == Tok::kBlockEnd || is_op(")") ||
         (!end_name.empty() && is_name(end_name));
}

ExprPtr Parser::tuple(bool with_if, bool parentheses, std::string_view end_name) {
  const std::uint32_t at = now().at;
  if (is_tuple_end(end_name)) {
    if (!parentheses) unexpected("an expression");
    return new_expr(ExprKind::kTuple, at);
  }
  ExprPtr first = expression(with_if);
  if (!is_op(",")) return first;
  ExprPtr e = new_expr(ExprKind::kTuple, at, std::move(first));
  while (skip_op(",")) {
    if (is_tuple_end(end_name)) break;
    add(*e, expression(with_if));
  }
  return e;
}

ExprPtr Parser::list() {
  ExprPtr e = new_expr(ExprKind::kList, now().at);
  expect_op("[");
  while (!is_op("]")) {
    if (!e->args.empty()) expect_op(",");
    if (is_op("]")) break;
    add(*e, expression());
  }
  expect_op("]");
  return e;
}

ExprPtr Parser::dict() {
  ExprPtr e = new_expr(ExprKind::kDict, now().at);
  expect_op("{");
  while (!is_op("}")) {
    if (!e->args.empty()) expect_op(",");
    if (is_op("}")) break;
    add(*e, expression());
    expect_op(":");
    add(*e, expression());
  }
  expect_op("}");
  return e;
}

ExprPtr Parser::postfix(ExprPtr left, bool with_filters) {
  for (bool filters = false;;) {
    if (is_op("(")) {
      left = call(std::move(left));
    } else if (!filters && is_op(".")) {
      left = attribute(std::move(left));
    } else if (!filters && is_op("[")) {
      left = subscript(std::move(left));
    } else if (with_filters && is_op("|")) {
      ++pos_;
      left = filter(std::move(left));
      filters = true;
    } else if (with_filters && is_name("is")) {
      left = test(std::move(left));
      filters = true;
    } else {
      return left;
    }
  }
}

ExprPtr Parser::attribute(ExprPtr object) {
  const std::uint32_t at = now().at;
  expect_op(".");
  if (now().type == Tok::kInteger) {
    ExprPtr e = new_expr(ExprKind::kItem, at, std::move(object));
    add(*e, number());
    return e;
  }
  if (now().type != Tok::kName) unexpected("a name or number");
  ExprPtr e = new_expr(ExprKind::kAttr, at, std::move(object));
  e->text = make_text(std::string(tokens_[pos_++].text), false);
  return e;
}

ExprPtr Parser::subscript(ExprPtr object) {
  const Level level(*this);
  const std::uint32_t at = now().at;
  expect_op("[");
  ExprPtr first = is_op(":") ? nullptr : expression();
  if (is_op(":")) {
    ExprPtr e = new_expr(ExprKind::kSlice, at, std::move(object));
    add(*e, std::move(first));
    for (int part = 0; part < 2; ++part) {
      const bool present = skip_op(":") && !is_op(":") && !is_op("]");
      add(*e, present ? expression() : nullptr);
    }
    expect_op("]");
    return e;
  }
  if (is_op(",")) {
    ExprPtr key = new_expr(ExprKind::kTuple, at, std::move(first));
    while (skip_op(",")) add(*key, expression());
    first = std::move(key);
  }
  expect_op("]");
  ExprPtr e = new_expr(ExprKind::kItem, at, std::move(object));
  add(*e, std::move(first));
  return e;
}

ExprPtr Parser::call(ExprPtr callee) {
  ExprPtr e = new_expr(ExprKind::kCall, now().at, std::move(callee));
  arguments(*e);
  return e;
}

void Parser::arguments(Expr& out) {
  const std::uint32_t at = now().at;
  const auto ensure = [&](bool ok) {
    if (!ok) fail(at, "arguments in the wrong order");
  };
  expect_op("(");
  for (bool first = true; !is_op(")"); first = false) {
    if (!first) {
      expect_op(",");
      if (is_op(")")) break;
    }
    if (skip_op("*")) {
      ensure(!out.star && !out.star_star);
      out.star = expression();
      grow(out, *out.star);
    } else if (skip_op("**")) {
      ensure(!out.star_star);
      out.star_star = expression();
      grow(out, *out.star_star);
    } else if (now().type == Tok::kName && ahead().type == Tok::kOperator && ahead().text == "=") {
      ensure(!out.star_star);
      Keyword keyword;
      keyword.name = make_text(std::string(now().text), false);
      for (const Keyword& other : out.keywords) {
        if (other.name.bytes == keyword.name.bytes) fail(now().at, "a keyword is there twice");
      }
      pos_ += 2;
      keyword.value = expression();
      grow(out, *keyword.value);
      out.keywords.push_back(std::move(keyword));
    } else {
      ensure(!out.star && !out.star_star && out.keywords.empty());
      add(out, expression());
    }
  }
  expect_op(")");
}

std::string Parser::dotted_name(std::string_view first) {
  std::string out(first);
  while (skip_op(".")) out += "." + std::string(expect(Tok::kName).text);
  return out;
}

void Parser::note_unknown(Expr& e, const std::string& called) {
  e.text = make_text(called, false);
  unknown_.push_back(&e);
}

ExprPtr Parser::filter(ExprPtr subject) {
  const Token& token = expect(Tok::kName);
  const std::string called = dotted_name(token.text);
  ExprPtr e = new_expr(ExprKind::kFilter, token.at, std::move(subject));
  e->builtin = find_filter(called);
  if (e->builtin == nullptr) note_unknown(*e, called);
  if (is_op("(")) arguments(*e);
  return e;
}

ExprPtr Parser::test(ExprPtr subject) {
  const std::uint32_t at = tokens_[pos_++].at;
  const bool negated = skip_name("not");
  const Token& token = expect(Tok::kName);
  const std::string called = dotted_name(token.text);
  ExprPtr e = new_expr(ExprKind::kTest, token.at, std::move(subject));
  e->builtin = find_test(called);
  if (e->builtin == nullptr) note_unknown(*e, called);
  const bool starts_value = now().type == Tok::kName || now().type == Tok::kString ||
                            now().type == Tok::kInteger || now().type == Tok::kFloat ||
                            is_op("[") || is_op("{");
  if (is_op("(")) {
    arguments(*e);
  } else if (starts_value && !is_end_name({"else", "or", "and"})) {
    if (is_name("is")) fail(now().at, "tests cannot be chained with 'is'");
    const Level level(*this);
    add(*e, postfix(primary(), false));
  }
  if (negated) e = new_expr(ExprKind::kNot, at, std::move(e));
  return e;
}

/// A name, a namespace's attribute or a tuple in parentheses: what can be assigned to.
ExprPtr Parser::one_target() {
  const Level level(*this);
  if (skip_op("(")) {
    ExprPtr e = target({});
    expect_op(")");
    return e;
  }
  const Token token = now();
  ExprPtr e = name();
  if (token.type != Tok::kName || e->kind != ExprKind::kName) {
    fail(token.at, "cannot assign to " + quoted(token.text));
  }
  if (!skip_op(".")) return e;
  e->kind = ExprKind::kAttr;
  e->text = make_text(std::string(expect(Tok::kName).text), false);
  return e;
}

ExprPtr Parser::target(std::string_view end_name) {
  const std::uint32_t at = now().at;
  ExprPtr first = one_target();
  if (!is_op(",")) return first;
  ExprPtr e = new_expr(ExprKind::kTuple, at, std::move(first));
  while (skip_op(",")) {
    if (is_tuple_end(end_name) || is_op("=")) break;
    add(*e, one_target());
  }
  return e;
}

}  // namespace heddle::jinja
