#include "models/config_json.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "models/quote_text.h"

namespace heddle {
namespace {

/// A value for an error text.
std::string shown(const Json& value) {
  if (value.is_string()) return quote_text(value.get_ref<const std::string&>());
  if (value.is_array()) return fmt::format("an array of {}", value.size());
  if (value.is_object()) return "an object";
  return value.dump();
}

std::string element(std::string_view key, std::size_t i) {
  return fmt::format("{}[{}]", key, i);
}

}  // namespace

ConfigJson ConfigJson::parse(std::string_view text, std::string source, std::string area) {
  ConfigJson config;
  config.document_ =
      std::make_shared<const Json>(parse_json(text, fmt::format("{}: {}", source, area)));
  config.object_ = config.document_.get();
  if (!config.object_->is_object()) {
    throw bad_input(
        fmt::format("{}: {}: got {}, allowed an object", source, area, shown(*config.object_)));
  }
  config.source_ = std::move(source);
  config.area_ = std::move(area);
  return config;
}

std::string ConfigJson::shown_key(std::string_view key) const {
  const std::string way = fmt::format("{}{}", path_, key);
  const std::string quoted = quote_text(way, 256);
  return quoted.substr(1, quoted.size() - 2) == way ? way : quoted;
}

Error ConfigJson::error(std::string_view key,
                        std::string_view got,
                        std::string_view allowed) const {
  return bad_input(
      fmt::format("{}: {}: {}, got {}, allowed {}", source_, area_, shown_key(key), got, allowed));
}

bool ConfigJson::is_null(std::string_view key) const {
  const auto at = object_->find(std::string(key));
  return at != object_->end() && at->is_null();
}

std::optional<std::string> ConfigJson::asked(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr || *value == false) return std::nullopt;
  if (value->is_number() && *value == 0) return std::nullopt;
  const bool empty = value->is_string() ? value->get_ref<const std::string&>().empty()
                                        : value->is_structured() && value->empty();
  if (empty) return std::nullopt;
  return shown(*value);
}

Error ConfigJson::missing(std::string_view key, std::string_view allowed) const {
  return bad_input(fmt::format("{}: {}: {} is missing{}{}", source_, area_, shown_key(key),
                               allowed.empty() ? "" : ", allowed ", allowed));
}

const Json* ConfigJson::find(std::string_view key) const {
  const auto at = object_->find(std::string(key));
  return at == object_->end() || at->is_null() ? nullptr : &*at;
}

const Json* ConfigJson::find_array(std::string_view key, std::string_view allowed) const {
  const Json* value = find(key);
  if (value != nullptr && !value->is_array()) throw error(key, shown(*value), allowed);
  return value;
}

std::int64_t ConfigJson::bounded(const std::string& key,
                                 const Json& value,
                                 IntegerRange range) const {
  const std::string allowed = fmt::format("{} to {}", range.least, range.most);
  if (!value.is_number_integer()) {
    throw error(key, shown(value), fmt::format("integers from {}", allowed));
  }
  const bool fits = !value.is_number_unsigned() || value.get<std::uint64_t>() <= INT64_MAX;
  if (!fits || value.get<std::int64_t>() < range.least || value.get<std::int64_t>() > range.most) {
    throw error(key, shown(value), allowed);
  }
  return value.get<std::int64_t>();
}

double ConfigJson::finite(const std::string& key, const Json& value) const {
  if (!value.is_number()) throw error(key, shown(value), "numbers");
  const auto number = value.get<double>();
  if (!std::isfinite(number)) throw error(key, shown(value), "finite numbers");
  return number;
}

std::optional<std::int64_t> ConfigJson::integer(std::string_view key, IntegerRange range) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return bounded(std::string(key), *value, range);
}

std::int64_t ConfigJson::require_integer(std::string_view key, IntegerRange range) const {
  const std::optional<std::int64_t> value = integer(key, range);
  if (!value) throw missing(key, fmt::format("{} to {}", range.least, range.most));
  return *value;
}

std::optional<std::vector<std::int64_t>> ConfigJson::one_or_more_integers(
    std::string_view key, IntegerRange range) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array())
    return std::vector<std::int64_t>{bounded(std::string(key), *value, range)};
  return integers(key, range);
}

std::optional<std::vector<std::int64_t>> ConfigJson::integers(std::string_view key,
                                                              IntegerRange range) const {
  const Json* array = find_array(key, "an array of integers");
  if (array == nullptr) return std::nullopt;
  std::vector<std::int64_t> values;
  values.reserve(array->size());
  for (const Json& value : *array) {
    values.push_back(bounded(element(key, values.size()), value, range));
  }
  return values;
}

std::optional<double> ConfigJson::real(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return finite(std::string(key), *value);
}

std::optional<std::vector<double>> ConfigJson::reals(std::string_view key) const {
  const Json* array = find_array(key, "an array of numbers");
  if (array == nullptr) return std::nullopt;
  std::vector<double> values;
  values.reserve(array->size());
  for (const Json& value : *array) values.push_back(finite(element(key, values.size()), value));
  return values;
}

std::optional<bool> ConfigJson::boolean(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) throw error(key, shown(*value), "true or false");
  return value->get<bool>();
}

std::optional<std::string> ConfigJson::text(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) throw error(key, shown(*value), "a string");
  return value->get<std::string>();
}

std::optional<std::vector<std::string>> ConfigJson::texts(std::string_view key) const {
  const Json* array = find_array(key, "an array of strings");
  if (array == nullptr) return std::nullopt;
  std::vector<std::string> values;
  values.reserve(array->size());
  for (const Json& value : *array) {
    if (!value.is_string()) throw error(element(key, values.size()), shown(value), "a string");
    values.push_back(value.get<std::string>());
  }
  return values;
}

std::optional<ConfigJson> ConfigJson::object(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) throw error(key, shown(*value), "an object");
  ConfigJson nested = *this;
  nested.object_ = value;
  nested.path_ += fmt::format("{}.", key);
  return nested;
}

std::optional<std::vector<ConfigJson>> ConfigJson::objects(std::string_view key) const {
  const Json* array = find_array(key, "an array of objects");
  if (array == nullptr) return std::nullopt;
  std::vector<ConfigJson> values;
  values.reserve(array->size());
  for (const Json& value : *array) {
    const std::string name = element(key, values.size());
    if (!value.is_object()) throw error(name, shown(value), "an object");
    ConfigJson nested = *this;
    nested.object_ = &value;
    nested.path_ += name + ".";
    values.push_back(std::move(nested));
  }
  return values;
}

std::vector<std::string> ConfigJson::keys() const {
  std::vector<std::string> names;
  for (const auto& [key, value] : object_->items()) names.push_back(key);
  return names;
}

}  // namespace heddle
