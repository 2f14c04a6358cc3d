#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/support/needle_rows.h"
#include "tools/needle/report/heatmap.h"
#include "tools/needle/report/panels.h"
#include "tools/needle/report/raster.h"
#include "tools/needle/report/stroke_font.h"
#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

struct Element {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string text = {};
};

/// The elements of an XML text in the order of their begins; fails where tags do not nest.
std::vector<Element> parse_xml(const std::string& xml) {
  std::vector<Element> elements;
  std::vector<std::size_t> open;
  for (std::size_t i = 0; i < xml.size();) {
    if (xml[i] != '<') {
      const std::size_t end = std::min(xml.find('<', i), xml.size());
      if (!open.empty()) elements[open.back()].text += xml.substr(i, end - i);
      i = end;
      continue;
    }
    const std::size_t end = xml.find('>', i);
    std::string tag = xml.substr(i + 1, end - i - 1);
    i = end + 1;
    if (tag[0] == '/') {
      EXPECT_FALSE(open.empty());
      EXPECT_EQ(elements[open.back()].name, tag.substr(1));
      open.pop_back();
      continue;
    }
    const bool closed = tag.back() == '/';
    if (closed) tag.pop_back();
    Element element;
    std::size_t at = std::min(tag.find(' '), tag.size());
    element.name = tag.substr(0, at);
    while (at < tag.size()) {
      const std::size_t equals = tag.find("=\"", at);
      const std::size_t quote = tag.find('"', equals + 2);
      element.attributes[tag.substr(at + 1, equals - at - 1)] =
          tag.substr(equals + 2, quote - equals - 2);
      at = quote + 1;
    }
    elements.push_back(element);
    if (!closed) open.push_back(elements.size() - 1);
  }
  EXPECT_TRUE(open.empty());
  return elements;
}

std::vector<Element> of_class(const std::vector<Element>& elements, const std::string& kind) {
  std::vector<Element> found;
  for (const Element& element : elements) {
    const auto at = element.attributes.find("class");
    if (at != element.attributes.end() && at->second == kind) found.push_back(element);
  }
  return found;
}

std::vector<std::string> texts_of(const std::vector<Element>& elements, const std::string& name) {
  std::vector<std::string> texts;
  for (const Element& element : elements) {
    if (element.name == name) texts.push_back(element.text);
  }
  return texts;
}

/// Depths 0, 50, 100 by 1k, 2k: all kinds of cells.
std::vector<Row> six_cells() {
  return {test_row("number", 1024, 0.0, 1.0),  test_row("number", 2048, 0.0, 0.0),
          test_row("number", 1024, 50.0, 0.5), test_row("number", 1024, 50.0, {}, 1),
          test_row("number", 2048, 50.0, {}),  test_row("number", 1024, 100.0, 0.996)};
}

Heatmap six_map() {
  return heatmap_of(summarize(six_cells()), "Needle & <co>", "tiny, attention trained");
}

Image decoded(const std::string& bytes) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  EXPECT_NE(png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()), 0);
  png.format = PNG_FORMAT_RGB;
  Image image;
  image.width = png.width;
  image.height = png.height;
  image.rgb.resize(PNG_IMAGE_SIZE(png));
  EXPECT_NE(png_image_finish_read(&png, nullptr, image.rgb.data(), 0, nullptr), 0);
  return image;
}

TEST(NeedleHeatmap, SvgHasARectangleWithItsFactsForEachCell) {
  const auto elements = parse_xml(heatmap_svg(six_map()));
  const auto cells = of_class(elements, "cell");
  ASSERT_EQ(cells.size(), 6U);
  std::vector<std::string> titles;
  for (const std::string& title : texts_of(elements, "title")) titles.push_back(title);
  EXPECT_THAT(titles, ElementsAre("niah number, length 1024, depth 0: 100 % (n 1, errors 0)",
                                  "niah number, length 2048, depth 0: 0 % (n 1, errors 0)",
                                  "niah number, length 1024, depth 50: 50 % (n 1, errors 1)",
                                  "niah number, length 2048, depth 50: no score (n 0, errors 1)",
                                  "niah number, length 1024, depth 100: 99.6 % (n 1, errors 0)",
                                  "niah number, length 2048, depth 100: not run"));
  EXPECT_EQ(cells[0].attributes.at("fill"), hex(heat_color(1.0)));
  EXPECT_EQ(cells[1].attributes.at("fill"), hex(heat_color(0.0)));
  EXPECT_EQ(cells[2].attributes.at("fill"), hex(heat_color(0.5)));
}

