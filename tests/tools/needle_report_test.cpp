#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "base/error.h"
#include "tests/support/needle_rows.h"
#include "tests/support/temp_folder.h"
#include "tools/needle/report/reports.h"
#include "tools/needle/report/summary_text.h"
#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;
using ::testing::StartsWith;

std::vector<LengthSummary> lengths(const std::vector<std::optional<double>>& scores) {
  std::vector<LengthSummary> result;
  std::int64_t length = 1024;
  for (const auto& score : scores) {
    result.push_back({.length = length, .score = score, .whole = score.has_value()});
    length *= 2;
  }
  return result;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

std::string html_of(const std::vector<Row>& rows, const ReportFacts& facts = {}) {
  return report_html(facts, summarize(rows), rows);
}

TEST(NeedleSummary, TheEffectiveLengthIsTheLongestBeforeTheFirstThatFails) {
  EXPECT_THAT(effective_length(lengths({1.0, 0.9, 0.856})), Optional(4096));
  EXPECT_THAT(effective_length(lengths({1.0, 0.9, 0.8559})), Optional(2048));
  EXPECT_THAT(effective_length(lengths({1.0, 0.5, 1.0})), Optional(1024));
  EXPECT_EQ(effective_length(lengths({0.5, 1.0, 1.0})), std::nullopt);
  EXPECT_EQ(effective_length({}), std::nullopt);
}

TEST(NeedleSummary, LengthsWithoutAScoreAreNotMeasured) {
  EXPECT_THAT(effective_length(lengths({1.0, {}, 0.9, {}})), Optional(1024));
  EXPECT_EQ(effective_length(lengths({{}, 1.0})), std::nullopt);
  EXPECT_EQ(effective_length(lengths({{}, {}})), std::nullopt);
}

TEST(NeedleSummary, RoundingOfSumsDoesNotFailTheThreshold) {
  Mean mean;
  for (int i = 0; i < 1000; ++i) mean.add(i < 856 ? 1.0 : 0.0);
  EXPECT_THAT(effective_length(lengths({mean.value()})), Optional(1024));
  EXPECT_THAT(effective_length(lengths({0.1 + 0.2 + 0.556})), Optional(1024));
}

TEST(NeedleSummary, WeightedMeansAreThoseOfRuler) {
  // GPT-4's line of RULER's table, 4k to 128k.
  const auto scores = lengths({0.966, 0.963, 0.952, 0.932, 0.870, 0.812});
  EXPECT_EQ(percent(mean_of(scores)), "91.6");
  EXPECT_EQ(percent(mean_increasing(scores)), "89.0");
  EXPECT_EQ(percent(mean_decreasing(scores)), "94.1");
  EXPECT_EQ(mean_of(lengths({{}})), std::nullopt);
}

TEST(NeedleSummary, ErrorsArePartOfNoMean) {
  const std::vector<Row> rows = {test_row("number", 1024, 50.0, 1.0),
                                 test_row("number", 1024, 50.0, {}, 1),
                                 test_row("number", 1024, 50.0, 0.5, 2)};
  const Summary summary = summarize(rows);
  ASSERT_EQ(summary.cells.size(), 1U);
  EXPECT_THAT(summary.cells[0].means.score.value(), Optional(0.75));
  EXPECT_EQ(summary.cells[0].means.n, 2);
  EXPECT_EQ(summary.cells[0].means.errors, 1);
  EXPECT_EQ(summary.totals.rows, 3);
  EXPECT_EQ(summary.totals.errors, 1);
  EXPECT_EQ(summary.totals.misses, 1);
}

TEST(NeedleSummary, ALengthThatIsNotWholeHasNoPartInTheEffectiveLength) {
  std::vector<Row> rows = {test_row("a", 1024, 100.0, 1.0), test_row("a", 1024, 0.0, 1.0),
                           test_row("a", 2048, 100.0, 1.0), test_row("a", 2048, 0.0, 1.0),
                           test_row("a", 4096, 100.0, 1.0)};  // stopped before its other depth
  EXPECT_THAT(summarize(rows).suites.at(0).tasks.at(0).effective, Optional(2048));
  rows[3].score.reset();
  rows[3].error = "HTTP 503";
  EXPECT_THAT(summarize(rows).suites.at(0).tasks.at(0).effective, Optional(1024));
}

TEST(NeedleSummary, WhatAStoppedRunHasNotAskedEndsTheEffectiveLength) {
  const auto keys = [](const std::vector<Row>& rows) {
    std::vector<CellKey> plan;
    for (const Row& row : rows) plan.push_back(row.key);
    return plan;
  };
  const std::vector<Row> all = {test_row("a", 1024, 100.0, 1.0), test_row("a", 1024, 0.0, 1.0),
                                test_row("a", 2048, 100.0, 1.0), test_row("a", 2048, 0.0, 1.0),
                                test_row("b", 1024, 100.0, 1.0)};
  const std::vector<CellKey> plan = keys(all);
  // One of the first length's two, which is all there is.
  const Summary one = summarize(std::span(all).first(1), plan);
  EXPECT_EQ(one.suites.at(0).effective, std::nullopt);
  EXPECT_EQ(one.suites.at(0).tasks.at(0).effective, std::nullopt);
  EXPECT_EQ(one.totals.unasked, 4);
  EXPECT_THAT(summary_table(one), HasSubstr("4 prompts are not asked yet, --resume"));
  EXPECT_THAT(summary_table(one), HasSubstr("effective length not known"));
  // A task is done, another not begun.
  const Summary task = summarize(std::span(all).first(4), plan);
  EXPECT_THAT(task.suites.at(0).tasks.at(0).effective, Optional(2048));
  EXPECT_EQ(task.suites.at(0).effective, std::nullopt);
  EXPECT_THAT(summarize(all, plan).suites.at(0).effective, Optional(2048));
  EXPECT_THAT(summary_table(summarize(all, plan)), Not(HasSubstr("not asked")));
  // More samples of one length leave the others whole.
  std::vector<Row> more = all;
  more.push_back(test_row("a", 1024, 0.0, 1.0, 1));
  EXPECT_THAT(summarize(more, keys(more)).suites.at(0).tasks.at(0).effective, Optional(2048));
}

TEST(NeedleSummary, ALengthIsTheMeanOfItsTasksAndNotWholeWithOneThatHasErrorsAlone) {
  std::vector<Row> rows = {test_row("a", 1024, {}, 1.0),    test_row("a", 1024, {}, 1.0, 1),
                           test_row("b", 1024, {}, 0.0),    test_row("a", 2048, {}, 1.0),
                           test_row("a", 2048, {}, 1.0, 1), test_row("b", 2048, {}, {})};
  const SuiteSummary suite = summarize(rows).suites.at(0);
  EXPECT_THAT(suite.lengths[0].score, Optional(0.5));
  EXPECT_TRUE(suite.lengths[0].whole);
  EXPECT_THAT(suite.lengths[1].score, Optional(1.0));
  EXPECT_FALSE(suite.lengths[1].whole);
  EXPECT_EQ(suite.effective, std::nullopt);
  EXPECT_THAT(suite.tasks[0].effective, Optional(2048));
  EXPECT_EQ(suite.tasks[1].effective, std::nullopt);
}

TEST(NeedleSummary, CellsAreInOrderWhateverTheRowsAre) {
  const std::vector<Row> rows = {test_row("z", 2048, 100.0, 1.0), test_row("a", 1024, 0.0, 1.0),
                                 test_row("z", 1024, 50.0, 1.0), test_row("z", 1024, 0.0, 1.0)};
  std::vector<std::string> cells;
  for (const CellSummary& cell : summarize(rows).cells) {
    cells.push_back(cell.task + length_label(cell.length) + " " + depth_label(*cell.depth));
  }
  EXPECT_THAT(cells, ElementsAre("z1k 0", "z1k 50", "z2k 100", "a1k 0"));
}

TEST(NeedleSummary, TotalsAddUpAndKnowTheLargestSequence) {
  std::vector<Row> rows = {test_row("a", 1024, {}, 1.0), test_row("a", 4096, {}, {}),
                           test_row("a", 2048, {}, 1.0)};
  rows[0].prefill_s.reset();
  rows[1].kv_bytes.reset();
  const Totals totals = summarize(rows).totals;
  EXPECT_EQ(totals.prompt_tokens, 1024 + 4096 + 2048 - 300);
  EXPECT_EQ(totals.cached_tokens, 512 + 2048 + 1024);
  EXPECT_THAT(totals.prefill_s, Optional(1.0));
  EXPECT_THAT(totals.most_kv_bytes, Optional(2'048'000U));
  EXPECT_EQ(summarize({}).totals.prefill_s, std::nullopt);
}

TEST(NeedleCsv, LinesHaveMeansAndEmptyFields) {
  std::vector<Row> rows = {test_row("number", 1024, 50.0, 1.0),
                           test_row("number", 1024, 50.0, 0.5, 1), test_row("vt", 1024, {}, {})};
  rows[0].kv_bytes.reset();
  rows[1].kv_bytes.reset();
  EXPECT_EQ(summary_csv(summarize(rows)),
            "suite,task,length,depth,n,errors,score,prompt_tokens,cached_tokens,prefill_s,decode_s,"
            "kv_bytes,state_bytes\r\n"
            "niah,number,1024,50,2,0,0.75,924,512,0.5,0.25,,4096\r\n"
            "niah,vt,1024,,0,1,,,,,,,\r\n");
}

TEST(NeedleCsv, FieldsAreQuotedWhereTheyMustBe) {
  EXPECT_EQ(csv_field("plain text"), "plain text");
  EXPECT_EQ(csv_field("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_field("say \"x\""), "\"say \"\"x\"\"\"");
  EXPECT_EQ(csv_field("a\r\nb"), "\"a\r\nb\"");
  EXPECT_EQ(csv_field(""), "");
  const std::vector<Row> rows = {test_row("a,\"b\"", 1024, {}, 1.0)};
  EXPECT_THAT(summary_csv(summarize(rows)), HasSubstr("\r\nniah,\"a,\"\"b\"\"\",1024,"));
}

TEST(NeedleTable, OneTaskHasDepthsByLengths) {
  const std::vector<Row> rows = {
      test_row("number", 1024, 0.0, 1.0), test_row("number", 2048, 0.0, 0.0),
      test_row("number", 1024, 100.0, 1.0), test_row("number", 1024, 100.0, {}, 1),
      test_row("number", 2048, 100.0, {})};
  EXPECT_EQ(summary_table(summarize(rows)),
            "niah number     1k    2k\n"
            "depth 0      100.0   0.0\n"
            "depth 100    100.0*  err\n"
            "mean         100.0*  0.0*\n"
            "effective length not known (mean of at least 85.6 %, and all shorter)\n"
            "mean 50.0, with weights that rise with length 33.3, that fall 66.7\n"
            "2 of 5 rows are errors and no part of any mean (*, err)\n");
}

TEST(NeedleTable, SeveralTasksHaveTheirEffectiveLengths) {
  const std::vector<Row> rows = {test_row("a", 1024, {}, 1.0), test_row("a", 2048, {}, 0.9),
                                 test_row("b", 1024, {}, 0.5)};
  EXPECT_EQ(summary_table(summarize(rows)),
            "niah     1k     2k   effective\n"
            "a     100.0   90.0          2k\n"
            "b      50.0           below 1k\n"
            "mean   75.0   90.0\n"
            "effective length below 1k (mean of at least 85.6 %, and all shorter)\n"
            "mean 82.5, with weights that rise with length 85.0, that fall 80.0\n");
}

TEST(NeedleTable, NoRowsAndErrorsAloneAreTold) {
  EXPECT_EQ(summary_table(summarize({})), "no rows\n");
  const std::vector<Row> rows = {test_row("a", 1024, 50.0, {})};
  EXPECT_THAT(summary_table(summarize(rows)), HasSubstr("effective length not known"));
}

TEST(NeedleTable, NothingInItIsObeyedByATerminal) {
  const std::vector<Row> rows = {test_row("a\x1b[31m", 1024, {}, 1.0),
                                 test_row("b", 1024, {}, 1.0)};
  EXPECT_THAT(summary_table(summarize(rows)), Not(HasSubstr("\x1b")));
}

TEST(NeedleText, LengthsDurationsAndBytesHaveShortForms) {
  EXPECT_EQ(length_label(1024), "1k");
  EXPECT_EQ(length_label(65536), "64k");
  EXPECT_EQ(length_label(1 << 20), "1M");
  EXPECT_EQ(length_label(1500), "1500");
  EXPECT_EQ(depth_label(100.0 / 3.0), "33.3");
  EXPECT_EQ(depth_label(99.99), "100");
  EXPECT_EQ(duration_text(1.44), "1.4 s");
  EXPECT_EQ(duration_text(59.7), "1 min 0 s");
  EXPECT_EQ(duration_text(11520), "3 h 12 min");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(grouped(-1234567), "-1,234,567");
  EXPECT_EQ(grouped(999), "999");
}

TEST(NeedleText, CleanTextIsUtf8WithoutControlCharacters) {
  EXPECT_EQ(clean_text("a\tb\nc\xc3\xa4"), "a\tb\nc\xc3\xa4");
  EXPECT_EQ(clean_text(std::string("\0\x1b\x7f", 3)), "\\x00\\x1b\\x7f");
  EXPECT_EQ(clean_text("\xc2\x9b"), "\\x9b");
  for (const char* bad :
       {"\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xef\xbf\xbf"}) {
    EXPECT_THAT(clean_text(bad), StartsWith("\xef\xbf\xbd")) << bad;
  }
  EXPECT_EQ(cut("\xc3\xa4\xc3\xa4\xc3\xa4", 2), "\xc3\xa4\xc3\xa4...");
  EXPECT_EQ(cut("abc", 3), "abc");
}

TEST(NeedleHtml, HostileTextsStayTexts) {
  const std::string hostile = "</td><script>alert(\"x\")</script>'&\x1b[31m\xff";
  Row miss = test_row("number", 1024, 50.0, 0.0);
  miss.answer = hostile;
  miss.expected = {hostile};
  Row error = test_row("number", 1024, 50.0, {}, 1);
  error.error = hostile;
  const ReportFacts facts = {
      .model = hostile, .attention = hostile, .command = hostile, .notes = {hostile}};
  const std::string html = html_of({miss, error}, facts);
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("alert(\"")));
  EXPECT_THAT(html, Not(HasSubstr("\x1b")));
  EXPECT_EQ(html, clean_text(html));
  // Model (twice: the picture's subtitle), attention (twice), command, note, answer, expected,
  // error.
  EXPECT_EQ(count(html,
                  "&lt;/td&gt;&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&#39;&amp;"
                  "\\x1b[31m\xef\xbf\xbd"),
            9U);
}

