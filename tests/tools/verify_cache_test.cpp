// --verify-cache: a wrong cache makes the command fail.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "engine/engine.h"
#include "tests/support/small_llama.h"
#include "tools/heddle/answer.h"

namespace heddle::cli {
namespace {

/// Two answers to one prompt; `damaged`: the first leaves wrong keys and values behind.
std::string failure(bool damaged) {
  const test::TemporaryFile file(".gguf", test::small_llama(DType::kQ4_1, 5).serialise());
  EngineOptions options;
  options.model = file.path();
  options.backend.threads = 1;
  options.verify_cache = 1.0;
  const auto engine = Engine::load(options);
  if (damaged) {
    engine->set_tap([](std::string_view name, int, const TensorView& value) {
      if (name == "embed_tokens") value.as<float>()[0] += 1.0F;
    });
  }
  for (int i = 0; i < 2; ++i) {
    Answer answer;
    answer.start(*engine, {.prompt = {5, 6, 7, 8, 9}, .max_new_tokens = 3, .ignore_eos = true});
    while (!answer.done()) engine->step();
    engine->set_tap({});
  }
  EXPECT_EQ(engine->stats().verify.pending, 1);
  verify_hits(*engine);
  EXPECT_EQ(engine->stats().verify.checked, 1);
  try {
    require_verified(*engine);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kRuntime);  // the exit code
    return e.what();
  }
  return "";
}

TEST(VerifyCacheFlag, FailsTheCommandIfACachedPrefixIsWrong) {
  EXPECT_EQ(failure(false), "");
  EXPECT_THAT(failure(true),
              testing::StartsWith("--verify-cache: 1 of 1 answers behind a cached prefix have"));
}

}  // namespace
}  // namespace heddle::cli
