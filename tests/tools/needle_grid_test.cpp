// Lengths and depths as flags say them.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "tools/needle/grid.h"

namespace heddle::needle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

template <typename Act>
std::string said(const Act& act) {
  try {
    return fmt::format("{}", fmt::join(act(), " "));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
}
std::string lengths(const std::string& text) {
  return said([&] { return read_lengths(text); });
}
std::string depths(const std::string& text, bool sigmoid = false) {
  return said([&] { return read_depths(text, sigmoid); });
}

TEST(NeedleGrid, LengthsAreReadSortedAndEachOnce) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"64", "64"},
      {"1k,2k,3000", "1024 2048 3000"},
      {" 1k, 2k ,3000 ", "1024 2048 3000"},
      {"1k,", "1024"},
      {"1K", "1024"},
      {"1m", "1048576"},
      {"1M,1024k", "1048576"},
      {"3000,1k,3000,1024,2k", "1024 2048 3000"},
      {"1073741824", "1073741824"},
      {"1024m", "1073741824"},
      {"1000..16000:4", "1000 6000 11000 16000"},
      {"1k..2k:2", "1024 2048"},
      {"64..67:3", "64 66 67"},  // 65.5 is rounded away from zero
      {"64..66:1000", "64 65 66"},
      {"1k..1k:5", "1024"},
      {"64..1024m:2", "64 1073741824"}};
  for (const auto& [text, wanted] : cases) EXPECT_EQ(lengths(text), wanted) << text;
}

TEST(NeedleGrid, LengthsThatAreNoneAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "''"},
      {",", "''"},
      {"1k,,2k", "''"},
      {"k", "'k'"},
      {"0", "'0'"},
      {"0k", "'0k'"},
      {"63", "'63'"},
      {"-64", "'-64'"},
      {"+64", "'+64'"},
      {"1 k", "'1 k'"},
      {" ,1k", "''"},
      {"1.5k", "'1.5k'"},
      {"1kk", "'1kk'"},
      {"1g", "'1g'"},
      {"1e3", "'1e3'"},
      {"0x400", "'0x400'"},
      {"1073741825", "'1073741825'"},
      {"1025m", "'1025m'"},
      {"9223372036854775807k", "'9223372036854775807k'"},
      {"99999999999999999999k", "'99999999999999999999k'"},
      {"64..128", "'64..128'"},
      {"64..128:", "'64..128:'"},
      {"64..128:1", "'64..128:1'"},
      {"64..128:0", "'64..128:0'"},
      {"64..128:-2", "'64..128:-2'"},
      {"64..128:1001", "'64..128:1001'"},
      {"64..128:99999999999999999999", "'64..128:99999999999999999999'"},
      {"128..64:2", "'128..64:2'"},
      {"..128:2", "''"},
      {"64..:2", "''"},
      {"63..128:2", "'63'"},
      {"64..99999999999999999999k:2", "'99999999999999999999k'"},
      {"64:2..128", "'64:2..128'"},
      {"64...128:2", "'.128'"},
      {"64..128:2,256", "'64..128:2,256'"},
      {"1k\n", "'1k\\x0a'"}};
  for (const auto& [text, named] : cases) {
    EXPECT_THAT(lengths(text), StartsWith("--lengths: " + named + " is not valid; allowed: "))
        << text;
  }
  EXPECT_THAT(lengths("x"),
              HasSubstr("lengths from 64 to 1073741824 tokens, at most 1000 of them"));
}

TEST(NeedleGrid, MoreLengthsOrDepthsThanAnybodyWantsAreRefused) {
  std::string text = "64";
  for (int i = 1; i < 1000; ++i) text += ",64";
  EXPECT_EQ(lengths(text), "64");
  EXPECT_THAT(lengths(text + ",64"), HasSubstr("is not valid"));
  EXPECT_EQ(depths(text), "64");
  EXPECT_THAT(depths(text + ",64"), HasSubstr("is not valid"));
  EXPECT_EQ(read_depths("1000", false).size(), 1000U);
  EXPECT_EQ(read_depths("1000", true).size(), 1000U);
}

