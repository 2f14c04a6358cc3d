// JSON Schema: for each keyword, texts that it allows and texts that it does not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "base/error.h"
#include "engine/grammar/grammar.h"

namespace heddle {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

using Texts = std::initializer_list<const char*>;

void expect_schema(const std::string& schema, Texts in, Texts out) {
  SCOPED_TRACE(schema);
  const GrammarPtr grammar = json_schema_grammar(schema);
  for (const char* text : in) EXPECT_TRUE(grammar->matches(text)) << text;
  for (const char* text : out) EXPECT_FALSE(grammar->matches(text)) << text;
}

std::string refusal(const std::string& schema) {
  try {
    json_schema_grammar(schema);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput) << e.what();
    EXPECT_THAT(e.what(), StartsWith("unsupported_schema: ")) << schema;
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.what();
  }
  return "not refused: " + schema;
}

TEST(JsonSchemaGrammar, Types) {
  expect_schema(R"({"type":"null"})", {"null"}, {"0", "\"\"", "nul", "null "});
  expect_schema(R"({"type":"boolean"})", {"true", "false"}, {"null", "1"});
  expect_schema(R"({"type":"integer"})", {"0", "-5", "123456789012345678"},
                {"-0", "1.0", "01", "+1", "1e2", "1234567890123456789", ""});
  expect_schema(R"({"type":"number"})", {"0", "-0.5", "1e5", "2.5E-07", "12345678901234567890"},
                {"01", ".5", "1.", "1e", "1e123", "NaN", "123456789012345678901"});
  expect_schema(R"({"type":"string"})", {"\"\"", "\"a\\u0041\\\"\"", "\"\xe2\x82\xac\""},
                {"a", "\"", "\"\n\"", "\"\\u12\"", "\"\\ud800\"", "\"\xc3\""});
  expect_schema(R"({"type":"array"})", {"[]", "[1, \"a\", {}]"}, {"{}", "[1,]", "[,1]"});
  expect_schema(R"({"type":"object"})", {"{}", R"({"a": 1})"}, {"[]", "{1:2}"});
  expect_schema(R"({"type":["integer","null"]})", {"1", "null"}, {"1.5", "\"\""});
  expect_schema(R"({"type":["integer","number"]})", {"1", "1.5"}, {"null"});
  expect_schema(R"({"type":"string","nullable":true})", {"\"\"", "null"}, {"1"});
}

TEST(JsonSchemaGrammar, EmptyTrueAndFalse) {
  for (const char* any :
       {"{}", "true", R"({"title":"x","description":"y","default":3,"$comment":"z"})"}) {
    expect_schema(any, {"1", "null", "[{}]", R"({"a": "b"})", "\"x\""}, {"", "x", " 1"});
  }
  EXPECT_THAT(refusal("false"), HasSubstr("no text"));
  expect_schema(R"({"properties":{"a":{"type":"null"},"b":false}})", {"{}", R"({"a": null})"},
                {R"({"b": 1})"});
  EXPECT_THAT(refusal(R"({"properties":{"b":false},"required":["b"]})"), HasSubstr("no text"));
}

TEST(JsonSchemaGrammar, PropertiesComeInOrder) {
  const char* const schema =
      R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"boolean"},
      "c \"\\":{"type":"null"}},"required":["b"],"additionalProperties":false})";
  expect_schema(
      schema,
      {R"({"b":true})", R"({"a": 1, "b": false})", R"({"b": true, "c \"\\": null})",
       "{\n  \"a\": 1,\n  \"b\": true\n}", R"({"a":1,"b":true,"c \"\\":null})"},
      {"{}", R"({"a": 1})", R"({"b": true, "a": 1})", R"({"b": 1})", R"({"b": true,})",
       R"({"b": true, "d": 1})", R"({"a": 1 "b": true})", R"({,"b": true})", R"({"b":  true})",
       "{\t\"b\":true}", R"({"b" :true})", R"({"b":true} )", R"({"b":true, "b":true})"});
}

