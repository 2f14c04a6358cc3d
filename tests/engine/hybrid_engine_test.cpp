// The engine's promises where layers keep states, recurrent ones or rings of a window: a continued,
// preempted or batched request gives the bits that it gives alone.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/selftest.h"
#include "kernels/api/linear_attention.h"
#include "tests/support/small_llama.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

using Tokens = std::vector<std::int32_t>;

/// What a request gave.
struct Answer {
  RequestId id = 0;
  Tokens tokens;
  std::vector<float> scores;
  FinishReason finish = FinishReason::kNone;
  std::map<std::int64_t, std::vector<float>> logits;
  ReuseReport reuse;
};

RequestId submit(Engine& engine, Request request, Answer& answer) {
  request.on_logits = [&answer](std::int64_t position, std::span<const float> row) {
    answer.logits[position].assign(row.begin(), row.end());
  };
  request.ignore_eos = true;
  answer.id = engine.submit(std::move(request), [&answer](const RequestEvent& event) {
    if (event.token) answer.tokens.push_back(*event.token);
    answer.scores.insert(answer.scores.end(), event.scores.begin(), event.scores.end());
    answer.finish = event.finish;
    answer.reuse = event.reuse;
  });
  return answer.id;
}

Answer run(Engine& engine, Request request) {
  Answer answer;
  submit(engine, std::move(request), answer);
  engine.run();
  EXPECT_EQ(answer.finish, FinishReason::kLength);
  return answer;
}

Tokens prompt_of(int n, int salt = 0) {
  Tokens prompt;
  for (int i = 0; i < n; ++i) prompt.push_back(3 + (i * 37 + salt * 11) % 300);
  return prompt;
}

/// The first `n` of `tokens`, then others.
Tokens departing(const Tokens& tokens, std::size_t n, int length) {
  Tokens prompt(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(n));
  while (prompt.size() < static_cast<std::size_t>(length)) {
    const std::size_t i = prompt.size();
    const std::int32_t old = i < tokens.size() ? tokens[i] : 0;
    prompt.push_back(old == 7 ? 8 : 7);
  }
  return prompt;
}

struct Case {
  const char* family = "";     // of make_tiny_model.py
  std::int64_t context = 512;  // layers with windows keep rings from 2112 on
  std::int64_t max_chunk = 0;
};

class HybridEngine : public testing::TestWithParam<Case> {
 protected:
  HybridEngine() : model_({"--family", GetParam().family, "--seed", "9"}, "safetensors") {}

  std::unique_ptr<Engine> load(const std::function<void(EngineOptions&)>& change = {}) const {
    EngineOptions options;
    options.model = model_.path();
    options.backend.threads = 2;
    options.context = GetParam().context;
    options.max_chunk = GetParam().max_chunk;
    options.max_sequences = 4;
    if (change) change(options);
    auto engine = Engine::load(options);
    EXPECT_GT(engine->stats().state_slots, 0);
    return engine;
  }
  Answer alone(const Request& request) const { return run(*load(), request); }

  test::TinyModel model_;
};

TEST_P(HybridEngine, MemoryWithoutRoomForAStateIsRefused) {
  const auto engine = load();
  const MemoryPlan& plan = engine->memory();
  const std::uint64_t state = plan.state_bytes_per_sequence + plan.window_bytes_per_sequence;
  const auto refused = [&](const std::function<void(EngineOptions&)>& change) -> std::string {
    try {
      load(change);
      return "accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
      return e.what();
    }
  };
  const std::string snapshots = refused([&](EngineOptions& o) { o.snapshot_memory = state - 1; });
  EXPECT_THAT(snapshots, testing::StartsWith("--snapshot-memory: got "));
  EXPECT_THAT(snapshots, testing::HasSubstr(std::to_string(state - 1) + " bytes"));
  EXPECT_THAT(snapshots, testing::HasSubstr(std::to_string(state) + " bytes) and more"));
  EXPECT_THAT(refused([&](EngineOptions& o) { o.host_cache = state - 1; }),
              testing::StartsWith("--host-cache: got "));
  EXPECT_EQ(load([&](EngineOptions& o) { o.snapshot_memory = state; })->options().snapshots, 1);
}

