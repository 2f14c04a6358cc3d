// Several answers to one prompt: each as if it had been asked for alone, the prompt computed once.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

using testing::HasSubstr;

/// What one choice gave: its tokens, and the log probabilities of the best five at each.
struct Choice {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  std::string text;
  FinishReason finish = FinishReason::kNone;
  ReuseReport reuse;
};
using Choices = std::map<std::uint32_t, Choice>;

EventSink collect(Choices& choices) {
  return [&choices](const RequestEvent& event) {
    Choice& choice = choices[event.choice];
    EXPECT_EQ(choice.finish, FinishReason::kNone) << "an event after the last one";
    if (event.token) choice.tokens.push_back(*event.token);
    for (const TokenLogprob& top : event.top_logprobs) choice.logprobs.push_back(top.logprob);
    choice.text += event.text;
    choice.finish = event.finish;
    choice.reuse = event.reuse;
  };
}

Request request_of(int n_prompt, int n) {
  Request request{.sampling = {.temperature = 0.9F,
                               .repetition_penalty = 1.2F,
                               .frequency_penalty = 0.3F,
                               .seed = 11},
                  .max_new_tokens = 20,
                  .ignore_eos = true,
                  .n_logprobs = 5,
                  .n = n};
  for (int i = 0; i < n_prompt; ++i) request.prompt.push_back(3 + i * 37 % 300);
  return request;
}

/// The parameter is a family of make_tiny_model.py.
class ChoicesOfAPrompt : public testing::TestWithParam<const char*> {
 protected:
  ChoicesOfAPrompt() : model_({"--family", GetParam(), "--seed", "9"}, "safetensors") {}

  std::unique_ptr<Engine> load(const std::function<void(EngineOptions&)>& change = {}) const {
    EngineOptions options;
    options.model = model_.path();
    options.backend.threads = 2;
    options.context = 256;
    options.max_sequences = 4;
    if (change) change(options);
    return Engine::load(options);
  }
  static Choices run(Engine& engine, Request request) {
    Choices choices;
    engine.submit(std::move(request), collect(choices));
    engine.run();
    return choices;
  }
  /// Each of the choices asked for alone, computed cold.
  Choices apart(const Request& request) const {
    const auto engine = load();
    Choices choices;
    for (int i = 0; i < request.n; ++i) {
      Request one = request;
      one.n = 1;
      one.reuse = false;
      one.choice += static_cast<std::uint32_t>(i);
      choices[static_cast<std::uint32_t>(i)] = run(*engine, one).at(0);
    }
    return choices;
  }
  static void expect_equal(const Choices& got, const Choices& want) {
    ASSERT_EQ(got.size(), want.size());
    for (const auto& [index, choice] : want) {
      EXPECT_EQ(got.at(index).tokens, choice.tokens) << "choice " << index;
      EXPECT_EQ(got.at(index).logprobs, choice.logprobs) << "choice " << index;
      EXPECT_EQ(got.at(index).text, choice.text) << "choice " << index;
      EXPECT_EQ(got.at(index).finish, FinishReason::kLength);
    }
  }

  test::TinyModel model_;
};

TEST_P(ChoicesOfAPrompt, EqualSeparateRuns) {
  for (const int n_prompt : {1, 15, 16, 33, 100}) {
    const Request request = request_of(n_prompt, 4);
    const auto engine = load();
    const Choices got = run(*engine, request);
    expect_equal(got, apart(request));
    EXPECT_NE(got.at(0).tokens, got.at(1).tokens) << "each has its own random numbers";
    EXPECT_EQ(engine->stats().computed_tokens, n_prompt + 4 * 19) << "the prompt once";
    EXPECT_EQ(got.at(3).reuse.cached_tokens, n_prompt);
  }
}

TEST_P(ChoicesOfAPrompt, EqualSeparateRunsWhereTheyDoNotRunTogether) {
  const Request request = request_of(50, 6);
  const Choices want = apart(request);
  expect_equal(run(*load([](EngineOptions& o) { o.max_sequences = 2; }), request), want);
  expect_equal(run(*load([](EngineOptions& o) { o.max_chunk = 7; }), request), want);
  expect_equal(run(*load([](EngineOptions& o) { o.prefix_cache = false; }), request), want);
  // Blocks of the pool for little more than one sequence.
  expect_equal(run(*load([](EngineOptions& o) { o.kv_tokens = 112; }), request), want);
}