TEST(JsonSchemaGrammar, AdditionalProperties) {
  // Not described, not written; but an object of which nothing is described is any object.
  expect_schema(R"({"properties":{"a":{"type":"null"}}})", {"{}", R"({"a":null})"}, {R"({"b":1})"});
  expect_schema(R"({"properties":{"a":{"type":"null"}},"additionalProperties":true})",
                {"{}", R"({"a":null})", R"({"b":1})", R"({"a": null, "b": [], "aa": 1, "": 2})"},
                {R"({"a":1})", R"({"b": 1, "a": null})", R"({"a": null, "a": null})"});
  expect_schema(R"({"properties":{"a":{}},"additionalProperties":{"type":"integer"}})",
                {R"({"a": "x", "b": 1})"}, {R"({"b": "x"})", R"({"\u0061": 1})"});
  expect_schema(R"({"additionalProperties":{"type":"integer"}})",
                {"{}", R"({"b": 1, "\u0061": 2})"}, {R"({"b": "x"})"});
  expect_schema(R"({"additionalProperties":false})", {"{}"}, {R"({"b": 1})"});
  expect_schema(
      R"({"properties":{"é":{"type":"null"},"éa":{}},"additionalProperties":{"type":"integer"}})",
      {R"({"è": 1})", R"({"ê": 1, "éab": 2})", R"({"é": null, "ó": 3})"},
      {R"({"é": 1})", "{\"\xc3\": 1}",
       "{\"\xc3"
       "a\": 1}"});
}

TEST(JsonSchemaGrammar, Required) {
  expect_schema(R"({"required":["x"]})", {R"({"x": [1]})"}, {"{}", R"({"y": 1})"});
  expect_schema(R"({"required":["x"],"additionalProperties":{"type":"null"}})",
                {R"({"x": null, "y": null})"}, {R"({"x": 1})", R"({"y": null})"});
  EXPECT_THAT(refusal(R"({"required":["x"],"additionalProperties":false})"), HasSubstr("no text"));
  EXPECT_THAT(refusal(R"({"required":"x"})"), HasSubstr("'required'"));
  expect_schema(
      R"({"properties":{"a":{},"b":{}},"required":["a"],"minProperties":1,"maxProperties":2})",
      {R"({"a": 1, "b": 2})"}, {"{}"});
  EXPECT_THAT(refusal(R"({"properties":{"a":{}},"minProperties":1})"), HasSubstr("minProperties"));
  EXPECT_THAT(refusal(R"({"type":"object","maxProperties":1})"), HasSubstr("maxProperties"));
}

TEST(JsonSchemaGrammar, EnumAndConst) {
  expect_schema(R"({"enum":["red","re\"d",1,1.5,null,true,[1,"a"],{"a":{"b":[]}}]})",
                {"\"red\"", "\"re\\\"d\"", "1", "1.5", "null", "true", "[1, \"a\"]", "[1,\"a\"]",
                 R"({"a": {"b": []}})"},
                {"\"re\"", "\"green\"", "2", "false", "[1]", "{}", "1.0"});
  expect_schema(R"({"const":"x"})", {"\"x\""}, {"\"y\"", "x"});
  expect_schema(R"({"const":{}})", {"{}"}, {R"({"a":1})"});
  expect_schema(R"({"type":"string","enum":["a",1,null]})", {"\"a\""}, {"1", "null"});
  expect_schema(R"({"type":"integer","enum":[1,1.5,2]})", {"1", "2"}, {"1.5"});
  EXPECT_THAT(refusal(R"({"enum":["a"],"minLength":1})"), HasSubstr("'minLength' beside 'enum'"));
  EXPECT_THAT(refusal(R"({"enum":[]})"), HasSubstr("no text"));
  EXPECT_THAT(refusal(R"({"enum":"a"})"), HasSubstr("must be a list"));
}

TEST(JsonSchemaGrammar, AnyOfAndOneOf) {
  for (const char* keyword : {"anyOf", "oneOf"}) {
    expect_schema("{\"" + std::string(keyword) + R"(":[{"type":"integer"},{"type":"null"}]})",
                  {"1", "null"}, {"\"\"", "1.5"});
  }
  expect_schema(R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},
                "anyOf":[{"required":["a"]},{"required":["b"]}]})",
                {R"({"a":1})", R"({"b":1})", R"({"a":1,"b":2})"}, {"{}", R"({"a":"x"})"});
  EXPECT_THAT(refusal(R"({"anyOf":[]})"), HasSubstr("anyOf"));
  EXPECT_THAT(refusal(R"({"anyOf":[{}],"oneOf":[{}]})"), HasSubstr("beside 'oneOf'"));
}

