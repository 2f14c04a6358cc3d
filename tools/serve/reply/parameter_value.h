#pragma once

#include <string>
#include <string_view>

#include "tools/serve/reply/json_scanner.h"

namespace heddle::serve {

/// The JSON of a parameter that was written between tags. A parameter that is declared as text is a
/// string; another is a value if what is written is JSON ("3", "[1, 2]", "true") or Python's True,
/// False or None (as templates render them), else a string. One line break at each end of a string
/// belongs to the tags. A value.
class ParameterValue {
 public:
  ParameterValue() = default;
  explicit ParameterValue(bool is_text) : is_text_(is_text) {}

  /// Appends to `json` what has become certain.
  void step(char c, std::string& json);
  void finish(std::string& json);

 private:
  enum class State { kStart, kJson, kPython, kWhole };

  JsonScanner::Step read(char c);
  JsonScanner::Step begin(char c);
  void text_byte(char c, std::string& json);
  void become_text(std::string& json);

  bool is_text_ = false;
  bool first_ = true;  // of the text's bytes
  bool open_ = false;  // the quote is out
  bool line_break_ = false;
  State state_ = State::kStart;
  JsonScanner scanner_;
  std::string_view python_ = {};  // what is still to come of the word
  std::string written_;           // as long as it may be a value: as written
  std::string value_;             // and its JSON
};

}  // namespace heddle::serve