TEST(NeedleHeatmap, CellsAreInRowsOfDepthsAndColumnsOfLengths) {
  const auto cells = of_class(parse_xml(heatmap_svg(six_map())), "cell");
  const auto at = [&](std::size_t i, const char* name) {
    return std::stod(cells[i].attributes.at(name));
  };
  EXPECT_LT(at(0, "x"), at(1, "x"));
  EXPECT_EQ(at(0, "y"), at(1, "y"));
  EXPECT_EQ(at(0, "x"), at(2, "x"));
  EXPECT_LT(at(0, "y"), at(2, "y"));
  EXPECT_LT(at(2, "y"), at(4, "y"));
}

TEST(NeedleHeatmap, TextsAreEscapedAndTellScoresAndLabels) {
  const auto texts = texts_of(parse_xml(heatmap_svg(six_map())), "text");
  for (const char* text : {"Needle &amp; &lt;co&gt;", "tiny, attention trained", "1k", "2k", "0",
                           "50", "100", "99", "err", "depth, %", "length, tokens", "100 %",
                           "no answer (errors)", "some samples are errors", "not run"}) {
    EXPECT_THAT(texts, ::testing::Contains(text));
  }
}

TEST(NeedleHeatmap, TheSameRowsGiveTheSameBytes) {
  EXPECT_EQ(heatmap_svg(six_map()), heatmap_svg(six_map()));
  EXPECT_EQ(heatmap_png(six_map()), heatmap_png(six_map()));
}

TEST(NeedleHeatmap, PngHasTheColoursOfTheCellsAtTwiceTheSize) {
  const HeatmapLayout layout = layout_of(six_map());
  const Image image = decoded(heatmap_png(six_map()));
  EXPECT_EQ(image.width, static_cast<std::size_t>(layout.width * 2));
  EXPECT_EQ(image.height, static_cast<std::size_t>(layout.height * 2));
  EXPECT_EQ(image.at(0, 0), (Color{255, 255, 255}));
  std::size_t n = 0;
  for (const PictureRect& rect : layout.rects) {
    if (rect.kind != "cell") continue;
    ++n;
    // A corner, where no number stands and no slanted line goes.
    const auto x = static_cast<std::size_t>(rect.x * 2) + 1;
    const auto y = static_cast<std::size_t>(rect.y * 2) + 1;
    EXPECT_EQ(image.at(x, y), rect.fill) << rect.title;
  }
  EXPECT_EQ(n, 6U);
}

TEST(NeedleHeatmap, PngShowsTheNumbersOfTheCells) {
  const HeatmapLayout layout = layout_of(six_map());
  const Image image = decoded(heatmap_png(six_map()));
  const PictureRect& zero = layout.rects[1];  // "0", white on dark
  ASSERT_EQ(zero.fill, heat_color(0.0));
  std::size_t white = 0;
  for (auto y = static_cast<std::size_t>(zero.y * 2); y < (zero.y + zero.height) * 2; ++y) {
    for (auto x = static_cast<std::size_t>(zero.x * 2); x < (zero.x + zero.width) * 2; ++x) {
      white += image.at(x, y) == Color{255, 255, 255} ? 1 : 0;
    }
  }
  EXPECT_GT(white, 30U);
  EXPECT_LT(white, 500U);
}

TEST(NeedleHeatmap, ScoresNearTheEndsAreNotRoundedToThem) {
  EXPECT_EQ(heat_number(1.0), "100");
  EXPECT_EQ(heat_number(0.9999), "99");
  EXPECT_EQ(heat_number(0.636), "64");
  EXPECT_EQ(heat_number(0.0001), "1");
  EXPECT_EQ(heat_number(0.0), "0");
}