TEST(NeedleGrid, DefaultLengthsDoubleAsFarAsTheContextGoes) {
  EXPECT_THAT(default_lengths(100), ElementsAre(100));
  EXPECT_THAT(default_lengths(1023), ElementsAre(1023));
  EXPECT_THAT(default_lengths(1024), ElementsAre(1024));
  EXPECT_THAT(default_lengths(2047), ElementsAre(1024));
  EXPECT_THAT(default_lengths(8192), ElementsAre(1024, 2048, 4096, 8192));
  EXPECT_THAT(default_lengths(8191), ElementsAre(1024, 2048, 4096));
  EXPECT_EQ(default_lengths(131072).size(), 8U);
}

TEST(NeedleGrid, DepthsAreANumberOfThemOrAList) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"1", "50"},
      {"2", "0 100"},
      {"3", "0 50 100"},
      {"4", "0 33.333 66.667 100"},
      {"11", "0 10 20 30 40 50 60 70 80 90 100"},
      {"0,50,100", "0 50 100"},
      {"25,", "25"},
      {"0,", "0"},
      {"100,0", "0 100"},
      {"50,50.0,5e1", "50"},
      {"33.33333,33.333", "33.333"},
      {"0.0004,0", "0"},
      {"99.9996,", "100"},
      {"12.5,87.5", "12.5 87.5"}};
  for (const auto& [text, wanted] : cases) EXPECT_EQ(depths(text), wanted) << text;
}

/// A minus would go into rows and reports.
TEST(NeedleGrid, ZeroHasNoSign) {
  for (const char* text : {"-0,", "-0.0,50", "0,-0"}) {
    EXPECT_FALSE(std::signbit(read_depths(text, false).at(0))) << text;
  }
}

TEST(NeedleGrid, DepthsThatAreNoneAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "''"},
      {",", "''"},
      {",25", "''"},
      {"0", "'0'"},
      {"-1", "'-1'"},
      {"1001", "'1001'"},
      {"11.0", "'11.0'"},
      {"eleven", "'eleven'"},
      {"+3", "'+3'"},
      {"99999999999999999999", "'99999999999999999999'"},
      {"0,101", "'101'"},
      {"0,100.0001", "'100.0001'"},
      {"0,-1", "'-1'"},
      {"0,nan", "'nan'"},
      {"inf,", "'inf'"},
      {"0,5 0", "'5 0'"},
      {"0,50%", "'50%'"},
      {"0,0x10", "'0x10'"},
      {"0,1e999", "'1e999'"},
      {"-1e-300,", "'-1e-300'"}};
  for (const auto& [text, named] : cases) {
    EXPECT_THAT(depths(text), StartsWith("--depths: " + named + " is not valid; allowed: "))
        << text;
  }
}

/// LLMTest_NeedleInAHaystack.py, logistic(x, L=100, x0=50, k=.1): np.round(L / (1 + np.exp(-k * (x
/// - x0))), 3), and x itself where it is 0 or 100.
TEST(NeedleGrid, SigmoidDepthsAreKamradts) {
  EXPECT_EQ(depths("11", true), "0 1.799 4.743 11.92 26.894 50 73.106 88.08 95.257 98.201 100");
  EXPECT_EQ(depths("5", true), "0 7.586 50 92.414 100");
  EXPECT_EQ(depths("3", true), "0 50 100");
  EXPECT_EQ(depths("2", true), "0 100");
  EXPECT_EQ(depths("1", true), "50");
  EXPECT_EQ(depths("10,20", true), "10 20");  // a list is as it says
  for (const double depth : read_depths("35", true)) {
    EXPECT_EQ(std::round(depth * 1000.0) / 1000.0, depth);
  }
}

TEST(NeedleGrid, LengthsAreToldInK) {
  EXPECT_EQ(length_text(1024), "1k");
  EXPECT_EQ(length_text(1000), "1000");
  EXPECT_EQ(length_text(131072), "128k");
  EXPECT_EQ(length_text(1 << 20), "1024k");
}

}  // namespace
}  // namespace heddle::needle
