// Strict JSON reading: any bytes are read or refused with Error, the limits hold, and what is read
// is what the library's own reader makes of the same text.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const heddle::Json json = heddle::parse_json(text, "fuzz", {.depth = 16, .nodes = 1000});
    if (json != heddle::Json::parse(text)) std::abort();
    if (heddle::parse_json(json.dump(), "again") != json) std::abort();
  } catch (const heddle::Error& e) {
    if (e.kind() != heddle::ErrorKind::kBadInput || e.what()[0] == '\0') std::abort();
  }
  // Quoting takes any bytes and gives a string literal.
  if (!heddle::parse_json(heddle::json_quote(text), "quoted").is_string()) std::abort();
  return 0;
}