TEST_P(ChoicesOfAPrompt, EqualSeparateRunsWhenPreempted) {
  const Request request = request_of(50, 4);
  const Choices want = apart(request);
  for (const int after : {1, 2, 7}) {
    const auto engine = load();
    Choices got;
    const RequestId id = engine->submit(request, collect(got));
    for (int i = 0; i < after; ++i) engine->step();
    EXPECT_TRUE(engine->preempt(id));
    engine->run();
    expect_equal(got, want);
  }
}

TEST_P(ChoicesOfAPrompt, EndTogetherWhenCancelled) {
  for (const int after : {0, 1, 5}) {
    const auto engine = load();
    Choices got;
    const RequestId id = engine->submit(request_of(50, 6), collect(got));
    for (int i = 0; i < after; ++i) engine->step();
    engine->cancel(id);
    engine->cancel(id);
    ASSERT_EQ(got.size(), 6U);
    for (const auto& [index, choice] : got) EXPECT_EQ(choice.finish, FinishReason::kCancelled);
    EXPECT_FALSE(engine->step());
  }
}

TEST_P(ChoicesOfAPrompt, ACallbackThatThrowsEndsThemAll) {
  const auto engine = load();
  int calls = 0;
  engine->submit(request_of(20, 3), [&calls](const RequestEvent&) {
    if (++calls == 5) throw std::runtime_error("no more");
  });
  const Request other = request_of(30, 1);
  Choices got;
  engine->submit(other, collect(got));
  engine->run();
  EXPECT_EQ(calls, 5);
  expect_equal(got, apart(other));
}

TEST_P(ChoicesOfAPrompt, OutOfRangeAreRefused) {
  const auto engine = load();
  const auto refusal = [&](const Request& request) -> std::string {
    try {
      engine->submit(request, {});
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal(request_of(5, 0)), "n is 0, allowed: 1 .. 128");
  EXPECT_EQ(refusal(request_of(5, 129)), "n is 129, allowed: 1 .. 128");
  Request request = request_of(5, 2);
  request.score = true;
  EXPECT_THAT(refusal(request), HasSubstr("n is 2, allowed"));
  request = request_of(5, 1);
  request.priority = 101;
  EXPECT_EQ(refusal(request), "priority is 101, allowed: -100 .. 100");
  EXPECT_FALSE(engine->step());
}

/// Best-of: the mean log probability of a choice's tokens is what scoring the whole text gives, so
/// choices can be compared by it.
TEST_P(ChoicesOfAPrompt, CanBeRankedByTheirScores) {
  const auto engine = load();
  Request request = request_of(40, 4);
  request.n_logprobs = 0;
  std::map<std::uint32_t, std::vector<float>> scores;
  std::map<std::uint32_t, std::vector<std::int32_t>> tokens;
  engine->submit(request, [&](const RequestEvent& event) {
    if (!event.token) return;
    tokens[event.choice].push_back(*event.token);
    scores[event.choice].push_back(event.logprob.value().logprob);
  });
  engine->run();
  ASSERT_EQ(scores.size(), 4U);
  for (const auto& [choice, answer] : tokens) {
    Request whole{.prompt = request.prompt, .score = true, .logits_from = 39};
    whole.prompt.insert(whole.prompt.end(), answer.begin(), answer.end());
    std::vector<float> want;
    engine->submit(std::move(whole), [&](const RequestEvent& event) {
      want.insert(want.end(), event.scores.begin(), event.scores.end());
    });
    engine->run();
    EXPECT_EQ(scores.at(choice), want) << "choice " << choice;
  }
}

INSTANTIATE_TEST_SUITE_P(Families,
                         ChoicesOfAPrompt,
                         testing::Values("llama", "minimax_text_01", "minicpm_sala"),
                         [](const auto& family) { return std::string(family.param); });

}  // namespace
}  // namespace heddle
