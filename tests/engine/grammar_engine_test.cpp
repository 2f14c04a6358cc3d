// Requests with a grammar: what they give, and that the engine's promises hold for them too.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/grammar/grammar.h"
#include "engine/sampler.h"
#include "tests/support/small_llama.h"

namespace heddle {
namespace {

using testing::HasSubstr;

struct Answer {
  std::vector<std::int32_t> tokens;
  std::string text;
  std::vector<TokenLogprob> logprobs;
  FinishReason finish = FinishReason::kNone;
  std::string error;
};
using Choices = std::map<std::uint32_t, Answer>;

EventSink collect(Choices& choices) {
  return [&choices](const RequestEvent& event) {
    Answer& answer = choices[event.choice];
    EXPECT_EQ(answer.finish, FinishReason::kNone) << "an event after the last one";
    if (event.token) answer.tokens.push_back(*event.token);
    if (event.logprob) answer.logprobs.push_back(*event.logprob);
    answer.text += event.text;
    answer.finish = event.finish;
    answer.error = event.error;
  };
}

constexpr std::int32_t kEnd = 1;  // </s>

class GrammarRequest : public testing::Test {
 protected:
  GrammarRequest() : file_(".gguf", test::small_llama(DType::kQ4_1, 5).serialise()) {}

  std::unique_ptr<Engine> load(const std::function<void(EngineOptions&)>& change = {}) const {
    EngineOptions options;
    options.model = file_.path();
    options.backend.threads = 2;
    options.max_sequences = 4;
    if (change) change(options);
    return Engine::load(options);
  }
  static Request request_of(GrammarPtr grammar, std::uint64_t seed = 1) {
    Request request{.sampling = {.temperature = 1.0F, .seed = seed}, .max_new_tokens = 400};
    for (int i = 0; i < 20; ++i) request.prompt.push_back(3 + i * 37 % 90);
    request.grammar = std::move(grammar);
    return request;
  }
  static Answer run(Engine& engine, Request request) {
    Choices choices;
    engine.submit(std::move(request), collect(choices));
    engine.run();
    return choices.at(0);
  }
  static GrammarPtr person() {
    return json_schema_grammar(R"({"properties":{"name":{"type":"string","maxLength":12},
      "age":{"type":"integer","minimum":0,"maximum":120},
      "kind":{"enum":["red","green"]},"tags":{"items":{"type":"boolean"},"maxItems":3}},
      "required":["name","age","tags"]})");
  }
  static std::string refusal(Engine& engine, const Request& request) {
    try {
      engine.submit(request, [](const RequestEvent&) {});
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
      return e.what();
    }
    return "accepted";
  }

  test::TemporaryFile file_;
};

TEST_F(GrammarRequest, EverySeedGivesATextOfTheGrammar) {
  const auto engine = load();
  const std::vector<GrammarPtr> grammars = {
      person(), regex_grammar("(the|[a-f]{2,9})( [0-9]+)?\\."),
      choice_grammar(std::vector<std::string>{"yes", "no", "perhaps"}),
      ebnf_grammar("root ::= n (\"+\" n){1,3}\nn ::= [1-9] [0-9]? | \"(\" n \")\"")};
  for (const GrammarPtr& grammar : grammars) {
    for (std::uint64_t seed = 0; seed < 25; ++seed) {
      const Answer answer = run(*engine, request_of(grammar, seed));
      ASSERT_EQ(answer.finish, FinishReason::kStop) << answer.error << answer.text;
      EXPECT_TRUE(grammar->matches(answer.text)) << answer.text;
    }
  }
}

TEST_F(GrammarRequest, EqualsWhateverRunsBesideIt) {
  const auto engine = load();
  std::vector<Answer> alone;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    alone.push_back(run(*engine, request_of(seed == 3 ? nullptr : person(), seed)));
  }
  const GrammarPtr shared = person();
  std::vector<Choices> together(4);
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    engine->submit(request_of(seed == 3 ? nullptr : shared, seed), collect(together[seed]));
  }
  engine->run();
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(together[i].at(0).tokens, alone[i].tokens);
    EXPECT_EQ(together[i].at(0).text, alone[i].text);
  }
}

