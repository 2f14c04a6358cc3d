// Attributes, items, slices, iteration and the types' names.

#include <algorithm>

#include "models/tokenizer/jinja/builtins.h"
#include "models/tokenizer/jinja/loop.h"
#include "models/tokenizer/jinja/operators.h"
#include "models/tokenizer/jinja/string_functions.h"

namespace heddle::jinja {
namespace {

/// A Python index or slice bound on `size` items: negative counts from the end.
std::int64_t clamp_bound(std::int64_t bound,
                         std::int64_t size,
                         std::int64_t low,
                         std::int64_t high) {
  if (bound < 0) bound = bound < -size ? low : bound + size;
  return std::clamp(bound, low, high);
}

Value range_item(const Range& range, std::int64_t i) {
  return Value::of(range.start + i * range.step);
}

Value char_at(Runtime& rt, const Text& text, std::int64_t index) {
  if (!text.ascii()) rt.charge_bytes(text.bytes.size());
  const std::size_t begin = char_offset(text, index);
  std::size_t end = begin;
  next_char(text.bytes, end);
  return rt.slice(text, begin, end);
}

/// The Python key lookup obj[key]; kMissing where Python raises TypeError or LookupError.
Value subscript(Runtime& rt, const Value& object, const Value& key) {
  switch (object.type) {
    case Type::kUndefined:
      rt.fail(object.undefined->why);
    case Type::kDict: {
      if (!is_hashable(key)) return {};
      const Value* found = rt.find(*object.dict, key);
      return found != nullptr ? *found : Value{};
    }
    case Type::kString:
    case Type::kList:
    case Type::kTuple:
    case Type::kRange: {
      if (!key.is_integer()) return {};
      const std::int64_t size = length(object);
      const std::int64_t at = key.as_integer();
      const std::int64_t i = at < 0 ? at + size : at;
      if (i < 0 || i >= size) return {};
      if (object.is_string()) return char_at(rt, *object.text, i);
      if (object.is(Type::kRange)) return range_item(*object.range, i);
      return object.list->items[static_cast<std::size_t>(i)];
    }
    default:
      return {};
  }
}

Value bound_method(Runtime& rt, const Value& object, const Builtin& method) {
  Value v = Value::tagged(Type::kFunction);
  Function* function = rt.heap.add_function();
  function->builtin = &method;
  function->self = object;
  v.function = function;
  return v;
}

/// getattr(obj, name); kMissing where Python raises AttributeError.
Value python_attribute(Runtime& rt, const Value& object, std::string_view name) {
  if (object.is(Type::kUndefined)) rt.fail(object.undefined->why);
  if (name.starts_with("__") && name.ends_with("__")) {
    return rt.undefined("access to attribute " + quoted(name) + " of '" + type_name(object) +
                        "' object is unsafe");
  }
  if (object.is(Type::kNamespace)) {
    const Value* found = object.space->find(name);
    return found != nullptr ? *found : Value{};
  }
  if (object.is(Type::kLoop)) return loop_attribute(rt, object, name);
  if (const Builtin* method = find_method(object.type, name)) {
    rt.charge();
    return bound_method(rt, object, *method);
  }
  switch (method_status(object.type, name)) {
    case MethodStatus::kUnsupported:
      rt.fail("method " + quoted(name) + " of '" + type_name(object) + "' is not supported");
    case MethodStatus::kUnsafe:
      return rt.undefined("access to attribute " + quoted(name) + " of '" + type_name(object) +
                          "' object is unsafe: templates cannot change values");
    default:
      return {};
  }
}

std::string no_attribute(const Value& object, const std::string& name) {
  return "'" + type_name(object) + " object' has no attribute " + name + " (undefined)";
}

}  // namespace

void check_attribute_name(const Runtime& rt, std::string_view name) {
  if (name.starts_with("_")) {
    rt.fail("a namespace takes no attribute with an underscore first: " + quoted(name));
  }
}

std::string type_name(const Value& v) {
  switch (v.type) {
    case Type::kMissing:
    case Type::kUndefined:
      return "Undefined";
    case Type::kNone:
      return "NoneType";
    case Type::kBool:
      return "bool";
    case Type::kInt:
      return "int";
    case Type::kFloat:
      return "float";
    case Type::kString:
      return "str";
    case Type::kList:
      return "list";
    case Type::kTuple:
      return "tuple";
    case Type::kView:
      return v.list->view_name;
    case Type::kGenerator:
      return "generator";
    case Type::kRange:
      return "range";
    case Type::kDict:
      return "dict";
    case Type::kNamespace:
      return "Namespace";
    case Type::kFunction:
      return "function";
    case Type::kLoop:
      return "LoopContext";
  }
  return "object";
}

bool is_hashable(const Value& v) {
  if (v.is(Type::kTuple)) {
    return std::all_of(v.list->items.begin(), v.list->items.end(), is_hashable);
  }
  return !v.is(Type::kList) && !v.is(Type::kDict) && !v.is(Type::kView);
}

std::int64_t length(const Value& v) {
  switch (v.type) {
    case Type::kUndefined:
      return 0;
    case Type::kString:
      return v.text->n_chars;
    case Type::kList:
    case Type::kTuple:
    case Type::kView:
      return static_cast<std::int64_t>(v.list->items.size());
    case Type::kRange:
      return v.range->size;
    case Type::kDict:
      return static_cast<std::int64_t>(v.dict->entries.size());
    default:
      return -1;
  }
}

bool is_iterable(const Value& v) {
  return v.is(Type::kGenerator) || v.is(Type::kLoop) || length(v) >= 0;
}

const std::vector<Value>& items_of(Runtime& rt, const Value& v) {
  if (v.is(Type::kList) || v.is(Type::kTuple) || v.is(Type::kView)) return v.list->items;
  if (v.is(Type::kGenerator) && !v.list->used) {
    v.list->used = true;
    return v.list->items;
  }
  std::vector<Value> items;
  switch (v.type) {
    case Type::kGenerator:
    case Type::kUndefined:
      break;
    case Type::kString:
      rt.charge_product(v.text->n_chars, 2);
      for (std::size_t pos = 0; pos < v.view().size();) {
        const std::size_t begin = pos;
        next_char(v.view(), pos);
        TextBuilder c;  // not a slice: the characters of markup are plain
        c.append(*v.text, begin, pos);
        items.push_back(rt.text(c));
      }
      break;
    case Type::kRange:
      rt.charge(v.range->size);
      for (std::int64_t i = 0; i < v.range->size; ++i) items.push_back(range_item(*v.range, i));
      break;
    case Type::kDict:
      rt.charge(length(v));
      for (const auto& entry : v.dict->entries) items.push_back(entry.first);
      break;
    default:
      rt.fail("'" + type_name(v) + "' object is not iterable");
  }
  return rt.list(std::move(items)).list->items;
}

Value get_attribute(Runtime& rt, const Value& object, std::string_view name) {
  const Value attribute = python_attribute(rt, object, name);
  if (attribute.given()) return attribute;
  if (object.is(Type::kDict)) {
    const Value* found = object.dict->find(name);
    if (found != nullptr) return *found;
  }
  return rt.undefined(no_attribute(object, quoted(name)));
}

Value get_item(Runtime& rt, const Value& object, const Value& key) {
  const Value item = subscript(rt, object, key);
  if (item.given()) return item;
  if (key.is_string()) {
    const Value attribute = python_attribute(rt, object, key.view());
    if (attribute.given()) return attribute;
    return rt.undefined(no_attribute(object, quoted(key.view())));
  }
  bool untrusted = false;
  const std::string name = key.is(Type::kFunction) ? "function" : repr(rt, key, untrusted);
  return rt.undefined(type_name(object) + " object has no element " + quoted(name) +
                      " (undefined)");
}

Value get_slice(Runtime& rt, const Value& object, const Value (&parts)[3]) {
  if (object.is(Type::kUndefined)) rt.fail(object.undefined->why);
  const bool text = object.is_string();
  const bool range = object.is(Type::kRange);
  const bool number_parts = std::all_of(std::begin(parts), std::end(parts), [](const Value& v) {
    return v.is(Type::kNone) || v.is_integer();
  });
  if (!(text || range || object.is(Type::kList) || object.is(Type::kTuple)) || !number_parts) {
    rt.fail("a '" + type_name(object) + "' cannot be sliced so");
  }
  const std::int64_t size = length(object);
  const std::int64_t step = parts[2].is(Type::kNone) ? 1 : parts[2].as_integer();
  if (step == 0) rt.fail("slice step cannot be zero");
  const std::int64_t low = step > 0 ? 0 : -1;
  const std::int64_t high = step > 0 ? size : size - 1;
  const auto bound = [&](const Value& v, std::int64_t absent) {
    return v.is(Type::kNone) ? absent : clamp_bound(v.as_integer(), size, low, high);
  };
  const std::int64_t start = bound(parts[0], step > 0 ? low : high);
  const std::int64_t stop = bound(parts[1], step > 0 ? high : low);
  const std::int64_t span = step > 0 ? stop - start : start - stop;
  const std::uint64_t stride = step > 0 ? static_cast<std::uint64_t>(step)
                                        : std::uint64_t{0} - static_cast<std::uint64_t>(step);
  const std::int64_t n =
      span <= 0 ? 0
                : static_cast<std::int64_t>((static_cast<std::uint64_t>(span) - 1) / stride) + 1;
  if (text && (step == 1 || n == 0)) {
    if (!object.text->ascii()) rt.charge_bytes(object.view().size());
    if (n == 0) return rt.slice(*object.text, 0, 0);
    return rt.slice(*object.text, char_offset(*object.text, start),
                    char_offset(*object.text, start + n));
  }
  if (range) {
    Range* part = rt.heap.add_range();
    part->start = range_item(*object.range, start).integer;
    part->step = checked(rt, Op::kMul, object.range->step, step);
    part->stop = range_item(*object.range, stop).integer;
    part->size = n;
    Value v = Value::tagged(Type::kRange);
    v.range = part;
    return v;
  }
  const std::vector<Value>& all = items_of(rt, object);
  rt.charge(n);
  TextBuilder out;
  std::vector<Value> items;
  for (std::int64_t k = 0; k < n; ++k) {
    const Value& item = all[static_cast<std::size_t>(start + k * step)];
    if (text) {
      out.append(*item.text);
    } else {
      items.push_back(item);
    }
  }
  if (!text) return rt.list(std::move(items), object.type);
  const Value chosen = rt.text(out);
  return object.text->markup ? as_markup(rt, chosen) : chosen;
}

Value get_path(Runtime& rt, Value object, const Value& path, const Value& fallback) {
  const auto step = [&](const Value& key) {
    object = get_item(rt, object, key);
    const bool replaced = fallback.given() && !fallback.is(Type::kNone);
    if (replaced && object.is(Type::kUndefined)) object = fallback;
  };
  if (path.is(Type::kNone)) return object;
  if (!path.is_string()) {
    step(path);
    return object;
  }
  const std::string_view names = path.view();
  for (std::size_t begin = 0; begin <= names.size();) {
    const std::size_t end = std::min(names.find('.', begin), names.size());
    const std::string_view name = names.substr(begin, end - begin);
    const bool digits = !name.empty() && name.size() < 19 &&
                        name.find_first_not_of("0123456789") == std::string_view::npos;
    step(digits ? Value::of(static_cast<std::int64_t>(std::stoll(std::string(name))))
                : rt.slice(*path.text, begin, end));
    begin = end + 1;
  }
  return object;
}

}  // namespace heddle::jinja
