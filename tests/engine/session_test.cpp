// A session restored in another engine goes on as if it had never left, and its file depends on
// what was computed alone.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

using testing::HasSubstr;
using Tokens = std::vector<std::int32_t>;

struct Answer {
  Tokens all;  // prompt and answer
  std::map<std::int64_t, std::vector<float>> logits;
  ReuseReport reuse;
  FinishReason finish = FinishReason::kNone;
};

Answer run(Engine& engine, const Tokens& prompt, std::int64_t n_new, int cancel_after = -1) {
  Answer answer;
  answer.all = prompt;
  Request request{.prompt = prompt, .max_new_tokens = n_new, .ignore_eos = true};
  request.on_logits = [&](std::int64_t position, std::span<const float> row) {
    answer.logits[position].assign(row.begin(), row.end());
  };
  const RequestId id = engine.submit(std::move(request), [&](const RequestEvent& event) {
    if (event.token) answer.all.push_back(*event.token);
    answer.reuse = event.reuse;
    answer.finish = event.finish;
  });
  for (int step = 0; step != cancel_after && engine.step(); ++step) {
  }
  engine.cancel(id);
  EXPECT_EQ(answer.finish, cancel_after < 0 ? FinishReason::kLength : FinishReason::kCancelled);
  return answer;
}

Tokens prompt_of(int n, int salt = 0) {
  Tokens prompt;
  for (int i = 0; i < n; ++i) prompt.push_back(3 + (i * 37 + salt * 11) % 300);
  return prompt;
}

