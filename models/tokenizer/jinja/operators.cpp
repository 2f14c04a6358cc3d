#include "models/tokenizer/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "models/tokenizer/jinja/format.h"
#include "models/tokenizer/jinja/string_functions.h"

namespace heddle::jinja {
namespace {

[[noreturn]] void bad_operands(Runtime& rt, std::string_view op, const Value& a, const Value& b) {
  for (const Value& v : {a, b}) {
    if (v.is(Type::kUndefined)) rt.fail(v.undefined->why);
  }
  rt.fail("unsupported operand types for " + std::string(op) + ": '" + type_name(a) + "' and '" +
          type_name(b) + "'");
}

bool is_sequence(const Value& v) {
  return v.is(Type::kList) || v.is(Type::kTuple);
}

/// -1, 0, 1, or 2 where NaN makes them unordered. Exact for an integer against a float.
int order_numbers(const Value& a, const Value& b) {
  const auto order = [](auto x, auto y) { return x < y ? -1 : (x > y ? 1 : (x == y ? 0 : 2)); };
  if (a.is_integer() && b.is_integer()) return order(a.as_integer(), b.as_integer());
  if (a.is(Type::kFloat) && b.is(Type::kFloat)) return order(a.real, b.real);
  if (a.is(Type::kFloat)) {
    const int flipped = order_numbers(b, a);
    return flipped == 2 ? 2 : -flipped;
  }
  const std::int64_t x = a.as_integer();
  const double y = b.real;
  if (std::isnan(y)) return 2;
  if (y >= 0x1p63) return -1;
  if (y < -0x1p63) return 1;
  const double whole = std::floor(y);
  const int by_whole = order(x, static_cast<std::int64_t>(whole));
  return by_whole != 0 ? by_whole : (y > whole ? -1 : 0);
}

Value repeat(Runtime& rt, const Value& what, std::int64_t n) {
  n = std::max<std::int64_t>(n, 0);
  if (what.is_string()) {
    const Text& text = *what.text;
    const std::size_t unit = text.bytes.size() + text.untrusted.size() * sizeof(ByteRange);
    rt.charge_product(n, 1 + static_cast<std::int64_t>(unit / 16));
    TextBuilder out;
    if (unit > 0) {
      for (std::int64_t i = 0; i < n; ++i) out.append(text);
    }
    const Value repeated = rt.text(out);
    return text.markup ? as_markup(rt, repeated) : repeated;
  }
  rt.charge_product(n, static_cast<std::int64_t>(what.list->items.size()));
  std::vector<Value> items;
  if (!what.list->items.empty()) {
    for (std::int64_t i = 0; i < n; ++i) {
      items.insert(items.end(), what.list->items.begin(), what.list->items.end());
    }
  }
  return rt.list(std::move(items), what.type);
}

Value real_arithmetic(Runtime& rt, Op op, double a, double b) {
  if (b == 0 && (op == Op::kDiv || op == Op::kFloorDiv || op == Op::kMod)) {
    rt.fail(op == Op::kDiv ? "float division by zero" : "float modulo by zero");
  }
  switch (op) {
    case Op::kAdd:
      return Value::of(a + b);
    case Op::kSub:
      return Value::of(a - b);
    case Op::kMul:
      return Value::of(a * b);
    case Op::kDiv:
      return Value::of(a / b);
    case Op::kMod: {
      double r = std::fmod(a, b);
      if (r != 0 && (r < 0) != (b < 0)) r += b;
      return Value::of(r == 0 ? std::copysign(0.0, b) : r);
    }
    case Op::kFloorDiv: {
      // Python's float_divmod: the quotient of what is left once the remainder is taken off.
      double r = std::fmod(a, b);
      double q = (a - r) / b;
      if (r != 0 && (r < 0) != (b < 0)) q -= 1.0;
      if (q == 0) return Value::of(std::copysign(0.0, a / b));
      double whole = std::floor(q);
      if (q - whole > 0.5) whole += 1.0;
      return Value::of(whole);
    }
    default: {
      if (a == 0 && b < 0) rt.fail("0.0 cannot be raised to a negative power");
      if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) {
        rt.fail("a negative number to a fractional power is complex, which is not supported");
      }
      const double r = std::pow(a, b);
      if (std::isinf(r) && std::isfinite(a) && std::isfinite(b)) rt.fail("the power is too large");
      return Value::of(r);
    }
  }
}

Value number_arithmetic(Runtime& rt, Op op, const Value& a, const Value& b) {
  if (a.is(Type::kFloat) || b.is(Type::kFloat)) {
    return real_arithmetic(rt, op, a.as_real(), b.as_real());
  }
  if (op == Op::kDiv) {
    if (b.as_integer() == 0) rt.fail("division by zero");
    return Value::of(a.as_real() / b.as_real());
  }
  if (op == Op::kPow && b.as_integer() < 0) {
    return real_arithmetic(rt, op, a.as_real(), b.as_real());
  }
  return Value::of(checked(rt, op, a.as_integer(), b.as_integer()));
}

Value concatenate(Runtime& rt, const Value& a, const Value& b) {
  TextBuilder out;
  append_text(rt, out, a);
  append_text(rt, out, b);
  return rt.text(out);
}

Value add(Runtime& rt, const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) return joined(rt, a, b);
  if (is_sequence(a) && a.type == b.type) {
    rt.charge(static_cast<std::int64_t>(a.list->items.size() + b.list->items.size()));
    std::vector<Value> items = a.list->items;
    items.insert(items.end(), b.list->items.begin(), b.list->items.end());
    return rt.list(std::move(items), a.type);
  }
  bad_operands(rt, "+", a, b);
}

}  // namespace

