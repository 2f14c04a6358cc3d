#include "engine/engine_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"
#include "engine/engine.h"
#include "tests/support/small_llama.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

using testing::HasSubstr;

std::unique_ptr<Engine> load(const std::string& model,
                             const std::function<void(EngineOptions&)>& change = {}) {
  EngineOptions options;
  options.model = model;
  options.backend.threads = 1;
  options.context = 128;
  options.max_sequences = 2;
  if (change) change(options);
  return Engine::load(options);
}

std::vector<std::int32_t> prompt_of(int n, int salt = 0) {
  std::vector<std::int32_t> prompt;
  for (int i = 0; i < n; ++i) prompt.push_back(3 + (i * 37 + salt * 11) % 90);
  return prompt;
}

Request request_of(int n, int salt = 0) {
  return {.prompt = prompt_of(n, salt), .max_new_tokens = 4, .ignore_eos = true};
}

void run(Engine& engine, Request request) {
  engine.submit(std::move(request), EventSink());
  engine.run();
}

std::map<std::string_view, std::int64_t> reasons(const Engine& engine) {
  const EngineStats stats = engine.stats();
  return {stats.not_reused.begin(), stats.not_reused.end()};
}

/// What there is adds up.
void expect_sums(const EngineStats& s) {
  EXPECT_EQ(s.kv_blocks_used + s.kv_blocks_cached + s.kv_blocks_free, s.kv_blocks);
  EXPECT_EQ(s.state_slots_used + s.snapshots + s.state_slots_free, s.state_slots);
  for (const std::int64_t n : {s.kv_blocks_used, s.kv_blocks_cached, s.state_slots_used}) {
    EXPECT_GE(n, 0);
  }
}

TEST(EngineStatsTest, RequestsAreCountedByWhyTheyWereNotReused) {
  const test::TemporaryFile file(".gguf", test::small_llama(DType::kQ4_1, 5).serialise());
  const auto engine = load(file.path(), [](EngineOptions& o) { o.verify_cache = 1.0; });
  run(*engine, request_of(40));
  run(*engine, request_of(40));
  run(*engine, request_of(50));
  run(*engine, request_of(30, 7));
  Request other = request_of(40);
  other.cache_scope = "another";
  run(*engine, other);
  other.reuse = false;
  run(*engine, other);
  run(*engine, request_of(1));
  const auto got = reasons(*engine);
  EXPECT_EQ(got.size(), 8U);
  EXPECT_EQ(got.at("none"), 1);
  EXPECT_EQ(got.at("diverged_at"), 1);
  EXPECT_EQ(got.at("no_prefix"), 2);
  EXPECT_EQ(got.at("scope"), 1);
  EXPECT_EQ(got.at("disabled"), 1);  // not the cold runs of verify_cache
  EXPECT_EQ(got.at("too_short"), 1);
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.verify.checked, 2);
  EXPECT_EQ(stats.prompt_tokens, 40 + 40 + 50 + 30 + 40 + 40 + 1);
  EXPECT_EQ(stats.cached_tokens, 39 + 40);
  EXPECT_EQ(stats.state_slots, 0);
  expect_sums(stats);
}

TEST(EngineStatsTest, BlocksAndRequestsOfNow) {
  const test::TemporaryFile file(".gguf", test::small_llama(DType::kQ4_1, 5).serialise());
  const auto engine = load(file.path());
  EXPECT_EQ(engine->stats().kv_blocks, 2 * 128 / 16);
  EXPECT_EQ(engine->stats().kv_blocks_free, 16);
  run(*engine, request_of(40));  // 43 computed tokens
  EXPECT_EQ(engine->stats().kv_blocks_cached, 3);
  for (int i = 0; i < 3; ++i) engine->submit(request_of(40 + 20 * i), EventSink());
  EXPECT_EQ(engine->stats().waiting, 3);
  engine->step();
  EngineStats stats = engine->stats();
  EXPECT_EQ(stats.running, 2);
  EXPECT_EQ(stats.waiting, 1);
  // Blocks of 40 and of 60 tokens, of which two are the same; the third of 43 is kept beside.
  EXPECT_EQ(stats.kv_blocks_used, 3 + 4 - 2);
  EXPECT_EQ(stats.kv_blocks_cached, 1);
  expect_sums(stats);
  engine->run();
  stats = engine->stats();
  EXPECT_EQ(stats.running + stats.waiting + stats.kv_blocks_used, 0);
  expect_sums(stats);
  EXPECT_EQ(stats.evicted_blocks, 0);
  for (int i = 1; i < 6; ++i) run(*engine, request_of(100, i));
  EXPECT_GT(engine->stats().evicted_blocks, 0);
  expect_sums(engine->stats());
  engine->clear_cache();
  EXPECT_EQ(engine->stats().kv_blocks_free, 16);
}

