#include "tools/needle/report/stroke_font.h"

#include <array>
#include <cmath>
#include <cstdlib>
#include <string>

namespace heddle::needle {
namespace {

/// Points of a pen on a grid: y 0 is the baseline, 10 the top of "x", 14 that of "X", -4 the foot
/// of "p". "/" lifts the pen. A point with h or v is reached on a quarter of an ellipse that starts
/// horizontally or vertically.
struct Glyph {
  double width = 0.0;
  const char* strokes = "";
};
constexpr double kUnitsPerEm = 14.0 / 0.72;
constexpr double kGap = 3.0;  // between letters

constexpr Glyph kUnknown = {8, "0,0 8,0 8,14 0,14 0,0"};
/// From ' ' to '~'.
constexpr std::array<Glyph, 95> kGlyphs = {{
    {2.4, ""},
    {2, "1,14 1,4.4 / 1,0 1,0.2"},                                                 // !
    {4, "0.5,14 0.5,10 / 3.5,14 3.5,10"},                                          // "
    {9, "2,0 3.8,14 / 5.6,0 7.4,14 / 0.4,4.6 8.6,4.6 / 0.8,9.4 9,9.4"},            // #
    {8, "7.6,10.2 v4,12.6 h0.6,9.9 v4,7.2 h8,4 v4,1.4 h0.2,4.2 / 4,14.6 4,-0.6"},  // $
    {14,
     "3,7.4 h6,10.7 v3,14 h0,10.7 v3,7.4 / 11,0 h14,3.3 v11,6.6 h8,3.3 v11,0 / "
     "3.4,0 10.6,14"},                                                                       // %
    {10, "10,0 2.4,9 1.8,11.2 v4.5,14 h7,11.4 6,9.4 1.4,6.2 0,3.6 v3.6,0 6.6,1.2 9.4,6.4"},  // &
    {2, "1,14 1,10"},                                                                        // '
    {3.4, "3.4,15 1.2,11 0.3,5.5 1.2,0 3.4,-4"},                                             // (
    {3.4, "0,15 2.2,11 3.1,5.5 2.2,0 0,-4"},                                                 // )
    {5, "2.5,14 2.5,8 / 0,12.5 5,9.5 / 0,9.5 5,12.5"},                                       // *
    {8, "4,1.6 4,9.6 / 0,5.6 8,5.6"},                                                        // +
    {2, "1.2,0.4 1.2,0 0.4,-2.6"},                                                           // ,
    {4, "0,5 4,5"},                                                                          // -
    {2, "1,0 1,0.2"},                                                                        // .
    {5, "0,0 5,14"},                                                                         // /
    {8, "4,0 h8,5 8,9 v4,14 h0,9 0,5 v4,0"},                                                 // 0
    {8, "1.5,11.5 5,14 5,0"},                                                                // 1
    {8, "0.3,10.2 v4,14 h7.7,10.3 7.4,8.8 6.4,7 0,0 8,0"},                                   // 2
    {8, "0.5,11 v4,14 h7.5,10.8 v4,7.6 2.6,7.6 / 4,7.6 h8,3.8 v4,0 h0,3.2"},                 // 3
    {8, "6,0 6,14 0,4.2 8,4.2"},                                                             // 4
    {8, "7.2,14 1.2,14 0.6,7.2 2,8.4 4,8.9 h8,4.4 v4,0 h0,3"},                               // 5
    {8, "7.4,11.4 v4.4,14 h0,7 0,4.5 v4,0 h8,4.4 v4,8.8 h0,4.5"},                            // 6
    {8, "0,14 8,14 3,0"},                                                                    // 7
    {8, "4,7.6 h0.6,10.8 v4,14 h7.4,10.8 v4,7.6 h0,3.8 v4,0 h8,3.8 v4,7.6"},                 // 8
    {8, "0.6,2.6 v3.6,0 h8,7 8,9.5 v4,14 h0,9.6 v4,5.2 h8,9.5"},                             // 9
    {2, "1,0 1,0.2 / 1,9 1,9.2"},                                                            // :
    {2, "1.2,0.4 1.2,0 0.4,-2.6 / 1.2,9 1.2,9.2"},                                           // ;
    {8, "8,10 0,5.6 8,1.2"},                                                                 // <
    {8, "0,3.8 8,3.8 / 0,7.6 8,7.6"},                                                        // =
    {8, "0,10 8,5.6 0,1.2"},                                                                 // >
    {7.4, "0,10.4 v3.7,14 h7.4,10.6 6.9,8.8 3.7,5.8 3.7,4 / 3.7,0 3.7,0.2"},                 // ?
    {15,
     "12.8,-1.6 9.5,-3 7.5,-3 h0,5 v7.5,13 h15,6.2 v12.4,2 h10.6,4.4 11.4,9.4 / "
     "10.9,6.6 v7.6,9.4 h4.2,5.4 v6.8,2 h10.8,5.6"},                                   // @
    {10, "0,0 5,14 10,0 / 1.8,4.6 8.2,4.6"},                                           // A
    {8.6, "0,0 0,14 4.6,14 h8,10.8 v4.6,7.5 0,7.5 / 4.6,7.5 h8.6,3.7 v4.6,0 0,0"},     // B
    {9.6, "9.6,10.2 v5.2,14 h0,7 v5.2,0 h9.6,3.8"},                                    // C
    {9.4, "0,0 0,14 3.8,14 h9.4,8 9.4,6 v3.8,0 0,0"},                                  // D
    {8, "8,14 0,14 0,0 8,0 / 0,7.4 7,7.4"},                                            // E
    {7.6, "7.6,14 0,14 0,0 / 0,7.2 6.4,7.2"},                                          // F
    {10, "9.6,10.4 v5.2,14 h0,7 v5.2,0 h10,4 10,6.6 5.6,6.6"},                         // G
    {9, "0,0 0,14 / 9,0 9,14 / 0,7.4 9,7.4"},                                          // H
    {2, "1,0 1,14"},                                                                   // I
    {6.4, "6.4,14 6.4,4 v3.2,0 h0,3.6"},                                               // J
    {8.8, "0,0 0,14 / 8.4,14 0,5.2 / 3,8.3 8.8,0"},                                    // K
    {7.4, "0,14 0,0 7.4,0"},                                                           // L
    {11, "0,0 0,14 5.5,2.6 11,14 11,0"},                                               // M
    {9, "0,0 0,14 9,0 9,14"},                                                          // N
    {11, "5.5,0 h11,7 v5.5,14 h0,7 v5.5,0"},                                           // O
    {8.4, "0,0 0,14 4.6,14 h8.4,10.2 v4.6,6.4 0,6.4"},                                 // P
    {11, "5.5,0 h11,7 v5.5,14 h0,7 v5.5,0 / 6.8,3.6 10.8,-0.8"},                       // Q
    {9, "0,0 0,14 4.8,14 h8.6,10.4 v4.8,6.8 0,6.8 / 4.8,6.8 9,0"},                     // R
    {8.6, "8.2,10.6 v4.3,14 h0.5,10.6 v4.3,7.3 h8.6,3.6 v4.3,0 h0,3.8"},               // S
    {8.6, "0,14 8.6,14 / 4.3,14 4.3,0"},                                               // T
    {9, "0,14 0,4.6 v4.5,0 h9,4.6 9,14"},                                              // U
    {9.4, "0,14 4.7,0 9.4,14"},                                                        // V
    {13.4, "0,14 3.4,0 6.7,13.4 10,0 13.4,14"},                                        // W
    {9, "0,0 9,14 / 0,14 9,0"},                                                        // X
    {9, "0,14 4.5,6.6 9,14 / 4.5,6.6 4.5,0"},                                          // Y
    {8.6, "0,14 8.6,14 0,0 8.6,0"},                                                    // Z
    {3, "3,15 0,15 0,-4 3,-4"},                                                        // [
    {5, "0,14 5,0"},                                                                   // backslash
    {3, "0,15 3,15 3,-4 0,-4"},                                                        // ]
    {7, "0,7 3.5,14 7,7"},                                                             // ^
    {8, "-0.5,-3 8.5,-3"},                                                             // _
    {3, "0,14 2.4,11.4"},                                                              // `
    {7.2, "7.2,0 7.2,6.6 v3.8,10 h0.5,7.6 / 7.2,5.8 3.4,5.6 h0,2.8 v3.1,0 h7.2,3.4"},  // a
    {8, "0,0 0,14 / 0,5 v4,10 h8,5 v4,0 h0,5"},                                        // b
    {7.4, "7.4,7.4 v4,10 h0,5 v4,0 h7.4,2.6"},                                         // c
    {8, "8,0 8,14 / 8,5 v4,10 h0,5 v4,0 h8,5"},                                        // d
    {8, "0,5.2 8,5.2 v4.1,10 h0,5 v4.2,0 h7.6,2.4"},                                   // e
    {4.4, "4.8,13.8 3.9,14 h1.7,11.6 1.7,0 / 0,10 4.4,10"},                            // f
    {8, "8,10 8,-0.6 v4,-4 h0.4,-1.8 / 8,5 v4,10 h0,5 v4,0 h8,5"},                     // g
    {7.4, "0,0 0,14 / 0,6 v3.9,10 h7.4,6.4 7.4,0"},                                    // h
    {2, "1,0 1,10 / 1,13.6 1,13.8"},                                                   // i
    {2.4, "1.4,10 1.4,-2 v-0.2,-4 -0.8,-4 / 1.4,13.6 1.4,13.8"},                       // j
    {7, "0,0 0,14 / 6.6,10 0,4 / 2.4,6.2 7,0"},                                        // k
    {2, "1,0 1,14"},                                                                   // l
    {12, "0,0 0,10 / 0,6.2 v3.2,10 h6,6.6 6,0 / 6,6.2 v9.2,10 h12,6.6 12,0"},          // m
    {7.4, "0,0 0,10 / 0,6 v3.9,10 h7.4,6.4 7.4,0"},                                    // n
    {8.2, "4.1,0 h8.2,5 v4.1,10 h0,5 v4.1,0"},                                         // o
    {8, "0,10 0,-4 / 0,5 v4,10 h8,5 v4,0 h0,5"},                                       // p
    {8, "8,10 8,-4 / 8,5 v4,10 h0,5 v4,0 h8,5"},                                       // q
    {4.4, "0,0 0,10 / 0,5.6 v3.8,10 4.8,9.8"},                                         // r
    {7, "6.6,7.6 v3.5,10 h0.4,7.5 v3.5,5.2 h7,2.7 v3.5,0 h0,2.5"},                     // s
    {4.4, "1.8,13 1.8,2.4 v3.6,0 4.6,0.2 / 0,10 4.4,10"},                              // t
    {7.4, "0,10 0,3.6 v3.5,0 h7.4,4 / 7.4,10 7.4,0"},                                  // u
    {7.4, "0,10 3.7,0 7.4,10"},                                                        // v
    {11, "0,10 2.9,0 5.5,9.4 8.1,0 11,10"},                                            // w
    {7, "0,0 7,10 / 0,10 7,0"},                                                        // x
    {7.4, "0,10 3.8,0.4 / 7.4,10 3.2,-1.6 v0.8,-4 0.2,-3.9"},                          // y
    {6.8, "0,10 6.8,10 0,0 6.8,0"},                                                    // z
    {4.4, "4.4,15 h2,12.8 2,7.6 v0,5.5 h2,3.4 2,-1.8 v4.4,-4"},                        // {
    {2, "1,15 1,-4"},                                                                  // |
    {4.4, "0,15 h2.4,12.8 2.4,7.6 v4.4,5.5 h2.4,3.4 2.4,-1.8 v0,-4"},                  // }
    {8.4, "0,4.8 v2.2,6.8 4.2,5.6 6.2,4.4 h8.4,6.4"},                                  // ~
}};

const Glyph& glyph_of(char c) {
  const auto i = static_cast<std::size_t>(static_cast<unsigned char>(c)) - ' ';
  return i < kGlyphs.size() ? kGlyphs[i] : kUnknown;
}

/// One box for a character of several bytes.
bool begins_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
}

class Pen {
 public:
  Pen(double left, double unit, std::vector<FontSegment>& out)
      : left_(left), unit_(unit), out_(out) {}

