#include "models/gguf_keys.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "models/quote_text.h"

namespace heddle {
namespace {

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

/// The integer at `from`; nullopt if the kind is none or the value does not fit 64 signed bits.
std::optional<std::int64_t> integer_at(GgufKind kind, const std::byte* from) {
  switch (kind) {
    case GgufKind::kU8:
      return load<std::uint8_t>(from);
    case GgufKind::kI8:
      return load<std::int8_t>(from);
    case GgufKind::kU16:
      return load<std::uint16_t>(from);
    case GgufKind::kI16:
      return load<std::int16_t>(from);
    case GgufKind::kU32:
      return load<std::uint32_t>(from);
    case GgufKind::kI32:
      return load<std::int32_t>(from);
    case GgufKind::kI64:
      return load<std::int64_t>(from);
    case GgufKind::kU64: {
      const auto value = load<std::uint64_t>(from);
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return std::nullopt;
      }
      return static_cast<std::int64_t>(value);
    }
    case GgufKind::kF32:
    case GgufKind::kF64:
    case GgufKind::kBool:
    case GgufKind::kString:
    case GgufKind::kArray:
      break;
  }
  return std::nullopt;
}

bool is_integer(GgufKind kind) {
  return kind != GgufKind::kF32 && kind != GgufKind::kF64 && kind != GgufKind::kBool &&
         kind != GgufKind::kString && kind != GgufKind::kArray;
}

std::string describe(const GgufEntry& entry) {
  if (entry.kind == GgufKind::kArray) return fmt::format("an array of {}", name(entry.element));
  return fmt::format("a value of kind {}", name(entry.kind));
}

}  // namespace

Error GgufKeys::error(std::string_view key, std::string_view got, std::string_view allowed) const {
  return bad_input(
      fmt::format("{}: {}: {}, got {}, allowed {}", directory_.source(), area_, key, got, allowed));
}

Error GgufKeys::missing(std::string_view key, std::string_view allowed) const {
  return bad_input(fmt::format("{}: {}: {} is missing{}{}", directory_.source(), area_, key,
                               allowed.empty() ? "" : ", allowed ", allowed));
}

std::optional<std::int64_t> GgufKeys::integer(std::string_view key, IntegerRange range) const {
  const GgufEntry* entry = directory_.find(key);
  if (entry == nullptr) return std::nullopt;
  if (!is_integer(entry->kind)) throw error(key, describe(*entry), "an integer");
  const std::optional<std::int64_t> value = integer_at(entry->kind, entry->payload.data());
  const std::string allowed = fmt::format("{} to {}", range.least, range.most);
  if (!value) throw error(key, std::to_string(load<std::uint64_t>(entry->payload.data())), allowed);
  if (*value < range.least || *value > range.most)
    throw error(key, std::to_string(*value), allowed);
  return value;
}

std::int64_t GgufKeys::require_integer(std::string_view key, IntegerRange range) const {
  const std::optional<std::int64_t> value = integer(key, range);
  if (!value) throw missing(key, fmt::format("{} to {}", range.least, range.most));
  return *value;
}

std::optional<std::int64_t> GgufKeys::uniform_integer(std::string_view key,
                                                      IntegerRange range) const {
  const GgufEntry* entry = directory_.find(key);
  if (entry == nullptr || entry->kind != GgufKind::kArray) return integer(key, range);
  const std::vector<std::int32_t> values = *integers(key);
  if (values.empty()) throw error(key, "an empty array", "an integer");
  for (const std::int32_t value : values) {
    if (value != values[0]) {
      throw error(key, fmt::format("{} and {} in different layers", values[0], value),
                  "one value for all layers");
    }
  }
  if (values[0] < range.least || values[0] > range.most) {
    throw error(key, std::to_string(values[0]), fmt::format("{} to {}", range.least, range.most));
  }
  return values[0];
}

