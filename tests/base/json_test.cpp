#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"

namespace heddle {
namespace {

/// The text of the kBadInput error that reading `text` gives; empty if it is read.
std::string refusal(std::string_view text, JsonLimits limits = {}) {
  try {
    parse_json(text, "in.json", limits);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
    return e.what();
  }
  return "";
}

std::string nested(int depth) {
  return std::string(static_cast<std::size_t>(depth), '[') +
         std::string(static_cast<std::size_t>(depth), ']');
}

TEST(Json, KeepsEveryKindOfValueAndTheOrderOfKeys) {
  const std::string text =
      R"({"z":null,"a":[true,false,-3,18446744073709551615,0.5,"x\n\u00e9"],"m":{"k":{}},"b":[]})";
  const Json json = parse_json(text, "in.json");
  EXPECT_EQ(json.dump(),
            "{\"z\":null,\"a\":[true,false,-3,18446744073709551615,0.5,\"x\\né\"],"
            "\"m\":{\"k\":{}},\"b\":[]}");
  EXPECT_TRUE(json["a"][2].is_number_integer());
  EXPECT_TRUE(json["a"][3].is_number_unsigned());
  EXPECT_TRUE(json["a"][4].is_number_float());
}

TEST(Json, ReadsScalarsAtTheTop) {
  EXPECT_EQ(parse_json(" 7 ", "x").get<int>(), 7);
  EXPECT_EQ(parse_json("\"\"", "x").get<std::string>(), "");
  EXPECT_TRUE(parse_json("null", "x").is_null());
}

TEST(Json, EqualsTheLibrarysOwnReader) {
  std::string text = "{";
  for (int i = 0; i < 300; ++i) {
    text += (i > 0 ? "," : "") + std::string("\"k") + std::to_string(i * 7919 % 300) + "\":" +
            (i % 3 == 0   ? "[1,[2,{\"a\":[]}],\"s\"]"
             : i % 3 == 1 ? "{\"b\":{\"c\":1e3}}"
                          : "-0.0");
  }
  text += "}";
  EXPECT_EQ(parse_json(text, "x"), Json::parse(text));
  EXPECT_EQ(parse_json(text, "x").dump(), Json::parse(text).dump());
}

TEST(Json, RefusesADuplicateKeyWhereItStands) {
  EXPECT_EQ(refusal("{\"role\": 1,\n  \"x\": {\"role\": 2},\n  \"role\": 3}"),
            "in.json:3:3: duplicate key 'role'");
  EXPECT_EQ(refusal(R"([{"a\"b":1, "a\"b":2}])"), R"(in.json:1:13: duplicate key 'a\"b')");
  EXPECT_EQ(refusal(R"({"a\nb":1, "a\nb":2})"), R"(in.json:1:12: duplicate key 'a\nb')");
  const std::string key(100, 'k');
  EXPECT_THAT(refusal("{\"" + key + "\":1, \"" + key + "\":2}"),
              testing::EndsWith("duplicate key '" + key.substr(0, 64) + "...'"));
  EXPECT_EQ(refusal(R"({"\\":1,"\\":2})"), R"(in.json:1:9: duplicate key '\\')");
  EXPECT_EQ(refusal(R"({"":1,"":2})"), "in.json:1:7: duplicate key ''");
  EXPECT_EQ(refusal(R"({"a":1,"\u0061":2})"), "in.json:1:8: duplicate key 'a'");
}

TEST(Json, BoundsDepthExactly) {
  const JsonLimits limits = {.depth = 5};
  EXPECT_EQ(refusal(nested(5), limits), "");
  EXPECT_EQ(refusal(nested(6), limits), "in.json:1:6: JSON nested deeper than 5");
  EXPECT_EQ(refusal("{\"a\":\n[[[[[]]]]]}", limits), "in.json:2:5: JSON nested deeper than 5");
}

TEST(Json, RefusesAMillionBracketsAtOnce) {
  EXPECT_EQ(refusal(nested(1'000'000)), "in.json:1:65: JSON nested deeper than 64");
  EXPECT_EQ(refusal(std::string(1'000'000, '[')), "in.json:1:65: JSON nested deeper than 64");
}

TEST(Json, BoundsTheNumberOfValuesAndKeysExactly) {
  const JsonLimits limits = {.nodes = 5};
  EXPECT_EQ(refusal("[1,2,3,4]", limits), "");
  EXPECT_EQ(refusal("[1,2,3,4,5]", limits), "in.json: more than 5 JSON values");
  EXPECT_EQ(refusal(R"({"a":1,"b":2})", limits), "");
  EXPECT_EQ(refusal(R"({"a":1,"b":[2]})", limits), "in.json: more than 5 JSON values");
}

TEST(Json, NamesThePlaceOfASyntaxError) {
  EXPECT_EQ(refusal("{\"a\": 1,\n \"b\": nul}"), "in.json:2:10: not valid JSON near '\"b\": nul}'");
  EXPECT_EQ(refusal("{\"a\xff\": 1}"), "in.json:1:4: not valid JSON near '\"a\\xff'");
  EXPECT_EQ(refusal(""), "in.json:1:1: not valid JSON near the end");
  EXPECT_EQ(refusal("[1, 2"), "in.json:1:6: not valid JSON near the end");
  EXPECT_THAT(refusal("[1,]"), testing::StartsWith("in.json:1:4: not valid JSON near"));
  EXPECT_THAT(refusal("{} {}"), testing::StartsWith("in.json:1:4: not valid JSON near"));
}

TEST(Json, RefusesWhatOnlyLenientReadersTake) {
  for (const char* text :
       {"{a:1}", "{'a':1}", "[01]", "[+1]", "[.5]", "[1.]", "[NaN]", "[Infinity]", "[1e999]",
        "// c\n1", "/* c */ 1", "[\"\t\"]", "[\"\\x41\"]", "[\"\\ud800\"]", "[\"\xff\"]",
        "[\"\xc0\x80\"]", "[\"\xed\xa0\x80\"]", "True", "\"a"}) {
    EXPECT_THAT(refusal(text), testing::HasSubstr("not valid JSON")) << text;
  }
  EXPECT_EQ(refusal(std::string_view("[1]\0", 4)), "in.json:1:4: not valid JSON near a NUL byte");
}

TEST(Json, QuotesTheEndOfALongTokenBetweenCharacters) {
  std::string text = "[\"";
  for (int i = 0; i < 1000; ++i) text += "é";
  text += "\x01\"]";
  const std::string message = refusal(text);
  EXPECT_LT(message.size(), 100U);
  EXPECT_EQ(Json(message).dump(-1, ' ', false, Json::error_handler_t::replace),
            Json(message).dump());  // dump() throws on what is not UTF-8
}

TEST(Json, ReadsAnObjectOfManyKeysInLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) {
    text += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":0";
  }
  text += "}";
  const auto start = std::chrono::steady_clock::now();
  const Json json = parse_json(text, "in.json");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(json.size(), 200'000U);
  EXPECT_LT(seconds.count(), 10.0);  // a search per key would take minutes
}

TEST(Json, QuoteEscapesAndReplacesBytesThatAreNotUtf8) {
  EXPECT_EQ(json_quote("a\"b\\\n\x01"), R"("a\"b\\\n\u0001")");
  EXPECT_EQ(json_quote("é\xff!"), "\"é\xEF\xBF\xBD!\"");
  EXPECT_EQ(json_quote(std::string_view("\0", 1)), R"("\u0000")");
  EXPECT_EQ(json_quote(""), "\"\"");
}

}  // namespace
}  // namespace heddle
