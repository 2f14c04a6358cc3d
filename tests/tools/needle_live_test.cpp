#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "tests/support/needle_rows.h"
#include "tools/needle/report/live_table.h"

namespace heddle::needle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Optional;
using ::testing::StartsWith;

std::vector<PlannedRow> plan_of(const std::vector<Row>& rows) {
  std::vector<PlannedRow> plan;
  for (const Row& row : rows) plan.push_back({row.key, static_cast<double>(row.key.length)});
  return plan;
}

std::vector<Row> grid(std::int64_t longest) {
  std::vector<Row> rows;
  for (std::int64_t length = 1024; length <= longest; length *= 2) {
    for (const double depth : {0.0, 50.0, 100.0}) {
      rows.push_back(test_row("number", length, depth, 1.0));
    }
  }
  return rows;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(NeedleLive, TheBlockHasAStatusLineAndDepthsByLengths) {
  std::vector<Row> rows = grid(2048);
  rows[1].score.reset();
  LiveProgress progress(plan_of(rows));
  for (int i = 0; i < 4; ++i) progress.add(rows[i]);
  EXPECT_EQ(progress.block(10.0, {}),
            "[###########---------] 56 %, 8.0 s left, 4 of 6 rows, 1 error, 216 tokens/s\n"
            "               1k       2k\n"
            "depth 0     100.0    100.0\n"
            "depth 50      err        .\n"
            "depth 100   100.0        .\n");
}

TEST(NeedleLive, SeveralTasksAreLines) {
  const std::vector<Row> rows = {test_row("a", 1024, 0.0, 1.0), test_row("a", 1024, 100.0, 0.0),
                                 test_row("b", 1024, {}, 1.0)};
  LiveProgress progress(plan_of(rows));
  progress.add(rows[1]);
  progress.add(rows[2]);
  EXPECT_THAT(lines_of(progress.block(1.0, {})),
              ElementsAre(StartsWith("[#############-------] 67 %"), "            1k",
                          "niah a     0.0~", "niah b   100.0"));
}

TEST(NeedleLive, TimeLeftIsThatOfTheCostLeft) {
  const std::vector<Row> rows = grid(4096);
  LiveProgress progress(plan_of(rows));
  EXPECT_EQ(progress.seconds_left(5.0), std::nullopt);
  progress.add(rows[0]);
  EXPECT_THAT(progress.seconds_left(1.0), Optional(20.0));  // 3 x (1 + 2 + 4) - 1
  progress.add(rows[8]);
  EXPECT_THAT(progress.seconds_left(5.0), Optional(16.0));
  for (const Row& row : rows) progress.add(row);
  EXPECT_THAT(progress.seconds_left(9.0), Optional(0.0));
  EXPECT_TRUE(progress.finished());
  EXPECT_THAT(progress.status_line(9.0), StartsWith("[####################] 100 %, 9 of 9 rows"));
}

TEST(NeedleLive, RowsOfAnEarlierRunAreDoneButMeasureNothing) {
  const std::vector<Row> rows = grid(2048);
  LiveProgress progress(plan_of(rows));
  for (int i = 0; i < 5; ++i) progress.add_known(rows[i]);
  EXPECT_EQ(progress.seconds_left(5.0), std::nullopt);
  EXPECT_EQ(progress.status_line(5.0), "[###############-----] 78 %, 5 of 6 rows");
  EXPECT_THAT(progress.add(rows[5]), ElementsAre("niah 2k: 100.0 % of 3 rows"));
}

TEST(NeedleLive, RowsThatWereNotPlannedOrCameBeforeChangeNothing) {
  const std::vector<Row> rows = grid(1024);
  LiveProgress progress(plan_of(rows));
  progress.add(rows[0]);
  const std::string before = progress.block(1.0, {});
  EXPECT_THAT(progress.add(rows[0]), IsEmpty());
  EXPECT_THAT(progress.add(test_row("other", 1024, 0.0, 1.0)), IsEmpty());
  EXPECT_EQ(progress.block(1.0, {}), before);
}

TEST(NeedleLive, TheBlockFitsTheTerminalAndShowsTheNewestRow) {
  const std::vector<Row> rows = grid(1 << 20);
  for (const TerminalSize size : {TerminalSize{1, 1}, {20, 3}, {40, 4}, {60, 24}, {200, 2}}) {
    LiveProgress progress(plan_of(rows));
    for (std::size_t i = 0; i + 1 < rows.size(); ++i) progress.add(rows[i]);
    const auto lines = lines_of(progress.block(1.0, size));
    EXPECT_LE(lines.size(), std::max<std::size_t>(size.lines - 1, 1));
    for (const std::string& line : lines) {
      EXPECT_LT(line.size(), std::max<std::size_t>(size.columns, 2)) << line;
    }
    if (size.columns < 40 || size.lines < 4) continue;
    EXPECT_THAT(lines[1], HasSubstr("1M"));
    EXPECT_THAT(lines.back(), StartsWith(size.lines == 4 ? "depth 50" : "depth 100"));
  }
}

TEST(NeedleLive, NothingInItIsObeyedByATerminal) {
  const std::vector<Row> rows = {test_row("a\x1b[2J\n", 1024, {}, 1.0),
                                 test_row("\xc3\xa4", 1024, {}, 1.0)};
  LiveProgress progress(plan_of(rows));
  const std::string block = progress.block(1.0, {});
  EXPECT_THAT(block, Not(HasSubstr("\x1b")));
  EXPECT_EQ(lines_of(block).size(), 4U);
}

TEST(NeedleLive, AnEmptyPlanIsFinished) {
  const LiveProgress progress({});
  EXPECT_TRUE(progress.finished());
  EXPECT_EQ(progress.block(0.0, {}), "[####################] 100 %, 0 of 0 rows\n");
}

/// What a LiveTable writes, at times that the test says.
struct Recorder {
  std::vector<std::string> written = {};
  double now = 100.0;
  LiveOutput output(bool terminal) {
    return {.write = [this](std::string_view text) { written.emplace_back(text); },
            .seconds = [this] { return now; },
            .size = [] { return TerminalSize{}; },
            .terminal = terminal};
  }
};

TEST(NeedleLive, WithoutATerminalEachLengthIsALine) {
  std::vector<Row> rows = grid(2048);
  rows[4].score.reset();
  Recorder recorder;
  {
    LiveTable table(plan_of(rows), recorder.output(false));
    for (const Row& row : rows) {
      recorder.now += 1.0;
      table.refresh();
      table.add(row);
    }
  }
  EXPECT_THAT(recorder.written, ElementsAre("niah 1k: 100.0 % of 3 rows, after 3.0 s\n",
                                            "niah 2k: 100.0 % of 2 rows, 1 error, after 6.0 s\n"));
}

TEST(NeedleLive, OnATerminalTheBlockReplacesItselfAndGoes) {
  const std::vector<Row> rows = grid(1024);
  Recorder recorder;
  {
    LiveTable table(plan_of(rows), recorder.output(true));
    table.add(rows[0]);
    recorder.now += 1.0;
    table.add(rows[1]);
  }
  ASSERT_EQ(recorder.written.size(), 3U);
  EXPECT_THAT(recorder.written[0], StartsWith("["));
  EXPECT_THAT(recorder.written[1], StartsWith("\r\x1b[5A\x1b[J[#############-------] 67 %"));
  EXPECT_EQ(recorder.written[2], "\r\x1b[5A\x1b[J");
}

TEST(NeedleLive, ItIsDrawnAtMostTenTimesASecond) {
  const std::vector<Row> rows = grid(1024);
  Recorder recorder;
  LiveTable table(plan_of(rows), recorder.output(true));
  table.add(rows[0]);
  recorder.now += 0.01;
  table.add(rows[1]);
  table.refresh();
  EXPECT_EQ(recorder.written.size(), 1U);
  recorder.now += 0.2;
  table.refresh();
  EXPECT_EQ(recorder.written.size(), 2U);
  table.add(rows[2]);  // the last one is shown at once
  EXPECT_EQ(recorder.written.size(), 3U);
}

}  // namespace
}  // namespace heddle::needle
