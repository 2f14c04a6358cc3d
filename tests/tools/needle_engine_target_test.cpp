// needle-hybrid on a small grid: the same rows with and without what is reused, and less work.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"
#include "tools/needle/engine_target.h"
#include "tools/needle/run.h"

namespace heddle::needle {
namespace {

struct Ran {
  std::vector<Row> rows;
  MemoryPlan memory;
};

/// Two lengths at five depths, in the form of needle-hybrid's card.
Ran run(bool reuse, std::size_t concurrency, int answer_tokens = 0, bool cut_context = false) {
  EngineOptions options;
  options.model = HEDDLE_SOURCE_DIR "/configs/models/needle-hybrid";
  options.context = cut_context ? 256 : 512;
  options.max_sequences = static_cast<std::int64_t>(concurrency);
  options.prefix_cache = reuse;
  options.snapshots = reuse ? 24 : 0;
  options.kv_tokens = 512 * (options.max_sequences + 1);
  options.backend.threads = 2;
  const auto engine = Engine::load(options);
  Ran ran{.rows = {}, .memory = engine->memory()};
  const Haystack haystack = Haystack::of_essays();
  LocalEncoder encoder(engine->tokenizer(), nullptr);
  PromptBuilder builder(
      encoder, haystack,
      {.draft = {.wording = Wording::kPlain}, .answer_tokens = answer_tokens, .stop = {"."}});
  EngineTarget target(*engine);
  RunOptions run{.model = "needle-hybrid", .attention = "trained", .concurrency = concurrency};
  run.write = [&](const Row& row) { ran.rows.push_back(row); };
  const bool complete = run_grid(groups_of({.tasks = tasks_of("niah", {"number"}),
                                            .lengths = {256, 512},
                                            .depths = {0, 25, 50, 75, 100},
                                            .seed = 1}),
                                 builder, target, run);
  EXPECT_TRUE(complete);
  EXPECT_EQ(ran.rows.size(), 10U);
  return ran;
}

std::int64_t computed(const Ran& ran) {
  std::int64_t n = 0;
  for (const Row& row : ran.rows) n += row.prompt_tokens - row.cached_tokens;
  return n;
}

TEST(NeedleEngineTarget, RowsAreTheSameWithAndWithoutReuse) {
  const Ran plain = run(false, 1);
  for (const Row& row : plain.rows) {
    EXPECT_EQ(row.error, "");
    EXPECT_EQ(row.cached_tokens, 0);
    EXPECT_EQ(row.prompt_tokens, row.key.length - 64);
    EXPECT_EQ(row.score, 1.0) << text_of(row.key) << ": " << row.answer;
    ASSERT_TRUE(row.prefill_s && row.decode_s && row.kv_bytes && row.state_bytes);
    EXPECT_GT(*row.prefill_s, 0.0);
    EXPECT_GT(*row.decode_s, 0.0);
    // 5120 bytes a token: the prompt, and an answer of some tokens.
    const auto prompt = static_cast<std::uint64_t>(row.prompt_tokens);
    EXPECT_EQ(plain.memory.kv_bytes_per_token, 5120U);
    EXPECT_EQ(*row.kv_bytes % 5120, 0U);
    EXPECT_GT(*row.kv_bytes, 5120 * prompt);
    EXPECT_LE(*row.kv_bytes, 5120 * (prompt + 64));
    EXPECT_EQ(*row.state_bytes, plain.memory.state_bytes_per_sequence);
    EXPECT_GE(*row.state_bytes, 3U * 196'608);
  }
  for (const bool reuse : {false, true}) {
    for (const std::size_t concurrency : {1U, 3U}) {
      if (!reuse && concurrency == 1) continue;
      SCOPED_TRACE(testing::Message() << "reuse " << reuse << ", " << concurrency << " at a time");
      const Ran other = run(reuse, concurrency);
      ASSERT_EQ(other.rows.size(), plain.rows.size());
      for (std::size_t i = 0; i < plain.rows.size(); ++i) {
        const Row& row = other.rows[i];
        EXPECT_EQ(row.key, plain.rows[i].key);
        EXPECT_EQ(row.score, plain.rows[i].score);
        EXPECT_EQ(row.answer, plain.rows[i].answer);
        EXPECT_EQ(row.prompt_tokens, plain.rows[i].prompt_tokens);
        EXPECT_EQ(row.kv_bytes, plain.rows[i].kv_bytes);
        EXPECT_LT(row.cached_tokens, row.prompt_tokens);
      }
      if (reuse) {
        EXPECT_GE(static_cast<double>(computed(plain)), 1.4 * static_cast<double>(computed(other)));
      } else {
        EXPECT_EQ(computed(plain), computed(other));
      }
    }
  }
}

TEST(NeedleEngineTarget, AnAnswerThatRunsOutOfRoomIsAnAnswer) {
  for (const Row& row : run(true, 1, 2).rows) {
    EXPECT_EQ(row.error, "");
    EXPECT_EQ(row.score, 0.0);
    EXPECT_EQ(row.prompt_tokens, row.key.length - 2);
    EXPECT_EQ(*row.kv_bytes, 5120U * static_cast<std::uint64_t>(row.key.length));
  }
}

TEST(NeedleEngineTarget, APromptThatTheEngineRefusesIsAnError) {
  const Ran ran = run(true, 2, 0, true);
  for (const Row& row : ran.rows) {
    EXPECT_EQ(row.score.has_value(), row.key.length == 256) << text_of(row.key);
    EXPECT_EQ(row.error.empty(), row.key.length == 256);
  }
}

}  // namespace
}  // namespace heddle::needle