/// Steps may go on without choices whose masks take long; that changes nothing but the time.
TEST_F(GrammarRequest, EqualsWhoeverWaitsForItsMask) {
  const auto engine = load();
  std::string ways;
  for (char c = 'a'; c <= 'z'; ++c) {
    ways += (c == 'a' ? "" : "|") + std::string("[^") + c + "]{0," + std::to_string(30 + c % 7) +
            "}" + c;
  }
  const std::string dear = "(" + ways + "|[^a-z]){40,90}";
  Request several = request_of(regex_grammar(dear), 3);
  several.n = 3;
  several.max_new_tokens = 24;
  std::vector<Answer> alone;
  for (std::uint32_t i = 0; i < 3; ++i) {
    Request one = several;
    one.n = 1;
    one.choice = i;
    one.grammar = regex_grammar(dear);  // knows nothing
    alone.push_back(run(*engine, one));
    EXPECT_EQ(alone.back().finish, FinishReason::kLength) << alone.back().error;
  }
  Request plain = request_of(nullptr, 4);
  plain.max_new_tokens = 120;
  const Answer plain_alone = run(*engine, plain);

  Choices choices;
  Choices other;
  engine->submit(several, collect(choices));
  engine->submit(plain, collect(other));
  engine->run();
  EXPECT_EQ(other.at(0).tokens, plain_alone.tokens);
  for (const auto& [index, answer] : choices) EXPECT_EQ(answer.tokens, alone[index].tokens);
}

TEST_F(GrammarRequest, EqualsWithoutPreemption) {
  const auto engine = load();
  const Answer whole = run(*engine, request_of(person(), 5));
  Choices choices;
  const RequestId id = engine->submit(request_of(person(), 5), collect(choices));
  for (int i = 0; engine->step(); ++i) {
    if (i % 3 == 1) engine->preempt(id);
  }
  EXPECT_GT(engine->stats().preemptions, 0);
  EXPECT_EQ(choices.at(0).tokens, whole.tokens);
}

TEST_F(GrammarRequest, ChoicesHaveAPlaceEach) {
  const auto engine = load();
  Request request = request_of(person(), 9);
  request.n = 6;  // more than run at once
  Choices choices;
  engine->submit(request, collect(choices));
  engine->run();
  ASSERT_EQ(choices.size(), 6U);
  for (const auto& [index, choice] : choices) {
    Request one = request;
    one.n = 1;
    one.choice = index;
    EXPECT_EQ(choice.finish, FinishReason::kStop);
    EXPECT_TRUE(request.grammar->matches(choice.text)) << choice.text;
    EXPECT_EQ(run(*engine, one).tokens, choice.tokens);
  }
  EXPECT_NE(choices.at(0).tokens, choices.at(1).tokens);
}

TEST_F(GrammarRequest, BiasesDoNotLiftWhatIsExcluded) {
  const auto engine = load();
  Request request = request_of(regex_grammar("[0-9]{5}"));
  for (std::int32_t id = 3; id < 100; ++id) request.sampling.logit_bias[id] = 100.0F;
  for (char c = '0'; c <= '9'; ++c) request.sampling.logit_bias[3 + c - '!'] = -100.0F;
  const Answer answer = run(*engine, request);
  EXPECT_EQ(answer.finish, FinishReason::kStop);
  EXPECT_TRUE(request.grammar->matches(answer.text)) << answer.text;
}

TEST_F(GrammarRequest, WithoutATokenItEndsAndOthersGoOn) {
  const auto engine = load();
  Choices lost;
  Choices other;
  // The vocabulary has ASCII only.
  engine->submit(request_of(regex_grammar("ab\xc3\xa9")), collect(lost));
  engine->submit(request_of(person()), collect(other));
  engine->run();
  EXPECT_EQ(lost.at(0).finish, FinishReason::kError);
  EXPECT_EQ(lost.at(0).text, "ab");
  EXPECT_THAT(lost.at(0).error, HasSubstr("grammar: no token is allowed after token 22"));
  EXPECT_EQ(other.at(0).finish, FinishReason::kStop);
  EXPECT_EQ(run(*engine, request_of(person())).tokens, other.at(0).tokens);
}

TEST_F(GrammarRequest, LogprobsAreThoseOfTheModel) {
  const auto engine = load();
  Request free = request_of(nullptr);
  free.n_logprobs = 0;
  free.sampling.temperature = 0.0F;
  const Answer unbound = run(*engine, free);
  Request bound = free;
  // The same first token, and another one.
  const auto first = engine->tokenizer().token_bytes(unbound.tokens.at(0));
  bound.grammar = choice_grammar(std::vector<std::string>{first});
  EXPECT_EQ(run(*engine, bound).logprobs.at(0).logprob, unbound.logprobs.at(0).logprob);
  bound.grammar = choice_grammar(std::vector<std::string>{first == "Q" ? "Z" : "Q"});
  EXPECT_LT(run(*engine, bound).logprobs.at(0).logprob, unbound.logprobs.at(0).logprob);
}

