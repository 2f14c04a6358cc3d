// Which texts a grammar allows: compiled forms against texts that must and must not match.

#include "engine/grammar/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/grammar/grammar_builder.h"

namespace heddle {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

using Texts = std::initializer_list<const char*>;

void expect_texts(const Grammar& grammar, Texts in, Texts out) {
  for (const char* text : in) EXPECT_TRUE(grammar.matches(text)) << text;
  for (const char* text : out) EXPECT_FALSE(grammar.matches(text)) << text;
}

template <typename Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.what();
  }
  return "not refused";
}

void expect_regex(const std::string& pattern, Texts in, Texts out) {
  SCOPED_TRACE(pattern);
  expect_texts(*regex_grammar(pattern), in, out);
}

std::string regex_refusal(const std::string& pattern) {
  return refusal([&] { regex_grammar(pattern); });
}

void expect_ebnf(const std::string& text, Texts in, Texts out) {
  SCOPED_TRACE(text);
  expect_texts(*ebnf_grammar(text), in, out);
}

std::string ebnf_refusal(const std::string& text) {
  return refusal([&] { ebnf_grammar(text); });
}

TEST(RegexGrammar, MatchesTheWholeText) {
  expect_regex("abc", {"abc"}, {"", "ab", "abcd", "xabc"});
  expect_regex("a|bc|", {"a", "bc", ""}, {"abc", "b"});
  expect_regex("^ab$", {"ab"}, {"ab\n", "xab"});
  expect_regex("(a|b)c", {"ac", "bc"}, {"abc", "c"});
  expect_regex("(?:a|b)(?<name>c)(?P<other>d)", {"acd"}, {"ac"});
}

TEST(RegexGrammar, Quantifiers) {
  expect_regex("a*", {"", "a", "aaaaaaaaaa"}, {"b", "aab"});
  expect_regex("a+b?", {"a", "aab"}, {"", "b", "abb"});
  expect_regex("(ab){2}", {"abab"}, {"ab", "ababab"});
  expect_regex("(ab){2,}", {"abab", "ababab"}, {"", "ab"});
  expect_regex("a{1,3}?", {"a", "aa", "aaa"}, {"", "aaaa"});
  expect_regex("a{0}b", {"b"}, {"ab"});
  expect_regex("(a?)*b", {"b", "aab"}, {"a"});
  expect_regex("(a*)*", {"", "aaa"}, {"b"});
  expect_regex("a{x}{", {"a{x}{"}, {"a"});
}

TEST(RegexGrammar, ClassesAndEscapes) {
  expect_regex("[a-cx]", {"a", "b", "c", "x"}, {"d", "", "ab"});
  expect_regex("[^a-c]", {"d", "\n", "\xc3\xa9", "\xf0\x9f\x98\x80"}, {"a", "b", "\xc3", "\x80"});
  expect_regex("[-a]", {"-", "a"}, {"b"});
  expect_regex("[a-]", {"-", "a"}, {"b"});
  expect_regex("[\\]\\d_]", {"]", "7", "_"}, {"a", "\\"});
  expect_regex("\\d\\D", {"1a"}, {"11", "aa"});
  expect_regex("\\w\\W", {"_ ", "Z-"}, {"aa", "--"});
  expect_regex("\\s\\S", {" a", "\ta", "\xc2\xa0-"}, {"aa", "  "});
  expect_regex(".", {"a", "\xc3\xa9", "\xe2\x82\xac"}, {"\n", "\r", "", "\xe2\x80\xa8"});
  expect_regex("\\x41\\u00e9\\t\\.\\/", {"A\xc3\xa9\t./"}, {"A"});
  expect_regex("\\ud83d\\ude00", {"\xf0\x9f\x98\x80"}, {"\xf0\x9f\x98\x81"});
  expect_regex("[\xc3\xa0-\xc3\xa9]+", {"\xc3\xa0\xc3\xa5"}, {"\xc3\xaa", "a"});
}