  void draw(const char* strokes) {
    bool down = false;
    for (const char* at = strokes; *at != '\0';) {
      if (*at == ' ') {
        ++at;
      } else if (*at == '/') {
        down = false;
        ++at;
      } else {
        const char how = *at == 'h' || *at == 'v' ? *at++ : ' ';
        char* end = nullptr;
        FontPoint to;
        to.x = std::strtod(at, &end);
        to.y = std::strtod(end + 1, &end);
        at = end;
        if (down) move(to, how);
        at_ = to;
        down = true;
      }
    }
  }

 private:
  void move(FontPoint to, char how) {
    constexpr int kSteps = 8;
    constexpr double kQuarter = 1.57079632679489661923;
    const FontPoint from = at_;
    for (int step = 1; step <= kSteps && how != ' '; ++step) {
      const double s = std::sin(kQuarter * step / kSteps);
      const double c = std::cos(kQuarter * step / kSteps);
      line(how == 'h' ? FontPoint{from.x + (to.x - from.x) * s, to.y + (from.y - to.y) * c}
                      : FontPoint{to.x + (from.x - to.x) * c, from.y + (to.y - from.y) * s});
    }
    if (how == ' ') line(to);
  }
  void line(FontPoint to) {
    out_.push_back({placed(at_), placed(to)});
    at_ = to;
  }
  FontPoint placed(FontPoint point) const { return {(left_ + point.x) * unit_, -point.y * unit_}; }

  double left_;
  double unit_;
  std::vector<FontSegment>& out_;
  FontPoint at_ = {};
};

}  // namespace

double text_width(std::string_view text, double size) {
  double units = 0.0;
  for (const char c : text) {
    if (begins_character(c)) units += glyph_of(c).width + kGap;
  }
  return units * size / kUnitsPerEm;
}

std::vector<FontSegment> text_strokes(std::string_view text, double size) {
  std::vector<FontSegment> segments;
  double left = kGap / 2.0;
  for (const char c : text) {
    if (!begins_character(c)) continue;
    Pen(left, size / kUnitsPerEm, segments).draw(glyph_of(c).strokes);
    left += glyph_of(c).width + kGap;
  }
  return segments;
}

double stroke_width(double size, bool bold) {
  return size * (bold ? 0.122 : 0.088);
}

}  // namespace heddle::needle
