// Request::prompt_logprobs and report_progress: what comes before the first token, and that the
// answer is the same as without.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

struct Answer {
  std::map<std::uint32_t, std::vector<std::int32_t>> tokens;  // of each choice
  std::vector<float> scores;
  std::vector<std::vector<TokenLogprob>> top_scores;
  std::vector<std::int64_t> progress;
  int n_ended = 0;
};

EventSink collect(Answer& answer) {
  return [&answer](const RequestEvent& event) {
    if (!event.scores.empty() || event.prompt_computed >= 0) {
      EXPECT_EQ(event.choice, 0U);
      EXPECT_TRUE(answer.tokens[0].empty()) << "behind a token";
      EXPECT_FALSE(event.token.has_value());
    }
    answer.scores.insert(answer.scores.end(), event.scores.begin(), event.scores.end());
    answer.top_scores.insert(answer.top_scores.end(), event.top_scores.begin(),
                             event.top_scores.end());
    if (event.prompt_computed >= 0) answer.progress.push_back(event.prompt_computed);
    if (event.token) answer.tokens[event.choice].push_back(*event.token);
    answer.n_ended += event.finish == FinishReason::kNone ? 0 : 1;
    EXPECT_EQ(event.error, "");
  };
}

std::vector<std::int32_t> prompt_of(int n, int salt = 0) {
  std::vector<std::int32_t> prompt;
  for (int i = 0; i < n; ++i) prompt.push_back(3 + (i * 37 + salt * 11) % 300);
  return prompt;
}

Request request_of(std::vector<std::int32_t> prompt, int n = 1) {
  return {.prompt = std::move(prompt),
          .sampling = {.temperature = 0.9F, .repetition_penalty = 1.2F, .seed = 11},
          .max_new_tokens = 12,
          .ignore_eos = true,
          .n = n};
}

/// The parameter is a family of make_tiny_model.py.
class PromptScores : public testing::TestWithParam<const char*> {
 protected:
  PromptScores() : model_({"--family", GetParam(), "--seed", "9"}, "safetensors") {}

  std::unique_ptr<Engine> load(const std::function<void(EngineOptions&)>& change = {}) const {
    EngineOptions options;
    options.model = model_.path();
    options.backend.threads = 2;
    options.context = 2048;
    options.max_sequences = 4;
    if (change) change(options);
    return Engine::load(options);
  }
  static Answer run(Engine& engine, Request request) {
    Answer answer;
    engine.submit(std::move(request), collect(answer));
    engine.run();
    return answer;
  }
  static std::vector<float> scores(Engine& engine, const std::vector<std::int32_t>& prompt) {
    return run(engine, {.prompt = prompt, .score = true}).scores;
  }
  static void expect_scored(const Answer& got,
                            const std::vector<float>& scores,
                            const Request& request) {
    EXPECT_EQ(got.scores, scores);
    ASSERT_EQ(got.top_scores.size(), scores.size());
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const std::vector<TokenLogprob>& top = got.top_scores[i];
      ASSERT_EQ(top.size(), static_cast<std::size_t>(request.prompt_logprobs));
      for (std::size_t k = 0; k < top.size(); ++k) {
        if (k > 0) {
          EXPECT_LE(top[k].logprob, top[k - 1].logprob);
        }
        if (top[k].token == request.prompt[i + 1]) {
          EXPECT_EQ(top[k].logprob, scores[i]);
        }
      }
      EXPECT_GE(top.front().logprob, scores[i]);
    }
  }

  test::TinyModel model_;
};

TEST_P(PromptScores, EqualThoseOfScoreRequestsAndLeaveTheAnswerAsItIs) {
  const auto engine = load();
  for (const int n_prompt : {1, 2, 16, 63, 64, 65, 300}) {
    for (const int n : {1, 3}) {
      const Request plain = request_of(prompt_of(n_prompt), n);
      Request scored = plain;
      scored.prompt_logprobs = 3;
      const Answer want = run(*engine, plain);
      const Answer got = run(*engine, scored);
      expect_scored(got, scores(*engine, plain.prompt), scored);
      EXPECT_EQ(got.tokens, want.tokens) << n_prompt << " tokens, " << n << " choices";
      EXPECT_EQ(got.n_ended, n);
    }
  }
}