constexpr int kPrompt = 60;
constexpr int kAnswer = 10;
constexpr std::int64_t kComputed = kPrompt + kAnswer - 1;  // the last token was never computed
constexpr std::int64_t kFolded = kComputed / kLinearBlock * kLinearBlock;

TEST_P(HybridEngine, ASecondTurnReusesWhatAStateServes) {
  static_assert(kFolded > 0 && kFolded < kComputed);
  const auto cold = load();
  for (const std::int64_t departure :
       {kComputed, kComputed - 1, kFolded + 1, kFolded, kFolded - 1, std::int64_t{kPrompt},
        std::int64_t{kPrompt} - 1, std::int64_t{kLinearBlock}, std::int64_t{1}}) {
    const auto engine = load();
    const Answer first = run(*engine, {.prompt = prompt_of(kPrompt), .max_new_tokens = kAnswer});
    Tokens known = prompt_of(kPrompt);
    known.insert(known.end(), first.tokens.begin(), first.tokens.end());
    const Request second{.prompt = departing(known, static_cast<std::size_t>(departure), 75),
                         .max_new_tokens = 12};
    const EngineStats before = engine->stats();
    const Answer got = run(*engine, second);
    // There are states at the prompt's end and at the answer's.
    constexpr std::int64_t kPromptFolded = kPrompt / kLinearBlock * kLinearBlock;
    const std::int64_t cached = departure >= kFolded         ? departure
                                : departure >= kPrompt       ? kPrompt
                                : departure >= kPromptFolded ? departure
                                                             : 0;
    EXPECT_EQ(got.reuse.cached_tokens, cached) << "departs at " << departure;
    EXPECT_EQ(got.reuse.known_tokens, departure);
    EXPECT_EQ(got.reuse.replayed_tokens, departure - cached);
    EXPECT_EQ(got.reuse.reason, cached < departure ? "no_snapshot" : "diverged_at");
    EXPECT_EQ(engine->stats().computed_tokens - before.computed_tokens, 75 - cached + 11);
    const Answer want = run(*cold, {.prompt = second.prompt, .max_new_tokens = 12, .reuse = false});
    EXPECT_EQ(got.tokens, want.tokens) << "departs at " << departure;
    EXPECT_EQ(got.logits, want.logits) << "departs at " << departure;
    // Once more: now there is a state where it departed.
    const Answer again =
        run(*engine, {.prompt = departing(second.prompt, 74, 90), .max_new_tokens = 1});
    EXPECT_GE(again.reuse.cached_tokens, departure);
  }
}

TEST_P(HybridEngine, ManyTurnsOfOneSequenceEqualColdOnes) {
  const auto engine = load([](EngineOptions& o) { o.max_chunk = 13; });
  const auto cold = load([](EngineOptions& o) { o.prefix_cache = false; });
  Tokens prompt = prompt_of(21);
  for (int turn = 0; turn < 12; ++turn) {
    const Answer got = run(*engine, {.prompt = prompt, .max_new_tokens = 9});
    const Answer want = run(*cold, {.prompt = prompt, .max_new_tokens = 9});
    ASSERT_EQ(got.tokens, want.tokens) << "turn " << turn;
    ASSERT_EQ(got.logits, want.logits) << "turn " << turn;
    Tokens known = prompt;
    known.insert(known.end(), got.tokens.begin(), got.tokens.end());
    // a little back, and in every third turn further than the state can
    const std::size_t back = turn % 3 == 2 ? 20 : static_cast<std::size_t>(turn % 5);
    prompt = departing(known, known.size() - 1 - back, static_cast<int>(known.size()) + 6);
  }
  EXPECT_GT(engine->stats().cached_tokens, 0);
}

TEST_P(HybridEngine, ScoresAfterACachedPromptLoseNoRow) {
  const auto engine = load();
  run(*engine, {.prompt = prompt_of(40), .max_new_tokens = 2});
  const Answer scored = run(*engine, {.prompt = prompt_of(40), .score = true});
  EXPECT_EQ(scored.scores.size(), 39U);
  EXPECT_EQ(scored.scores, alone({.prompt = prompt_of(40), .score = true}).scores);
}

