#include "tools/needle/report/heat_style.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "tools/needle/report/stroke_font.h"

namespace heddle::needle {
namespace {

/// Dark blue over teal to light yellow.
constexpr std::array<Color, 8> kRamp = {{{58, 14, 84},
                                         {64, 54, 128},
                                         {51, 92, 141},
                                         {37, 126, 142},
                                         {32, 160, 134},
                                         {84, 194, 105},
                                         {160, 218, 57},
                                         {248, 230, 71}}};

double linear(std::uint8_t channel) {
  const double value = channel / 255.0;
  return value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4);
}

double luminance(Color color) {
  return 0.2126 * linear(color.red) + 0.7152 * linear(color.green) + 0.0722 * linear(color.blue);
}

constexpr double kBarWidth = 200.0;
constexpr double kBarHeight = 12.0;
constexpr double kSwatch = 12.0;
constexpr double kTextSize = 10.5;
constexpr double kAfterBar = 34.0;

struct Entry {
  const char* text;
  bool shown;
};
std::array<Entry, 3> entries(const HeatKinds& kinds) {
  return {{{"no answer (errors)", kinds.errors},
           {"some samples are errors", kinds.some},
           {"not run", kinds.not_run}}};
}

double entry_width(const Entry& entry) {
  return entry.shown ? kSwatch + 6.0 + text_width(entry.text, kTextSize) * 1.1 + 18.0 : 0.0;
}

}  // namespace

Color heat_color(double value) {
  const double at = std::clamp(value, 0.0, 1.0) * (kRamp.size() - 1);
  const std::size_t i = std::min(static_cast<std::size_t>(at), kRamp.size() - 2);
  const double share = at - static_cast<double>(i);
  const auto mix = [&](std::uint8_t low, std::uint8_t high) {
    return static_cast<std::uint8_t>(std::lround(low + (high - low) * share));
  };
  return {mix(kRamp[i].red, kRamp[i + 1].red), mix(kRamp[i].green, kRamp[i + 1].green),
          mix(kRamp[i].blue, kRamp[i + 1].blue)};
}

std::string heat_number(double value) {
  const long rounded = std::lround(value * 100.0);
  if (value < 1.0 && rounded >= 100) return "99";
  if (value > 0.0 && rounded <= 0) return "1";
  return fmt::format("{}", rounded);
}

std::string heat_title(const HeatCell& cell) {
  if (!cell.value && cell.errors == 0) return cell.about + ": not run";
  const std::string score =
      cell.value ? fmt::format("{:.4g} %", *cell.value * 100.0) : std::string("no score");
  return fmt::format("{}: {} (n {}, errors {})", cell.about, score, cell.n, cell.errors);
}

Color ink_on(Color fill) {
  // Where the contrasts of white and of ink are the same.
  return luminance(fill) > 0.19 ? kInk : kWhite;
}

void hatch(Picture& picture, const PictureRect& rect) {
  constexpr double kStep = 6.0;
  constexpr double kInset = 0.5;  // round ends stay inside
  // x + y = at, between the rectangle's sides.
  for (double at = kStep / 2.0; at < rect.width + rect.height; at += kStep) {
    const double low = std::max(0.0, at - rect.height) + kInset;
    const double high = std::min(rect.width, at) - kInset;
    if (high - low < 1.0) continue;
    picture.lines.push_back({.x1 = rect.x + low,
                             .y1 = rect.y + at - low,
                             .x2 = rect.x + high,
                             .y2 = rect.y + at - high,
                             .width = 1.0,
                             .color = kErrorLine});
  }
}

HeatKinds kinds_of(const Heatmap& heatmap) {
  HeatKinds kinds;
  for (const HeatPanel& panel : heatmap.panels) {
    for (const HeatCell& cell : panel.cells) {
      kinds.errors |= !cell.value && cell.errors > 0;
      kinds.some |= cell.value && cell.errors > 0;
      kinds.not_run |= !cell.value && cell.errors == 0;
    }
  }
  return kinds;
}

void add_mark(Picture& picture, const PictureRect& cell, Color color) {
  constexpr double kSize = 4.0;
  picture.rects.push_back({.x = cell.x + cell.width - kSize - 2.0,
                           .y = cell.y + 2.0,
                           .width = kSize,
                           .height = kSize,
                           .fill = color,
                           .kind = "mark"});
}

double legend_width(const HeatKinds& kinds) {
  double width = kBarWidth + kAfterBar;
  for (const Entry& entry : entries(kinds)) width += entry_width(entry);
  return width;
}

void add_legend(Picture& picture, const HeatKinds& kinds, double x, double y) {
  constexpr int kSteps = 100;
  for (int i = 0; i < kSteps; ++i) {
    picture.rects.push_back({.x = x + kBarWidth / kSteps * i,
                             .y = y,
                             // Over the next one's begin: no seams where a reader scales it.
                             .width = kBarWidth / kSteps * (i + 1 < kSteps ? 1.5 : 1.0),
                             .height = kBarHeight,
                             .fill = heat_color(i / (kSteps - 1.0)),
                             .kind = "legend"});
  }
  for (const int tick : {0, 25, 50, 75, 100}) {
    const double at = x + kBarWidth * tick / 100.0;
    picture.lines.push_back({at, y + kBarHeight, at, y + kBarHeight + 4.0, 1.0, kSoftInk});
    picture.texts.push_back({.x = at,
                             .y = y + kBarHeight + 15.0,
                             .text = tick == 100 ? "100 %" : fmt::format("{}", tick),
                             .size = kTextSize,
                             .anchor = Anchor::kMiddle,
                             .color = kSoftInk});
  }
  double left = x + kBarWidth + kAfterBar;
  const Color fills[] = {kErrorFill, heat_color(0.8), kNotRun};
  const auto all = entries(kinds);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!all[i].shown) continue;
    const PictureRect swatch = {left, y, kSwatch, kSwatch, fills[i], "legend"};
    picture.rects.push_back(swatch);
    if (i == 0) hatch(picture, swatch);
    if (i == 1) add_mark(picture, swatch, ink_on(fills[i]));
    picture.texts.push_back({.x = left + kSwatch + 6.0,
                             .y = y + 10.0,
                             .text = all[i].text,
                             .size = kTextSize,
                             .color = kSoftInk});
    left += entry_width(all[i]);
  }
}

}  // namespace heddle::needle