TEST(JsonSchemaGrammar, AllOfIsMerged) {
  expect_schema(R"({"allOf":[{"properties":{"a":{"type":"integer"}},"required":["a"]},
                {"properties":{"b":{"type":"string"},"a":{"minimum":5}},"required":["b"]}]})",
                {R"({"a": 5, "b": ""})"}, {R"({"a": 5})", R"({"a": 4, "b": ""})"});
  expect_schema(
      R"({"allOf":[{"type":["string","integer"]},{"type":["integer","null"]}],"maximum":3})",
      {"3", "-1"}, {"4", "null", "\"\""});
  expect_schema(R"({"allOf":[{"type":"number"},{"type":"integer"},{"minimum":1},{"minimum":3}]})",
                {"3"}, {"2", "3.5"});
  expect_schema(R"({"allOf":[{"enum":[1,2,3]},{"enum":[2,3,4]},{"type":"integer"}]})", {"2", "3"},
                {"1", "4"});
  expect_schema(
      R"({"allOf":[{"$ref":"#/$defs/a"}],"description":"x","$defs":{"a":{"type":"null"}}})",
      {"null"}, {"1"});
  expect_schema(R"({"$ref":"#/$defs/a","required":["x"],
                "$defs":{"a":{"properties":{"x":{"type":"null"}}}}})",
                {R"({"x":null})"}, {"{}"});
  // What one forbids, the other cannot allow.
  expect_schema(R"({"allOf":[{"properties":{"a":{}},"additionalProperties":false},
                {"properties":{"b":{}}}]})",
                {R"({"a":1})", "{}"}, {R"({"b":1})"});
  EXPECT_THAT(refusal(R"({"allOf":[{"type":"string"},{"type":"null"}]})"), HasSubstr("no text"));
  EXPECT_THAT(refusal(R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})"), HasSubstr("'pattern'"));
  EXPECT_THAT(refusal(R"({"allOf":[]})"), HasSubstr("allOf"));
}

