#include "tools/needle/report/raster.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "tools/needle/report/stroke_font.h"

namespace heddle::needle {
namespace {

constexpr double kMostPixels = 30e6;

std::uint8_t mixed(std::uint8_t below, std::uint8_t above, double share) {
  return static_cast<std::uint8_t>(std::lround(below + (above - below) * share));
}

double distance(double x, double y, const FontSegment& segment) {
  const double dx = segment.to.x - segment.from.x;
  const double dy = segment.to.y - segment.from.y;
  const double square = dx * dx + dy * dy;
  double t = 0.0;
  if (square > 0.0) t = ((x - segment.from.x) * dx + (y - segment.from.y) * dy) / square;
  t = std::clamp(t, 0.0, 1.0);
  const double ex = x - segment.from.x - t * dx;
  const double ey = y - segment.from.y - t * dy;
  return std::sqrt(ex * ex + ey * ey);
}

/// Pixels that an interval of coordinates touches, within 0 .. n.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
};
Span pixels(double low, double high, std::size_t n) {
  const double most = static_cast<double>(n);
  return {static_cast<std::size_t>(std::clamp(std::floor(low), 0.0, most)),
          static_cast<std::size_t>(std::clamp(std::ceil(high), 0.0, most))};
}

class Canvas {
 public:
  explicit Canvas(Image& image) : image_(image) {}

  /// A pixel gets the share of it that the rectangle covers.
  void fill(double x, double y, double width, double height, Color color) {
    const Span rows = pixels(y, y + height, image_.height);
    const Span columns = pixels(x, x + width, image_.width);
    const auto overlap = [](double low, double high, std::size_t pixel) {
      const double at = static_cast<double>(pixel);
      return std::max(0.0, std::min(high, at + 1.0) - std::max(low, at));
    };
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
      for (std::size_t column = columns.begin; column < columns.end; ++column) {
        blend(column, row, color, overlap(x, x + width, column) * overlap(y, y + height, row));
      }
    }
  }

  /// Round ends and joints; where strokes meet, nothing is drawn twice.
  void stroke(const std::vector<FontSegment>& segments, double width, Color color) {
    if (segments.empty()) return;
    FontPoint low = segments.front().from;
    FontPoint high = low;
    for (const FontSegment& segment : segments) {
      for (const FontPoint point : {segment.from, segment.to}) {
        low = {std::min(low.x, point.x), std::min(low.y, point.y)};
        high = {std::max(high.x, point.x), std::max(high.y, point.y)};
      }
    }
    const double reach = width / 2.0 + 0.5;
    const Span rows = pixels(low.y - reach, high.y + reach, image_.height);
    const Span columns = pixels(low.x - reach, high.x + reach, image_.width);
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
      for (std::size_t column = columns.begin; column < columns.end; ++column) {
        double nearest = reach;
        for (const FontSegment& segment : segments) {
          nearest = std::min(nearest, distance(static_cast<double>(column) + 0.5,
                                               static_cast<double>(row) + 0.5, segment));
        }
        blend(column, row, color, std::min(1.0, reach - nearest));
      }
    }
  }

 private:
  void blend(std::size_t x, std::size_t y, Color color, double share) {
    if (share <= 0.0) return;
    std::uint8_t* pixel = &image_.rgb[(y * image_.width + x) * 3];
    pixel[0] = mixed(pixel[0], color.red, share);
    pixel[1] = mixed(pixel[1], color.green, share);
    pixel[2] = mixed(pixel[2], color.blue, share);
  }

  Image& image_;
};

/// One letter at a time: a pixel looks at the strokes of its letter alone.
void draw_text(Canvas& canvas, const PictureText& text, double scale) {
  const double width = text_width(text.text, text.size);
  double left = text.anchor == Anchor::kStart    ? 0.0
                : text.anchor == Anchor::kMiddle ? -width / 2.0
                                                 : -width;
  for (std::size_t i = 0; i < text.text.size(); ++i) {
    const std::string_view letter = std::string_view(text.text).substr(i, 1);
    std::vector<FontSegment> strokes = text_strokes(letter, text.size);
    const auto place = [&](FontPoint& point) {
      const FontPoint at = {left + point.x, point.y};
      point = text.upward ? FontPoint{(text.x + at.y) * scale, (text.y - at.x) * scale}
                          : FontPoint{(text.x + at.x) * scale, (text.y + at.y) * scale};
    };
    for (FontSegment& segment : strokes) {
      place(segment.from);
      place(segment.to);
    }
    canvas.stroke(strokes, stroke_width(text.size, text.bold) * scale, text.color);
    left += text_width(letter, text.size);
  }
}

}  // namespace

Color Image::at(std::size_t x, std::size_t y) const {
  HEDDLE_CHECK(x < width && y < height);
  const std::uint8_t* pixel = &rgb[(y * width + x) * 3];
  return {pixel[0], pixel[1], pixel[2]};
}

Image draw(const Picture& picture, double scale) {
  HEDDLE_CHECK(picture.width >= 1.0 && picture.height >= 1.0);
  const double area = picture.width * picture.height;
  scale = std::min(scale, std::sqrt(kMostPixels / area));
  Image image;
  image.width = static_cast<std::size_t>(std::ceil(picture.width * scale));
  image.height = static_cast<std::size_t>(std::ceil(picture.height * scale));
  image.rgb.resize(image.width * image.height * 3);
  Canvas canvas(image);
  canvas.fill(0.0, 0.0, static_cast<double>(image.width), static_cast<double>(image.height),
              picture.background);
  for (const PictureRect& rect : picture.rects) {
    canvas.fill(rect.x * scale, rect.y * scale, rect.width * scale, rect.height * scale, rect.fill);
  }
  for (const PictureLine& line : picture.lines) {
    const FontSegment segment = {{line.x1 * scale, line.y1 * scale},
                                 {line.x2 * scale, line.y2 * scale}};
    canvas.stroke({segment}, line.width * scale, line.color);
  }
  for (const PictureText& text : picture.texts) draw_text(canvas, text, scale);
  return image;
}

}  // namespace heddle::needle
