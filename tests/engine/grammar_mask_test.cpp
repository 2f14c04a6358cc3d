// Masks: a token's bit is set exactly if the matcher accepts it, whatever the cache has forgotten,
// and walks along masks end in texts of the grammar.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "engine/grammar/grammar_builder.h"
#include "engine/grammar/mask_worker.h"
#include "engine/grammar/token_masker.h"

namespace heddle {
namespace {

using testing::HasSubstr;
using Rng = std::mt19937;

constexpr TokenId kEnd = 256;      // the first behind the bytes
constexpr TokenId kControl = 257;  // no text either

/// All bytes, an end, a control token, and texts that cross borders of JSON and of characters.
std::vector<std::string> vocabulary() {
  std::vector<std::string> texts;
  for (int b = 0; b < 256; ++b) texts.emplace_back(1, static_cast<char>(b));
  texts.insert(texts.end(), {"", ""});
  for (const char* text :
       {"{\"",      "\": ",         "\": \"",   "\", \"",     "\"}",         "\": {\"",  "}}",
        "]]",       "[[",           "[[[[[[[[", ", ",         "\n  ",        "\n    ",   "  ",
        "null",     "true",         "false",    "12",         "123",         "0.",       ".5",
        "1e",       "e-",           "ab",       "abc",        "name",        "\"name\"", "\"a\": 1",
        "}\n",      "\\u",          "\\ud83d",  "\\ude00",    "\\n",         "\\\"",     "\xe2\x82",
        "\x82\xac", "\xe2\x82\xac", "\xf0\x9f", "\x98\x80\"", "\xac\"",      "\"\"",     "[]",
        "{}",       "},{",          "], [",     "the ",       "hello world", "\n",       "\"",
        "a"}) {
    texts.emplace_back(text);
  }
  return texts;
}

const TokenMasker& masker() {
  static const TokenMasker masker(vocabulary(), std::vector<TokenId>{kEnd});
  return masker;
}

std::vector<GrammarPtr> grammars() {
  GrammarBuilder b;
  const GrammarPtr text = b.build(b.sequence(
      {b.text_without("ab"), b.optional(b.sequence({b.literal("ab"), json_object_node(b)}))}));
  return {json_object_grammar(),
          json_schema_grammar("{}"),
          json_schema_grammar(
              R"({"properties":{"name":{"type":"string","maxLength":7},"a":{"type":"integer",
            "minimum":-5,"maximum":120},"list":{"items":{"type":["number","null"]},"maxItems":3},
            "more":{"$ref":"#"}},"required":["name"],"additionalProperties":{"enum":["a",1,{"x":[]}]}})"),
          json_schema_grammar(R"({"pattern":"(ab|\"|€)+","type":["string","null"]})"),
          json_schema_grammar(R"({"format":"date-time"})"),
          regex_grammar("(a|b|ab|abc)*(name|true)?[^a-z]{0,5}"),
          choice_grammar(std::vector<std::string>{"name", "null", "na\xe2\x82\xac", "12", "123"}),
          ebnf_grammar("root ::= \"a\" root? root | \"b\" | \"[\" root \"]\""),
          text};
}

/// Checks the mask of every step against accept(), and returns the text.
std::string random_walk(const TokenMasker& m, const GrammarPtr& grammar, Rng& rng, int n_steps) {
  auto matcher = std::make_unique<GrammarMatcher>(m, grammar);
  std::string text;
  TokenMask mask(m.vocab());
  for (int step = 0; step < n_steps && !matcher->finished(); ++step) {
    matcher->fill(mask);
    EXPECT_FALSE(mask.none()) << text;
    EXPECT_EQ(mask.test(kEnd), matcher->complete()) << text;
    EXPECT_FALSE(mask.test(kControl));
    std::vector<TokenId> allowed;
    for (TokenId t = 0; t < m.vocab(); ++t) {
      if (mask.test(t)) allowed.push_back(t);
    }
    if (allowed.empty()) break;
    const TokenId token = allowed[rng() % allowed.size()];
    if (token == kEnd) break;
    EXPECT_TRUE(matcher->accept(token));
    text += m.trie().text(token);
  }
  return text;
}

/// On, by single bytes, to an end; brackets and quotes are closed rather than opened, and the
/// pattern's letters written.
std::string finish_text(const TokenMasker& m,
                        const GrammarPtr& grammar,
                        std::string text,
                        Rng& rng) {
  GrammarMatcher matcher(m, grammar);
  EXPECT_TRUE(matcher.accept_text(text));
  TokenMask mask(m.vocab());
  for (int step = 0; step < 2000 && !matcher.complete(); ++step) {
    matcher.fill(mask);
    std::vector<TokenId> allowed;
    std::vector<TokenId> closing;
    for (TokenId t = 0; t < 256; ++t) {
      if (!mask.test(t)) continue;
      allowed.push_back(t);
      if (std::string_view("\"\\ab]}").find(static_cast<char>(t)) != std::string_view::npos)
        closing.push_back(t);
    }
    if (allowed.empty()) {
      ADD_FAILURE() << text;
      break;
    }
    const auto& from = closing.empty() || rng() % 4 == 0 ? allowed : closing;
    const TokenId token = from[rng() % from.size()];
    EXPECT_TRUE(matcher.accept(token));
    text += static_cast<char>(token);
  }
  EXPECT_TRUE(matcher.complete()) << text;
  return text;
}