TEST(JsonSchemaGrammar, References) {
  expect_schema(R"({"$ref":"#/definitions/a~1b~0","definitions":{"a/b~":{"type":"null"}}})",
                {"null"}, {"1"});
  expect_schema(R"({"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[
                {"$ref":"#"},{"type":"null"}]}},"required":["v","next"]})",
                {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"},
                {R"({"v":1})", R"({"v":1,"next":{"v":2}})"});
  expect_schema(
      R"({"$defs":{"t":{"type":"array","items":{"$ref":"#/$defs/t"}}},"$ref":"#/$defs/t"})",
      {"[]", "[[], [[]]]"}, {"[1]", "["});
  // Recursion through allOf.
  expect_schema(R"({"$defs":{"b":{"properties":{"n":{"$ref":"#/$defs/b"}}},
                "a":{"allOf":[{"$ref":"#/$defs/b"},{"properties":{"n":{"$ref":"#/$defs/a"},
                "x":{"type":"null"}},"required":["x"]}]}},"$ref":"#/$defs/a"})",
                {R"({"x":null})", R"({"n":{"n":{"x":null},"x":null},"x":null})"},
                {"{}", R"({"n":{},"x":null})"});
  for (const char* loop :
       {R"({"$ref":"#"})",
        R"({"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}})",
        R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})",
        R"({"allOf":[{"$ref":"#"},{"type":"null"}]})",
        R"({"type":"array","items":{"$ref":"#"},"minItems":1})"}) {
    EXPECT_THAT(refusal(loop), testing::AnyOf(HasSubstr("no text"), HasSubstr("left recursion"),
                                              HasSubstr("within each other")));
  }
  expect_schema(R"({"$ref":"#/$defs/a%20b%25","$defs":{"a b%":{"type":"null"}}})", {"null"}, {"1"});
  expect_schema(R"({"$ref":"#/%24defs/a%7e1%C3%A9","$defs":{"a/é":{"type":"null"}}})", {"null"},
                {"1"});
  expect_schema(R"({"$ref":"#/$defs/a%20b","$defs":{"a%20b":{"type":"null"}}})", {"null"}, {"1"});
  expect_schema(R"({"$ref":"#/$defs/100%","$defs":{"100%":{"type":"null"}}})", {"null"}, {"1"});
  for (const char* bad :
       {R"({"$ref":"#/x"})", R"({"$ref":"#/%"})", R"({"$ref":"http://example.com/s"})",
        R"({"$ref":"other.json#/a"})", R"({"$ref":1})", R"({"$ref":"#a"})"}) {
    EXPECT_THAT(refusal(bad), HasSubstr("$ref"));
  }
}

TEST(JsonSchemaGrammar, Arrays) {
  expect_schema(R"({"items":{"type":"integer"}})", {"[]", "[1]", "[1, 2,3]", "[\n  1,\n  2\n]"},
                {"[\"a\"]", "[1 2]", "[1,]", "[1, ]"});
  expect_schema(R"({"items":{"type":"integer"},"minItems":2,"maxItems":3})", {"[1,2]", "[1,2,3]"},
                {"[]", "[1]", "[1,2,3,4]"});
  expect_schema(R"({"items":{"type":"integer"},"minItems":3})", {"[1,2,3]", "[1,2,3,4]"},
                {"[1,2]"});
  expect_schema(R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"});
  expect_schema(R"({"prefixItems":[{"type":"integer"},{"type":"null"}]})",
                {"[]", "[1]", "[1, null]"}, {"[null]", "[1, null, 1]"});
  expect_schema(R"({"prefixItems":[{"type":"integer"}],"items":{"type":"null"},"minItems":1})",
                {"[1]", "[1,null,null]"}, {"[]", "[null]", "[1,1]"});
  expect_schema(R"({"prefixItems":[{"type":"integer"}],"items":false})", {"[]", "[1]"}, {"[1,1]"});
  expect_schema(R"({"prefixItems":[{"type":"integer"}],"minItems":2})", {"[1, {}]"}, {"[1]"});
  EXPECT_THAT(refusal(R"({"type":"array","minItems":2,"maxItems":1})"), HasSubstr("no text"));
  EXPECT_THAT(refusal(R"({"type":"array","maxItems":1000000000})"),
              HasSubstr("the limit of states"));
  EXPECT_THAT(refusal(R"({"type":"array","items":{"type":"null"},"maxItems":900000})"),
              HasSubstr("limit"));
  EXPECT_THAT(refusal(R"({"type":"array","minItems":-1})"), HasSubstr("whole number"));
  EXPECT_THAT(refusal(R"({"items":[{}]})"), HasSubstr("prefixItems"));
  expect_schema(R"({"type":"array","uniqueItems":false})", {"[1,1]"}, {});
}

TEST(JsonSchemaGrammar, StringLengthsCountCharacters) {
  expect_schema(
      R"({"type":"string","minLength":2,"maxLength":3})",
      {"\"ab\"", "\"\xe2\x82\xac\\n\"", "\"\\u0041\\ud83d\\ude00b\"", "\"\xf0\x9f\x98\x80!!\""},
      {"\"a\"", "\"abcd\"", "\"\xe2\x82\xac\"", "\"\\ud83d\\ude00\""});
  expect_schema(R"({"minLength":1})", {"\"a\"", "\"abc\""}, {"\"\""});
  EXPECT_THAT(refusal(R"({"type":"string","maxLength":2147483647})"), HasSubstr("limit"));
  EXPECT_THAT(refusal(R"({"type":"string","minLength":3,"maxLength":1})"), HasSubstr("no text"));
}

TEST(JsonSchemaGrammar, PatternsAreSearchedFor) {
  expect_schema(R"({"pattern":"^[a-z]{2}$"})", {"\"ab\""}, {"\"abc\"", "\"a\"", "\"AB\""});
  expect_schema(R"({"pattern":"b+"})",
                {"\"b\"", "\"abbc\"",
                 "\"\xe2\x82\xac"
                 "b\""},
                {"\"a\"", "\"\""});
  expect_schema(R"({"pattern":"^a|b$"})", {"\"ax\"", "\"xb\""}, {"\"xa\"", "\"bx\""});
  // Characters that strings escape.
  expect_schema(R"({"pattern":"^[\"\\\\\\n\\x01]+$"})", {R"("\"\\\n\u0001")"},
                {"\"\"\"", "\"\n\""});
  expect_schema(R"({"pattern":"^a{3}$","minLength":3,"maxLength":5})", {"\"aaa\""}, {"\"aa\""});
  EXPECT_THAT(refusal(R"({"pattern":"^a*$","maxLength":5})"), HasSubstr("restrict it further"));
  EXPECT_THAT(refusal(R"({"properties":{"x/y":{"pattern":"(a"}}})"),
              HasSubstr("'/properties/x~1y/pattern': regex:"));
  EXPECT_THAT(refusal(R"x({"pattern":"(?=a)"})x"), HasSubstr("lookaround"));
}

TEST(JsonSchemaGrammar, Formats) {
  expect_schema(R"({"format":"date"})",
                {"\"2024-02-29\"", "\"1999-12-31\"", "\"2000-02-29\"", "\"0001-01-01\""},
                {"\"2023-02-29\"", "\"1900-02-29\"", "\"2024-13-01\"", "\"2024-04-31\"",
                 "\"2024-1-1\"", "\"0000-01-01\""});
  expect_schema(R"({"format":"time"})", {"\"23:59:59Z\"", "\"00:00:00.123+02:00\""},
                {"\"24:00:00Z\"", "\"12:00Z\"", "\"12:00:00\""});
  expect_schema(R"({"format":"date-time"})", {"\"2024-02-29T12:00:00Z\""},
                {"\"2024-02-29\"", "\"2024-02-29 12:00:00Z\""});
  expect_schema(
      R"({"format":"uuid"})", {"\"123e4567-E89b-12d3-a456-426614174000\""},
      {"\"123e4567e89b12d3a456426614174000\"", "\"123e4567-e89b-12d3-a456-42661417400\""});
  expect_schema(R"({"format":"ipv4"})", {"\"0.0.0.0\"", "\"255.199.9.10\""},
                {"\"256.1.1.1\"", "\"1.2.3\"", "\"01.2.3.4\""});
  expect_schema(R"({"format":"email"})", {"\"a.b+c@d-e.org\""},
                {"\"a@b\"", "\"@b.c\"", "\"a b@c.d\""});
  expect_schema(R"({"type":"string","format":"uri"})", {"\"anything\""}, {"1"});
  expect_schema(R"({"format":"uuid","minLength":36})", {"\"123e4567-e89b-12d3-a456-426614174000\""},
                {"\"\""});
  EXPECT_THAT(refusal(R"({"format":"date","pattern":"a"})"), HasSubstr("'pattern' beside"));
}

TEST(JsonSchemaGrammar, IntegersBetweenBounds) {
  expect_schema(R"({"type":"integer","minimum":-5,"maximum":120})",
                {"-5", "-1", "0", "7", "99", "100", "120"},
                {"-6", "-10", "121", "200", "1000", "-0", "00"});
  expect_schema(R"({"type":"integer","exclusiveMinimum":9,"exclusiveMaximum":12})", {"10", "11"},
                {"9", "12"});
  expect_schema(R"({"type":"integer","minimum":1.5,"maximum":3.5})", {"2", "3"}, {"1", "4"});
  expect_schema(R"({"type":"integer","minimum":0})", {"0", "5", "999999999999999999"}, {"-1"});
  expect_schema(R"({"type":"integer","maximum":-3})", {"-3", "-100"}, {"-2", "0", "1"});
  expect_schema(R"({"type":"integer","minimum":9223372036854775807})", {"9223372036854775807"},
                {"9223372036854775806", "922337203685477580"});
  expect_schema(R"({"type":"integer","minimum":3,"exclusiveMinimum":true})", {"4"}, {"3"});
  EXPECT_THAT(refusal(R"({"type":"integer","minimum":5,"maximum":4})"), HasSubstr("no text"));
  EXPECT_THAT(refusal(R"({"type":"integer","exclusiveMinimum":1,"exclusiveMaximum":2})"),
              HasSubstr("no text"));
  EXPECT_THAT(refusal(R"({"type":"integer","minimum":"5"})"), HasSubstr("must be a number"));
}

TEST(JsonSchemaGrammar, EveryIntegerOfSmallRangesIsToldApart) {
  for (int low = -13; low <= 13; low += 2) {
    for (int high = low; high <= 120; high += 7) {
      const GrammarPtr g =
          json_schema_grammar("{\"type\":\"integer\",\"minimum\":" + std::to_string(low) +
                              ",\"maximum\":" + std::to_string(high) + "}");
      for (int n = -130; n <= 130; ++n) {
        EXPECT_EQ(g->matches(std::to_string(n)), n >= low && n <= high)
            << low << " " << n << " " << high;
      }
    }
  }
}

TEST(JsonSchemaGrammar, NumbersBetweenBounds) {
  expect_schema(R"({"type":"number","minimum":0,"maximum":1})",
                {"0", "1", "0.5", "1.0", "0.999", "0.0"}, {"1.01", "-0.1", "2", "1.", "1e0", "-0"});
  expect_schema(R"({"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1})",
                {"0.5", "0.001", "0.99"}, {"0", "0.0", "0.000", "1", "1.0"});
  expect_schema(R"({"minimum":-2.5,"maximum":-0.25})", {"-2.5", "-1", "-0.25", "-0.250", "-2.49"},
                {"-2.51", "-0.24", "0", "1", "-3"});
  expect_schema(R"({"type":"number","minimum":10})", {"10", "10.0", "11.5", "123456789012345"},
                {"9", "9.999", "-10"});
  expect_schema(R"({"type":"number","maximum":1e-3})", {"0.001", "0", "-5.5"}, {"0.0011", "0.01"});
  expect_schema(R"({"type":"number","minimum":-1e300})", {"-5", "5e3"}, {});
  EXPECT_THAT(refusal(R"({"type":"number","minimum":1e300})"), HasSubstr("digits"));
  EXPECT_THAT(refusal(R"({"type":"number","multipleOf":0.5})"),
              HasSubstr("'multipleOf' is not supported"));
}

TEST(JsonSchemaGrammar, BoundsHoldWhereDoublesLieFarApart) {
  expect_schema(R"({"type":"number","maximum":1e15})",
                {"1000000000000000", "999999999999999", "0.25", "-123456789.5"},
                {"1000000000000001", "6e+99", "1e3", "10000000000000000", "999999999999999.5"});
  expect_schema(R"({"type":"number","minimum":-9007199254740991,"maximum":9007199254740991})",
                {"9007199254740991", "-9007199254740991", "0.5", "1000000000000000"},
                {"9007199254740992", "-9007199254740992", "1e99", "1000000000000000.5"});
  // An open end excludes what rounds to it.
  expect_schema(R"({"type":"number","exclusiveMaximum":1e17})", {"99999999999999984"},
                {"99999999999999985", "99999999999999999", "100000000000000000"});
  expect_schema(R"({"type":"number","exclusiveMinimum":9007199254740992})", {"9007199254740994"},
                {"9007199254740992", "9007199254740993", "1"});
  // An integer that is no double: the number that is written must be inside however it is read.
  expect_schema(R"({"type":"number","minimum":9007199254740993})", {"9007199254740994"},
                {"9007199254740993", "9007199254740992"});
  expect_schema(R"({"type":"number","maximum":-9007199254740993})", {"-9007199254740994"},
                {"-9007199254740993", "-9007199254740992", "1"});
  // More digits in one bound do not make more behind the point.
  expect_schema(R"({"type":"number","exclusiveMinimum":0.3,"maximum":10000000000000000})",
                {"0.30000000000001", "10000000000000000"}, {"0.30000000000000001"});
  expect_schema(R"({"type":"number","minimum":-1e19,"maximum":5})", {"-999999999999999", "5"},
                {"-1e5", "6", "5.1"});
  expect_schema(R"({"type":"number","maximum":1e50})", {"123456789012345", "-3"}, {"1e60", "1e51"});
  expect_schema(R"({"type":"number","maximum":1e300})", {"9e99", "3"}, {});
  expect_schema(R"({"type":"integer","minimum":-9223372036854775809})", {"-9223372036854775807"},
                {"-9223372036854775809", "-9999999999999999999"});
  expect_schema(R"({"type":"integer","maximum":9007199254740993.0})", {"9007199254740992"},
                {"9007199254740993"});
  for (const char* far :
       {R"({"type":"number","minimum":1e19})", R"({"type":"number","maximum":-1e19})",
        R"({"type":"integer","minimum":18446744073709551615})",
        R"({"type":"integer","maximum":-9223372036854775809})"}) {
    EXPECT_THAT(refusal(far), HasSubstr("numbers of more than 19 digits")) << far;
  }
}

TEST(JsonSchemaGrammar, IntegersOfSchemasAreNotRounded) {
  EXPECT_THAT(refusal(R"({"type":"integer","minimum":-40,"maximum":70,
                      "exclusiveMinimum":9223372036854775808})"),
              HasSubstr("no text"));
  expect_schema(R"({"type":"integer","maximum":-95,"exclusiveMaximum":10000000000000000000})",
                {"-95", "-96"}, {"-94", "0", "996699"});
  expect_schema(R"({"allOf":[{"minimum":-5},{"minimum":18446744073709551614}],"type":"null"})",
                {"null"}, {});
  for (const char* both :
       {R"({"allOf":[{"minimum":9007199254740993},{"minimum":9007199254740992.0}],
            "type":"integer"})",
        R"({"allOf":[{"minimum":9007199254740992.0},{"minimum":9007199254740993}],
            "type":"integer"})",
        R"({"type":"integer","properties":{},"allOf":[{"minimum":9007199254740993.0,
            "maximum":9007199254740999}, {"minimum":9007199254740993}]})"}) {
    expect_schema(both, {"9007199254740993"}, {"9007199254740992"});
  }
  // In parts that are merged later, too.
  expect_schema(R"({"type":"object","allOf":[
                {"properties":{"a":{"type":"integer","maximum":9007199254740992.0}}},
                {"properties":{"a":{"type":"integer","maximum":9007199254740993}}},
                {"properties":{"a":{"type":"integer","maximum":-1}}},
                {"properties":{"a":{"type":"integer","maximum":18446744073709551615}}}]})",
                {R"({"a":-1})"}, {R"({"a":0})"});
  expect_schema(R"({"enum":[9007199254740993],"const":9007199254740993})", {"9007199254740993"},
                {"9007199254740992"});
  EXPECT_THAT(refusal(R"({"enum":[9007199254740993],"const":9007199254740992.0})"),
              HasSubstr("no text"));
  EXPECT_THAT(refusal(R"({"allOf":[{"enum":[-1]},{"const":18446744073709551615}]})"),
              HasSubstr("no text"));
  expect_schema(R"({"enum":[18446744073709551615,-9223372036854775808,1e15,0.1]})",
                {"18446744073709551615", "-9223372036854775808", "1e+15", "0.1"}, {});
  for (const char* rounded : {"123456789012345678901234567890", "18446744073709551616",
                              "-9223372036854775809", "[{\"a\":100000000000000000000}]", "1e19",
                              "9223372036854775808.0", "-9223372036854775808.0"}) {
    EXPECT_THAT(
        refusal("{\"enum\":[" + std::string(rounded) + "]}"),
        HasSubstr("allowed: whole numbers from -2^63 to 2^64 - 1 without point and exponent, "
                  "others below 2^63 in size"));
  }
  expect_schema(R"({"const":9223372036854774784.0})", {"9.223372036854775e+18"}, {});
}

