#pragma once
// Scores as colours: panels of cells, laid out once for SVG and PNG.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/needle/report/picture.h"

namespace heddle::needle {

struct HeatCell {
  std::optional<double> value = {};  // 0 to 1
  std::int64_t n = 0;                // what it is the mean of
  std::int64_t errors = 0;           // beside them; no value and no error: not run
  std::string about = {};            // "niah number, length 4096, depth 50"
};

struct HeatPanel {
  std::string title = {};  // "": none
  std::string row_axis = {};
  std::string column_axis = {};
  std::vector<std::string> rows = {};  // from the top
  std::vector<std::string> columns = {};
  std::vector<HeatCell> cells = {};  // rows x columns, row by row
  bool every_row = false;            // rows are names, none is left out where they are narrow
};

struct Heatmap {
  std::string title = {};
  std::string subtitle = {};  // wrapped where it is long
  std::vector<HeatPanel> panels = {};
};

/// Where everything of the heatmap is. Rectangles of kind "cell" are the cells in order, with
/// titles; "legend" and "mark" are others. At most three panels beside each other; numbers stand in
/// the cells where they fit in all of them.
using HeatmapLayout = Picture;
HeatmapLayout layout_of(const Heatmap& heatmap);

/// heatmap.svg and heatmap.png (two pixels for a unit).
std::string heatmap_svg(const Heatmap& heatmap);
std::string heatmap_png(const Heatmap& heatmap);

/// Dark is 0, light is 1; lightness rises evenly, so that it reads without colours, too.
Color heat_color(double value);
/// "100", "64"; "99" and "1" where it is nearly all or nearly nothing.
std::string heat_number(double value);
/// What a cell's title says: "niah number, length 4096, depth 50: 100 % (n 1, errors 0)".
std::string heat_title(const HeatCell& cell);

}  // namespace heddle::needle
