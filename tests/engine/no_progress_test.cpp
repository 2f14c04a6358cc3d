// A scheduler that can plan nothing though there is work is a defect: its requests end with an
// error, and the engine goes on.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "tests/support/small_llama.h"

namespace heddle {
namespace {

struct Answer {
  std::vector<std::int32_t> tokens;
  std::string error;
  FinishReason finish = FinishReason::kNone;
};

void submit(Engine& engine, int n_prompt, int n_new, Answer& answer) {
  Request request{.max_new_tokens = n_new, .ignore_eos = true};
  for (int i = 0; i < n_prompt; ++i) request.prompt.push_back(3 + i * 37 % 90);
  engine.submit(std::move(request), [&answer](const RequestEvent& event) {
    if (event.token) answer.tokens.push_back(*event.token);
    answer.finish = event.finish;
    answer.error = event.error;
  });
}

TEST(NoProgress, EndsTheRequestsWithAnErrorAndTheEngineGoesOn) {
  const test::TemporaryFile file(".gguf", test::small_llama(DType::kQ4_1, 5).serialise());
  EngineOptions options;
  options.model = file.path();
  options.backend.threads = 2;
  options.max_sequences = 2;
  options.kv_tokens = 128;           // 8 blocks
  for (const int leaked : {6, 4}) {  // no prompt fits; the answer does not
    EngineOptions leaking = options;
    leaking.leaked_blocks = leaked;
    const auto engine = Engine::load(leaking);
    Answer first;
    Answer second;
    submit(*engine, 40, 30, first);
    submit(*engine, 50, 30, second);
    for (int steps = 0; engine->step(); ++steps) ASSERT_LT(steps, 200);
    for (const Answer* answer : {&first, &second}) {
      EXPECT_EQ(answer->finish, FinishReason::kError);
      EXPECT_THAT(answer->error, testing::HasSubstr("no progress: "));
    }
    EXPECT_EQ(first.tokens.empty(), leaked == 6);
    EXPECT_EQ(engine->stats().running + engine->stats().waiting, 0);
    Answer after;
    submit(*engine, 40, 30, after);
    engine->run();
    EXPECT_EQ(after.finish, FinishReason::kLength) << after.error;
    EXPECT_EQ(after.tokens.size(), 30U);
  }
}

}  // namespace
}  // namespace heddle
