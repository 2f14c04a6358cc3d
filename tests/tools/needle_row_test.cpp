#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "tests/support/needle_rows.h"
#include "tools/needle/row.h"

namespace heddle::needle {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string line_of(const Row& row) {
  return json_of(row).dump();
}

/// What read_row() says of a good line with one value changed.
std::string refusal(const std::string& key, const Json& value) {
  Json json = json_of(test_row("number", 4096, 50.0, 1.0));
  json[key] = value;
  try {
    read_row(json.dump(), "results.jsonl:3");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "accepted";
}

void expect_same(const Row& a, const Row& b) {
  EXPECT_EQ(a.key, b.key);
  EXPECT_EQ(json_of(a), json_of(b));
}

TEST(NeedleRow, TextsNameTheCell) {
  EXPECT_EQ(text_of(test_row("number", 4096, 50.0, 1.0).key),
            "niah number, 4096 tokens, depth 50, sample 0");
  EXPECT_EQ(text_of(test_row("vt", 4096, {}, 1.0, 7).key), "niah vt, 4096 tokens, sample 7");
  EXPECT_EQ(text_of(test_row("number", 1, 100.0 / 3.0, 1.0).key),
            "niah number, 1 tokens, depth 33.3333, sample 0");
}

TEST(NeedleRow, LinesHaveTheKeysInTheirOrder) {
  EXPECT_EQ(line_of(test_row("number", 4096, 50.0, 1.0)),
            R"({"suite":"niah","task":"number","model":"tiny","attention":"trained","length":4096,)"
            R"("depth":50.0,"seed":0,"sample":0,"score":1.0,"answer":"The number is 4830172.",)"
            R"("expected":["4830172"],"prompt_tokens":3996,"cached_tokens":2048,"prefill_s":0.5,)"
            R"("decode_s":0.25,"kv_bytes":4096000,"state_bytes":4096,"error":null})");
}

TEST(NeedleRow, LinesAreReadAsTheyWereWritten) {
  Row row = test_row("number", 4096, 100.0 / 3.0, 1.0 / 7.0, 2);
  row.key.seed = UINT64_MAX;
  row.answer = "\"quotes\"\n\t\x1b \xc3\xa4 \xf0\x9f\xa7\xb5";
  row.expected = {"a", "", "b,c"};
  row.prefill_s = 0.1 + 0.2;
  expect_same(read_row(line_of(row), "x"), row);
}

TEST(NeedleRow, WhatIsAbsentStaysAbsent) {
  Row row = test_row("vt", 4096, {}, {});
  row.prefill_s.reset();
  row.decode_s.reset();
  row.kv_bytes.reset();
  row.state_bytes.reset();
  row.expected.clear();
  const Row read = read_row(line_of(row), "x");
  expect_same(read, row);
  EXPECT_FALSE(read.score);
  EXPECT_FALSE(read.key.depth);
  EXPECT_FALSE(read.kv_bytes);
  EXPECT_EQ(read.error, "HTTP 503: busy");
}

TEST(NeedleRow, WholeNumbersServeAsDepthAndScore) {
  Json json = json_of(test_row("number", 4096, 50.0, 1.0));
  json["depth"] = 50;
  json["score"] = 1;
  expect_same(read_row(json.dump(), "x"), test_row("number", 4096, 50.0, 1.0));
}

TEST(NeedleRow, BadValuesAreNamed) {
  const std::vector<std::pair<std::string, Json>> cases = {{"suite", ""},
                                                           {"task", 3},
                                                           {"model", nullptr},
                                                           {"length", 0},
                                                           {"length", -4},
                                                           {"length", 4096.5},
                                                           {"length", std::uint64_t{1} << 41},
                                                           {"depth", 100.5},
                                                           {"depth", -1},
                                                           {"depth", "50"},
                                                           {"seed", -1},
                                                           {"seed", 1.5},
                                                           {"sample", -1},
                                                           {"score", 1.5},
                                                           {"score", true},
                                                           {"answer", nullptr},
                                                           {"expected", "x"},
                                                           {"expected", {1}},
                                                           {"prompt_tokens", nullptr},
                                                           {"cached_tokens", 4000},
                                                           {"prefill_s", -0.5},
                                                           {"decode_s", 1e300},
                                                           {"kv_bytes", -1},
                                                           {"state_bytes", UINT64_MAX},
                                                           {"error", ""},
                                                           {"error", false}};
  for (const auto& [key, value] : cases) {
    EXPECT_THAT(refusal(key, value),
                AllOf(StartsWith("results.jsonl:3: '" + key + "' is "), HasSubstr(", needed: ")))
        << key << " " << value;
  }
}

TEST(NeedleRow, ARowHasAScoreOrAnError) {
  EXPECT_EQ(refusal("error", "late"),
            "results.jsonl:3: 'error' is \"late\", needed: null beside a score");
  EXPECT_EQ(refusal("score", nullptr),
            "results.jsonl:3: 'error' is null, needed: a text where the score is null");
}

TEST(NeedleRow, OtherKeysAndMissingOnesAreRefused) {
  EXPECT_EQ(refusal("extra\n", 1), "results.jsonl:3: \"extra\\n\" is not a key of a result");
  Json json = json_of(test_row("number", 4096, 50.0, 1.0));
  json.erase("kv_bytes");
  EXPECT_THROW(
      {
        try {
          read_row(json.dump(), "r:1");
        } catch (const Error& error) {
          EXPECT_STREQ(error.what(), "r:1: 'kv_bytes' is missing");
          throw;
        }
      },
      Error);
}

TEST(NeedleRow, BrokenLinesAreRefused) {
  const std::string line = line_of(test_row("number", 4096, 50.0, 1.0));
  for (const std::string& bad :
       {std::string(), std::string("[]"), std::string("null"), line.substr(0, line.size() / 2),
        line + line, "{\"suite\":\"a\"," + line.substr(1)}) {
    try {
      read_row(bad, "r:9");
      ADD_FAILURE() << "accepted: " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      EXPECT_THAT(error.what(), StartsWith("r:9:"));
    }
  }
}

TEST(NeedleRow, LongValuesAreCutInErrors) {
  EXPECT_LT(refusal("length", std::string(100'000, 'x')).size(), 250U);
}

}  // namespace
}  // namespace heddle::needle
