#pragma once
// Strict JSON reading over nlohmann/json: bounded depth and size, duplicate keys refused, errors
// with line and column. Include <nlohmann/json.hpp> only in .cpp files that walk a document.

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace heddle {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  int depth = 64;
  std::size_t nodes = 1'000'000;
};

/// Throws kBadInput: "SOURCE:3:17: duplicate key 'role'".
Json parse_json(std::string_view text, std::string_view source, JsonLimits limits = {});

/// `text` as a JSON string literal with quotes; bytes that are not UTF-8 become U+FFFD.
std::string json_quote(std::string_view text);

}  // namespace heddle
