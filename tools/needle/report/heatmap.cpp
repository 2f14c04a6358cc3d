#include "tools/needle/report/heatmap.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "tools/needle/report/heat_style.h"
#include "tools/needle/report/raster.h"
#include "tools/needle/report/stroke_font.h"
#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

constexpr double kMargin = 24.0;
constexpr double kTitleSize = 18.0;
constexpr double kSubtitleSize = 12.0;
constexpr double kSubtitleStep = 17.0;
constexpr double kPanelTitleSize = 13.0;
constexpr double kLabelSize = 11.0;
constexpr double kAxisSize = 11.0;
constexpr double kPanelGap = 30.0;
constexpr double kMostLabelWidth = 190.0;
constexpr double kMostTitleWidth = 260.0;  // that a panel widens for
constexpr double kSvgFonts = 1.12;         // how much wider a reader's font may be
constexpr std::size_t kMostPanelsBeside = 3;

/// Sizes that all panels share.
struct Grid {
  double cell_width = 0.0;
  double cell_height = 0.0;
  double gap = 0.0;          // between cells
  double number_size = 0.0;  // of scores in cells; 0: none
  double left = 0.0;         // of the cells in their panel
  double top = 0.0;
  double panel_width = 0.0;
  double panel_height = 0.0;
  std::size_t beside = 1;
};

/// The labels that are shown, so that each has `needed` where a cell has `cell`: every n-th one,
/// from where they are shortest, for those are the round ones.
std::vector<std::size_t> shown_labels(const std::vector<std::string>& labels,
                                      double needed,
                                      double cell) {
  std::size_t step = std::max<std::size_t>(labels.size(), 1);
  for (const std::size_t n : {1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64, 100, 128}) {
    if (static_cast<double>(n) * cell < needed) continue;
    step = std::min(step, n);
    break;
  }
  std::vector<std::size_t> best;
  double least = 0.0;
  for (std::size_t first = 0; first < std::min(step, labels.size()); ++first) {
    std::vector<std::size_t> places;
    double width = 0.0;
    for (std::size_t i = first; i < labels.size(); i += step) {
      places.push_back(i);
      width += static_cast<double>(labels[i].size());
    }
    width /= static_cast<double>(places.size());
    if (best.empty() || width < least) {
      best = places;
      least = width;
    }
  }
  return best;
}

std::string cut_to(std::string text, double size, double width) {
  if (text_width(text, size) <= width) return text;
  while (!text.empty() && text_width(text + "...", size) > width) {
    do {
      text.pop_back();
    } while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0U) == 0x80U);
    if (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0U) == 0xc0U)
      text.pop_back();
  }
  return text + "...";
}

double widest(const std::vector<std::string>& labels, double size) {
  double width = 0.0;
  for (const std::string& label : labels) width = std::max(width, text_width(label, size));
  return width;
}

/// The largest size at which "100" and "err" fit, or 0.
double number_size(double width, double height) {
  const double wide = text_width("100", 1.0) * kSvgFonts;
  const double size = std::min({13.0, (width - 4.0) / wide, height - 4.0});
  return size >= 7.5 ? std::floor(size * 2.0) / 2.0 : 0.0;
}

Grid grid_of(const Heatmap& heatmap) {
  Grid grid;
  std::size_t rows = 1;
  std::size_t columns = 1;
  double labels = 0.0;
  double least_height = 4.0;
  std::vector<std::string> titles;
  for (const HeatPanel& panel : heatmap.panels) {
    HEDDLE_CHECK(panel.cells.size() == panel.rows.size() * panel.columns.size());
    rows = std::max(rows, panel.rows.size());
    columns = std::max(columns, panel.columns.size());
    labels = std::max(labels, widest(panel.rows, kLabelSize) * kSvgFonts);
    if (panel.every_row) least_height = kLabelSize + 5.0;
    if (!panel.title.empty()) titles.push_back(panel.title);
  }
  grid.beside = std::clamp<std::size_t>(heatmap.panels.size(), 1, kMostPanelsBeside);
  if (heatmap.panels.size() == 4) grid.beside = 2;
  const double wide[] = {640.0, 400.0, 300.0};
  const double high[] = {374.0, 275.0, 231.0};
  const auto cell = [](double all, std::size_t n, double least, double most) {
    return std::clamp(std::floor(all / static_cast<double>(n)), least, most);
  };
  grid.cell_width = cell(wide[grid.beside - 1], columns, 4.0, 64.0);
  grid.cell_height = cell(high[grid.beside - 1], rows, least_height, 34.0);
  grid.gap = std::min(grid.cell_width, grid.cell_height) >= 12.0 ? 1.0 : 0.0;
  grid.number_size = number_size(grid.cell_width - grid.gap, grid.cell_height - grid.gap);
  grid.left = std::ceil(22.0 + std::min(labels, kMostLabelWidth) + 7.0);  // sharp cells
  grid.top = titles.empty() ? 0.0 : kPanelTitleSize + 9.0;
  const double title_width =
      std::min(std::ceil(widest(titles, kPanelTitleSize) * kSvgFonts), kMostTitleWidth);
  grid.panel_width =
      grid.left + std::max(grid.cell_width * static_cast<double>(columns), title_width);
  grid.panel_height = grid.top + grid.cell_height * static_cast<double>(rows) + 38.0;
  return grid;
}

