#include "engine/stop.h"

#include <gtest/gtest.h>

namespace heddle {
namespace {

std::string feed(StopMatcher& matcher, std::string_view text, std::size_t piece) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += piece) out += matcher.push(text.substr(i, piece));
  return out + matcher.finish();
}

TEST(StopMatcher, TextBeforeTheStopIsTheSameForEverySplit) {
  const std::string text = "abab ENDE of aba ENDING and more END!";
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    StopMatcher matcher({"END!", "ENDING"});
    EXPECT_EQ(feed(matcher, text, piece), "abab ENDE of aba ") << piece;
    EXPECT_TRUE(matcher.stopped());
  }
}

TEST(StopMatcher, WithoutAStopEverythingComesOutForEverySplit) {
  const std::string text = "aabaabaaab almost: <sto <st <<stop";
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    StopMatcher matcher({"<stop>", "aabaaabb"});
    EXPECT_EQ(feed(matcher, text, piece), text) << piece;
    EXPECT_FALSE(matcher.stopped());
  }
}

TEST(StopMatcher, EarliestOfSeveralStopsWins) {
  StopMatcher matcher({"yy", "xyy", "zzz"});
  EXPECT_EQ(matcher.push("ab xyy"), "ab ");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, HoldsBackOnlyWhatCouldBeAStop) {
  StopMatcher matcher({"\n\nUser:"});
  EXPECT_EQ(matcher.push("hello\n"), "hello");
  EXPECT_EQ(matcher.push("world\n\nUs"), "\nworld");
  EXPECT_EQ(matcher.push("ual"), "\n\nUsual");
}

TEST(TextAssembler, StopTextMaySpanTokensAndCodePoints) {
  TextAssembler assembler({"é!"});
  EXPECT_EQ(assembler.push("caf\xc3"), "caf");
  EXPECT_EQ(assembler.push("\xa9"), "");
  EXPECT_EQ(assembler.push("!"), "");
  EXPECT_TRUE(assembler.stopped());
}

TEST(TextAssembler, HalfACodePointAtTheEndBecomesOneReplacement) {
  TextAssembler assembler({});
  EXPECT_EQ(assembler.push("a\xf0\x9f"), "a");
  EXPECT_EQ(assembler.finish(), "\xef\xbf\xbd");
}

}  // namespace
}  // namespace heddle