TEST(NeedleHtml, ThePageNeedsNothingElse) {
  const std::string html = html_of({test_row("number", 1024, 50.0, 1.0)});
  EXPECT_THAT(html, StartsWith("<!doctype html>"));
  EXPECT_THAT(html, HasSubstr("<svg "));
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  for (const char* part : {"src=\"", "href=", "url(", "@import", "<script", "<link"}) {
    EXPECT_THAT(html, Not(HasSubstr(part)));
  }
}

TEST(NeedleHtml, ItTellsFactsScoresAndEffectiveLengths) {
  const std::vector<Row> rows = {test_row("number", 1024, 50.0, 1.0),
                                 test_row("number", 2048, 50.0, 0.0)};
  const std::string html = html_of(rows, {.model = "tiny",
                                          .attention = "sliding:64",
                                          .command = "heddle needle tiny",
                                          .seed = 7,
                                          .samples = 3,
                                          .notes = {"What scores do not say."}});
  for (const char* part :
       {"<dd>tiny</dd>", "<dd>sliding:64</dd>", "<pre>heddle needle tiny</pre>",
        "<dd>1k (mean of at least 85.6 %, and all shorter)</dd>", "<dd>7, 3 a cell</dd>",
        "<p>What scores do not say.</p>", "<td>100.0</td><td>0.0</td><td>50.0</td><td>1k</td>",
        "tiny, attention sliding:64, suite niah, seed 7, 3 samples a cell"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
}

TEST(NeedleHtml, MissesAndErrorsAreToldUpToANumberAndALength) {
  std::vector<Row> rows;
  for (int i = 0; i < 250; ++i) {
    rows.push_back(test_row("number", 1024, 50.0, 0.0, i));
    rows.back().answer = std::string(600, 'z');
    rows.push_back(test_row("number", 2048, 50.0, {}, i));
  }
  rows.push_back(test_row("number", 1024, 50.0, 1.0, 999));
  const std::string html = html_of(rows);
  EXPECT_EQ(count(html, "<td class=\"left\">HTTP 503: busy</td>"), 200U);
  EXPECT_EQ(count(html, "<td class=\"left\">" + std::string(500, 'z') + "...</td>"), 200U);
  EXPECT_EQ(count(html, "<p>And 50 more.</p>"), 2U);
  EXPECT_THAT(html, Not(HasSubstr("sample 999")));
}

TEST(NeedleHtml, NoRowsAndErrorsAloneMakeAPage) {
  EXPECT_EQ(count(html_of({}), "<p>None.</p>"), 2U);
  EXPECT_THAT(html_of({test_row("a", 1024, 50.0, {})}), HasSubstr("<dd>not known (mean"));
}

TEST(NeedleReports, AllFilesAreWrittenAndAreTheSameForTheSameRows) {
  const test::TempFolder folder;
  const std::vector<Row> rows = {test_row("number", 1024, 50.0, 1.0)};
  const auto read = [&](const std::string& name) {
    std::ifstream file(std::filesystem::path(folder.path()) / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  std::vector<std::string> before;
  for (int round = 0; round < 2; ++round) {
    write_reports(folder.path(), {.model = "tiny", .attention = "trained"}, rows);
    std::vector<std::string> files;
    for (const char* name : {"summary.csv", "heatmap.svg", "heatmap.png", "report.html"}) {
      files.push_back(read(name));
      EXPECT_FALSE(files.back().empty()) << name;
    }
    EXPECT_THAT(files[1], StartsWith("<svg "));
    EXPECT_THAT(files[2], StartsWith("\x89PNG\r\n"));
    if (round == 1) {
      EXPECT_EQ(files, before);
    }
    before = files;
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 4);
}

TEST(NeedleReports, AFolderThatIsNotThereIsRefused) {
  const test::TempFolder folder;
  EXPECT_THROW(write_reports(std::filesystem::path(folder.path()) / "none", {}, {}), Error);
}

}  // namespace
}  // namespace heddle::needle