TEST(GrammarMask, BitIsSetExactlyWhereTheTokenIsAccepted) {
  Rng rng(1);
  for (const GrammarPtr& grammar : grammars()) {
    for (int run = 0; run < 12; ++run) {
      std::string text;
      for (int step = 0; step < 14; ++step) {
        TokenMask mask(masker().vocab());
        std::vector<TokenId> allowed;
        GrammarMatcher at(masker(), grammar);
        ASSERT_TRUE(at.accept_text(text)) << text;
        at.fill(mask);
        for (TokenId t = 0; t < masker().vocab(); ++t) {
          GrammarMatcher next(masker(), grammar);
          next.accept_text(text);
          const bool accepted = next.accept(t);
          ASSERT_EQ(mask.test(t), accepted) << testing::PrintToString(text) << " token " << t;
          if (accepted && t != kEnd) allowed.push_back(t);
        }
        if (allowed.empty()) break;
        text += masker().trie().text(allowed[rng() % allowed.size()]);
      }
    }
  }
}

TEST(GrammarMask, WalksEndInTextsOfTheGrammar) {
  Rng rng(2);
  for (const GrammarPtr& grammar : grammars()) {
    for (int run = 0; run < 40; ++run) {
      const std::string begun =
          random_walk(masker(), grammar, rng, 1 + static_cast<int>(rng() % 60));
      const std::string text = finish_text(masker(), grammar, begun, rng);
      EXPECT_TRUE(grammar->matches(text)) << testing::PrintToString(text);
    }
  }
}

TEST(GrammarMask, EndsAreAllowedWhereTheTextIsComplete) {
  const GrammarPtr g = regex_grammar("ab?");
  GrammarMatcher matcher(masker(), g);
  EXPECT_FALSE(matcher.complete());
  EXPECT_FALSE(matcher.accept(kEnd));
  EXPECT_FALSE(matcher.accept(kControl));
  ASSERT_TRUE(matcher.accept('a'));
  EXPECT_TRUE(matcher.complete());
  EXPECT_FALSE(matcher.finished());
  EXPECT_FALSE(matcher.accept('x'));
  EXPECT_TRUE(matcher.complete()) << "nothing has changed";
  ASSERT_TRUE(matcher.accept('b'));
  EXPECT_TRUE(matcher.finished());
  TokenMask mask(masker().vocab());
  matcher.fill(mask);
  EXPECT_EQ(mask.count(), 1U);
  EXPECT_TRUE(mask.test(kEnd));
  EXPECT_TRUE(matcher.accept(kEnd));
  matcher.fill(mask);
  EXPECT_TRUE(mask.none());
  EXPECT_FALSE(matcher.accept('b'));
}

TEST(GrammarMask, AfterACompleteValueOnlyTheEndIsAllowed) {
  for (const char* text : {"{}", "{\"a\": [1, {\"b\": null}]}"}) {
    GrammarMatcher matcher(masker(), json_object_grammar());
    ASSERT_TRUE(matcher.accept_text(text));
    EXPECT_TRUE(matcher.finished());
  }
}

TEST(GrammarMask, TokensCrossSymbolsAndCharacters) {
  const std::vector<std::string> texts = vocabulary();
  const auto find = [&](std::string_view text) {
    for (std::size_t i = 258; i < texts.size(); ++i) {
      if (texts[i] == text) return static_cast<TokenId>(i);
    }
    ADD_FAILURE() << text;
    return TokenId{0};
  };
  GrammarMatcher matcher(masker(), json_object_grammar());
  for (const char* text :
       {"{\"", "\xe2\x82", "\xac\"", ":", "[[", "\"\"", "], [", "12", "]]", "}"}) {
    const bool single = std::string_view(text).size() == 1;
    const TokenId token = single ? static_cast<unsigned char>(text[0]) : find(text);
    TokenMask mask(masker().vocab());
    matcher.fill(mask);
    EXPECT_TRUE(mask.test(token)) << text;
    EXPECT_TRUE(matcher.accept(token)) << text;
  }
  EXPECT_TRUE(matcher.finished());
}

TEST(GrammarMask, NestingGivesWayBeforeItIsTooDeep) {
  GrammarMatcher matcher(masker(), json_schema_grammar("{}"));
  TokenMask mask(masker().vocab());
  int depth = 0;
  for (matcher.fill(mask); mask.test('['); matcher.fill(mask), ++depth) {
    for (const TokenId t : {TokenId{'['}, TokenId{266}, TokenId{267}}) {
      GrammarMatcher other(masker(), json_schema_grammar("{}"));
      other.accept_text(std::string(static_cast<std::size_t>(depth), '['));
      EXPECT_EQ(mask.test(t), other.accept(t)) << depth;
    }
    ASSERT_TRUE(matcher.accept('['));
  }
  EXPECT_EQ(depth, static_cast<int>(kMostNesting));
  for (; depth > 0; --depth) ASSERT_TRUE(matcher.accept(']'));
  EXPECT_TRUE(matcher.finished());
}

