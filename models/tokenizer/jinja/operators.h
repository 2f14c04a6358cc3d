#pragma once
// Python's operators over template values. What Python refuses, these refuse (Runtime::fail).

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/jinja/runtime.h"

namespace heddle::jinja {

enum class Op : std::uint8_t {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,
  kConcat,  // ~
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kIn,
  kNotIn,
};

std::string_view symbol(Op op);

std::string type_name(const Value& v);  // Python's: str, int, NoneType, ...
bool is_hashable(const Value& v);
bool truthy(const Value& v);
bool equals(Runtime& rt, const Value& a, const Value& b);
/// a < b; fails for types that Python does not order.
bool less(Runtime& rt, const Value& a, const Value& b);
bool contains(Runtime& rt, const Value& container, const Value& item);
bool compare(Runtime& rt, Op op, const Value& a, const Value& b);

Value arithmetic(Runtime& rt, Op op, const Value& a, const Value& b);
Value negate(Runtime& rt, const Value& v);
Value positive(Runtime& rt, const Value& v);

/// Integer arithmetic that fails on overflow instead of growing as Python's.
std::int64_t checked(Runtime& rt, Op op, std::int64_t a, std::int64_t b);

/// str(v); strings are returned as they are.
Value to_text(Runtime& rt, const Value& v);
/// str(v) appended to `out`, with origin.
void append_text(Runtime& rt, TextBuilder& out, const Value& v);
/// repr(v); `untrusted` becomes true if a string in it has an untrusted part.
std::string repr(Runtime& rt, const Value& v, bool& untrusted);
std::string float_repr(double x);

/// len(v), or -1 where Python has none.
std::int64_t length(const Value& v);
/// The items that a for loop sees; fails for what is not iterable. Reads a generator.
const std::vector<Value>& items_of(Runtime& rt, const Value& v);
bool is_iterable(const Value& v);

/// As transformers does, refuses names with an underscore first for attributes of a namespace.
void check_attribute_name(const Runtime& rt, std::string_view name);
/// obj.name and obj[key] with Jinja's fallbacks of one to the other.
Value get_attribute(Runtime& rt, const Value& object, std::string_view name);
Value get_item(Runtime& rt, const Value& object, const Value& key);
/// obj[start:stop:step]; a part that is absent is kNone.
Value get_slice(Runtime& rt, const Value& object, const Value (&parts)[3]);
/// Walks "a.b.0" as the attribute arguments of filters do; `fallback`, if it is a value other than
/// None, stands in for each step that is undefined.
Value get_path(Runtime& rt, Value object, const Value& path, const Value& fallback = {});

}  // namespace heddle::jinja
