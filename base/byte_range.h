#pragma once
#include <cstddef>

namespace heddle {

/// Half-open range of byte positions in a text.
struct ByteRange {
  std::size_t begin = 0;
  std::size_t end = 0;
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

}  // namespace heddle