Tokens joined(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

SessionReport restore(Engine& engine, const std::string& path) {
  const std::optional<SessionFile> file = SessionFile::open(path);
  EXPECT_TRUE(file.has_value());
  return engine.restore_session(*file);
}

struct Case {
  const char* family = "";     // of make_tiny_model.py
  std::int64_t context = 512;  // layers with windows keep rings from 2112 on
};

class SessionEngine : public testing::TestWithParam<Case> {
 protected:
  SessionEngine() : model_({"--family", GetParam().family, "--seed", "9"}, "safetensors") {}

  std::unique_ptr<Engine> load(const std::function<void(EngineOptions&)>& change = {}) const {
    EngineOptions options;
    options.model = model_.path();
    options.backend.threads = 2;
    options.context = GetParam().context;
    if (change) change(options);
    return Engine::load(options);
  }

  test::TinyModel model_;
  test::TempFolder folder_;
};

using Change = std::function<void(EngineOptions&)>;

std::vector<Change> changes() {
  return {[](EngineOptions&) {}, [](EngineOptions& o) { o.block_tokens = 32; },
          [](EngineOptions& o) { o.block_tokens = 64; },
          [](EngineOptions& o) {
            o.max_chunk = 13;
            o.backend.threads = 1;
            o.shuffle_blocks = 5;
          }};
}

TEST_P(SessionEngine, AFileIsDecidedByWhatWasComputed) {
  const Tokens prompt = prompt_of(139);
  std::string want;
  for (const Change& change : changes()) {
    const auto engine = load(change);
    // What lay in the cache's memory before is not in the file: other texts, of another scope too.
    const std::string path = folder_ / "s";
    if (!want.empty()) {
      run(*engine, prompt_of(400, 5), 9);
      engine->clear_cache();
    }
    const Answer first = run(*engine, prompt, 12);
    const SessionReport saved = engine->save_session(path, first.all);
    EXPECT_EQ(saved.tokens, 150);  // the last one was not computed
    const std::string got = bytes_of(path);
    EXPECT_EQ(saved.bytes, got.size());
    if (want.empty()) want = got;
    EXPECT_EQ(got, want);
    // A session that was restored is saved as it was.
    const auto other = load(change);
    const SessionReport restored = restore(*other, path);
    EXPECT_EQ(restored.tokens, 150);
    EXPECT_EQ(restored.snapshots, saved.snapshots);
    other->save_session(path, first.all);
    EXPECT_EQ(bytes_of(path), want);
  }
}

TEST_P(SessionEngine, GoesOnAsIfUninterrupted) {
  const auto cold = load();
  const auto first = load();
  const Answer before = run(*first, prompt_of(139), 12);
  const std::string path = folder_ / "s";
  first->save_session(path, before.all);
  const std::string file = bytes_of(path);
  for (const Change& change : changes()) {
    for (const std::size_t keep : {before.all.size(), before.all.size() - 4, std::size_t{130}}) {
      Tokens next(before.all.begin(), before.all.begin() + static_cast<std::ptrdiff_t>(keep));
      next = joined(next, prompt_of(20, 3));
      const auto engine = load(change);
      restore(*engine, path);
      const Answer got = run(*engine, next, 10);
      cold->clear_cache();
      const Answer want = run(*cold, next, 10);
      EXPECT_EQ(want.reuse.cached_tokens, 0);
      EXPECT_GT(got.reuse.cached_tokens, 100) << keep;
      EXPECT_EQ(got.all, want.all) << keep;
      EXPECT_EQ(got.logits, want.logits) << keep;
      EXPECT_EQ(engine->stats().computed_tokens,
                static_cast<std::int64_t>(next.size()) + 9 - got.reuse.cached_tokens);
    }
  }
  EXPECT_EQ(bytes_of(path), file);  // reading changes nothing
}

TEST_P(SessionEngine, ACancelledRequestIsSavedAsFarAsItCame) {
  const auto engine = load([](EngineOptions& o) { o.max_chunk = 50; });
  const Answer stopped = run(*engine, prompt_of(139), 12, 2);
  const std::string path = folder_ / "s";
  EXPECT_EQ(engine->save_session(path, stopped.all).tokens, 100);
  const auto next = load();
  restore(*next, path);
  EXPECT_EQ(run(*next, prompt_of(139), 3).reuse.cached_tokens, 100);
}

TEST_P(SessionEngine, AnotherModelsSessionChangesNothing) {
  const auto engine = load();
  const Answer first = run(*engine, prompt_of(60), 4);
  const std::string path = folder_ / "s";
  engine->save_session(path, first.all);
  const std::string before = bytes_of(path);
  const auto other = load([](EngineOptions& o) { o.kv_dtype = DType::kF32; });
  ASSERT_NE(other->numerics_id(), engine->numerics_id());
  try {
    restore(*other, path);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
    EXPECT_THAT(e.what(), HasSubstr(path + ": session"));
    EXPECT_THAT(e.what(), HasSubstr(engine->numerics_id()));
    EXPECT_THAT(e.what(), HasSubstr(other->numerics_id()));
  }
  EXPECT_EQ(bytes_of(path), before);
  EXPECT_EQ(run(*other, first.all, 2).reuse.cached_tokens, 0);
}

TEST_P(SessionEngine, WhatHasNoRoomIsLeftOut) {
  const auto engine = load();
  const Answer first = run(*engine, prompt_of(300), 4);
  const std::string path = folder_ / "s";
  const SessionReport saved = engine->save_session(path, first.all);
  const auto small = load([](EngineOptions& o) {
    o.kv_tokens = 160;
    o.snapshots = 1;
  });
  const SessionReport report = restore(*small, path);
  EXPECT_EQ(report.tokens, 160);
  EXPECT_EQ(report.left_out_tokens, 303 - 160);
  EXPECT_EQ(report.snapshots + report.left_out_snapshots, saved.snapshots);
  EXPECT_THAT(report.describe(), HasSubstr("143 tokens found no room"));
  // It still has room for requests, whatever was restored.
  const Answer other = run(*small, prompt_of(120, 7), 5);
  EXPECT_EQ(other.reuse.cached_tokens, 0);
}

// Windows that keep all tokens save other things than rings: neither is taken for the other.
TEST_P(SessionEngine, AContextThatKeepsWindowsOtherwiseIsRefused) {
  const auto long_one = load([](EngineOptions& o) { o.context = 2304; });
  const auto short_one = load([](EngineOptions& o) { o.context = 512; });
  const std::string path = folder_ / "s";
  for (const auto& [from, to] : {std::pair{&long_one, &short_one}, {&short_one, &long_one}}) {
    const Answer first = run(**from, prompt_of(60), 4);
    (*from)->save_session(path, first.all);
    (*from)->clear_cache();
    if (long_one->memory().window_bytes_per_sequence == 0) {
      restore(**to, path);
      continue;
    }
    try {
      restore(**to, path);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
      EXPECT_THAT(e.what(), HasSubstr("made with a --ctx that keeps sliding windows otherwise"));
    }
    EXPECT_EQ(run(**to, first.all, 2).reuse.cached_tokens, 0);
    (*to)->clear_cache();
  }
}

TEST_P(SessionEngine, RestoringTwiceIsRestoringOnce) {
  const auto engine = load();
  const Answer first = run(*engine, prompt_of(139), 12);
  const std::string path = folder_ / "s";
  const SessionReport saved = engine->save_session(path, first.all);
  restore(*engine, path);
  EXPECT_EQ(restore(*engine, path).tokens, saved.tokens);
  const std::string before = bytes_of(path);
  engine->save_session(path, first.all);
  EXPECT_EQ(bytes_of(path), before);
}

TEST_P(SessionEngine, ATextThatIsNotThereIsNotSaved) {
  const auto engine = load();
  EXPECT_THROW(engine->save_session(folder_ / "s", prompt_of(30)), Error);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "s"));
}

INSTANTIATE_TEST_SUITE_P(Families,
                         SessionEngine,
                         testing::Values(Case{"llama"},
                                         Case{"transnormer"},
                                         Case{"minimax_text_01"},
                                         Case{"minicpm4"},
                                         Case{"minicpm_sala"},
                                         Case{"heddle"},
                                         Case{"gemma3"},
                                         Case{"heddle", 2304},
                                         Case{"mistral", 2304},
                                         Case{"gemma3", 2304},
                                         Case{"gpt_oss", 2304}),
                         [](const auto& param) {
                           return param.param.family +
                                  std::string(param.param.context == 512 ? "" : "_rings");
                         });

}  // namespace
}  // namespace heddle
