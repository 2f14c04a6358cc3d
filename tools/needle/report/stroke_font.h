#pragma once
// Letters drawn as strokes: printable ASCII; every other character is a box.

#include <string_view>
#include <vector>

namespace heddle::needle {

struct FontPoint {
  double x = 0.0;
  double y = 0.0;
};
struct FontSegment {
  FontPoint from = {};
  FontPoint to = {};
};

/// Width of `text` in letters of `size` (the em: capitals are 0.72 of it), about that of Helvetica.
double text_width(std::string_view text, double size);

/// Its strokes from (0, 0), the left end of the baseline; y goes down.
std::vector<FontSegment> text_strokes(std::string_view text, double size);

/// How thick they are drawn.
double stroke_width(double size, bool bold);

}  // namespace heddle::needle
