// Every allocation inside submit, step, preempt, cancel and sessions fails once: each request still
// ends once, with its answer or an error, and what comes after is as ever, to the bit.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/session_file.h"
#include "tests/allocation/failing_new.h"
#include "tests/support/sanitizers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace heddle::test {
namespace {

using Tokens = std::vector<std::int32_t>;

/// What one request's callbacks said; recording it allocates nothing.
struct Heard {
  struct Choice {
    std::array<std::int32_t, 16> tokens = {};
    std::array<float, 16> logprobs = {};
    std::size_t n = 0;
    int ends = 0;
    int after_the_end = 0;
    FinishReason finish = FinishReason::kNone;
    bool operator==(const Choice&) const = default;
  };
  std::array<Choice, 2> choices = {};

  EventSink sink() {
    return [this](const RequestEvent& event) {
      Choice& c = choices.at(event.choice);
      c.after_the_end += c.ends;
      if (event.token && c.n < c.tokens.size()) {
        c.tokens.at(c.n) = *event.token;
        c.logprobs.at(c.n++) = event.logprob ? event.logprob->logprob : 0.0F;
      }
      if (event.finish == FinishReason::kNone) return;
      ++c.ends;
      c.finish = event.finish;
    };
  }
};

Request request_of(int n_prompt, int salt, int n) {
  Request request{.sampling = {.temperature = 0.8F,
                               .repetition_penalty = 1.1F,
                               .presence_penalty = 0.2F,
                               .seed = 5},
                  .max_new_tokens = 5,
                  .stop = {"a stop text that is longer than what needs no memory"},
                  .ignore_eos = true,
                  .deadline = 1e6,
                  .n_logprobs = 1,
                  .n = n,
                  .client = "a client whose name is longer than what needs no memory"};
  for (int i = 0; i < n_prompt; ++i) {
    request.prompt.push_back(3 + (i < 12 ? i * 7 : i * 11 + salt) % 200);
  }
  // A grammar of its own, so that its masks are not known yet.
  if (salt == 2) request.grammar = regex_grammar("[ -~]{3,200}");
  return request;
}

/// Calls, and whether it lacked memory.
template <typename Call>
bool lacked(const Call& call) {
  try {
    call();
    return false;
  } catch (const std::bad_alloc&) {
    return true;
  }
}

/// The parameter is a family of make_tiny_model.py.
class EngineAllocation : public testing::TestWithParam<const char*> {
 protected:
  EngineAllocation() : model_({"--family", GetParam(), "--seed", "9"}, "safetensors") {
    EngineOptions options;
    options.model = model_.path();
    options.backend.threads = 1;
    options.context = 96;
    options.max_sequences = 2;
    options.max_chunk = 7;
    options.kv_tokens = 96;
    options.host_cache = std::uint64_t{1} << 22U;
    engine_ = Engine::load(options);
    first_ = cold(request_of(20, 1, 2));
    second_ = cold(request_of(31, 2, 1));
    third_ = cold(request_of(9, 3, 1));
  }

  Heard cold(Request request) {
    request.reuse = false;
    return run(std::move(request));
  }
  Heard run(Request request) {
    Heard heard;
    engine_->submit(std::move(request), heard.sink());
    engine_->run();
    return heard;
  }

  /// Requests that share a beginning, stopped and cancelled on their way.
  bool serve_without_the(std::int64_t nth) {
    Heard first;
    Heard second;
    Heard third;
    RequestId ids[3] = {};
    bool failed = false;
    {
      Request requests[3] = {request_of(20, 1, 2), request_of(31, 2, 1), request_of(9, 3, 1)};
      EventSink sinks[3] = {first.sink(), second.sink(), third.sink()};
      const FailNth fail(nth);
      const auto steps = [&](int n) {
        for (int i = 0; i < n; ++i) lacked([&] { engine_->step(); });
      };
      for (int i = 0; i < 3; ++i) {
        const bool lost =
            lacked([&] { ids[i] = engine_->submit(std::move(requests[i]), std::move(sinks[i])); });
        EXPECT_EQ(lost, ids[i] == 0);
      }
      steps(3);
      lacked([&] { engine_->preempt(ids[0]); });
      steps(3);
      lacked([&] { engine_->cancel(ids[2]); });
      steps(16);
      failed = fail.failed();
    }
    engine_->run();
    expect_ended(first, first_, ids[0], 2);
    expect_ended(second, second_, ids[1], 1);
    expect_ended(third, third_, ids[2], 1);
    const EngineStats stats = engine_->stats();
    EXPECT_EQ(stats.running + stats.waiting, 0);
    EXPECT_EQ(stats.kv_blocks_used, 0);
    return failed;
  }

  static void expect_ended(const Heard& got, const Heard& want, RequestId id, int n_choices) {
    for (std::size_t i = 0; i < got.choices.size(); ++i) {
      const Heard::Choice& choice = got.choices.at(i);
      EXPECT_EQ(choice.after_the_end, 0);
      EXPECT_EQ(choice.ends, id != 0 && static_cast<int>(i) < n_choices ? 1 : 0);
      if (choice.finish != FinishReason::kLength) continue;
      EXPECT_EQ(choice, want.choices.at(i));
    }
  }

  TinyModel model_;
  std::unique_ptr<Engine> engine_;
  Heard first_, second_, third_;
};

TEST_P(EngineAllocation, EveryRequestEndsOnceAndTheNextIsAsEver) {
  const std::int64_t stride = kSanitized ? 7 : 1;
  std::int64_t nth = 1;
  for (; serve_without_the(nth); nth += stride) {
    ASSERT_LT(nth, 100000);
    ASSERT_FALSE(HasFailure()) << "allocation " << nth;
    if (nth / stride % 16 == 0) {
      const Heard next = run(request_of(31, 2, 1));
      ASSERT_EQ(next.choices[0], second_.choices[0]) << "behind allocation " << nth;
    }
  }
  EXPECT_GE(nth, 300) << "so many allocations are there to fail";
}

TEST_P(EngineAllocation, SessionsLeaveTheEngineAsItWas) {
  const TempFolder folder;
  const std::string path = folder.path() + "/session";
  Request request = request_of(31, 2, 1);
  request.client.clear();  // a session is of the scope of clients without a name
  const auto restore = [&] { engine_->restore_session(SessionFile::open(path).value()); };
  for (const bool saves : {true, false}) {
    bool failed = true;
    for (std::int64_t nth = 1; failed; ++nth) {
      ASSERT_LT(nth, 5000);
      run(request);
      if (!saves) engine_->clear_cache();
      {
        const FailNth fail(nth);
        try {
          if (saves) {
            engine_->save_session(path, request.prompt);
          } else {
            restore();
          }
        } catch (const std::bad_alloc&) {
        } catch (const Error&) {
        }
        failed = fail.failed();
      }
      ASSERT_EQ(run(request).choices[0], second_.choices[0]) << "behind allocation " << nth;
    }
  }
  engine_->clear_cache();
  restore();
  EXPECT_EQ(run(request).choices[0], second_.choices[0]);
  EXPECT_GT(engine_->stats().cached_tokens, 0);
}

INSTANTIATE_TEST_SUITE_P(Families,
                         EngineAllocation,
                         testing::Values("llama", "minimax_text_01"),
                         [](const auto& family) { return std::string(family.param); });

}  // namespace
}  // namespace heddle::test
