// Typed reading of config.json.

#include "models/config_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/error.h"

namespace heddle {
namespace {

using ::testing::ElementsAre;

ConfigJson config(const std::string& text) {
  return ConfigJson::parse(text, "m/config.json", "config");
}

std::string message(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "accepted";
}

TEST(ConfigJson, GivesValuesOfTheKindAskedFor) {
  const ConfigJson c = config(R"({"n":7,"x":1e-5,"whole":10000,"yes":true,"s":"silu","null":null,
      "list":[1,2],"reals":[0.5,2],"texts":["a","b"],"rope":{"factor":8.0,"deep":{"n":1}}})");
  EXPECT_EQ(c.integer("n", {1, 10}), 7);
  EXPECT_EQ(c.require_integer("n", {7, 7}), 7);
  EXPECT_EQ(c.real("x"), 1e-5);
  EXPECT_EQ(c.real("whole"), 10000.0);
  EXPECT_EQ(c.boolean("yes"), true);
  EXPECT_EQ(c.text("s"), "silu");
  EXPECT_THAT(*c.integers("list", {1, 2}), ElementsAre(1, 2));
  EXPECT_THAT(*c.one_or_more_integers("list", {1, 2}), ElementsAre(1, 2));
  EXPECT_THAT(*c.one_or_more_integers("n", {1, 7}), ElementsAre(7));
  EXPECT_THAT(*c.reals("reals"), ElementsAre(0.5, 2.0));
  EXPECT_THAT(*c.texts("texts"), ElementsAre("a", "b"));
  EXPECT_EQ(c.object("rope")->real("factor"), 8.0);
  EXPECT_EQ(c.object("rope")->object("deep")->integer("n", {1, 1}), 1);
  EXPECT_EQ(c.keys().size(), 10U);
  EXPECT_THAT(c.object("rope")->keys(), ElementsAre("factor", "deep"));
}

TEST(ConfigJson, TakesNullForAbsent) {
  const ConfigJson c = config(R"({"null":null})");
  for (const char* key : {"null", "nothing"}) {
    EXPECT_FALSE(c.has(key));
    EXPECT_EQ(c.integer(key, {0, 1}), std::nullopt);
    EXPECT_EQ(c.real(key), std::nullopt);
    EXPECT_EQ(c.boolean(key), std::nullopt);
    EXPECT_EQ(c.text(key), std::nullopt);
    EXPECT_FALSE(c.object(key).has_value());
    EXPECT_FALSE(c.integers(key, {0, 1}).has_value());
    EXPECT_FALSE(c.one_or_more_integers(key, {0, 1}).has_value());
    EXPECT_EQ(message([&] {
                c.require_integer(key, {0, 1});
              }),
              std::string("m/config.json: config: ") + key + " is missing, allowed 0 to 1");
  }
}

TEST(ConfigJson, QuotesKeysThatWouldBreakTheMessage) {
  const ConfigJson c = config(R"({"a\nb":{"n":-1}, "it's":"x"})");
  EXPECT_EQ(message([&] {
              c.object("a\nb")->integer("n", {1, 9});
            }),
            R"(m/config.json: config: 'a\x0ab.n', got -1, allowed 1 to 9)");
  EXPECT_EQ(message([&] {
              c.integer("it's", {1, 9});
            }),
            R"(m/config.json: config: 'it\x27s', got 'x', allowed integers from 1 to 9)");
  EXPECT_EQ(message([&] {
              c.require_integer("\n", {1, 9});
            }),
            R"(m/config.json: config: '\x0a' is missing, allowed 1 to 9)");
}

TEST(ConfigJson, NestedReadersOutliveTheirParent) {
  std::optional<ConfigJson> nested;
  {
    const ConfigJson c = config(R"({"rope_scaling":{"factor":-1}})");
    nested = c.object("rope_scaling");
  }
  EXPECT_EQ(message([&] {
              nested->integer("factor", {1, 9});
            }),
            "m/config.json: config: rope_scaling.factor, got -1, allowed 1 to 9");
}

TEST(ConfigJson, RefusesOtherKindsAndRanges) {
  const ConfigJson c = config(
      R"({"hidden_size":-3,"f":1.5,"s":"x","big":18446744073709551615,"list":[1,"y"],"o":{},"b":1})");
  const auto of = [](const std::function<void()>& call) {
    const std::string text = message(call);
    return text.substr(text.find("config: ") + 8);
  };
  EXPECT_EQ(of([&] {
              c.integer("hidden_size", {1, 1048576});
            }),
            "hidden_size, got -3, allowed 1 to 1048576");
  EXPECT_EQ(of([&] { c.integer("f", {0, 3}); }), "f, got 1.5, allowed integers from 0 to 3");
  EXPECT_EQ(of([&] { c.integer("s", {0, 3}); }), "s, got 'x', allowed integers from 0 to 3");
  EXPECT_EQ(of([&] { c.integer("big", {0, 3}); }), "big, got 18446744073709551615, allowed 0 to 3");
  EXPECT_EQ(of([&] {
              c.integers("list", {0, 3});
            }),
            "list[1], got 'y', allowed integers from 0 to 3");
  EXPECT_EQ(of([&] { c.integers("s", {0, 3}); }), "s, got 'x', allowed an array of integers");
  EXPECT_EQ(of([&] { c.real("s"); }), "s, got 'x', allowed numbers");
  EXPECT_EQ(of([&] { c.reals("list"); }), "list[1], got 'y', allowed numbers");
  EXPECT_EQ(of([&] { c.boolean("b"); }), "b, got 1, allowed true or false");
  EXPECT_EQ(of([&] { c.text("o"); }), "o, got an object, allowed a string");
  EXPECT_EQ(of([&] { c.texts("list"); }), "list[0], got 1, allowed a string");
  EXPECT_EQ(of([&] { c.object("list"); }), "list, got an array of 2, allowed an object");
}

TEST(ConfigJson, RefusesWhatIsNoJsonObject) {
  EXPECT_EQ(message([] { config("[]"); }),
            "m/config.json: config: got an array of 0, allowed an object");
  EXPECT_EQ(message([] { config("{\"a\":1,\n\"a\":2}"); }),
            "m/config.json: config:2:1: duplicate key 'a'");
  for (const char* text : {"{\"rope_theta\":NaN}", "{\"x\":Infinity}", "{\"x\":1e999}", "{", ""}) {
    EXPECT_THAT(message([&] { config(text); }), ::testing::HasSubstr("not valid JSON")) << text;
  }
}

}  // namespace
}  // namespace heddle
