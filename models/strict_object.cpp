#include "models/strict_object.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "models/quote_text.h"

namespace heddle {

const ConfigJson& StrictObject::asked(std::string_view key) const {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.emplace_back(key);
  return object_;
}

int StrictObject::integer(std::string_view key, IntegerRange range, int otherwise) const {
  return static_cast<int>(asked(key).integer(key, range).value_or(otherwise));
}

int StrictObject::require_integer(std::string_view key, IntegerRange range) const {
  return static_cast<int>(asked(key).require_integer(key, range));
}

double StrictObject::real(std::string_view key, double least, double most, double otherwise) const {
  const double value = asked(key).real(key).value_or(otherwise);
  if (!(value >= least && value <= most)) {
    throw error(key, fmt::format("{}", value), fmt::format("{:g} to {:g}", least, most));
  }
  return value;
}

bool StrictObject::boolean(std::string_view key, bool otherwise) const {
  return asked(key).boolean(key).value_or(otherwise);
}

std::string StrictObject::text(std::string_view key, std::string_view otherwise) const {
  return asked(key).text(key).value_or(std::string(otherwise));
}

std::string StrictObject::require_text(std::string_view key) const {
  auto value = asked(key).text(key);
  if (!value) throw missing(key);
  return *std::move(value);
}

std::optional<std::vector<double>> StrictObject::reals(std::string_view key) const {
  return asked(key).reals(key);
}

std::optional<ConfigJson> StrictObject::object(std::string_view key) const {
  return asked(key).object(key);
}

std::optional<std::vector<ConfigJson>> StrictObject::objects(std::string_view key) const {
  return asked(key).objects(key);
}

std::size_t StrictObject::choice(std::string_view key,
                                 const std::vector<std::string_view>& names,
                                 std::string_view otherwise) const {
  const std::string value = text(key, otherwise);
  const auto at = std::find(names.begin(), names.end(), value);
  if (value.empty() || at == names.end()) {
    std::vector<std::string_view> allowed = names;
    std::erase(allowed, "");
    throw error(key, quote_text(value), fmt::format("{}", fmt::join(allowed, ", ")));
  }
  return static_cast<std::size_t>(at - names.begin());
}

void StrictObject::done() const {
  for (const std::string& key : object_.keys()) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    throw error(key, "an unknown key", fmt::format("{}", fmt::join(known_, ", ")));
  }
}

}  // namespace heddle
