// Who finds whose prefixes: clients do not, unless both ask for a shared scope.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "tests/support/small_llama.h"

namespace heddle {
namespace {

class CacheScope : public testing::Test {
 protected:
  CacheScope() : file_(".gguf", test::small_llama(DType::kQ4_1, 5).serialise()) {
    EngineOptions options;
    options.model = file_.path();
    options.backend.threads = 2;
    engine_ = Engine::load(options);
  }

  /// The same prompt for all; 39 of its tokens can be found.
  ReuseReport ask(const std::string& client, const std::string& salt = "", bool shared = false) {
    Request request{.max_new_tokens = 2, .ignore_eos = true};
    for (int i = 0; i < 40; ++i) request.prompt.push_back(3 + i * 37 % 90);
    request.client = client;
    request.cache_scope = salt;
    request.shared_scope = shared;
    ReuseReport report;
    engine_->submit(std::move(request), [&](const RequestEvent& event) { report = event.reuse; });
    engine_->run();
    return report;
  }
  void expect_found(const ReuseReport& report) { EXPECT_EQ(report.cached_tokens, 39); }
  void expect_nothing(const ReuseReport& report) {
    EXPECT_EQ(report.cached_tokens + report.known_tokens, 0);
    EXPECT_EQ(report.reason, "scope");
  }

  test::TemporaryFile file_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(CacheScope, ClientsSeeNothingOfEachOther) {
  ask("");
  expect_found(ask(""));
  expect_nothing(ask("x"));
  expect_nothing(ask("y"));
  expect_found(ask("x"));
  expect_found(ask("y"));
  expect_nothing(ask("x", "salt"));
  expect_nothing(ask("y", "salt"));
  expect_found(ask("x", "salt"));
}

TEST_F(CacheScope, WhoAsksForItSharesAScope) {
  expect_nothing(ask("x", "all", true));
  expect_found(ask("y", "all", true));
  expect_found(ask("", "all", true));
  expect_nothing(ask("y", "all"));
  expect_nothing(ask("y", "others", true));
  expect_nothing(ask("y", "", true));
  expect_found(ask("z", "", true));
}

TEST(CacheScopes, HaveANameEach) {
  std::vector<std::string> names;
  for (const bool shared : {false, true}) {
    for (const std::string client : {"", "a", "ab", "1:a", "client:1:a"}) {
      for (const std::string salt : {"", "b", "ba", ":b", "shared:", "client:1:ab"}) {
        if (shared && !client.empty()) continue;
        names.push_back(
            prefix_scope({.client = client, .cache_scope = salt, .shared_scope = shared}));
      }
    }
  }
  std::ranges::sort(names);
  EXPECT_EQ(std::ranges::adjacent_find(names), names.end());
  EXPECT_EQ(prefix_scope({}), "");
}

}  // namespace
}  // namespace heddle