TEST_P(HybridEngine, SmallCachePreemptsAndAnswersStayTheSame) {
  const auto engine = load([](EngineOptions& o) { o.kv_tokens = 512; });
  std::vector<Answer> answers(4);
  std::vector<Request> requests;
  for (int i = 0; i < 4; ++i) {
    requests.push_back({.prompt = prompt_of(90 + 7 * i, i), .max_new_tokens = 100});
    submit(*engine, requests.back(), answers[static_cast<std::size_t>(i)]);
  }
  engine->run();
  EXPECT_GT(engine->stats().preemptions, 0);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const Answer want = alone(requests[i]);
    EXPECT_EQ(answers[i].tokens, want.tokens) << i;
    EXPECT_EQ(answers[i].logits, want.logits) << i;
  }
}

TEST_P(HybridEngine, WhatWasMovedToHostMemoryComesBack) {
  const auto engine = load([](EngineOptions& o) {
    o.kv_tokens = 512;
    o.snapshots = 0;
    o.host_cache = std::uint64_t{1} << 26U;
  });
  std::vector<Answer> answers(4);
  std::vector<Request> requests;
  for (int i = 0; i < 4; ++i) {
    requests.push_back({.prompt = prompt_of(120 + 7 * i, i), .max_new_tokens = 60});
    submit(*engine, requests.back(), answers[static_cast<std::size_t>(i)]);
  }
  for (std::size_t turn = 0; engine->step(); ++turn) {
    if (turn % 5 == 4) engine->preempt(answers[turn / 5 % 4].id);
  }
  EXPECT_GT(engine->stats().moved_snapshots, 0);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const Answer want = alone(requests[i]);
    EXPECT_EQ(answers[i].tokens, want.tokens) << i;
    EXPECT_EQ(answers[i].logits, want.logits) << i;
  }
}

TEST_P(HybridEngine, ChoicesCopyTheStateOfTheirPrompt) {
  Request request{.prompt = prompt_of(150), .max_new_tokens = 40};
  request.sampling = {.temperature = 1.0F, .seed = 4};
  request.ignore_eos = true;
  std::map<std::uint32_t, Tokens> together;
  const auto engine = load();
  Request three = request;
  three.n = 3;
  engine->submit(std::move(three), [&](const RequestEvent& event) {
    if (event.token) together[event.choice].push_back(*event.token);
  });
  engine->run();
  const auto cold = load();
  for (std::uint32_t i = 0; i < 3; ++i) {
    request.choice = i;
    cold->clear_cache();
    EXPECT_EQ(together[i], run(*cold, request).tokens) << i;
  }
}

TEST_P(HybridEngine, HitsThatAreVerifiedAgree) {
  const auto engine = load([](EngineOptions& o) { o.verify_cache = 1.0; });
  const Answer first = run(*engine, {.prompt = prompt_of(150), .max_new_tokens = 20});
  Tokens known = prompt_of(150);
  known.insert(known.end(), first.tokens.begin(), first.tokens.end());
  for (const std::size_t keep : {std::size_t{169}, std::size_t{168}, std::size_t{150}}) {
    run(*engine, {.prompt = departing(known, keep, 200), .max_new_tokens = 20});
  }
  EXPECT_EQ(engine->stats().verify.checked, 3);
  EXPECT_EQ(engine->stats().verify.mismatches, 0);
}

TEST_P(HybridEngine, APreemptedRequestStartsWithAFreshState) {
  const auto engine = load();
  std::vector<Answer> answers(2);
  std::vector<Request> requests;
  for (int i = 0; i < 2; ++i) {
    requests.push_back({.prompt = prompt_of(50, i), .max_new_tokens = 40});
    submit(*engine, requests.back(), answers[static_cast<std::size_t>(i)]);
  }
  for (int step = 0; step < 30; ++step) {
    engine->step();
    if (step % 7 == 5) engine->preempt(answers[static_cast<std::size_t>(step / 7 % 2)].id);
  }
  engine->run();
  EXPECT_GE(engine->stats().preemptions, 2);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const Answer want = alone(requests[i]);
    EXPECT_EQ(answers[i].tokens, want.tokens) << i;
    EXPECT_EQ(answers[i].logits, want.logits) << i;
  }
}

