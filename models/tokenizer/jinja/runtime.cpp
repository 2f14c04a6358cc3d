#include "models/tokenizer/jinja/runtime.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "models/tokenizer/jinja/operators.h"

namespace heddle::jinja {
namespace {

constexpr std::int64_t kClockInterval = 4096;  // steps between two looks at the clock

std::string one_line(std::string_view text, std::size_t max_bytes) {
  std::string out;
  for (const char c : text) {
    if (out.size() >= max_bytes && (static_cast<unsigned char>(c) & 0xC0U) != 0x80U) {
      return out + "...";
    }
    out.push_back(static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? ' ' : c);
  }
  return out;
}

}  // namespace

Error error_at(std::string_view source, std::size_t offset, std::string_view text) {
  const std::string_view before = source.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t newline = before.rfind('\n');
  const std::string_view row =
      newline == std::string_view::npos ? before : before.substr(newline + 1);
  return bad_input("line " + std::to_string(line) + ", column " +
                   std::to_string(1 + count_chars(row)) + ": " + one_line(text, 1000));
}

std::string quoted(std::string_view name) {
  return "'" + one_line(name, 60) + "'";
}

Runtime::Runtime(std::string_view source,
                 const TemplateLimits& limits,
                 std::int64_t now_unix_seconds)
    : source_(source),
      limits_(limits),
      now_(now_unix_seconds),
      deadline_(std::chrono::steady_clock::now() + std::chrono::milliseconds(limits.milliseconds)) {
}

void Runtime::fail(std::string_view text) const {
  throw error_at(source_, at, text);
}

void Runtime::check_budget() {
  if (steps_ > limits_.steps) {
    fail("the template takes more than " + std::to_string(limits_.steps) + " steps");
  }
  if (std::chrono::steady_clock::now() > deadline_) {
    fail("the template takes more than " + std::to_string(limits_.milliseconds) + " ms");
  }
  next_check_ = std::min(steps_ + kClockInterval, limits_.steps + 1);
}

void Runtime::charge_product(std::int64_t a, std::int64_t b) {
  if (a <= 0 || b <= 0) return charge();
  const std::int64_t most = std::numeric_limits<std::int64_t>::max() / 4;
  charge(a > most / b ? limits_.steps + 1 : a * b);
}

Value Runtime::text(std::string bytes, bool untrusted) {
  return text(make_text(std::move(bytes), untrusted));
}

Value Runtime::text(TextBuilder& builder) {
  return text(builder.take());
}

Value Runtime::text(Text text) {
  charge_bytes(text.bytes.size() + text.untrusted.size() * sizeof(ByteRange));
  return Value::of(heap.add(std::move(text)));
}

Value Runtime::slice(const Text& from, std::size_t begin, std::size_t end) {
  if (begin == 0 && end == from.bytes.size()) return Value::of(&from);
  TextBuilder builder;
  builder.append(from, begin, end);
  Text part = builder.take();
  part.markup = from.markup;
  return text(std::move(part));
}

Value Runtime::undefined(std::string why) {
  charge();
  Value v = Value::tagged(Type::kUndefined);
  Undefined* u = heap.add_undefined();
  u->why = std::move(why);
  v.undefined = u;
  return v;
}

int Runtime::depth_of(const Value& value) const {
  switch (value.type) {
    case Type::kList:
    case Type::kTuple:
    case Type::kView:
    case Type::kGenerator:
      return value.list->depth;
    case Type::kDict:
      return value.dict->depth;
    default:
      return 0;
  }
}

int Runtime::nested(int depth) const {
  if (depth >= limits_.depth) {
    fail("a value is nested deeper than " + std::to_string(limits_.depth) + " levels");
  }
  return depth + 1;
}

Value Runtime::list(std::vector<Value> items, Type type) {
  charge(1 + static_cast<std::int64_t>(items.size()));
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, depth_of(item));
  Value v = Value::tagged(type);
  v.list = heap.add_list();
  v.list->depth = nested(depth);
  v.list->items = std::move(items);
  return v;
}

Value Runtime::tuple(const Value& a, const Value& b) {
  return list({a, b}, Type::kTuple);
}

const Value* Runtime::find(const Dict& dict, const Value& key) {
  if (key.is_string()) return dict.find(key.view());
  if (!is_hashable(key)) fail("unhashable type: '" + type_name(key) + "'");
  if (dict.strings.size() == dict.entries.size()) return nullptr;
  for (const auto& [k, v] : dict.entries) {
    if (!k.is_string() && equals(*this, k, key)) return &v;
  }
  return nullptr;
}

void Runtime::insert(Dict& dict, const Value& key, const Value& value) {
  charge();
  dict.depth = std::max(dict.depth, nested(std::max(depth_of(key), depth_of(value))));
  if (key.is_string()) {
    const auto [found, fresh] = dict.strings.emplace(key.view(), dict.entries.size());
    if (!fresh) {
      dict.entries[found->second].second = value;
      return;
    }
  } else if (const Value* old = find(dict, key)) {
    const auto same = [old](const auto& entry) { return &entry.second == old; };
    std::find_if(dict.entries.begin(), dict.entries.end(), same)->second = value;
    return;
  }
  dict.entries.emplace_back(key, value);
}

Value Runtime::dict(Dict* dict) {
  Value v = Value::tagged(Type::kDict);
  v.dict = dict;
  return v;
}

}  // namespace heddle::jinja
