// What counts as an answer: RULER's rules, Landmark's, and ours.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tools/needle/scorer.h"

namespace heddle::needle {
namespace {

struct Case {
  const char* what;
  Match match;
  std::string answer;
  std::vector<std::string> expected;
  double score;
};

void expect_scores(Scorer scorer, const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    EXPECT_DOUBLE_EQ(score(scorer, c.match, c.answer, c.expected), c.score) << c.what;
  }
}

TEST(NeedleScorer, AllIsTheShareOfTheExpectedTextsThatAreContained) {
  constexpr Match kAll = Match::kAll;
  expect_scores(
      Scorer::kTask,
      {{"all", kAll, "They are 11, 22, 33, and 44.", {"11", "22", "33", "44"}, 1.0},
       {"another order", kAll, "44 33 22 11", {"11", "22", "33", "44"}, 1.0},
       {"three of four", kAll, "11, 22, 33", {"11", "22", "33", "44"}, 0.75},
       {"none", kAll, "I do not know.", {"11", "22"}, 0.0},
       {"an empty answer", kAll, "", {"11"}, 0.0},
       {"only white space", kAll, " \n\t ", {"11"}, 0.0},
       {"case does not count", kAll, "QUIET-Harbor", {"quiet-harbor"}, 1.0},
       {"case of the expected text", kAll, "the value is abcde", {"ABCDE"}, 1.0},
       {"case outside of ASCII", kAll, "in ÄGYPTEN", {"Ägypten"}, 1.0},
       {"case outside of ASCII, the other way", kAll, "MOSKVA, МОСКВА", {"Москва"}, 1.0},
       {"spaces within count", kAll, "quiet harbor", {"quiet-harbor"}, 0.0},
       {"RULER's containment is anywhere: a longer number", kAll, "51234", {"123"}, 1.0},
       {"... and a longer word", kAll, "soaked", {"oak"}, 1.0},
       {"the same text twice counts once", kAll, "11 11", {"11", "22"}, 0.5},
       {"bytes that are not UTF-8 are no reason to stop", kAll, "\xff 11 \xc3", {"11"}, 1.0},
       {"nothing expected", kAll, "11", {}, 0.0}});
}

TEST(NeedleScorer, AnyIsWhetherOneOfTheExpectedTextsIsContained) {
  constexpr Match kAny = Match::kAny;
  expect_scores(Scorer::kTask,
                {{"the first", kAny, "It is Varnholt.", {"Varnholt", "the Ostrel"}, 1.0},
                 {"the last", kAny, "the ostrel", {"Varnholt", "the Ostrel"}, 1.0},
                 {"both", kAny, "Varnholt on the Ostrel", {"Varnholt", "the Ostrel"}, 1.0},
                 {"none", kAny, "Elsewhere", {"Varnholt", "the Ostrel"}, 0.0},
                 {"nothing expected", kAny, "Elsewhere", {}, 0.0}});
}

TEST(NeedleScorer, ControlCharactersBecomeLineBreaksAndWhiteSpaceAroundGoes) {
  expect_scores(
      Scorer::kTask,
      {{"a tab within is a line break", Match::kAll, "quiet\tharbor", {"quiet\tharbor"}, 0.0},
       {"a null byte", Match::kAll, std::string("quiet\0harbor", 12), {"quiet\nharbor"}, 1.0},
       {"what is around is cut off", Match::kAll, "harbor \r\n", {"harbor \n"}, 0.0}});
  expect_scores(Scorer::kExact,
                {{"control characters around", Match::kAll, "\x01\x1f 11 \x02", {"11"}, 1.0},
                 {"wide spaces around",
                  Match::kAll,
                  "\u3000"
                  "11\u00a0",
                  {"11"},
                  1.0},
                 {"delete is no such character", Match::kAll, "11\x7f", {"11"}, 0.0}});
}

TEST(NeedleScorer, TheFirstIntegerMustBeTheExpectedOne) {
  constexpr Match kFirst = Match::kFirstInteger;
  expect_scores(Scorer::kTask,
                {{"alone", kFirst, "48213", {"48213"}, 1.0},
                 {"in a sentence", kFirst, "The pass key is 48213. Remember it.", {"48213"}, 1.0},
                 {"behind letters", kFirst, "key48213th", {"48213"}, 1.0},
                 {"another one first", kFirst, "1. 48213", {"48213"}, 0.0},
                 {"another one behind", kFirst, "48213 or 5", {"48213"}, 1.0},
                 {"a longer one", kFirst, "482135", {"48213"}, 0.0},
                 {"a shorter one", kFirst, "4821", {"48213"}, 0.0},
                 {"leading zeros", kFirst, "0048213", {"48213"}, 1.0},
                 {"zero", kFirst, "000", {"0"}, 1.0},
                 {"a separator ends it", kFirst, "48,213", {"48213"}, 0.0},
                 {"so does a point", kFirst, "48213.5", {"48213"}, 1.0},
                 {"a sign is none", kFirst, "-48213", {"48213"}, 1.0},
                 {"longer than any integer type", kFirst, std::string(40, '9'), {"48213"}, 0.0},
                 {"digits of other scripts", kFirst, "\u0664\u0668 48213", {"48213"}, 1.0},
                 {"no integer", kFirst, "none", {"48213"}, 0.0},
                 {"no integer expected", kFirst, "none", {"none"}, 0.0},
                 {"empty", kFirst, "", {"48213"}, 0.0}});
}

TEST(NeedleScorer, ContainmentCanTakeThePlaceOfTheFirstInteger) {
  expect_scores(Scorer::kContain,
                {{"pass key", Match::kFirstInteger, "1. The key is 48213", {"48213"}, 1.0},
                 {"all", Match::kAll, "11", {"11", "22"}, 0.5},
                 {"any", Match::kAny, "11", {"11", "22"}, 1.0}});
}

TEST(NeedleScorer, Rouge1IsTheF1OfWords) {
  constexpr Match kAll = Match::kAll;
  expect_scores(
      Scorer::kRouge1,
      {{"the same", kAll, "eat a sandwich", {"eat a sandwich"}, 1.0},
       {"case, order and punctuation do not count",
        kAll,
        "Sandwich: A (eat)!",
        {"eat a sandwich"},
        1.0},
       {"precision 1/2, recall 1", kAll, "just go and eat", {"go eat"}, 2.0 * 0.5 / 1.5},
       {"precision 1, recall 1/4", kAll, "eat", {"eat a big sandwich"}, 2.0 * 0.25 / 1.25},
       {"a repeated word counts as often as expected", kAll, "a a a a", {"a b"}, 2.0 * 1 / 6},
       {"... and as often as it is there", kAll, "a", {"a a a"}, 2.0 * 1 / 4},
       {"words within a hyphenated one", kAll, "quiet harbor", {"quiet-harbor"}, 1.0},
       {"letters of other scripts", kAll, "ДОМ на горе", {"дом"}, 0.5},
       {"an accented letter is part of its word", kAll, "café", {"caf"}, 0.0},
       {"nothing in common", kAll, "x y", {"a b"}, 0.0},
       {"empty", kAll, "", {"a b"}, 0.0},
       {"no words expected", kAll, "...", {"..."}, 0.0},
       {"several texts are one", kAll, "11 22", {"11", "22"}, 1.0},
       {"the nearest, where one is enough", Match::kAny, "go home", {"a b", "go home now"}, 0.8}});
}

TEST(NeedleScorer, ExactIsTheWholeAnswer) {
  constexpr Match kAll = Match::kAll;
  expect_scores(Scorer::kExact,
                {{"the same", kAll, "4830172", {"4830172"}, 1.0},
                 {"white space and a period", kAll, "  4830172. \n", {"4830172"}, 1.0},
                 {"a space before the period", kAll, "4830172 .", {"4830172"}, 1.0},
                 {"one period only", kAll, "4830172..", {"4830172"}, 0.0},
                 {"case", kAll, "QUIET-harbor", {"quiet-harbor"}, 1.0},
                 {"a period of the expected text", kAll, "eat here", {"Eat here."}, 1.0},
                 {"more than it", kAll, "It is 4830172", {"4830172"}, 0.0},
                 {"less", kAll, "483", {"4830172"}, 0.0},
                 {"several texts", kAll, "11, 22", {"11", "22"}, 1.0},
                 {"another order", kAll, "22, 11", {"11", "22"}, 0.0},
                 {"another separator", kAll, "11 22", {"11", "22"}, 0.0},
                 {"a pass key", Match::kFirstInteger, "48213", {"48213"}, 1.0},
                 {"one of several", Match::kAny, "22", {"11", "22"}, 1.0},
                 {"empty", kAll, "", {"11"}, 0.0}});
}

TEST(NeedleScorer, ThoughtsAreDroppedHoweverTheyAreClosed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"no thoughts", "no thoughts"},
      {"<think>is it 11?</think>22", "22"},
      {"a <think>b</think>c<think>d</think> e", "a c e"},
      {"a <think>never closed 11", "a "},
      {"<think>", ""},
      {"opened by the template 11</think>\n22", "\n22"},
      {"</think>22", "22"},
      {"one</think>two</think>three", "three"},
      {"<think>a<think>b</think>c</think>d", "d"},
      {"<THINK>11</THINK>", "<THINK>11</THINK>"},
      {"a < think", "a < think"},
      {"", ""},
  };
  for (const auto& [text, rest] : cases) EXPECT_EQ(without_thoughts(text), rest) << text;
}

}  // namespace
}  // namespace heddle::needle
