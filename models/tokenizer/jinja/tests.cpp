// Tests: what may stand behind `is`.

#include "models/tokenizer/jinja/builtins.h"
#include "models/tokenizer/jinja/operators.h"
#include "models/tokenizer/jinja/unicode.h"

namespace heddle::jinja {
namespace {

template <Type type>
Value is_type(Call& call) {
  return Value::of(call.arg[0].is(type));
}

template <Op op>
Value compares(Call& call) {
  return Value::of(compare(call.rt, op, call.arg[0], call.arg[1]));
}

Value defined(Call& call) {
  return Value::of(!call.arg[0].is(Type::kUndefined));
}
Value is_escaped(Call& call) {
  return Value::of(call.arg[0].is_string() && call.arg[0].text->markup);
}
Value is_number(Call& call) {
  return Value::of(call.arg[0].is_number());
}
Value iterable(Call& call) {
  return Value::of(is_iterable(call.arg[0]));
}

Value is_true(Call& call) {
  return Value::of(call.arg[0].is(Type::kBool) && call.arg[0].boolean);
}
Value is_false(Call& call) {
  return Value::of(call.arg[0].is(Type::kBool) && !call.arg[0].boolean);
}

Value callable(Call& call) {
  const Value& v = call.arg[0];
  return Value::of(v.is(Type::kFunction) || v.is(Type::kLoop) || v.is(Type::kUndefined));
}

/// Has a length and can be indexed.
Value sequence(Call& call) {
  return Value::of(length(call.arg[0]) >= 0 && !call.arg[0].is(Type::kView));
}

bool divides(Call& call, const Value& divisor) {
  const Value rest = arithmetic(call.rt, Op::kMod, call.arg[0], divisor);
  return equals(call.rt, rest, Value::of(std::int64_t{0}));
}

Value divisibleby(Call& call) {
  return Value::of(divides(call, call.arg[1]));
}
Value even(Call& call) {
  return Value::of(divides(call, Value::of(std::int64_t{2})));
}
Value odd(Call& call) {
  const Value rest = arithmetic(call.rt, Op::kMod, call.arg[0], Value::of(std::int64_t{2}));
  return Value::of(equals(call.rt, rest, Value::of(std::int64_t{1})));
}

Value sameas(Call& call) {
  const Value& a = call.arg[0];
  const Value& b = call.arg[1];
  if (a.type != b.type) return Value::of(false);
  switch (a.type) {
    case Type::kNone:
    case Type::kBool:
    case Type::kInt:
    case Type::kString:
      return Value::of(equals(call.rt, a, b));
    case Type::kFloat:
      return Value::of(false);
    default:
      return Value::of(a.function == b.function);
  }
}

/// str.islower and str.isupper: a cased character, and none of another case.
bool all_of_case(std::string_view text, bool (*is_case)(char32_t)) {
  bool any = false;
  for (std::size_t pos = 0; pos < text.size();) {
    const char32_t c = next_char(text, pos);
    if (is_case(c)) {
      any = true;
    } else if (is_cased(c)) {
      return false;
    }
  }
  return any;
}

Value lower(Call& call) {
  return Value::of(all_of_case(call.text(0).bytes, is_lower));
}
Value upper(Call& call) {
  return Value::of(all_of_case(call.text(0).bytes, is_upper));
}

Value is_filter(Call& call) {
  return Value::of(call.arg[0].is_string() && find_filter(call.arg[0].view()) != nullptr);
}
Value is_test(Call& call) {
  return Value::of(call.arg[0].is_string() && find_test(call.arg[0].view()) != nullptr);
}

constexpr Builtin kTests[] = {
    {"!=", compares<Op::kNe>, 2, {"a", "b"}},
    {"<", compares<Op::kLt>, 2, {"a", "b"}},
    {"<=", compares<Op::kLe>, 2, {"a", "b"}},
    {"==", compares<Op::kEq>, 2, {"a", "b"}},
    {">", compares<Op::kGt>, 2, {"a", "b"}},
    {">=", compares<Op::kGe>, 2, {"a", "b"}},
    {"boolean", is_type<Type::kBool>, 1, {"value"}},
    {"callable", callable, 1, {"obj"}},
    {"defined", defined, 1, {"value"}},
    {"divisibleby", divisibleby, 2, {"value", "num"}},
    {"eq", compares<Op::kEq>, 2, {"a", "b"}},
    {"equalto", compares<Op::kEq>, 2, {"a", "b"}},
    {"escaped", is_escaped, 1, {"value"}},
    {"even", even, 1, {"value"}},
    {"false", is_false, 1, {"value"}},
    {"filter", is_filter, 1, {"value"}},
    {"float", is_type<Type::kFloat>, 1, {"value"}},
    {"ge", compares<Op::kGe>, 2, {"a", "b"}},
    {"greaterthan", compares<Op::kGt>, 2, {"a", "b"}},
    {"gt", compares<Op::kGt>, 2, {"a", "b"}},
    {"in", compares<Op::kIn>, 2, {"value", "seq"}},
    {"integer", is_type<Type::kInt>, 1, {"value"}},
    {"iterable", iterable, 1, {"value"}},
    {"le", compares<Op::kLe>, 2, {"a", "b"}},
    {"lessthan", compares<Op::kLt>, 2, {"a", "b"}},
    {"lower", lower, 1, {"value"}},
    {"lt", compares<Op::kLt>, 2, {"a", "b"}},
    {"mapping", is_type<Type::kDict>, 1, {"value"}},
    {"ne", compares<Op::kNe>, 2, {"a", "b"}},
    {"none", is_type<Type::kNone>, 1, {"value"}},
    {"number", is_number, 1, {"value"}},
    {"odd", odd, 1, {"value"}},
    {"sameas", sameas, 2, {"value", "other"}},
    {"sequence", sequence, 1, {"value"}},
    {"string", is_type<Type::kString>, 1, {"value"}},
    {"test", is_test, 1, {"value"}},
    {"true", is_true, 1, {"value"}},
    {"undefined", is_type<Type::kUndefined>, 1, {"value"}},
    {"upper", upper, 1, {"value"}},
};

}  // namespace

std::span<const Builtin> tests() {
  return kTests;
}

}  // namespace heddle::jinja