/// Words in lines of at most `width`.
std::vector<std::string> wrapped(const std::string& text, double size, double width) {
  std::vector<std::string> lines;
  std::string line;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    const std::string longer = line.empty() ? word : line + " " + word;
    if (!line.empty() && text_width(longer, size) > width) {
      lines.push_back(cut_to(line, size, width));
      line = word;
    } else {
      line = longer;
    }
    begin = end + 1;
  }
  if (!line.empty()) lines.push_back(cut_to(line, size, width));
  return lines;
}

/// One panel; (x, y) is its corner, axes and title included.
class PanelPainter {
 public:
  PanelPainter(Picture& picture, const HeatPanel& panel, const Grid& grid, double x, double y)
      : picture_(picture), panel_(panel), grid_(grid), x_(x + grid.left), y_(y + grid.top) {}

  void paint() {
    for (std::size_t i = 0; i < panel_.cells.size(); ++i) paint_cell(i);
    paint_rows();
    paint_columns();
    if (!panel_.title.empty()) {
      const double room = grid_.panel_width - grid_.left;
      add(x_, y_ - 9.0, cut_to(panel_.title, kPanelTitleSize, room), kPanelTitleSize,
          Anchor::kStart, kInk);
      picture_.texts.back().bold = true;
    }
  }

 private:
  double height() const { return grid_.cell_height * static_cast<double>(panel_.rows.size()); }
  double width() const { return grid_.cell_width * static_cast<double>(panel_.columns.size()); }

  void add(double x, double y, std::string text, double size, Anchor anchor, Color color) {
    picture_.texts.push_back(
        {.x = x, .y = y, .text = std::move(text), .size = size, .anchor = anchor, .color = color});
  }

  void paint_cell(std::size_t i) {
    const HeatCell& cell = panel_.cells[i];
    const auto row = static_cast<double>(i / panel_.columns.size());
    const auto column = static_cast<double>(i % panel_.columns.size());
    const bool error = !cell.value && cell.errors > 0;
    const PictureRect rect = {.x = x_ + column * grid_.cell_width,
                              .y = y_ + row * grid_.cell_height,
                              .width = grid_.cell_width - grid_.gap,
                              .height = grid_.cell_height - grid_.gap,
                              .fill = cell.value ? heat_color(*cell.value)
                                      : error    ? kErrorFill
                                                 : kNotRun,
                              .kind = "cell",
                              .title = heat_title(cell)};
    picture_.rects.push_back(rect);
    const bool roomy = std::min(rect.width, rect.height) >= 10.0;
    if (error && roomy) hatch(picture_, rect);
    if (cell.value && cell.errors > 0 && roomy) add_mark(picture_, rect, ink_on(rect.fill));
    if (grid_.number_size == 0.0 || (!cell.value && !error)) return;
    add(rect.x + rect.width / 2.0, rect.y + rect.height / 2.0 + 0.36 * grid_.number_size,
        cell.value ? heat_number(*cell.value) : "err", grid_.number_size, Anchor::kMiddle,
        cell.value ? ink_on(rect.fill) : kInk);
  }

