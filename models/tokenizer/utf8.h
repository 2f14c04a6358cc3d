#pragma once
// UTF-8 scanning. utf8_lossy and StreamDecoder (tokenizer.h) are implemented on top of it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_range.h"

namespace heddle {

/// One step through a byte string: a whole character, or the longest part that begins a valid one
/// and goes no further (Unicode 3.9: "maximal subpart"; a byte that begins none counts as one).
struct Utf8Step {
  char32_t code_point = 0;  // meaningful when valid
  std::uint8_t length = 1;  // bytes of this step, at least 1
  bool valid = false;
  bool truncated = false;  // not valid only because the bytes end here
};

/// The step at `pos` < bytes.size().
Utf8Step utf8_step(std::string_view bytes, std::size_t pos);

bool is_valid_utf8(std::string_view bytes);

void append_utf8(std::string& text, char32_t code_point);

/// utf8_lossy that also moves byte ranges (sorted, disjoint) along with the bytes that they cover.
/// A range border inside a replaced part moves to the outer end of its U+FFFD, so two ranges may
/// come to share one.
std::string utf8_lossy(std::string_view bytes, std::vector<ByteRange>& ranges);

}  // namespace heddle
