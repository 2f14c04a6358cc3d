#include "models/tokenizer/json_node.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "models/quote_text.h"

namespace heddle {
namespace {

std::string pointer_part(std::string_view key) {
  std::string out = "/";
  for (const char c : key.substr(0, 64)) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace

bool JsonNode::is_null() const {
  return value_->is_null();
}
bool JsonNode::is_string() const {
  return value_->is_string();
}
bool JsonNode::is_array() const {
  return value_->is_array();
}
bool JsonNode::is_object() const {
  return value_->is_object();
}
std::size_t JsonNode::size() const {
  return value_->size();
}

const Json* JsonNode::find(std::string_view key) const {
  if (!value_->is_object()) throw wrong("an object");
  for (const auto& [name, value] : value_->get_ref<const Json::object_t&>()) {
    if (name == key) return &value;
  }
  return nullptr;
}

bool JsonNode::has(std::string_view key) const {
  return find(key) != nullptr;
}

bool JsonNode::has_value(std::string_view key) const {
  const Json* value = find(key);
  return value != nullptr && !value->is_null();
}

JsonNode JsonNode::operator[](std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) throw error("no member '" + std::string(key) + "'", "one");
  return {*value, source_, pointer_ + pointer_part(key)};
}

JsonNode JsonNode::at(std::size_t index) const {
  HEDDLE_CHECK(value_->is_array() && index < value_->size());
  return {(*value_)[index], source_, pointer_ + "/" + std::to_string(index)};
}

std::vector<std::string> JsonNode::keys() const {
  if (!value_->is_object()) throw wrong("an object");
  std::vector<std::string> names;
  for (const auto& [name, value] : value_->get_ref<const Json::object_t&>()) names.push_back(name);
  return names;
}

const std::string& JsonNode::text() const {
  if (!value_->is_string()) throw wrong("a string");
  return value_->get_ref<const std::string&>();
}

bool JsonNode::boolean() const {
  if (!value_->is_boolean()) throw wrong("true or false");
  return value_->get<bool>();
}

double JsonNode::number() const {
  if (!value_->is_number() || !std::isfinite(value_->get<double>())) throw wrong("a number");
  return value_->get<double>();
}

std::int64_t JsonNode::integer(std::int64_t least, std::int64_t most) const {
  const std::string allowed = std::to_string(least) + " to " + std::to_string(most);
  if (!value_->is_number_integer()) throw wrong(allowed);
  const bool huge = value_->is_number_unsigned() && value_->get<std::uint64_t>() > INT64_MAX;
  if (huge || value_->get<std::int64_t>() < least || value_->get<std::int64_t>() > most) {
    throw wrong(allowed);
  }
  return value_->get<std::int64_t>();
}

bool JsonNode::boolean_or(std::string_view key, bool otherwise) const {
  return has_value(key) ? (*this)[key].boolean() : otherwise;
}

void JsonNode::only(std::initializer_list<std::string_view> allowed) const {
  for (const std::string& key : keys()) {
    if (std::find(allowed.begin(), allowed.end(), key) != allowed.end()) continue;
    std::string names;
    for (const std::string_view name : allowed) {
      names += names.empty() ? "" : ", ";
      names += name;
    }
    throw error("a member " + quote_text(key), names);
  }
}

void JsonNode::expect_array() const {
  if (!value_->is_array()) throw wrong("a list");
}

std::string JsonNode::name() const {
  return *source_ + ": tokenizer: " + (pointer_.empty() ? "/" : quote_pointer());
}

std::string JsonNode::quote_pointer() const {
  const std::string quoted = quote_text(pointer_, 200);
  return quoted.substr(1, quoted.size() - 2);
}

std::string JsonNode::shown() const {
  if (value_->is_string()) return quote_text(value_->get_ref<const std::string&>());
  if (value_->is_object()) return "an object";
  if (value_->is_array()) return "a list";
  return value_->dump();
}

Error JsonNode::error(std::string_view got, std::string_view allowed) const {
  return bad_input(name() + ", got " + std::string(got) + ", allowed " + std::string(allowed));
}

}  // namespace heddle
