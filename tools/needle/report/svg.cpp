#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "tools/needle/report/picture.h"
#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

/// At most two digits after the point, none that says nothing.
std::string number(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

void append_rect(std::string& svg, const PictureRect& rect) {
  fmt::format_to(std::back_inserter(svg),
                 R"(<rect class="{}" x="{}" y="{}" width="{}" height="{}" fill="{}")",
                 escaped(rect.kind), number(rect.x), number(rect.y), number(rect.width),
                 number(rect.height), hex(rect.fill));
  svg += rect.title.empty() ? "/>\n" : "><title>" + escaped(rect.title) + "</title></rect>\n";
}

void append_line(std::string& svg, const PictureLine& line) {
  fmt::format_to(std::back_inserter(svg),
                 R"(<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{}" stroke-width="{}"/>)"
                 "\n",
                 number(line.x1), number(line.y1), number(line.x2), number(line.y2),
                 hex(line.color), number(line.width));
}

void append_text(std::string& svg, const PictureText& text) {
  constexpr const char* kAnchors[] = {"start", "middle", "end"};
  fmt::format_to(std::back_inserter(svg),
                 R"(<text x="{}" y="{}" font-size="{}" text-anchor="{}" fill="{}")", number(text.x),
                 number(text.y), number(text.size), kAnchors[static_cast<int>(text.anchor)],
                 hex(text.color));
  if (text.bold) svg += R"( font-weight="bold")";
  if (text.upward) {
    fmt::format_to(std::back_inserter(svg), R"x( transform="rotate(-90 {} {})")x", number(text.x),
                   number(text.y));
  }
  svg += ">" + escaped(text.text) + "</text>\n";
}

}  // namespace

std::string hex(Color color) {
  return fmt::format("#{:02x}{:02x}{:02x}", color.red, color.green, color.blue);
}

std::string svg_of(const Picture& picture) {
  std::string svg = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" )"
      R"(font-family="Helvetica, Arial, 'Liberation Sans', sans-serif" role="img"{2}>)"
      "\n",
      number(picture.width), number(picture.height),
      picture.tight ? R"( shape-rendering="crispEdges")" : "");
  append_rect(svg, {.width = picture.width,
                    .height = picture.height,
                    .fill = picture.background,
                    .kind = "background"});
  for (const PictureRect& rect : picture.rects) append_rect(svg, rect);
  for (const PictureLine& line : picture.lines) append_line(svg, line);
  for (const PictureText& text : picture.texts) append_text(svg, text);
  return svg + "</svg>\n";
}

}  // namespace heddle::needle