TEST(GrammarMask, TextsTooDeepCannotGoOn) {
  GrammarMatcher matcher(masker(), ebnf_grammar("root ::= \"(\" root \")\" | \"x\""));
  int depth = 0;
  while (depth < 10'000 && matcher.accept('(')) ++depth;
  EXPECT_EQ(depth, static_cast<int>(kMostCalls) - 1);
  EXPECT_TRUE(matcher.accept('x'));
}

TEST(GrammarMask, SmallCachesForgetAndGiveTheSame) {
  const TokenMasker small(vocabulary(), std::vector<TokenId>{kEnd}, std::size_t{96} << 10U);
  for (const GrammarPtr& grammar : grammars()) {
    for (unsigned seed = 0; seed < 6; ++seed) {
      Rng a(seed);
      Rng b(seed);
      EXPECT_EQ(random_walk(small, grammar, a, 80), random_walk(masker(), grammar, b, 80));
    }
  }
}

TEST(GrammarMask, CacheWithoutRoomIsAnError) {
  const TokenMasker tiny(vocabulary(), std::vector<TokenId>{kEnd}, 64);
  GrammarMatcher matcher(tiny, json_object_grammar());
  TokenMask mask(tiny.vocab());
  try {
    matcher.fill(mask);
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kRuntime);
    EXPECT_THAT(e.what(), HasSubstr("cache"));
  }
}

TEST(GrammarMask, ThreadsMayShareAGrammar) {
  const TokenMasker shared(vocabulary(), std::vector<TokenId>{kEnd}, std::size_t{256} << 10U);
  const GrammarPtr grammar = json_object_grammar();
  std::vector<std::string> texts(4);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      threads.emplace_back([&, i] {
        for (int run = 0; run < 10; ++run) {
          Rng rng(7);
          texts[i] = random_walk(shared, grammar, rng, 60);
        }
      });
    }
  }
  for (const std::string& text : texts) EXPECT_EQ(text, texts[0]);
}

/// Walks give way to each other and forget what the others know.
TEST(GrammarMask, ThreadsAtDifferentPlacesOfAnAmbiguousGrammarGetTheSameMasks) {
  const TokenMasker shared(vocabulary(), std::vector<TokenId>{kEnd}, std::size_t{512} << 10U);
  const GrammarPtr grammar = regex_grammar("([a-z ]{1,4}[aeiou]|[a-z ]{2,7}[stn]){0,60}");
  std::vector<std::string> texts(4);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      threads.emplace_back([&, i] {
        Rng rng(static_cast<unsigned>(i));
        texts[i] = random_walk(shared, grammar, rng, 60);
      });
    }
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    Rng rng(static_cast<unsigned>(i));
    EXPECT_EQ(texts[i], random_walk(masker(), grammar, rng, 60));
  }
}

TEST(MaskWorker, ComputesAheadAndKnowsWhatAMaskMayTake) {
  MaskWorker worker;
  const auto job = std::make_shared<MaskJob>(masker(), regex_grammar("(a|b){3}"));
  EXPECT_FALSE(job->ready());
  EXPECT_EQ(job->expected_s(), 0.0);
  worker.start(job);
  job->prepare();
  EXPECT_TRUE(job->ready());
  const double first = job->expected_s();
  EXPECT_GT(first, 0.0);
  EXPECT_TRUE(job->next_mask().test('a'));
  EXPECT_TRUE(job->accept('b'));
  EXPECT_FALSE(job->ready());
  job->prepare();  // nobody has begun it
  EXPECT_TRUE(job->ready());
  EXPECT_GE(job->expected_s(), 0.875 * first);
}

TEST(MaskWorker, AStepWaitsForTheCheapestThatFitIntoIt) {
  using Jobs = std::vector<std::size_t>;
  EXPECT_EQ(late_jobs({}, 1.0), Jobs());
  const std::vector<double> expected = {4.0, 0.0, 1.0, 2.0, 1.0, 0.0};
  EXPECT_EQ(late_jobs(expected, 8.0), Jobs());
  EXPECT_EQ(late_jobs(expected, 7.9), Jobs({0}));
  EXPECT_EQ(late_jobs(expected, 2.0), Jobs({3, 0}));
  EXPECT_EQ(late_jobs(expected, 1.5), Jobs({4, 3, 0}));
  EXPECT_EQ(late_jobs(expected, 0.0), Jobs({2, 4, 3, 0}));
}

TEST(GrammarMask, AmbiguityThatGrowsIsAnErrorNotAWait) {
  const GrammarPtr hostile = regex_grammar("((((a?){300}){300}){300}){300}");
  GrammarMatcher matcher(masker(), hostile);
  TokenMask mask(masker().vocab());
  try {
    for (int i = 0; i < 300; ++i) {
      matcher.fill(mask);
      if (!matcher.accept('a')) break;
    }
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kRuntime);
    EXPECT_THAT(e.what(), HasSubstr("ambiguous"));
  }
}

}  // namespace
}  // namespace heddle