TEST(JsonSchemaGrammar, NullableIsATypeOfItsOwnSchema) {
  expect_schema(R"({"type":"string","nullable":true})", {"null", "\"a\""}, {"1"});
  expect_schema(R"({"allOf":[{"type":"string","nullable":true},{"type":"string","minLength":1}]})",
                {"\"a\""}, {"null", "\"\""});
  expect_schema(R"({"type":"string","nullable":true,"allOf":[{"type":"string"}]})", {"\"a\""},
                {"null"});
  expect_schema(R"({"allOf":[{"type":"string","nullable":true},{"type":["null","string"]}]})",
                {"\"a\"", "null"}, {"1"});
  expect_schema(
      R"({"allOf":[{"type":"string","nullable":true},{"type":"integer","nullable":true}]})",
      {"null"}, {"1", "\"a\""});
  expect_schema(R"({"nullable":true,"allOf":[{"type":"string"}]})", {"\"a\""}, {"null"});
  expect_schema(R"({"type":["string","null"],"nullable":false,"allOf":[{"maxLength":1}]})",
                {"null", "\"a\""}, {"\"ab\""});
}

TEST(JsonSchemaGrammar, NamesMayHoldAnyCharacter) {
  expect_schema(R"({"allOf":[{"properties":{"a\u0000b":{"type":"integer"}},"required":["a\u0000b"]},
                {"properties":{"c":{"type":"null"}}}]})",
                {R"({"a\u0000b":5})"}, {R"({"a\u0000b":"str"})", "{}"});
}

