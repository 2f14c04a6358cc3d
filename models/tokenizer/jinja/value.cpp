#include "models/tokenizer/jinja/value.h"

namespace heddle::jinja {

Value Value::of(bool x) {
  Value v = tagged(Type::kBool);
  v.boolean = x;
  return v;
}

Value Value::of(std::int64_t x) {
  Value v = tagged(Type::kInt);
  v.integer = x;
  return v;
}

Value Value::of(double x) {
  Value v = tagged(Type::kFloat);
  v.real = x;
  return v;
}

Value Value::of(const Text* x) {
  Value v = tagged(Type::kString);
  v.text = x;
  return v;
}

const Value* Dict::find(std::string_view key) const {
  const auto it = strings.find(key);
  return it == strings.end() ? nullptr : &entries[it->second].second;
}

Value* Namespace::find(std::string_view name) {
  for (auto& [key, value] : attributes) {
    if (key->bytes == name) return &value;
  }
  return nullptr;
}

}  // namespace heddle::jinja