TEST_F(GrammarRequest, GrammarDecidesWhereTheAnswerEnds) {
  const auto engine = load();
  Request request = request_of(regex_grammar("[a-z]{3}"));
  request.ignore_eos = true;
  request.min_new_tokens = 50;
  Answer answer = run(*engine, request);
  EXPECT_EQ(answer.finish, FinishReason::kStop);
  EXPECT_TRUE(request.grammar->matches(answer.text)) << answer.text;

  // Where it may end or go on, an end token ends it.
  request = request_of(regex_grammar("a*"));
  request.ignore_eos = true;
  request.sampling.logit_bias[kEnd] = 100.0F;
  answer = run(*engine, request);
  EXPECT_EQ(answer.finish, FinishReason::kStop);
  EXPECT_EQ(answer.tokens, std::vector<std::int32_t>{kEnd});
  request.min_new_tokens = 4;
  answer = run(*engine, request);
  EXPECT_EQ(answer.text, "aaaa");
  EXPECT_EQ(answer.finish, FinishReason::kStop);

  // A stop id, too, and nowhere else.
  request = request_of(regex_grammar("(ab)+"));
  request.stop_ids = {3 + 'b' - '!'};
  request.max_new_tokens = 1;
  EXPECT_EQ(run(*engine, request).text, "a");
  request.max_new_tokens = 9;
  EXPECT_THAT(run(*engine, request).error, HasSubstr("no token is allowed"));

  request = request_of(regex_grammar("a{100}"));
  request.max_new_tokens = 7;
  answer = run(*engine, request);
  EXPECT_EQ(answer.finish, FinishReason::kLength);
  EXPECT_EQ(answer.text, "aaaaaaa");
  request.stop = {"aaa"};
  answer = run(*engine, request);
  EXPECT_EQ(answer.finish, FinishReason::kStop);
  EXPECT_EQ(answer.text, "");
}

TEST_F(GrammarRequest, NoAnswerEndsBeforeItsLeastTokens) {
  const auto engine = load();
  Request request = request_of(nullptr);
  request.sampling.logit_bias[kEnd] = 100.0F;
  EXPECT_EQ(run(*engine, request).tokens.size(), 1U);
  request.min_new_tokens = 5;
  const Answer answer = run(*engine, request);
  EXPECT_EQ(answer.tokens.size(), 6U);
  EXPECT_EQ(answer.tokens.back(), kEnd);
  EXPECT_EQ(answer.finish, FinishReason::kStop);
  request.sampling.logit_bias = {{10, 100.0F}};
  request.stop_ids = {10};
  EXPECT_EQ(run(*engine, request).tokens.size(), 6U);
  // Nothing but ends.
  request.stop_ids.clear();
  for (std::int32_t id = 0; id < engine->config().vocab; ++id) request.stop_ids.push_back(id);
  EXPECT_THAT(run(*engine, request).error, HasSubstr("min_new_tokens: no token is allowed"));
}

TEST_F(GrammarRequest, RefusesWhatCannotBe) {
  const auto engine = load();
  Request request = request_of(nullptr);
  request.min_new_tokens = 401;
  EXPECT_THAT(refusal(*engine, request), HasSubstr("min_new_tokens is 401, allowed: 0 .. 400"));
  request.min_new_tokens = -1;
  EXPECT_THAT(refusal(*engine, request), HasSubstr("min_new_tokens is -1"));
  request.min_new_tokens = 0;
  request.grammar = person();
  request.score = true;
  EXPECT_THAT(refusal(*engine, request), HasSubstr("score"));
}

TEST_F(GrammarRequest, MayBeCancelledAtAnyStep) {
  const auto engine = load();
  for (int after = 0; after < 12; ++after) {
    Choices choices;
    const RequestId id = engine->submit(request_of(json_object_grammar(), 3), collect(choices));
    for (int i = 0; i < after && engine->step(); ++i) {
    }
    engine->cancel(id);
    engine->run();
    EXPECT_NE(choices.at(0).finish, FinishReason::kNone);
  }
}

TEST(Exclude, LeavesFaultsToBeSeen) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> row = {1.0F, std::nanf(""), kInfinity, 2.0F, -kInfinity};
  TokenMask mask(5);
  mask.set(0);
  EXPECT_TRUE(exclude(row, &mask, {}));
  EXPECT_EQ(row[0], 1.0F);
  EXPECT_TRUE(std::isnan(row[1]));
  EXPECT_EQ(row[2], kInfinity);
  EXPECT_EQ(row[3], -kInfinity);
  row = {1.0F, 2.0F};
  const std::vector<std::int32_t> both = {0, 1};
  EXPECT_FALSE(exclude(row, nullptr, both));
}

}  // namespace
}  // namespace heddle