TEST(RegexGrammar, IsUtf8OfShortestFormsOnly) {
  const GrammarPtr any = regex_grammar("[^x]*");
  for (const char* bad : {"\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xed\xa0\x80",
                          "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
                          "\xf5\x80\x80\x80", "\xff", "\x80", "\xe2\x82", "a\xc3"}) {
    EXPECT_FALSE(any->matches(bad)) << testing::PrintToString(bad);
  }
  for (const char* good :
       {"\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(any->matches(good)) << testing::PrintToString(good);
  }
}

TEST(RegexGrammar, RefusesWhatItCannotDo) {
  for (const char* pattern :
       {"(a)\\1", "(?=a)b", "(?!a)b",  "(?<=a)b", "(?<!a)b", "\\bword", "(?i)a", "\\p{L}",
        "a$b",    "a^b",    "(^a)",    "*a",      "a**",     "a{2}{3}", "a*+",   "(a",
        "a)",     "[a",     "[]",      "[z-a]",   "[\\d-z]", "a{3,2}",  "a{,3}", "\\",
        "\\q",    "\\x4",   "\\ud800", "\xff",    "(?",      "(?P<a"}) {
    EXPECT_THAT(regex_refusal(pattern), StartsWith("regex:")) << pattern;
  }
}

TEST(RegexGrammar, HasLimits) {
  EXPECT_THAT(regex_refusal(std::string(30'000, '(')), HasSubstr("nested deeper than 100"));
  EXPECT_THAT(regex_refusal(std::string(30'000, '(') + std::string(30'000, ')')),
              HasSubstr("nested deeper than 100"));
  EXPECT_THAT(regex_refusal(std::string(70'000, 'a')), HasSubstr("70000 bytes, allowed: 65536"));
  EXPECT_THAT(regex_refusal("a{1000000000}"), HasSubstr("the limit of states"));
  EXPECT_THAT(regex_refusal("[^a]{1000000}"), HasSubstr("limit"));
  // Nested repetitions of something large are calls.
  std::string text;
  const GrammarPtr nested = regex_grammar("((a{1000}){1000}){1000}b?");
  EXPECT_LT(nested->program().n_states(), 10'000U);
  EXPECT_FALSE(nested->matches(std::string(2000, 'a')));
  expect_regex("((ab{9}){3}){2}", {"abbbbbbbbbabbbbbbbbbabbbbbbbbbabbbbbbbbbabbbbbbbbbabbbbbbbbb"},
               {"abbbbbbbbb"});
}

TEST(RegexGrammar, TakesLinearTime) {
  // Backtracking would take 2^10000 steps.
  EXPECT_FALSE(regex_grammar("(a|a)*(a|aa)*(a*)*b")->matches(std::string(10'000, 'a')));
  EXPECT_TRUE(regex_grammar("(x+x+)+y")->matches(std::string(10'000, 'x') + "y"));
}

TEST(ChoiceGrammar, IsOneOfTheTexts) {
  const std::vector<std::string> choices = {"yes", "no", "yesterday", "\xc3\xa9"};
  expect_texts(*choice_grammar(choices), {"yes", "no", "yesterday", "\xc3\xa9"},
               {"", "y", "yest", "nono", "\xc3"});
  EXPECT_THAT(refusal([] { choice_grammar({}); }), HasSubstr("choice"));
  EXPECT_THAT(refusal([] {
                choice_grammar(std::vector<std::string>{"a", ""});
              }),
              HasSubstr("empty"));
}

TEST(EbnfGrammar, RulesLiteralsClasses) {
  expect_ebnf("root ::= \"a\" b* | \"c\"\nb ::= [0-9] | \"x\"  # comment\n", {"a", "a1x2", "c"},
              {"", "b", "c1"});
  expect_ebnf("# first\n\nroot ::= (\"a\" |\n  \"b\")+ rest?\nrest ::=\n  \".\"", {"ab.", "b"},
              {".", "a.."});
  expect_ebnf("root ::= \"a\"\n  | \"b\"\n", {"a", "b"}, {"ab"});
  expect_ebnf("root ::= [^a\\]]{2} \"\\x41\\u00e9\\n\\\"\\\\\"", {"bbA\xc3\xa9\n\"\\"}, {"abA"});
  expect_ebnf("root ::= x{2,3} y{1,} z{,2}\nx ::= \"x\"\ny ::= \"y\"\nz ::= \"z\"",
              {"xxy", "xxxyyyzz"}, {"xy", "xxxxy", "xxyzzz"});
  expect_ebnf("root ::= [a-z] {2} \"x\" * ( \"y\"\n { 1 , 2 }\n) ? \"z\" {3, }",
              {"abxxyyzzz", "abzzzz"}, {"1xzzz", "abyyyzzz", "abzz"});
  EXPECT_THAT(ebnf_refusal("root ::= \"a\"\n{2}"), StartsWith("grammar:2:1: "));
  expect_ebnf("root ::= .", {"a", "\xe2\x82\xac", "\n"}, {"", "ab"});
}

TEST(EbnfGrammar, MayBeRecursive) {
  expect_ebnf("root ::= \"(\" root \")\" | \"x\"", {"x", "((x))"}, {"(x", "x)", ""});
  expect_ebnf(
      "root ::= sum\nsum ::= product (\"+\" product)*\nproduct ::= atom (\"*\" atom)*\n"
      "atom ::= [0-9]+ | \"(\" sum \")\"",
      {"1", "1+2*3", "(1+2)*(3*4)"}, {"1+", "(1", "*1"});
  expect_ebnf("root ::= \"a\" root \"b\" | \"\"", {"", "ab", "aaabbb"}, {"a", "aab", "ba"});
  // Right recursion, and a rule that is empty at its begin.
  expect_ebnf("root ::= e root2\nroot2 ::= \"x\" root | \"\"\ne ::= \"e\"?", {"", "ex", "xexe"},
              {"ee"});
  // Ambiguous in exponentially many ways.
  expect_ebnf("root ::= s\ns ::= \"a\" s | \"a\" s | \"a\" s s? | \"b\"",
              {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaab"}, {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"});
}

TEST(EbnfGrammar, RefusesWhatIsWrong) {
  EXPECT_EQ(ebnf_refusal("root ::= a"), "grammar:1:11: rule 'a' is not defined");
  EXPECT_THAT(ebnf_refusal("a ::= \"x\""), HasSubstr("no rule 'root'"));
  EXPECT_THAT(ebnf_refusal(""), HasSubstr("no rule 'root'"));
  EXPECT_THAT(ebnf_refusal("root ::= \"x\"\nroot ::= \"y\""), StartsWith("grammar:2:1: "));
  for (const char* text :
       {"root = \"x\"", "root ::= \"x", "root ::= [a", "root ::= (\"a\"", "root ::= \"a\")",
        "root ::= \"\\q\"", "root ::= \"a\"{2,1}", "root ::= \"a\"{", "root ::= \"\\ud800\"",
        "root ::= \"\xff\"", "root ::= %", "root ::= [z-a]", "root ::= \"a\"*****"}) {
    EXPECT_THAT(ebnf_refusal(text), StartsWith("grammar:1:")) << text;
  }
  EXPECT_THAT(ebnf_refusal("root ::= root \"a\" | \"b\""), HasSubstr("left recursion"));
  EXPECT_THAT(
      ebnf_refusal("root ::= a | \"x\"\na ::= b?  c\nc ::= d \"y\" | \"z\"\nd ::= a\nb ::= \"b\""),
      HasSubstr("left recursion"));
  EXPECT_THAT(ebnf_refusal("root ::= \"a\" root"), HasSubstr("no text"));
  EXPECT_THAT(ebnf_refusal("root ::= root"), HasSubstr("no text"));
  EXPECT_THAT(ebnf_refusal("root ::= " + std::string(30'000, '(')),
              HasSubstr("nested deeper than 100"));
  EXPECT_THAT(ebnf_refusal("root ::= \"a\"{1000000000}"), HasSubstr("the limit of states"));
}

std::string chain_of_rules(int n) {
  std::string text = "root ::= r0\n";
  for (int i = 0; i < n; ++i) {
    text += "r" + std::to_string(i) + " ::= r" + std::to_string(i + 1) + " | \"y\" root\n";
  }
  return text + "r" + std::to_string(n) + " ::= \"x\"\n";
}

TEST(EbnfGrammar, LongChainsOfRulesNeedNoStack) {
  expect_texts(*ebnf_grammar(chain_of_rules(1000)), {"x", "yyx"}, {"y", "xx"});
  EXPECT_THAT(ebnf_refusal(chain_of_rules(1500)), HasSubstr("chain of more than 1024 rules"));
}

TEST(EbnfGrammar, ListsThatEndWithThemselvesMayBeLong) {
  std::string items;
  for (int i = 0; i < 20'000; ++i) items += "ab,";
  for (const char* text : {"root ::= item root | \"x\"\nitem ::= \"ab,\"",
                           "root ::= item (root | \"x\")\nitem ::= \"ab,\"",
                           "root ::= list \"x\"\nlist ::= \"ab,\" list?"}) {
    const GrammarPtr grammar = ebnf_grammar(text);
    EXPECT_TRUE(grammar->matches(items + "x")) << text;
    EXPECT_FALSE(grammar->matches(items + "abx")) << text;
    EXPECT_FALSE(grammar->matches(items)) << text;
  }
}

TEST(GrammarBuilder, TextWithout) {
  for (const char* trigger : {"<tool_call>", "aab", "abab", "a", "\xc3\xa9\xc3\xa9"}) {
    GrammarBuilder b;
    const GrammarPtr g = b.build(b.text_without(trigger));
    const std::string t = trigger;
    EXPECT_TRUE(g->matches(""));
    EXPECT_TRUE(g->matches("some text \xe2\x82\xac"));
    EXPECT_TRUE(
        g->matches(t.substr(0, t.size() / 2 / 2 * 2) + "!" + t.substr(0, t.size() / 2 / 2 * 2)))
        << trigger;
    EXPECT_FALSE(g->matches(t)) << trigger;
    EXPECT_FALSE(g->matches("x" + t + "y")) << trigger;
    EXPECT_FALSE(g->matches(t.substr(0, 1) + t)) << trigger;
    EXPECT_FALSE(g->matches("\xe2\x82")) << trigger;
  }
}

TEST(GrammarBuilder, ComposesPieces) {
  GrammarBuilder b;
  const GrammarNode call = b.sequence(
      {b.literal("<tool_call>\n"), json_schema_node(b, R"({"properties":{"n":{"type":"integer"}},
                                         "required":["n"]})"),
       b.literal("\n</tool_call>")});
  const GrammarPtr g = b.build(b.sequence({b.text_without("<tool_call>"), b.optional(call)}));
  expect_texts(*g,
               {"", "no call", "so: <tool_call>\n{\"n\": 3}\n</tool_call>",
                "<tool_call>\n{\"n\":-3}\n</tool_call>"},
               {"<tool_call>", "<tool_call>\n{}\n</tool_call>",
                "<tool_call>\n{\"n\": 3}\n</tool_call> and", "<tool_call>{\"n\": 3}"});
}

TEST(JsonObjectGrammar, IsAnyObject) {
  expect_texts(*json_object_grammar(),
               {"{}", "{\"a\":1}", "{\"a\": [1, -2.5e-7, true, null, {}], \"b\": \"\\u00e9\\n\"}",
                "{\n  \"a\": \"x\",\n  \"b\": {\n    \"c\": []\n  }\n}", "{\"\": \"\xe2\x82\xac\"}",
                "{\"a\":\"\\ud83d\\ude00\"}"},
               {"",
                "[]",
                "1",
                " {}",
                "{} ",
                "{}\n",
                "{\"a\":  1}",
                "{\"a\" :1}",
                "{\"a\":1,}",
                "{a:1}",
                "{\"a\":01}",
                "{\"a\":+1}",
                "{\"a\":.5}",
                "{\"a\":1.}",
                "{\"a\":\"\t\"}",
                "{\"a\":\"\\x\"}",
                "{\"a\":\"\\ud800\"}",
                "{\"a\":\"\\ude00\"}",
                "{\"a\":\"\xff\"}",
                "{\"a\":\"\xed\xa0\x80\"}",
                "{\"a\":nul}",
                "{\"a\":1e999}",
                "{\t\"a\":1}"});
  // White space is bounded, and so is nesting.
  EXPECT_TRUE(json_object_grammar()->matches("{\n" + std::string(32, ' ') + "\"a\":1}"));
  EXPECT_FALSE(json_object_grammar()->matches("{\n" + std::string(33, ' ') + "\"a\":1}"));
  EXPECT_TRUE(json_object_grammar()->matches("{\"a\":" + std::string(60, '[') +
                                             std::string(60, ']') + "}"));
  EXPECT_FALSE(json_object_grammar()->matches("{\"a\":" + std::string(70, '[') +
                                              std::string(70, ']') + "}"));
}

}  // namespace
}  // namespace heddle