  void paint_rows() {
    for (const std::size_t row : shown_labels(panel_.rows, kLabelSize + 2.0, grid_.cell_height)) {
      const double middle =
          y_ + (static_cast<double>(row) + 0.5) * grid_.cell_height - grid_.gap / 2.0;
      add(x_ - 7.0, middle + 0.36 * kLabelSize,
          cut_to(panel_.rows[row], kLabelSize, kMostLabelWidth), kLabelSize, Anchor::kEnd, kInk);
    }
    const double labels = std::min(widest(panel_.rows, kLabelSize) * kSvgFonts, kMostLabelWidth);
    add(x_ - labels - 16.0, y_ + height() / 2.0, panel_.row_axis, kAxisSize, Anchor::kMiddle,
        kSoftInk);
    picture_.texts.back().upward = true;
  }

  void paint_columns() {
    const double needed = widest(panel_.columns, kLabelSize) * kSvgFonts + 5.0;
    for (const std::size_t column : shown_labels(panel_.columns, needed, grid_.cell_width)) {
      const double middle =
          x_ + (static_cast<double>(column) + 0.5) * grid_.cell_width - grid_.gap / 2.0;
      add(middle, y_ + height() + 14.0, panel_.columns[column], kLabelSize, Anchor::kMiddle, kInk);
    }
    add(x_ + width() / 2.0, y_ + height() + 31.0, panel_.column_axis, kAxisSize, Anchor::kMiddle,
        kSoftInk);
  }

  Picture& picture_;
  const HeatPanel& panel_;
  const Grid& grid_;
  double x_;
  double y_;
};

/// Title and subtitle; returns where they end.
double add_head(Picture& picture, const Heatmap& heatmap, double width) {
  double y = kMargin + kTitleSize * 0.8;
  picture.texts.push_back({.x = kMargin,
                           .y = y,
                           .text = cut_to(heatmap.title, kTitleSize, width / kSvgFonts),
                           .size = kTitleSize,
                           .color = kInk,
                           .bold = true});
  y += 5.0;
  for (const std::string& line : wrapped(heatmap.subtitle, kSubtitleSize, width / kSvgFonts)) {
    y += kSubtitleStep;
    picture.texts.push_back(
        {.x = kMargin, .y = y, .text = line, .size = kSubtitleSize, .color = kSoftInk});
  }
  return y + 20.0;
}

}  // namespace

HeatmapLayout layout_of(const Heatmap& heatmap) {
  constexpr double kLeastWidth = 480.0;
  HeatmapLayout picture;
  const Grid grid = grid_of(heatmap);
  const HeatKinds kinds = kinds_of(heatmap);
  picture.tight = grid.gap == 0.0;
  const auto beside = static_cast<double>(grid.beside);
  const double panels_width =
      heatmap.panels.empty() ? 0.0 : beside * grid.panel_width + (beside - 1.0) * kPanelGap;
  const double width =
      std::ceil(std::max({kLeastWidth, panels_width, grid.left + legend_width(kinds)}));
  double y = add_head(picture, heatmap, width);
  for (std::size_t i = 0; i < heatmap.panels.size(); ++i) {
    const auto column = static_cast<double>(i % grid.beside);
    const auto row = static_cast<double>(i / grid.beside);
    PanelPainter(picture, heatmap.panels[i], grid,
                 kMargin + column * (grid.panel_width + kPanelGap),
                 std::ceil(y) + row * (grid.panel_height + 20.0))
        .paint();
  }
  if (heatmap.panels.empty()) {
    picture.texts.push_back(
        {.x = kMargin, .y = y + 10.0, .text = "no rows", .size = 13.0, .color = kSoftInk});
    y += 30.0;
  } else {
    const std::size_t rows = (heatmap.panels.size() + grid.beside - 1) / grid.beside;
    y = std::ceil(y) + static_cast<double>(rows) * (grid.panel_height + 20.0);
  }
  add_legend(picture, kinds, kMargin + (heatmap.panels.empty() ? 4.0 : grid.left), y);
  picture.width = width + 2.0 * kMargin;
  picture.height = std::ceil(y + kLegendHeight + kMargin - 8.0);
  return picture;
}

std::string heatmap_svg(const Heatmap& heatmap) {
  return svg_of(layout_of(heatmap));
}

std::string heatmap_png(const Heatmap& heatmap) {
  constexpr double kScale = 2.0;
  return png_of(draw(layout_of(heatmap), kScale));
}

}  // namespace heddle::needle
