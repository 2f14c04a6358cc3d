// EngineOptions::verify_cache: what the prefix cache gave is computed again, cold, and a wrong bit
// is found.

#include "engine/cache_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "tests/support/small_llama.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

using testing::HasSubstr;
using Tokens = std::vector<std::int32_t>;
using Row = std::vector<float>;

/// A hit of a prompt of 4 tokens, 3 of them cached, that gave three rows and tokens.
void record_hit(CacheCheck& checks, RequestId id, const std::vector<Row>& rows) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    checks.record(id, static_cast<std::int64_t>(i), rows[i]);
  }
  Tokens tokens = {1, 2, 3, 4};
  for (std::size_t i = 0; i < rows.size(); ++i) tokens.push_back(5);
  checks.end(id, tokens, 4, 3);
}

std::optional<std::string> compare(CacheCheck& checks, const std::vector<Row>& rows) {
  const Request request = checks.begin();
  EXPECT_EQ(request.prompt.size(), 3 + rows.size());
  EXPECT_EQ(request.logits_from, 3);
  EXPECT_FALSE(request.reuse);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    checks.compare(3 + static_cast<std::int64_t>(i), rows[i]);
  }
  return checks.complete();
}

TEST(CacheCheck, ADifferentBitIsNamedWithItsPlaceAndSize) {
  CacheCheck checks({.fraction = 1.0});
  const std::vector<Row> rows = {{1, 2}, {3, 4}, {5, 6}};
  record_hit(checks, 7, rows);
  record_hit(checks, 8, rows);
  EXPECT_EQ(checks.stats().pending, 2);
  EXPECT_EQ(compare(checks, rows), std::nullopt);
  std::vector<Row> other = rows;
  other[1][1] = 4.25F;
  other[2][0] = std::nextafter(5.0F, 6.0F);
  EXPECT_EQ(compare(checks, other),
            "request 8: 2 of 3 rows of logits, the first at position 4, are not those of the same "
            "prompt computed cold; 3 of 4 prompt tokens came from the cache, the largest "
            "difference is 0.25");
  const CacheCheckStats stats = checks.stats();
  EXPECT_EQ(stats.checked, 2);
  EXPECT_EQ(stats.rows, 6);
  EXPECT_EQ(stats.mismatches, 1);
  EXPECT_EQ(stats.pending, 0);
}

TEST(CacheCheck, RowsThatWereNotKeptAreComparedByTheirHashes) {
  CacheCheck checks({.fraction = 1.0, .memory = 160});  // 120 bytes for rows, 40 for the rest
  std::vector<Row> rows;
  for (int i = 0; i < 2; ++i) rows.push_back(Row(24, static_cast<float>(i)));
  record_hit(checks, 1, rows);
  std::vector<Row> other = rows;
  other[1][3] = -1.0F;  // the first row alone found room
  EXPECT_THAT(compare(checks, other).value_or(""), HasSubstr("in rows not kept"));
  record_hit(checks, 2, rows);  // and what was kept is free again
  other = rows;
  other[0][3] = -1.0F;
  EXPECT_THAT(compare(checks, other).value_or(""), HasSubstr("difference is 1"));
  // No room for tokens and hashes: it is not computed again, and counted.
  record_hit(checks, 3, {9, Row(1)});
  EXPECT_FALSE(checks.waiting());
  EXPECT_EQ(checks.stats().skipped, 1);
}

TEST(CacheCheck, WhereBitsMayDifferABoundDecides) {
  CacheCheck checks({.fraction = 1.0, .allowed = 0.01});
  const auto with = [&](float x) {
    record_hit(checks, 1, {{100, 1}});
    return compare(checks, {{100, x}});
  };
  EXPECT_EQ(with(1.5F), std::nullopt);
  EXPECT_THAT(with(2.5F).value_or(""), HasSubstr("difference is 1.5"));
  EXPECT_THAT(with(NAN).value_or(""), HasSubstr("difference is inf"));
}

TEST(CacheCheck, TheDrawIsTheFractionOfPromptsAndOfSeeds) {
  const CacheCheck none({.fraction = 0.0});
  const CacheCheck all({.fraction = 1.0});
  const CacheCheck some({.fraction = 0.3, .seed = 5});
  int of_prompts = 0;
  int of_seeds = 0;
  for (std::int32_t i = 0; i < 2000; ++i) {
    const Tokens prompt = {7, i, 9};
    EXPECT_FALSE(none.chooses(prompt));
    EXPECT_TRUE(all.chooses(prompt));
    of_prompts += some.chooses(prompt) ? 1 : 0;
    EXPECT_EQ(some.chooses(prompt), CacheCheck({.fraction = 0.3, .seed = 5}).chooses(prompt));
    // One prompt of many processes, each with its own seed.
    const CacheCheck other({.fraction = 0.3, .seed = static_cast<std::uint64_t>(i) + 1});
    of_seeds += other.chooses(Tokens{1, 2, 3}) ? 1 : 0;
  }
  EXPECT_NEAR(of_prompts, 600, 80);
  EXPECT_NEAR(of_seeds, 600, 80);
}

