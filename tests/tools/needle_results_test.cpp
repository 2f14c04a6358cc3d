// results.jsonl: what is on the disk, what is gone on with, and what is refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "tests/support/needle_rows.h"
#include "tests/support/temp_folder.h"
#include "tools/needle/results_file.h"

namespace heddle::needle {
namespace {

namespace fs = std::filesystem;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const Json kFacts = {{"model", "tiny"}, {"prompts", 1}, {"stop", Json::array({"."})}};

std::string content(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string line(const Row& row) {
  return json_of(row).dump() + "\n";
}

Row row_at(double depth, std::optional<double> score = 1.0) {
  return test_row("number", 1024, depth, score);
}

template <typename Act>
std::string refusal(const Act& act, ErrorKind kind = ErrorKind::kBadInput) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "";
}

class NeedleResults : public ::testing::Test {
 protected:
  std::string open_refusal(bool resume, const Json& facts = kFacts) const {
    return refusal([&] { ResultsFile(out_, facts, resume); });
  }
  std::string path() const { return out_ + "/results.jsonl"; }
  void write(const std::string& text) const {
    temp_.write("deep/out/results.jsonl", text);
    temp_.write("deep/out/run.json", kFacts.dump());
  }

  test::TempFolder temp_;
  std::string out_ = temp_ / "deep/out";
};

TEST_F(NeedleResults, RowsAreOnTheDiskAsTheyCome) {
  ResultsFile results(out_, kFacts, false);
  EXPECT_TRUE(results.rows().empty());
  EXPECT_EQ(content(path()), "");
  EXPECT_EQ(parse_json(content(out_ + "/run.json"), "run.json"), kFacts);
  std::string wanted;
  for (const double depth : {100.0, 50.0, 0.0}) {
    EXPECT_FALSE(results.has(row_at(depth).key));
    results.append(row_at(depth));
    EXPECT_TRUE(results.has(row_at(depth).key));
    wanted += line(row_at(depth));
    EXPECT_EQ(content(path()), wanted);
  }
  EXPECT_EQ(results.rows().size(), 3U);
}

TEST_F(NeedleResults, AreGoneOnWithWhereTheyEnded) {
  ResultsFile(out_, kFacts, false).append(row_at(50));
  const auto before = content(path());
  {
    ResultsFile results(out_, kFacts, true);
    ASSERT_EQ(results.rows().size(), 1U);
    EXPECT_EQ(line(results.rows()[0]), line(row_at(50)));
    EXPECT_TRUE(results.has(row_at(50).key));
    EXPECT_FALSE(results.has(test_row("number", 1024, 50, 1.0, 1).key));
    EXPECT_FALSE(results.has(test_row("word", 1024, 50, 1.0).key));
    EXPECT_FALSE(results.has(test_row("number", 2048, 50, 1.0).key));
    EXPECT_FALSE(results.has(test_row("number", 1024, {}, 1.0).key));
    EXPECT_EQ(content(path()), before);
    results.append(row_at(0));
  }
  EXPECT_EQ(content(path()), before + line(row_at(0)));
}

TEST_F(NeedleResults, AFolderThatIsEmptyOrNotThereIsGoneOnWithToo) {
  EXPECT_EQ(open_refusal(true), "");
  EXPECT_EQ(open_refusal(true), "");
  EXPECT_EQ(open_refusal(false), "");
  EXPECT_EQ(open_refusal(true, {{"model", "another"}}), "");  // there is no row of the other
}

TEST_F(NeedleResults, ALineThatWasCutOffIsDropped) {
  const std::string good = line(row_at(50));
  const std::string cut = line(row_at(0));
  for (const std::size_t n : {std::size_t{1}, cut.size() / 2, cut.size() - 1}) {
    write(good + cut.substr(0, n));
    ResultsFile results(out_, kFacts, true);
    ASSERT_EQ(results.rows().size(), 1U);
    EXPECT_EQ(content(path()), good);
    results.append(row_at(0));
    EXPECT_EQ(content(path()), good + cut);
  }
  write(cut.substr(0, 10));
  EXPECT_TRUE(ResultsFile(out_, kFacts, true).rows().empty());
  EXPECT_EQ(content(path()), "");
}

TEST_F(NeedleResults, RowsWithErrorsAreAskedAgain) {
  write(line(row_at(0)) + line(row_at(50, {})) + line(row_at(100)) + line(row_at(75, {})));
  ResultsFile results(out_, kFacts, true);
  EXPECT_EQ(content(path()), line(row_at(0)) + line(row_at(100)));
  EXPECT_FALSE(results.has(row_at(50).key));
  results.append(row_at(50));
  EXPECT_EQ(content(path()), line(row_at(0)) + line(row_at(100)) + line(row_at(50)));
}

/// A run that goes on after every row, and after every error, ends with the same lines as one.
TEST_F(NeedleResults, AnErrorAndItsSecondTrialAreOneRow) {
  for (int i = 0; i < 3; ++i) {
    ResultsFile results(out_, kFacts, i > 0);
    ASSERT_EQ(results.rows().size(), 0U);
    results.append(row_at(50, {}));
    EXPECT_TRUE(results.has(row_at(50).key));  // once a run
  }
  ResultsFile(out_, kFacts, true).append(row_at(50));
  EXPECT_EQ(content(path()), line(row_at(50)));
}

TEST_F(NeedleResults, ARowThatIsThereTwiceIsNamed) {
  write(line(row_at(50)) + line(row_at(0)) + line(row_at(50, 0.0)));
  EXPECT_EQ(open_refusal(true),
            path() + ":3: niah number, 1024 tokens, depth 50, sample 0 is there twice");
}

TEST_F(NeedleResults, LinesThatAreNoRowsAreNamed) {
  write(line(row_at(50)) + "{}\n" + line(row_at(0)));
  EXPECT_EQ(open_refusal(true), path() + ":2: 'suite' is missing");
  write(line(row_at(50)) + "\n");
  EXPECT_THAT(open_refusal(true), StartsWith(path() + ":2"));
  write(std::string("\0\0\0\n", 4));
  EXPECT_THAT(open_refusal(true), StartsWith(path() + ":1"));
  EXPECT_EQ(content(path()).size(), 4U);  // nothing is lost by a refusal
}

TEST_F(NeedleResults, OtherFactsAreNamedWithBothValues) {
  ResultsFile(out_, kFacts, false).append(row_at(50));
  const std::string start = "--resume: " + out_ + "/run.json: the results are of another run: ";
  Json facts = kFacts;
  facts["model"] = "huge";
  EXPECT_EQ(open_refusal(true, facts), start + R"(model was "tiny", is "huge")");
  facts = kFacts;
  facts["stop"] = Json::array();
  EXPECT_EQ(open_refusal(true, facts), start + R"(stop was ["."], is [])");
  facts = kFacts;
  facts["scorer"] = nullptr;
  EXPECT_EQ(open_refusal(true, facts), start + "scorer was not given, is null");
  EXPECT_EQ(parse_json(content(out_ + "/run.json"), "run.json"), kFacts);
  EXPECT_EQ(open_refusal(true), "");
}

TEST_F(NeedleResults, FactsThatAreLostOrBrokenAreNamed) {
  write(line(row_at(50)));
  fs::remove(out_ + "/run.json");
  EXPECT_EQ(open_refusal(true), "--resume: " + out_ +
                                    "/run.json: is missing, so the results beside it cannot be "
                                    "gone on with");
  temp_.write("deep/out/run.json", "{");
  EXPECT_THAT(open_refusal(true), StartsWith(out_ + "/run.json:1:"));
  temp_.write("deep/out/run.json", "[]");
  EXPECT_THAT(open_refusal(true), EndsWith("model was not given, is \"tiny\""));
}

TEST_F(NeedleResults, AFolderWithResultsIsRefusedUnlessTheyAreGoneOnWith) {
  const std::string said =
      "--out: " + out_ +
      ": has results already; --resume goes on with them, another --out DIR keeps them";
  EXPECT_EQ(refusal([&] { require_free(out_, false); }), "");
  write(line(row_at(50)));
  EXPECT_EQ(open_refusal(false), said);
  EXPECT_EQ(refusal([&] { require_free(out_, false); }), said);
  EXPECT_EQ(refusal([&] { require_free(out_, true); }), "");
  EXPECT_EQ(content(path()), line(row_at(50)));
  temp_.write("other/compare.csv", "a,b\n");
  EXPECT_THAT(refusal([&] { require_free(temp_ / "other", false); }), HasSubstr("has results"));
}

/// Its exit code: 0 where a second writer is refused as it should be.
int exit_of_second_writer(const std::string& out) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 1;
    try {
      ResultsFile(out, kFacts, true);
    } catch (const Error& error) {
      code = error.what() == "--out: " + out + ": another run is writing there" ? 0 : 2;
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(NeedleResults, HaveOneWriterAtATime) {
  {
    ResultsFile results(out_, kFacts, false);
    results.append(row_at(50));
    EXPECT_EQ(exit_of_second_writer(out_), 0);
    EXPECT_EQ(open_refusal(true), "--out: " + out_ + ": another run is writing there");
    results.append(row_at(0));
  }
  EXPECT_EQ(exit_of_second_writer(out_), 1);
  EXPECT_EQ(content(path()), line(row_at(50)) + line(row_at(0)));
}

TEST_F(NeedleResults, PlacesThatCannotBeWrittenAreNamed) {
  temp_.write("file", "x");
  const auto at = [&](const std::string& folder) {
    return refusal([&] { ResultsFile(folder, kFacts, false); });
  };
  EXPECT_EQ(at(temp_ / "file"), "--out: " + temp_ / "file" + ": cannot be made: Not a directory");
  EXPECT_EQ(at(temp_ / "file/out"),
            "--out: " + temp_ / "file/out" + ": cannot be made: Not a directory");
  EXPECT_THAT(at("/proc/heddle/out"), StartsWith("--out: /proc/heddle/out: cannot be made: "));
  fs::create_directories(temp_ / "taken/results.jsonl");
  EXPECT_THAT(at(temp_ / "taken"), HasSubstr("taken/results.jsonl: "));
}

TEST_F(NeedleResults, AnswersKeepWhatBytesTheyHave) {
  Row row = row_at(50);
  row.answer = "a\n\"b\"\t\xff\xe4\xbd \u4f60\u2028 end";
  ResultsFile(out_, kFacts, false).append(row);
  const std::string text = content(path());
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(ResultsFile(out_, kFacts, true).rows().at(0).answer,
            "a\n\"b\"\t\ufffd\ufffd \u4f60\u2028 end");
}

TEST_F(NeedleResults, ASecondRowOfOneCellIsAFaultOfOurs) {
  ResultsFile results(out_, kFacts, false);
  results.append(row_at(50));
  EXPECT_THROW(results.append(row_at(50)), Error);
  EXPECT_EQ(content(path()), line(row_at(50)));
}

}  // namespace
}  // namespace heddle::needle