TEST(NeedleHeatmap, ColoursBecomeLighterWithTheScore) {
  double last = -1.0;
  for (int i = 0; i <= 1000; ++i) {
    const Color color = heat_color(i / 1000.0);
    const double light = 0.2126 * color.red + 0.7152 * color.green + 0.0722 * color.blue;
    EXPECT_GE(light, last - 0.75) << i;  // each channel is rounded
    last = std::max(last, light);
  }
  EXPECT_EQ(heat_color(-1.0), heat_color(0.0));
  EXPECT_EQ(heat_color(2.0), heat_color(1.0));
}

TEST(NeedleHeatmap, ManyCellsHaveNoNumbersAndLabelsThatDoNotTouch) {
  std::vector<Row> rows;
  for (int i = 1; i <= 128; ++i) {
    for (int depth = 0; depth <= 100; depth += 10) {
      rows.push_back(test_row("number", i * 512, depth, 0.5));
    }
  }
  const HeatmapLayout layout = layout_of(heatmap_of(summarize(rows), "t", "s"));
  std::vector<PictureText> lengths;
  for (const PictureText& text : layout.texts) {
    EXPECT_NE(text.text, "50 %");
    if (text.text.ends_with("k")) lengths.push_back(text);
  }
  EXPECT_GT(lengths.size(), 10U);
  for (std::size_t i = 1; i < lengths.size(); ++i) {
    EXPECT_GT(lengths[i].x - lengths[i - 1].x, (text_width(lengths[i].text, lengths[i].size) +
                                                text_width(lengths[i - 1].text, lengths[i].size)) /
                                                       2 +
                                                   3.0);
  }
  std::size_t fifty = 0;
  for (const PictureText& text : layout.texts) fifty += text.text == "50" ? 1 : 0;
  EXPECT_EQ(fifty, 2U);  // a depth and a tick of the legend
}

TEST(NeedleHeatmap, TasksWithDepthsHavePanelsAndThoseWithoutShareOne) {
  std::vector<Row> rows;
  for (const char* task : {"a", "b", "c", "d", "e"}) {
    rows.push_back(test_row(task, 1024, 0.0, 1.0));
    rows.push_back(test_row(task, 1024, 100.0, 1.0));
  }
  rows.push_back(test_row("vt", 1024, {}, 0.5));
  rows.push_back(test_row("cwe", 2048, {}, 0.5));
  const Heatmap map = heatmap_of(summarize(rows), "t", "s");
  ASSERT_EQ(map.panels.size(), 6U);
  EXPECT_EQ(map.panels[0].title, "niah a");
  EXPECT_EQ(map.panels[5].title, "niah");
  EXPECT_THAT(map.panels[5].rows, ElementsAre("vt", "cwe"));
  EXPECT_THAT(map.panels[5].columns, ElementsAre("1k", "2k"));
}

TEST(NeedleHeatmap, TitlesOfNarrowPanelsAreWhole) {
  Heatmap map = heatmap_of(summarize(six_cells()), "t", "s");
  ASSERT_EQ(map.panels.size(), 1U);
  map.panels.resize(2, map.panels[0]);
  for (HeatPanel& panel : map.panels) {
    panel.columns.resize(1);
    panel.cells.resize(panel.rows.size());
  }
  map.panels[0].title = "infllm:64,16,8 of a mode";
  map.panels[1].title = std::string(200, 'W');
  std::vector<std::string> texts;
  for (const PictureText& text : layout_of(map).texts) texts.push_back(text.text);
  EXPECT_THAT(texts, Contains("infllm:64,16,8 of a mode"));
  EXPECT_THAT(texts, Contains(EndsWith("WWW...")));
}

TEST(NeedleHeatmap, EverythingLiesInsideThePicture) {
  std::vector<Row> rows = six_cells();
  for (const char* task : {"a task with a very long name that nobody needs", "b", "c", "d"}) {
    rows.push_back(test_row(task, 1 << 20, {}, 0.25));
    rows.push_back(test_row(task + std::string("!"), 777, 33.3, {}));
  }
  const std::string word = "subtitle ";
  std::string subtitle;
  for (int i = 0; i < 40; ++i) subtitle += word;
  const HeatmapLayout layout =
      layout_of(heatmap_of(summarize(rows), std::string(300, 'W'), subtitle));
  for (const PictureRect& rect : layout.rects) {
    EXPECT_GE(rect.x, 0.0);
    EXPECT_LE(rect.x + rect.width, layout.width);
    EXPECT_LE(rect.y + rect.height, layout.height);
  }
  for (const PictureText& text : layout.texts) {
    const double width = text.upward ? 0.0 : text_width(text.text, text.size);
    const double left = text.anchor == Anchor::kStart ? text.x
                        : text.anchor == Anchor::kEnd ? text.x - width
                                                      : text.x - width / 2;
    EXPECT_GE(left, 0.0) << text.text;
    EXPECT_LE(left + width, layout.width) << text.text;
    EXPECT_LE(text.y + 0.2 * text.size, layout.height) << text.text;
  }
}

