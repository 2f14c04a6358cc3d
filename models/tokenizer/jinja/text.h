#pragma once
// Strings of the template interpreter: UTF-8 bytes that remember which parts came from the inputs.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_range.h"

namespace heddle::jinja {

/// Immutable once made. `untrusted` is sorted, disjoint, not empty and not touching.
struct Text {
  std::string bytes;
  std::vector<ByteRange> untrusted;
  std::int64_t n_chars = 0;  // code points
  bool markup = false;       // Python's Markup, made by `safe` and `escape`: escapes what joins it

  bool ascii() const { return n_chars == static_cast<std::int64_t>(bytes.size()); }
  bool any_untrusted() const { return !untrusted.empty(); }
};

/// Grows a Text; adjacent untrusted parts are merged.
class TextBuilder {
 public:
  void append(std::string_view bytes, bool untrusted);
  void append(const Text& text) { append(text, 0, text.bytes.size()); }
  /// Bytes [begin, end) of `text`, with the origin of each.
  void append(const Text& text, std::size_t begin, std::size_t end);
  std::size_t size() const { return bytes_.size(); }
  Text take();

 private:
  void mark(std::size_t begin, std::size_t end);

  std::string bytes_;
  std::vector<ByteRange> untrusted_;
};

/// Text of valid UTF-8; `untrusted` marks all of it.
Text make_text(std::string bytes, bool untrusted);

// UTF-8. All but first_invalid_utf8 take valid text.
std::size_t first_invalid_utf8(std::string_view bytes);  // npos if all is valid
std::int64_t count_chars(std::string_view bytes);
/// Byte offset of code point `index` (0 .. n_chars) of `text`.
std::size_t char_offset(const Text& text, std::int64_t index);
/// Decodes the code point at `pos` and moves `pos` behind it.
char32_t next_char(std::string_view bytes, std::size_t& pos);
/// The code point that ends at `pos`; moves `pos` to its start.
char32_t previous_char(std::string_view bytes, std::size_t& pos);
void append_char(std::string& out, char32_t c);

}  // namespace heddle::jinja
