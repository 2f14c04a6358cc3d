#pragma once
// JSON at the border: inputs to values, and the tojson filter.

#include <string>
#include <string_view>

#include "models/tokenizer/jinja/runtime.h"

namespace heddle::jinja {

/// Strict: one value, valid UTF-8, no duplicate keys, integers within 64 bits, depth within
/// limits.depth. All strings are untrusted. Throws kBadInput "`what`: byte n: ...".
Value parse_json(Runtime& rt, std::string_view json, std::string_view what);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool indented = false;  // newlines and `indent` before each item
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

/// json.dumps(v, ...) of Python. `untrusted` becomes true if a string in it has untrusted parts.
std::string to_json(Runtime& rt, const Value& v, const JsonStyle& style, bool& untrusted);

void append_json_string(std::string& out, std::string_view text, bool ensure_ascii);

}  // namespace heddle::jinja