TEST(JsonSchemaGrammar, AnyValueHas64Levels) {
  const auto nested = [](int levels) {
    std::string text;
    for (int i = 0; i < levels; ++i) text += i % 2 == 0 ? "{\"a\":" : "[";
    text += "1";
    for (int i = levels; i-- > 0;) text += i % 2 == 0 ? "}" : "]";
    return text;
  };
  for (const GrammarPtr& grammar :
       {json_object_grammar(), json_schema_grammar("{}"),
        json_schema_grammar("{\"type\":\"object\"}"),
        json_schema_grammar(R"({"$ref":"#/$defs/a","$defs":{"a":{"type":"object"}}})")}) {
    EXPECT_FALSE(grammar->matches(nested(65)));
    EXPECT_TRUE(grammar->matches(nested(60)));
  }
  EXPECT_TRUE(json_object_grammar()->matches(nested(64)));
  EXPECT_TRUE(json_schema_grammar("{}")->matches(nested(64)));
  EXPECT_TRUE(json_schema_grammar("{\"type\":\"object\"}")->matches(nested(64)));
}

TEST(JsonSchemaGrammar, RefusesWhatRestrictsAndIsNotSupported) {
  for (const char* keyword :
       {R"("not":{})", R"("if":{})", R"("then":{})", R"("dependentRequired":{"a":["b"]})",
        R"("patternProperties":{"^x":{}})", R"("propertyNames":{"minLength":1})",
        R"("uniqueItems":true)", R"("contains":{})", R"("multipleOf":2)",
        R"("unevaluatedProperties":false)", R"("$dynamicRef":"#a")", R"("maxLenght":3)"}) {
    EXPECT_THAT(refusal("{\"properties\":{\"p\":{" + std::string(keyword) + "}}}"),
                HasSubstr("'/properties/p': keyword '"));
  }
  for (const char* schema : {"[]", "3", "\"x\"", "null", "", "{", R"({"type":"text"})",
                             R"({"type":3})", R"({"properties":[]})", R"({"properties":{"a":1}})",
                             R"({"items":3})", R"({"pattern":1})", R"({"a":1,"a":2})"}) {
    EXPECT_THAT(refusal(schema), StartsWith("unsupported_schema")) << schema;
  }
}

TEST(JsonSchemaGrammar, HasLimits) {
  std::string deep = R"({"type":"null"})";
  for (int i = 0; i < 40; ++i) deep = R"({"properties":{"a":)" + deep + "}}";
  EXPECT_THAT(refusal(deep), HasSubstr("nested deeper than 32"));
  std::string deeper;
  for (int i = 0; i < 5'000; ++i) deeper += "{\"not\":";
  EXPECT_THAT(refusal(deeper), StartsWith("unsupported_schema"));
  EXPECT_THAT(refusal("{\"description\":\"" + std::string(70'000, 'x') + "\"}"),
              HasSubstr("allowed: 65536"));
  std::string values = "{\"enum\":[0";
  for (int i = 1; i < 12'000; ++i) values += "," + std::to_string(i);
  const GrammarPtr many = json_schema_grammar(values + "]}");
  EXPECT_TRUE(many->matches("11999"));
  EXPECT_FALSE(many->matches("12000"));
  // Each level doubles what merging would write down.
  std::string doubling = R"({"$ref":"#/$defs/d0","$defs":{)";
  for (int i = 0; i < 30; ++i) {
    const std::string next = R"({"$ref":"#/$defs/d)" + std::to_string(i + 1) + "\"}";
    doubling += "\"d" + std::to_string(i) + R"(":{"allOf":[)" + next + "," + next + "]},";
  }
  EXPECT_THAT(refusal(doubling + R"("d30":{"type":"null"}}})"), HasSubstr("within each other"));
  doubling.replace(doubling.find("d0\""), 3, "d16\"");  // few levels, many ways
  EXPECT_THAT(refusal(doubling + R"("d30":{"type":"null"}}})"), HasSubstr("merged"));
  // Each array has room, all of them have not.
  std::string arrays = R"({"properties":{)";
  for (int i = 0; i < 1000; ++i) {
    arrays +=
        (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(":{"type":"array","maxItems":900000})";
  }
  EXPECT_THAT(refusal(arrays + "}}"), HasSubstr("the limit of memory"));
  GrammarLimits small;
  small.states = 100;
  EXPECT_THROW(json_schema_grammar(R"({"properties":{"a":{},"b":{}}})", small), Error);
}

TEST(JsonSchemaGrammar, ManyOptionalPropertiesStaySmall) {
  std::string schema = R"({"properties":{)";
  for (int i = 0; i < 2000; ++i) {
    schema += (i > 0 ? "," : "") + std::string("\"k") + std::to_string(i) + R"(":{"type":"null"})";
  }
  const GrammarPtr g = json_schema_grammar(schema + "}}");
  EXPECT_LT(g->program().n_states(), 100'000U);
  EXPECT_TRUE(g->matches(R"({"k3": null, "k1999": null})"));
  EXPECT_FALSE(g->matches(R"({"k1999": null, "k3": null})"));
}

}  // namespace
}  // namespace heddle
