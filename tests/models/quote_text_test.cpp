#include "models/quote_text.h"

#include <gtest/gtest.h>

namespace heddle {
namespace {

TEST(QuoteText, ShowsTextAndEscapesWhatShowsNothing) {
  EXPECT_EQ(quote_text("a b"), "'a b'");
  EXPECT_EQ(quote_text("a\n\x80\u00e9\u0085"), "'a\\x0a\\x80\u00e9\\xc2\\x85'");
  EXPECT_EQ(quote_text("x\u202ey\ufeff"), "'x\\xe2\\x80\\xaey\\xef\\xbb\\xbf'");
  EXPECT_EQ(quote_text("it's \\ \""), "'it\\x27s \\x5c \"'");
}

TEST(QuoteText, CutsBetweenCharacters) {
  EXPECT_EQ(quote_text("abcdef", 3), "'abc...'");
  EXPECT_EQ(quote_text("abc", 3), "'abc'");
  EXPECT_EQ(quote_text("ab\u4e2d\u4e2d", 3), "'ab\u4e2d...'");
}

}  // namespace
}  // namespace heddle
