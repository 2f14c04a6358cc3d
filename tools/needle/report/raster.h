#pragma once
// A picture as pixels, and those as a PNG file.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/needle/report/picture.h"

namespace heddle::needle {

struct Image {
  std::size_t width = 0;
  std::size_t height = 0;
  std::vector<std::uint8_t> rgb = {};  // rows from the top, three bytes a pixel
  Color at(std::size_t x, std::size_t y) const;
};

/// `scale` pixels for a unit; edges are smoothed. Pictures of more than 30 million pixels are
/// drawn with a smaller one.
Image draw(const Picture& picture, double scale);

/// The bytes of a PNG file, without a date. Throws kRuntime (memory, libpng).
std::string png_of(const Image& image);

}  // namespace heddle::needle