std::optional<double> GgufKeys::real(std::string_view key) const {
  const GgufEntry* entry = directory_.find(key);
  if (entry == nullptr) return std::nullopt;
  double value = 0.0;
  if (entry->kind == GgufKind::kF32) {
    value = load<float>(entry->payload.data());
  } else if (entry->kind == GgufKind::kF64) {
    value = load<double>(entry->payload.data());
  } else {
    throw error(key, describe(*entry), "a number of kind f32 or f64");
  }
  if (!std::isfinite(value)) throw error(key, fmt::format("{}", value), "finite numbers");
  return value;
}

std::optional<bool> GgufKeys::boolean(std::string_view key) const {
  const GgufEntry* entry = directory_.find(key);
  if (entry == nullptr) return std::nullopt;
  if (entry->kind != GgufKind::kBool) throw error(key, describe(*entry), "a bool");
  return std::to_integer<int>(entry->payload[0]) != 0;
}

std::optional<std::string_view> GgufKeys::text(std::string_view key) const {
  const GgufEntry* entry = directory_.find(key);
  if (entry == nullptr) return std::nullopt;
  if (entry->kind != GgufKind::kString) throw error(key, describe(*entry), "a string");
  return std::string_view(reinterpret_cast<const char*>(entry->payload.data()),
                          entry->payload.size());
}

const GgufEntry* GgufKeys::expect_array(std::string_view key, std::string_view allowed) const {
  const GgufEntry* entry = directory_.find(key);
  if (entry != nullptr && entry->kind != GgufKind::kArray) {
    throw error(key, describe(*entry), allowed);
  }
  return entry;
}

std::optional<std::vector<std::string>> GgufKeys::texts(std::string_view key) const {
  const GgufEntry* entry = expect_array(key, "an array of string");
  if (entry == nullptr) return std::nullopt;
  if (entry->element != GgufKind::kString) throw error(key, describe(*entry), "an array of string");
  std::vector<std::string> values;
  values.reserve(entry->count);
  for_each_string(*entry, [&](std::string_view value) { values.emplace_back(value); });
  return values;
}

std::optional<std::vector<float>> GgufKeys::reals(std::string_view key) const {
  const GgufEntry* entry = expect_array(key, "an array of f32");
  if (entry == nullptr) return std::nullopt;
  if (entry->element != GgufKind::kF32) throw error(key, describe(*entry), "an array of f32");
  std::vector<float> values(entry->count);
  if (!values.empty()) {
    std::memcpy(values.data(), entry->payload.data(), values.size() * sizeof(float));
  }
  return values;
}

std::optional<std::vector<std::int32_t>> GgufKeys::integers(std::string_view key) const {
  const GgufEntry* entry = expect_array(key, "an array of i32");
  if (entry == nullptr) return std::nullopt;
  if (!is_integer(entry->element)) throw error(key, describe(*entry), "an array of i32");
  const std::uint64_t size = fixed_bytes(entry->element);
  std::vector<std::int32_t> values(entry->count);
  for (std::uint64_t i = 0; i < entry->count; ++i) {
    const auto value = integer_at(entry->element, entry->payload.data() + i * size);
    if (!value || *value < std::numeric_limits<std::int32_t>::min() ||
        *value > std::numeric_limits<std::int32_t>::max()) {
      throw error(key, fmt::format("a number beyond 32 bits at index {}", i),
                  "numbers from -2147483648 to 2147483647");
    }
    values[i] = static_cast<std::int32_t>(*value);
  }
  return values;
}

std::optional<std::uint64_t> GgufKeys::array_length(std::string_view key, GgufKind element) const {
  const std::string allowed = fmt::format("an array of {}", name(element));
  const GgufEntry* entry = expect_array(key, allowed);
  if (entry == nullptr) return std::nullopt;
  if (entry->element != element) throw error(key, describe(*entry), allowed);
  return entry->count;
}

}  // namespace heddle