TEST(EngineStatsTest, StatesOfAHybrid) {
  const test::TinyModel model({"--family", "minicpm_sala", "--seed", "9"}, "safetensors");
  const auto engine = load(model.path(), [](EngineOptions& o) { o.snapshots = 4; });
  EXPECT_EQ(engine->stats().state_slots, 6);
  engine->submit(request_of(40), EventSink());
  engine->step();
  EXPECT_EQ(engine->stats().state_slots_used, 1);
  EXPECT_EQ(engine->stats().snapshots, 1);  // of the prompt
  engine->run();
  EXPECT_EQ(engine->stats().snapshots, 2);
  for (int i = 1; i < 6; ++i) {
    run(*engine, request_of(40, i));
    expect_sums(engine->stats());
  }
  EXPECT_GT(engine->stats().evicted_snapshots, 0);
}

TEST(EngineStatsTest, APromptShorterThanABlockThatHadToGoIsToldSo) {
  const test::TemporaryFile file(".gguf", test::small_llama(DType::kQ4_1, 5).serialise());
  const auto engine = load(file.path(), [](EngineOptions& o) {
    o.max_sequences = 1;
    o.context = o.kv_tokens = 128;
    o.block_tokens = 64;
  });
  for (const int n : {7, 70, 7}) run(*engine, request_of(n, n));
  const auto got = reasons(*engine);
  EXPECT_EQ(got.at("no_prefix"), 2);
  EXPECT_EQ(got.at("evicted"), 1);
}

TEST(EngineStatsTest, TextAndJsonSayTheSame) {
  EngineStats stats{.prompt_tokens = 90,
                    .cached_tokens = 31,
                    .not_reused = {{"none", 2}, {"scope", 0}, {"evicted", 1}},
                    .kv_blocks = 8,
                    .kv_blocks_free = 8};
  std::string text = describe(stats);
  EXPECT_THAT(text, HasSubstr("requests   0 running, 0 waiting, 3 begun: none 2, evicted 1\n"));
  EXPECT_THAT(text, HasSubstr("prompts    90 tokens, 31 cached, 0 replayed\n"));
  EXPECT_THAT(text, HasSubstr("KV blocks  8: 0 used, 0 cached, 8 free; 0 evicted\n"));
  EXPECT_THAT(text, testing::Not(HasSubstr("states")));
  EXPECT_THAT(text, testing::Not(HasSubstr("verified")));
  stats.state_slots = 5;
  stats.snapshots = 3;
  stats.moved_blocks = 7;
  stats.returned_blocks = 4;
  stats.returned_snapshots = 1;
  stats.verify = {.checked = 2, .rows = 9};
  text = describe(stats);
  EXPECT_THAT(text, HasSubstr("kept, 7 and 0 moved there, 4 and 1 came back\n"));
  EXPECT_THAT(text, HasSubstr("states     5: 0 used, 3 snapshots, 0 free; 0 snapshots evicted\n"));
  EXPECT_THAT(text, HasSubstr("verified   2 hits, 9 rows, 0 mismatches, 0 skipped, 0 pending\n"));
  const Json json = parse_json(to_json(stats), "stats");
  EXPECT_EQ(json.size(), 27U);
  EXPECT_EQ(json.at("prompt_tokens"), 90);
  EXPECT_EQ(json.at("not_reused").at("evicted"), 1);
  EXPECT_EQ(json.at("not_reused").at("scope"), 0);
  EXPECT_EQ(json.at("verify").at("rows"), 9);
  EXPECT_EQ(json.at("snapshots"), 3);
  EXPECT_EQ(json.at("returned_blocks"), 4);
  EXPECT_EQ(json.at("returned_snapshots"), 1);
}

}  // namespace
}  // namespace heddle
