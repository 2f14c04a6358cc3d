#pragma once
// A picture as rectangles, lines and texts, drawn twice: as SVG and as pixels. Units are those of
// the SVG, y goes down.

#include <cstdint>
#include <string>
#include <vector>

namespace heddle::needle {

struct Color {
  std::uint8_t red = 0;
  std::uint8_t green = 0;
  std::uint8_t blue = 0;
  bool operator==(const Color&) const = default;
};
std::string hex(Color color);  // "#00224e"

struct PictureRect {
  double x = 0.0;
  double y = 0.0;
  double width = 0.0;
  double height = 0.0;
  Color fill = {};
  std::string kind = {};   // its class in the SVG: "cell"
  std::string title = {};  // what a pointer over it shows; "": nothing
};

struct PictureLine {
  double x1 = 0.0;
  double y1 = 0.0;
  double x2 = 0.0;
  double y2 = 0.0;
  double width = 1.0;
  Color color = {};
};

enum class Anchor { kStart, kMiddle, kEnd };

struct PictureText {
  double x = 0.0;
  double y = 0.0;  // of the baseline
  std::string text = {};
  double size = 11.0;
  Anchor anchor = Anchor::kStart;
  Color color = {};
  bool bold = false;
  bool upward = false;  // turned by 90 degrees, read from below
};

/// Drawn in this order: rectangles, lines, texts.
struct Picture {
  double width = 0.0;
  double height = 0.0;
  Color background = {255, 255, 255};
  bool tight = false;  // rectangles touch each other: no seams between them where it is scaled
  std::vector<PictureRect> rects = {};
  std::vector<PictureLine> lines = {};
  std::vector<PictureText> texts = {};
};

/// The same bytes for the same picture.
std::string svg_of(const Picture& picture);

}  // namespace heddle::needle