std::string_view symbol(Op op) {
  constexpr std::string_view kSymbols[] = {"+",  "-",  "*", "/",  "//", "%",  "**", "~",
                                           "==", "!=", "<", "<=", ">",  ">=", "in", "not in"};
  return kSymbols[static_cast<int>(op)];
}

std::int64_t checked(Runtime& rt, Op op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case Op::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case Op::kSub:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case Op::kMul:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case Op::kFloorDiv:
    case Op::kMod: {
      if (b == 0) rt.fail("integer division or modulo by zero");
      if (b == -1) {  // the hardware traps on the smallest integer by -1
        if (op == Op::kMod) return 0;
        overflow = __builtin_sub_overflow(std::int64_t{0}, a, &result);
        break;
      }
      const std::int64_t r = a % b;
      const bool floor = r != 0 && (r < 0) != (b < 0);
      return op == Op::kMod ? r + (floor ? b : 0) : a / b - (floor ? 1 : 0);
    }
    default: {  // kPow with b >= 0
      result = 1;
      for (std::int64_t base = a, n = b; n > 0 && !overflow;) {
        if ((n & 1) != 0) overflow = __builtin_mul_overflow(result, base, &result);
        n >>= 1;
        if (n > 0 && __builtin_mul_overflow(base, base, &base)) overflow = true;
      }
    }
  }
  if (overflow)
    rt.fail("integer overflow: the result of " + std::string(symbol(op)) +
            " does not fit in 64 bits");
  return result;
}

bool truthy(const Value& v) {
  switch (v.type) {
    case Type::kMissing:
    case Type::kUndefined:
    case Type::kNone:
      return false;
    case Type::kBool:
      return v.boolean;
    case Type::kInt:
      return v.integer != 0;
    case Type::kFloat:
      return v.real != 0;
    case Type::kNamespace:
    case Type::kFunction:
    case Type::kLoop:
    case Type::kGenerator:
      return true;
    default:
      return length(v) != 0;
  }
}

bool equals(Runtime& rt, const Value& a, const Value& b) {
  rt.charge();
  if (a.is_number() && b.is_number()) return order_numbers(a, b) == 0;
  if (a.type != b.type) return false;
  switch (a.type) {
    case Type::kString:
      if (a.view().size() == b.view().size()) rt.charge_bytes(a.view().size());
      return a.view() == b.view();
    case Type::kList:
    case Type::kTuple: {
      const auto& x = a.list->items;
      const auto& y = b.list->items;
      if (x.size() != y.size()) return false;
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (!equals(rt, x[i], y[i])) return false;
      }
      return true;
    }
    case Type::kDict: {
      if (a.dict->entries.size() != b.dict->entries.size()) return false;
      for (const auto& [key, value] : a.dict->entries) {
        const Value* other = rt.find(*b.dict, key);
        if (other == nullptr || !equals(rt, value, *other)) return false;
      }
      return true;
    }
    case Type::kRange:
      return a.range->size == b.range->size &&
             (a.range->size == 0 || (a.range->start == b.range->start &&
                                     (a.range->size == 1 || a.range->step == b.range->step)));
    case Type::kUndefined:
    case Type::kNone:
      return true;
    default:
      return a.function == b.function;  // identity; all members of the union are pointers here
  }
}

