#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/needle_rows.h"
#include "tests/support/temp_folder.h"
#include "tools/needle/report/compare.h"

namespace heddle::needle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;

ComparedMode mode(const std::string& label, std::vector<Row> rows) {
  return {.label = label, .rows = std::move(rows)};
}

/// Two tasks at 1k, one sample is an error in the second mode.
std::vector<ComparedMode> two_modes() {
  std::vector<ComparedMode> modes = {
      mode("dense", {test_row("a", 1024, 0.0, 1.0), test_row("a", 1024, 100.0, 1.0),
                     test_row("b", 1024, 0.0, 0.5), test_row("a", 2048, 0.0, 1.0)}),
      mode("sliding:64", {test_row("a", 1024, 0.0, 0.0), test_row("a", 1024, 100.0, {}),
                          test_row("b", 1024, 0.0, 0.5), test_row("a", 2048, 0.0, {})})};
  modes[1].rows[0].answer = "no idea";
  modes[1].rows[0].prefill_s = 0.25;
  modes[0].extra["bytes read"] = {{1024, 4096.0}};
  modes[1].extra["layers"] = {{1024, 8.0}};
  return modes;
}

TEST(NeedleCompare, DeltasAndEqualAnswersAreOfPromptsWithBothScores) {
  const auto lines = compare(two_modes());
  ASSERT_EQ(lines.size(), 4U);
  const ComparedLength& dense = lines[0];
  EXPECT_EQ(dense.mode, 0U);
  EXPECT_THAT(dense.score, Optional(0.75));
  EXPECT_THAT(dense.delta, Optional(0.0));
  EXPECT_THAT(dense.same, Optional(1.0));
  const ComparedLength& sliding = lines[1];
  EXPECT_EQ(sliding.mode, 1U);
  EXPECT_EQ(sliding.length, 1024);
  EXPECT_EQ(sliding.pairs, 2);
  EXPECT_EQ(sliding.means.errors, 1);
  EXPECT_THAT(sliding.score, Optional(0.25));
  EXPECT_THAT(sliding.delta, Optional(-0.5));  // tasks: -1 and 0
  EXPECT_THAT(sliding.same, Optional(0.5));
  EXPECT_EQ(lines[3].score, std::nullopt);
  EXPECT_EQ(lines[3].delta, std::nullopt);
  EXPECT_EQ(lines[3].same, std::nullopt);
}

TEST(NeedleCompare, TheCsvHasTheCallersColumnsOfAllModes) {
  EXPECT_EQ(comparison_csv(two_modes()),
            "suite,length,attention,n,errors,score,pairs,delta,same_answers,prompt_tokens,"
            "cached_tokens,prefill_s,decode_s,kv_bytes,state_bytes,bytes read,layers\r\n"
            "niah,1024,dense,3,0,0.75,3,0,1,924,512,0.5,0.25,1024000,4096,4096,\r\n"
            "niah,1024,sliding:64,2,1,0.25,2,-0.5,0.5,924,512,0.375,0.25,1024000,4096,,8\r\n"
            "niah,2048,dense,1,0,1,1,0,1,1948,1024,0.5,0.25,2048000,4096,,\r\n"
            "niah,2048,sliding:64,0,1,,0,,,,,,,,,,\r\n");
}

TEST(NeedleCompare, TheTableIsInPercent) {
  const std::string table = comparison_table(two_modes());
  EXPECT_THAT(table,
              HasSubstr("\nniah   dense           1k   75.0   +0.0         100.0  3       0"));
  EXPECT_THAT(table,
              HasSubstr("\nniah   sliding:64      1k   25.0  -50.0          50.0  2       1"));
  EXPECT_THAT(table, HasSubstr("4.0 KiB"));
  EXPECT_EQ(comparison_table({}), "no rows\n");
}

TEST(NeedleCompare, ThePictureHasAPanelOfTheSameCellsForEachMode) {
  auto modes = two_modes();
  modes.push_back(mode("late", {test_row("a", 4096, 50.0, 1.0)}));
  const Heatmap map = comparison_heatmap({.model = "tiny"}, modes);
  ASSERT_EQ(map.panels.size(), 3U);
  for (const HeatPanel& panel : map.panels) {
    EXPECT_THAT(panel.rows, ElementsAre("0", "50", "100"));
    EXPECT_THAT(panel.columns, ElementsAre("1k", "2k", "4k"));
  }
  EXPECT_EQ(map.panels[1].title, "sliding:64");
  EXPECT_THAT(map.panels[0].cells[0].value, Optional(0.75));  // mean over the tasks
  EXPECT_THAT(map.panels[1].cells[0].value, Optional(0.25));
  EXPECT_EQ(map.panels[1].cells[6].errors, 1);
  EXPECT_EQ(map.panels[1].cells[6].value, std::nullopt);
  EXPECT_THAT(map.subtitle, HasSubstr("mean over 2 tasks"));
}

TEST(NeedleCompare, TasksWithoutDepthsAreRows) {
  const std::vector<ComparedMode> modes = {
      mode("dense", {test_row("vt", 1024, {}, 1.0), test_row("cwe", 1024, {}, 0.5)}),
      mode("other", {test_row("cwe", 1024, {}, 0.25)})};
  const Heatmap map = comparison_heatmap({}, modes);
  EXPECT_THAT(map.panels[1].rows, ElementsAre("vt", "cwe"));
  EXPECT_EQ(map.panels[1].cells[0].value, std::nullopt);
  EXPECT_THAT(map.panels[1].cells[1].value, Optional(0.25));
}

TEST(NeedleCompare, ThePageShowsOtherAnswersAndEscapesThem) {
  auto modes = two_modes();
  modes[1].label = "<script>";
  modes[1].rows[0].answer = "<script>\x1b";
  const std::string html = comparison_html({.model = "tiny", .command = "heddle needle"}, modes);
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;\\x1b"));
  EXPECT_THAT(html, HasSubstr("niah a, 1024 tokens, depth 0, sample 0"));
  EXPECT_THAT(html, Not(HasSubstr("niah b, 1024 tokens, depth 0, sample 0")));
}

TEST(NeedleCompare, FilesAreWrittenOfAnyModes) {
  const std::vector<std::vector<ComparedMode>> all = {
      {}, {mode("dense", {})}, {mode("dense", {test_row("a", 1024, 0.0, {})})}, two_modes()};
  for (const auto& modes : all) {
    const test::TempFolder folder;
    write_comparison(folder.path(), {}, modes);
    for (const char* name : {"compare.csv", "compare.svg", "compare.png", "compare.html"}) {
      EXPECT_TRUE(std::filesystem::exists(std::filesystem::path(folder.path()) / name)) << name;
    }
  }
}

}  // namespace
}  // namespace heddle::needle