TEST(CacheCheck, WhatFailedOrIsSkippedIsNotCompared) {
  CacheCheck checks({.fraction = 1.0});
  checks.record(1, 0, Row{1});
  checks.forget(1);
  checks.end(1, Tokens{1, 2}, 1, 1);
  EXPECT_FALSE(checks.waiting());
  record_hit(checks, 2, {{1}});
  checks.begin();
  checks.fail("no memory");
  record_hit(checks, 3, {{1}});
  checks.begin();
  checks.put_back();
  EXPECT_TRUE(checks.waiting());
  checks.skip_all();
  EXPECT_FALSE(checks.waiting());
  EXPECT_EQ(checks.stats().skipped, 2);
  EXPECT_EQ(checks.stats().checked, 0);
}

struct Answer {
  RequestId id = 0;
  Tokens tokens = {};
  std::map<std::int64_t, Row> logits = {};
  std::vector<std::int64_t> seen_at = {};  // the step of each token
  FinishReason finish = FinishReason::kNone;
  ReuseReport reuse = {};
};

/// The parameter is a family of make_tiny_model.py.
class VerifyCache : public testing::TestWithParam<const char*> {
 protected:
  VerifyCache() : model_({"--family", GetParam(), "--seed", "9"}, "safetensors") {}

  std::unique_ptr<Engine> load(const std::function<void(EngineOptions&)>& change = {}) const {
    EngineOptions options;
    options.model = model_.path();
    options.backend.threads = 2;
    options.context = 256;
    options.max_sequences = 2;
    options.verify_cache = 1.0;
    if (change) change(options);
    return Engine::load(options);
  }
  static void submit(Engine& engine, Request request, Answer& answer) {
    request.ignore_eos = true;
    request.on_logits = [&answer](std::int64_t position, std::span<const float> row) {
      answer.logits[position].assign(row.begin(), row.end());
    };
    answer.id = engine.submit(std::move(request), [&](const RequestEvent& event) {
      EXPECT_EQ(event.request, answer.id);
      if (event.token) answer.tokens.push_back(*event.token);
      if (event.token) answer.seen_at.push_back(engine.stats().steps);
      answer.finish = event.finish;
      answer.reuse = event.reuse;
    });
  }
  static Answer run(Engine& engine, Request request) {
    Answer answer;
    submit(engine, std::move(request), answer);
    engine.run();
    return answer;
  }
  static Tokens prompt_of(int n, int salt = 0) {
    Tokens prompt;
    for (int i = 0; i < n; ++i) prompt.push_back(3 + (i * 37 + salt * 11) % 300);
    return prompt;
  }
  /// A first turn, and a prompt that goes on from it.
  static Request second_turn(Engine& engine, int salt = 0) {
    Request request{.prompt = prompt_of(60, salt), .max_new_tokens = 10};
    const Answer first = run(engine, request);
    request.prompt.insert(request.prompt.end(), first.tokens.begin(), first.tokens.end());
    request.prompt.insert(request.prompt.end(), {9, 8, 7});
    request.max_new_tokens = 6;
    return request;
  }

  test::TinyModel model_;
};

TEST_P(VerifyCache, AHealthyCacheHasNoMismatch) {
  const auto engine = load();
  const Request second = second_turn(*engine);
  EXPECT_EQ(engine->stats().verify.checked, 0);  // it was no hit
  const Answer got = run(*engine, second);
  EXPECT_GT(got.reuse.cached_tokens, 50);
  const CacheCheckStats verify = engine->stats().verify;
  EXPECT_EQ(verify.checked, 1);
  EXPECT_EQ(verify.rows, 6);
  EXPECT_EQ(verify.mismatches, 0);
  EXPECT_EQ(verify.pending, 0);
  EXPECT_EQ(got.id, 2);
  // The check was not left in the cache, nor took anything from it.
  const Answer again = run(*engine, second);
  EXPECT_EQ(again.id, 3);
  EXPECT_GE(again.reuse.cached_tokens, got.reuse.cached_tokens);
  EXPECT_EQ(again.logits, got.logits);
}

/// Whatever the first request leaves in the cache is wrong: keys and values, or the state.
TEST_P(VerifyCache, ADamagedCacheIsFoundAndEmptied) {
  const auto engine = load();
  engine->set_tap([](std::string_view name, int, const TensorView& value) {
    if (name != "embed_tokens") return;
    for (std::int64_t i = 0; i < value.elements(); ++i) value.as<float>()[i] += 0.01F;
  });
  const Request second = second_turn(*engine);
  engine->set_tap({});
  testing::internal::CaptureStderr();
  const Answer damaged = run(*engine, second);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_GT(damaged.reuse.cached_tokens, 50);
  EXPECT_EQ(engine->stats().verify.checked, 1);
  EXPECT_EQ(engine->stats().verify.mismatches, 1);
  EXPECT_THAT(log, HasSubstr("request 2: 6 of 6 rows of logits, the first at position 72"));
  EXPECT_THAT(log, HasSubstr("the prefix cache is emptied"));
  const Answer healed = run(*engine, second);
  EXPECT_EQ(healed.reuse.reason, "no_prefix");
  EXPECT_EQ(healed.logits, run(*load(), second).logits);
  EXPECT_NE(healed.logits, damaged.logits);
  EXPECT_EQ(engine->stats().verify.mismatches, 1);
}

