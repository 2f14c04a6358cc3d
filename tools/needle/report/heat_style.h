#pragma once
// Sizes and colours of the heatmap, shared by its files.

#include "tools/needle/report/heatmap.h"

namespace heddle::needle {

inline constexpr Color kInk = {31, 36, 43};
inline constexpr Color kSoftInk = {92, 99, 110};
inline constexpr Color kWhite = {255, 255, 255};
inline constexpr Color kErrorFill = {222, 222, 226};
inline constexpr Color kErrorLine = {184, 184, 192};
inline constexpr Color kNotRun = {243, 244, 246};

/// White on dark colours, ink on light ones.
Color ink_on(Color fill);
/// Slanted lines in a rectangle.
void hatch(Picture& picture, const PictureRect& rect);

/// What the cells of a heatmap are like: whether the legend has to tell it.
struct HeatKinds {
  bool errors = false;  // cells without a value
  bool some = false;    // a value beside errors
  bool not_run = false;
};
HeatKinds kinds_of(const Heatmap& heatmap);

inline constexpr double kLegendHeight = 34.0;
double legend_width(const HeatKinds& kinds);
void add_legend(Picture& picture, const HeatKinds& kinds, double x, double y);
/// The corner of a cell that has errors beside its value.
void add_mark(Picture& picture, const PictureRect& cell, Color color);

}  // namespace heddle::needle
