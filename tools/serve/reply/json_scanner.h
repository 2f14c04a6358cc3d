#pragma once
// JSON read one byte at a time, without recursion and without looking at anything twice: what the
// parsers of tool calls stand on.

#include <cstdint>
#include <string>
#include <string_view>

namespace heddle::serve {

inline bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/// Appends `c` as a byte of a JSON string's text; bytes of UTF-8 stay as they are.
void append_escaped(char c, std::string& out);

/// The bytes of a JSON string behind its opening quote. What models get wrong in strings is mended
/// where only one meaning is possible: a control character is escaped, a backslash that begins no
/// escape is doubled, half a surrogate pair becomes U+FFFD. A value.
class JsonStringReader {
 public:
  enum class Form {
    kSource,   // JSON text, as written but for what is mended
    kDecoded,  // what the string says
  };
  explicit JsonStringReader(Form form = Form::kSource) : form_(form) {}

  /// Whether `c` was the closing quote. Appends to `out` what has become certain.
  bool step(char c, std::string& out);

 private:
  bool escaped(char c, std::string& out);
  void finish_unicode(std::string& out);
  void drop_high(std::string& out);
  void doubled_backslash(std::string& out);

  Form form_;
  std::string escape_;  // from a backslash on, at most 6 bytes
  std::string high_;    // the escape of a high surrogate that waits for its other half
};

/// One JSON value (RFC 8259) of at most 64 containers one in the other. A value.
class JsonScanner {
 public:
  enum class Step {
    kMore,
    kDone,        // the value ends with this byte
    kDoneBefore,  // the value, a number, ended before this byte
    kBad,         // not JSON; the scanner must not be used on
  };
  static constexpr int kMaxDepth = 64;

  /// Appends to `out` what `c` makes certain of the value's text.
  Step step(char c, std::string& out);
  /// Whether the value may end here.
  bool may_end() const;

 private:
  enum class State {
    kValue,
    kFirstItem,  // behind [
    kFirstKey,   // behind {
    kKey,
    kColon,
    kAfter,  // behind a value in a container
    kString,
    kLiteral,
    kMinus,
    kZero,
    kInteger,
    kPoint,
    kFraction,
    kExponent,
    kExponentSign,
    kExponentDigits,
    kDone,
  };

  Step structure(char c, std::string& out);
  Step begin_value(char c, std::string& out);
  Step open(char c, std::string& out);
  Step close(char c, std::string& out);
  Step after_value();
  Step number(char c, std::string& out);
  State next_of_number(char c) const;
  bool in_object() const { return (objects_ & 1U) != 0; }

  State state_ = State::kValue;
  bool is_key_ = false;            // the string that is being read
  std::string_view literal_ = {};  // what is still to come of true, false, null
  JsonStringReader string_;
  std::uint64_t objects_ = 0;  // a bit for each open container, the innermost last: is it an object
  int depth_ = 0;
};

}  // namespace heddle::serve