TEST(NeedleHeatmap, NoRowsAndErrorsAloneAreDrawn) {
  const Heatmap none = heatmap_of(summarize({}), "t", "s");
  EXPECT_TRUE(of_class(parse_xml(heatmap_svg(none)), "cell").empty());
  EXPECT_GT(decoded(heatmap_png(none)).width, 100U);
  const std::vector<Row> rows = {test_row("number", 1024, 50.0, {})};
  const Heatmap errors = heatmap_of(summarize(rows), "t", "s");
  EXPECT_EQ(of_class(parse_xml(heatmap_svg(errors)), "cell").size(), 1U);
  EXPECT_GT(decoded(heatmap_png(errors)).width, 100U);
}

TEST(NeedleHeatmap, HostileTextsStayTexts) {
  const std::string hostile = "\"><script>\x01\xff</title>&amp;";
  const std::vector<Row> rows = {test_row(hostile, 1024, {}, 1.0), test_row("b", 1024, {}, 1.0)};
  const std::string svg = heatmap_svg(heatmap_of(summarize(rows), hostile, hostile));
  EXPECT_THAT(svg, Not(HasSubstr("<script")));
  EXPECT_THAT(svg, HasSubstr("&quot;&gt;&lt;script&gt;\\x01\xef\xbf\xbd&lt;/title&gt;&amp;amp;"));
  parse_xml(svg);
}

TEST(NeedleFont, EveryPrintableCharacterHasStrokesWithinItsWidth) {
  for (char c = '!'; c <= '~'; ++c) {
    const std::string text(1, c);
    const auto strokes = text_strokes(text, 100.0);
    EXPECT_FALSE(strokes.empty()) << c;
    for (const FontSegment& segment : strokes) {
      for (const FontPoint point : {segment.from, segment.to}) {
        EXPECT_GE(point.x, 0.0) << c;
        EXPECT_LE(point.x, text_width(text, 100.0)) << c;
        EXPECT_GE(point.y, -80.0) << c;
        EXPECT_LE(point.y, 22.0) << c;
      }
    }
  }
  EXPECT_TRUE(text_strokes(" ", 10.0).empty());
}

TEST(NeedleFont, DigitsAreEquallyWideAndOtherCharactersAreOneBox) {
  for (char c = '0'; c <= '9'; ++c) {
    EXPECT_EQ(text_width(std::string(1, c), 10.0), text_width("0", 10.0));
  }
  EXPECT_EQ(text_width("\xc3\xa4", 10.0), text_width("\x01", 10.0));
  EXPECT_EQ(text_strokes("\xf0\x9f\xa7\xb5", 10.0).size(), 4U);
}

TEST(NeedleRaster, EdgesBetweenPixelsAreShared) {
  Picture picture;
  picture.width = 4.0;
  picture.height = 2.0;
  picture.rects.push_back({.x = 0.5, .y = 0.0, .width = 2.0, .height = 1.0, .fill = {0, 0, 0}});
  const Image image = draw(picture, 1.0);
  EXPECT_EQ(image.at(0, 0), (Color{128, 128, 128}));
  EXPECT_EQ(image.at(1, 0), (Color{0, 0, 0}));
  EXPECT_EQ(image.at(2, 0), (Color{128, 128, 128}));
  EXPECT_EQ(image.at(3, 0), (Color{255, 255, 255}));
  EXPECT_EQ(image.at(1, 1), (Color{255, 255, 255}));
}

TEST(NeedleRaster, HugePicturesAreDrawnSmaller) {
  Picture picture;
  picture.width = 8'000.0;
  picture.height = 4'000.0;
  const Image image = draw(picture, 2.0);
  EXPECT_LE(image.width * image.height, 30'100'000U);
}

}  // namespace
}  // namespace heddle::needle