TEST_P(HybridEngine, RequestsInTurnOnTheSameStateSlotsEqualThemselvesAlone) {
  const auto engine = load([](EngineOptions& o) {
    o.max_sequences = 2;
    o.max_chunk = 19;
  });
  std::vector<Answer> answers(7);
  std::vector<Request> requests;
  for (int i = 0; i < 7; ++i) {
    requests.push_back({.prompt = prompt_of(1 + 23 * i, i), .max_new_tokens = 5 + 6 * i});
    submit(*engine, requests.back(), answers[static_cast<std::size_t>(i)]);
  }
  Answer cancelled;
  submit(*engine, {.prompt = prompt_of(30, 9), .max_new_tokens = 50}, cancelled);
  engine->step();
  engine->cancel(cancelled.id);
  engine->run();
  EXPECT_EQ(cancelled.finish, FinishReason::kCancelled);
  const auto cold = load();
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const Answer want = run(*cold, requests[i]);
    EXPECT_EQ(answers[i].tokens, want.tokens) << i;
    EXPECT_EQ(answers[i].logits, want.logits) << i;
  }
}

/// The row of the selftest that is about replaying.
SelftestRow replay_row(const std::string& model,
                       bool quick,
                       const std::function<void(EngineOptions&)>& sabotage = {}) {
  EngineOptions options;
  options.model = model;
  options.backend.threads = 2;
  for (const SelftestRow& row : run_selftest(options, quick, sabotage)) {
    if (row.name == "replay from a snapshot = cold") return row;
  }
  return {.name = "missing"};
}

TEST(SelftestReplay, ReplaysOfAHybridAreCompared) {
  const test::TinyModel model({"--family", "minicpm_sala", "--seed", "9"}, "safetensors");
  const SelftestRow row = replay_row(model.path(), true);
  EXPECT_TRUE(row.ok) << row.detail;
  EXPECT_EQ(row.detail, "16 rows of logits after 70 cached and 29 replayed tokens");
  const auto other_bits = [](EngineOptions& o) { o.kv_dtype = DType::kBF16; };
  const SelftestRow wrong = replay_row(model.path(), true, other_bits);
  EXPECT_FALSE(wrong.ok);
  EXPECT_THAT(wrong.detail, testing::HasSubstr("differ"));
  // Where everything is computed nothing would be shown.
  const auto no_cache = [](EngineOptions& o) { o.prefix_cache = false; };
  const SelftestRow empty = replay_row(model.path(), true, no_cache);
  EXPECT_FALSE(empty.ok);
  EXPECT_THAT(empty.detail, testing::HasSubstr("0 tokens were cached and 0 replayed"));
}

TEST(SelftestReplay, AModelWithoutStatesSaysSo) {
  const test::TemporaryFile file(".gguf", test::small_llama(DType::kQ4_1, 5).serialise());
  const SelftestRow row = replay_row(file.path(), true);
  EXPECT_TRUE(row.ok);
  EXPECT_EQ(row.detail, "nothing to replay: no layer keeps a recurrent state");
}

INSTANTIATE_TEST_SUITE_P(Families,
                         HybridEngine,
                         testing::Values(Case{"transnormer"},
                                         Case{"minimax_text_01"},
                                         Case{"minicpm_sala"},
                                         Case{"heddle"},
                                         Case{"heddle", 2304, 5},
                                         Case{"mistral", 2304},
                                         Case{"mistral", 2304, 5},
                                         Case{"gemma3", 2304, 5},
                                         Case{"gpt_oss", 2304, 5}),
                         [](const auto& param) {
                           const Case& c = param.param;
                           return c.family + std::string(c.context == 512 ? "" : "_rings") +
                                  (c.max_chunk == 0 ? "" : "_chunks");
                         });

}  // namespace
}  // namespace heddle