TEST_P(PromptScores, ComputeThePromptOfAllChoicesOnce) {
  const auto engine = load();
  Request request = request_of(prompt_of(200), 3);
  request.prompt_logprobs = 0;
  run(*engine, request);
  EXPECT_EQ(engine->stats().computed_tokens, 200 + 3 * 11);
}

TEST_P(PromptScores, DoNotDependOnBatchStepsOrPreemption) {
  const std::vector<std::vector<std::int32_t>> prompts = {prompt_of(150, 1), prompt_of(9, 2),
                                                          prompt_of(333, 3), prompt_of(70, 4)};
  const auto alone = load();
  std::vector<Answer> want;
  std::vector<std::vector<float>> wanted_scores;
  for (const auto& prompt : prompts) {
    want.push_back(run(*alone, request_of(prompt)));
    wanted_scores.push_back(scores(*alone, prompt));
  }
  for (const std::int64_t step : {0, 7, 50}) {
    const auto engine = load([&](EngineOptions& o) {
      o.max_step_tokens = step;
      o.kv_tokens = 800;
    });
    std::vector<Answer> got(prompts.size());
    std::vector<Request> requests;
    RequestId first = 0;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      requests.push_back(request_of(prompts[i]));
      requests.back().prompt_logprobs = 2;
      requests.back().report_progress = true;
      const RequestId id = engine->submit(requests.back(), collect(got[i]));
      if (i == 0) first = id;
    }
    for (int i = 0; engine->step(); ++i) {
      if (i == 3 || i == 20) engine->preempt(first);
    }
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      expect_scored(got[i], wanted_scores[i], requests[i]);
      EXPECT_EQ(got[i].tokens, want[i].tokens) << "prompt " << i << ", steps of " << step;
      EXPECT_TRUE(std::ranges::is_sorted(got[i].progress, std::less_equal())) << "strictly";
      EXPECT_EQ(got[i].progress.back(), std::ssize(prompts[i]));
    }
  }
}

/// A chat that comes beside a long prompt of which every row is wanted.
TEST_P(PromptScores, DoNotKeepOthersWaiting) {
  for (const int kind : {0, 1, 2}) {
    const auto engine = load();
    Request request = request_of(prompt_of(2000));
    if (kind == 0) request = {.prompt = request.prompt, .score = true};
    if (kind == 1) request.prompt_logprobs = 0;
    if (kind == 2) request.all_logits = true;
    Answer scored;
    engine->submit(request, collect(scored));
    engine->step();
    Answer chat;
    Request other = request_of(prompt_of(5, 1));
    other.client = "other";
    engine->submit(other, collect(chat));
    engine->step();
    EXPECT_EQ(chat.tokens[0].size(), 1U) << kind;
    engine->step();
    EXPECT_EQ(chat.tokens[0].size(), 2U) << kind;
    EXPECT_TRUE(scored.tokens[0].empty());
  }
}

TEST_P(PromptScores, ProgressAscendsToThePromptsLength) {
  const auto engine = load([](EngineOptions& o) { o.max_step_tokens = 64; });
  Request request = request_of(prompt_of(200));
  request.report_progress = true;
  const Answer cold = run(*engine, request);
  EXPECT_GE(cold.progress.size(), 4U);
  EXPECT_TRUE(std::ranges::is_sorted(cold.progress, std::less_equal())) << "strictly";
  EXPECT_EQ(cold.progress.back(), 200);
  request.report_progress = false;
  const Answer without = run(*engine, request);
  EXPECT_EQ(without.tokens, cold.tokens);
  EXPECT_TRUE(without.progress.empty());
  // Interrupted in its answer: what is computed again is not told again.
  request.report_progress = true;
  request.reuse = false;
  Answer answer;
  const RequestId id = engine->submit(request, collect(answer));
  for (int i = 0; engine->step(); ++i) {
    if (i == 2 || i == 8) engine->preempt(id);
  }
  EXPECT_TRUE(std::ranges::is_sorted(answer.progress, std::less_equal())) << "strictly";
  EXPECT_EQ(answer.progress.back(), 200);
  EXPECT_EQ(answer.tokens, cold.tokens);
}

INSTANTIATE_TEST_SUITE_P(Families,
                         PromptScores,
                         testing::Values("llama", "minimax_text_01", "gemma3"),
                         [](const auto& family) { return std::string(family.param); });

}  // namespace
}  // namespace heddle