TEST_P(VerifyCache, ACheckGivesWayToRequests) {
  const auto change = [](EngineOptions& o) {
    o.max_chunk = 16;
    o.max_sequences = 1;
    o.kv_tokens = 256;  // the room of one
  };
  const auto engine = load(change);
  const auto plain = load([&](EngineOptions& o) {
    change(o);
    o.verify_cache = 0.0;
  });
  std::vector<Answer> answers(3);
  std::vector<Answer> want(3);
  for (const auto& [e, list] : {std::pair(engine.get(), &answers), std::pair(plain.get(), &want)}) {
    const Request second = second_turn(*e);
    submit(*e, second, (*list)[0]);
    while ((*list)[0].finish == FinishReason::kNone) e->step();
    // In the middle of the cold run, if there is one.
    for (int i = 0; i < 3; ++i) e->step();
    const std::int64_t steps = e->stats().steps;
    submit(*e, {.prompt = prompt_of(180, 5), .max_new_tokens = 40}, (*list)[1]);
    submit(*e, {.prompt = prompt_of(40, 6), .max_new_tokens = 4}, (*list)[2]);
    e->run();
    for (Answer& answer : *list) {
      for (std::int64_t& step : answer.seen_at) step -= steps;
    }
  }
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(answers[i].id, want[i].id);
    EXPECT_EQ(answers[i].tokens, want[i].tokens);
    EXPECT_EQ(answers[i].logits, want[i].logits);
    if (i == 0) continue;
    EXPECT_EQ(answers[i].seen_at, want[i].seen_at);  // not a step later
  }
  EXPECT_EQ(engine->stats().verify.checked, 1);
  EXPECT_EQ(engine->stats().verify.mismatches, 0);
  EXPECT_EQ(engine->stats().preemptions, 0);
}

TEST_P(VerifyCache, CancelledHitsAreVerifiedAsFarAsTheyCameAndSkippedOnesAreCounted) {
  const auto engine = load([](EngineOptions& o) { o.max_chunk = 16; });
  const Request second = second_turn(*engine);
  Answer cancelled;
  submit(*engine, second, cancelled);
  while (cancelled.tokens.size() < 3) engine->step();
  engine->cancel(cancelled.id);
  EXPECT_EQ(engine->stats().verify.pending, 1);
  engine->cancel(-1);  // no caller knows of it
  engine->run();
  EXPECT_EQ(engine->stats().verify.checked, 1);
  EXPECT_EQ(engine->stats().verify.rows, 3);
  Answer skipped;
  submit(*engine, second, skipped);
  while (skipped.finish == FinishReason::kNone) engine->step();
  engine->step();  // of the check
  engine->skip_checks();
  EXPECT_FALSE(engine->step());
  EXPECT_EQ(engine->stats().verify.skipped, 1);
  EXPECT_EQ(engine->stats().verify.checked, 1);
}

TEST_P(VerifyCache, AFractionOfTheHitsIsVerified) {
  const auto engine = load([](EngineOptions& o) {
    o.verify_cache = 0.4;
    o.verify_seed = 3;
  });
  const CacheCheck same({.fraction = 0.4, .seed = 3});
  const Request second = second_turn(*engine);
  int chosen = 0;
  for (int i = 0; i < 12; ++i) {
    Request next = second;
    next.prompt.back() = 3 + i;
    run(*engine, next);
    chosen += same.chooses(next.prompt) ? 1 : 0;
  }
  EXPECT_EQ(engine->stats().verify.checked, chosen);
  EXPECT_GT(chosen, 0);
  EXPECT_LT(chosen, 12);
}

TEST_P(VerifyCache, LogitsFromAPositionAreTheEndOfAll) {
  const auto engine = load([](EngineOptions& o) { o.max_chunk = 7; });
  const Answer all = run(*engine, {.prompt = prompt_of(50), .score = true});
  const Answer some = run(*engine, {.prompt = prompt_of(50), .score = true, .logits_from = 33});
  ASSERT_EQ(some.logits.size(), 17U);
  for (const auto& [position, row] : some.logits) EXPECT_EQ(row, all.logits.at(position));
  EXPECT_THROW(
      engine->submit({.prompt = prompt_of(50), .score = true, .logits_from = 50}, EventSink()),
      Error);
}

TEST_P(VerifyCache, FractionsOutsideTheRangeAreRefused) {
  for (const double fraction : {-0.1, 1.5, static_cast<double>(NAN)}) {
    EXPECT_THROW(load([&](EngineOptions& o) { o.verify_cache = fraction; }), Error) << fraction;
  }
}

// Softmax alone, linear attention alone (all that is kept is snapshots), and both.
INSTANTIATE_TEST_SUITE_P(Families,
                         VerifyCache,
                         testing::Values("llama", "transnormer", "minicpm_sala"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace heddle