bool less(Runtime& rt, const Value& a, const Value& b) {
  rt.charge();
  if (a.is_number() && b.is_number()) return order_numbers(a, b) == -1;
  if (a.is_string() && b.is_string()) {
    rt.charge_bytes(std::min(a.view().size(), b.view().size()));
    return a.view() < b.view();  // the order of UTF-8 bytes is that of code points
  }
  if (is_sequence(a) && a.type == b.type) {
    const auto& x = a.list->items;
    const auto& y = b.list->items;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equals(rt, x[i], y[i])) return less(rt, x[i], y[i]);
    }
    return x.size() < y.size();
  }
  bad_operands(rt, "<", a, b);
}

bool contains(Runtime& rt, const Value& container, const Value& item) {
  if (container.is_string()) {
    if (item.is(Type::kUndefined)) rt.fail(item.undefined->why);
    if (!item.is_string()) {
      rt.fail("'in <string>' requires a string on its left, got '" + type_name(item) + "'");
    }
    rt.charge_bytes(container.view().size());
    return find_bytes(container.view(), item.view(), 0) != std::string_view::npos;
  }
  if (container.is(Type::kDict)) return rt.find(*container.dict, item) != nullptr;
  const auto& items = items_of(rt, container);
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& v) { return equals(rt, v, item); });
}

bool compare(Runtime& rt, Op op, const Value& a, const Value& b) {
  switch (op) {
    case Op::kEq:
      return equals(rt, a, b);
    case Op::kNe:
      return !equals(rt, a, b);
    case Op::kIn:
      return contains(rt, b, a);
    case Op::kNotIn:
      return !contains(rt, b, a);
    case Op::kLt:
      return less(rt, a, b);
    case Op::kGt:
      return less(rt, b, a);
    default:
      break;
  }
  // With NaN, a <= b is not the negation of b < a.
  if (a.is_number() && b.is_number()) {
    const int order = order_numbers(a, b);
    return order != 2 && (op == Op::kLe ? order <= 0 : order >= 0);
  }
  return op == Op::kLe ? !less(rt, b, a) : !less(rt, a, b);
}

Value arithmetic(Runtime& rt, Op op, const Value& a, const Value& b) {
  rt.charge();
  if (op == Op::kConcat) return concatenate(rt, a, b);
  if (a.is_number() && b.is_number()) return number_arithmetic(rt, op, a, b);
  if (op == Op::kAdd) return add(rt, a, b);
  if (op == Op::kMod && a.is_string()) return format_percent(rt, *a.text, b);
  if (op == Op::kMul) {
    const auto repeats = [](const Value& v) { return v.is_string() || is_sequence(v); };
    if (repeats(a) && b.is_integer()) return repeat(rt, a, b.as_integer());
    if (repeats(b) && a.is_integer()) return repeat(rt, b, a.as_integer());
  }
  bad_operands(rt, symbol(op), a, b);
}

Value negate(Runtime& rt, const Value& v) {
  if (v.is(Type::kFloat)) return Value::of(-v.real);
  if (v.is_integer()) return Value::of(checked(rt, Op::kSub, 0, v.as_integer()));
  if (v.is(Type::kUndefined)) rt.fail(v.undefined->why);
  rt.fail("bad operand type for unary -: '" + type_name(v) + "'");
}

Value positive(Runtime& rt, const Value& v) {
  if (v.is(Type::kFloat)) return v;
  if (v.is_integer()) return Value::of(v.as_integer());
  if (v.is(Type::kUndefined)) rt.fail(v.undefined->why);
  rt.fail("bad operand type for unary +: '" + type_name(v) + "'");
}

}  // namespace heddle::jinja
