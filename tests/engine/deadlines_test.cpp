// Requests that take too long end, in every state, once. The clock is the test's.

#include "engine/deadlines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"
#include "tests/support/small_llama.h"

namespace heddle {
namespace {

struct Answer {
  RequestId id = 0;
  std::vector<std::int32_t> tokens = {};
  std::string text = {};
  std::string error = {};
  std::string_view reuse = "none yet";
  FinishReason finish = FinishReason::kNone;
};

class DeadlineTest : public testing::Test {
 protected:
  DeadlineTest() : file_(".gguf", test::small_llama(DType::kQ4_1, 5).serialise()) {
    EngineOptions options;
    options.model = file_.path();
    options.backend.threads = 1;
    options.max_sequences = 2;
    options.max_chunk = 16;
    options.clock = [this] { return now_; };
    engine_ = Engine::load(options);
  }

  EventSink collect(Answer& answer) {
    return [&answer](const RequestEvent& event) {
      EXPECT_EQ(answer.finish, FinishReason::kNone) << "an event after the last one";
      if (event.token) answer.tokens.push_back(*event.token);
      answer.text += event.text;
      answer.finish = event.finish;
      answer.error = event.error;
      answer.reuse = event.reuse.reason;
    };
  }
  static Request request(int n_prompt, int n_new) {
    Request r{.max_new_tokens = n_new, .ignore_eos = true};
    for (int i = 0; i < n_prompt; ++i) r.prompt.push_back(3 + (i * 37 + n_prompt) % 90);
    return r;
  }
  void submit(Answer& answer, Request r) {
    answer.id = engine_->submit(std::move(r), collect(answer));
  }
  void steps(int n) {
    for (int i = 0; i < n; ++i) engine_->step();
  }
  static Request within(Request r, double seconds) {
    r.deadline = seconds;
    return r;
  }

  test::TemporaryFile file_;
  double now_ = 1000.0;
  std::unique_ptr<Engine> engine_;
};

TEST(Deadlines, AreToldOnceInTheirOrder) {
  Deadlines deadlines;
  deadlines.add(1, {.queue_deadline = 3.0, .deadline = 9.0}, 10.0);
  deadlines.add(2, {.deadline = 2.0}, 10.0);
  deadlines.add(3, {}, 10.0);
  deadlines.add(4, {.queue_deadline = 1.0, .deadline = 1.5}, 10.0);
  deadlines.remove(4);
  deadlines.remove(77);
  EXPECT_TRUE(deadlines.due(11.99).empty());
  const auto due = deadlines.due(13.0);
  ASSERT_EQ(due.size(), 2U);
  EXPECT_EQ(due[0].id, 2);
  EXPECT_FALSE(due[0].queue);
  EXPECT_EQ(due[1].id, 1);
  EXPECT_TRUE(due[1].queue);
  EXPECT_TRUE(deadlines.due(13.0).empty());
  EXPECT_EQ(deadlines.due(100.0).size(), 1U);
}

TEST_F(DeadlineTest, EndsARequestThatWaits) {
  std::vector<Answer> running(2);
  Answer waiting;
  Answer queued;
  for (Answer& answer : running) submit(answer, request(20, 40));
  submit(waiting, within(request(21, 5), 2.5));
  Request r = request(22, 5);
  r.queue_deadline = 2.0;
  submit(queued, r);
  steps(3);
  now_ += 1.9;
  steps(1);
  EXPECT_EQ(queued.finish, FinishReason::kNone);
  now_ += 0.1;
  steps(1);
  EXPECT_EQ(queued.finish, FinishReason::kDeadline);
  EXPECT_EQ(queued.error,
            "queue_deadline: the request has not begun within 2 s of being submitted");
  EXPECT_EQ(queued.reuse, "");  // nobody has looked what is cached of it
  EXPECT_EQ(waiting.finish, FinishReason::kNone);
  now_ += 1.0;
  steps(1);
  EXPECT_EQ(waiting.finish, FinishReason::kDeadline);
  EXPECT_EQ(waiting.error, "deadline: the request has not ended within 2.5 s of being submitted");
  EXPECT_TRUE(waiting.tokens.empty());
  engine_->run();
  for (const Answer& answer : running) EXPECT_EQ(answer.tokens.size(), 40U);
}

TEST_F(DeadlineTest, EndsARequestInTheMiddleOfItsPrompt) {
  Answer answer;
  submit(answer, within(request(100, 5), 1.0));
  steps(3);
  now_ += 1.0;
  EXPECT_TRUE(engine_->step());  // it has done something
  EXPECT_EQ(answer.finish, FinishReason::kDeadline);
  EXPECT_FALSE(engine_->step());
  EXPECT_EQ(engine_->stats().running + engine_->stats().kv_blocks_used, 0);
  // What it computed is there for the next.
  ReuseReport reuse;
  engine_->submit(request(100, 1), [&](const RequestEvent& event) { reuse = event.reuse; });
  engine_->run();
  EXPECT_EQ(reuse.cached_tokens, 48);
}

TEST_F(DeadlineTest, EndsAnAnswerAndKeepsItsText) {
  Answer whole;
  submit(whole, request(9, 30));
  engine_->run();
  Answer cut;
  Request r = within(request(9, 30), 5.0);
  // Held back, for it could be the begin of a stop text: certain once it has ended.
  r.stop = {whole.text.substr(0, 4) + "\x01"};
  submit(cut, r);
  while (cut.tokens.size() < 3) engine_->step();
  now_ += 7.0;
  engine_->run();
  EXPECT_EQ(cut.finish, FinishReason::kDeadline);
  ASSERT_EQ(cut.tokens.size(), 3U);
  EXPECT_FALSE(cut.text.empty());
  EXPECT_EQ(cut.text, whole.text.substr(0, cut.text.size()));
  EXPECT_TRUE(std::equal(cut.tokens.begin(), cut.tokens.end(), whole.tokens.begin()));
}

TEST_F(DeadlineTest, EndsAPreemptedRequestThoughNotByItsQueueDeadline) {
  Answer answer;
  Request r = within(request(20, 30), 10.0);
  r.queue_deadline = 3.0;
  submit(answer, r);
  while (answer.tokens.size() < 3) engine_->step();
  EXPECT_TRUE(engine_->preempt(answer.id));
  now_ += 5.0;
  steps(1);  // it has begun once
  EXPECT_EQ(answer.finish, FinishReason::kNone);
  EXPECT_TRUE(engine_->preempt(answer.id));
  now_ += 5.0;
  steps(1);
  EXPECT_EQ(answer.finish, FinishReason::kDeadline);
  EXPECT_EQ(answer.error, "deadline: the request has not ended within 10 s of being submitted");
  EXPECT_FALSE(engine_->step());
}

TEST_F(DeadlineTest, OneThatEndsInTimeIsNotTouched) {
  Answer answer;
  Answer cancelled;
  submit(answer, within(request(9, 4), 1.0));
  submit(cancelled, within(request(10, 40), 1.0));
  steps(2);
  engine_->cancel(cancelled.id);
  now_ += 0.5;
  while (answer.finish == FinishReason::kNone) engine_->step();
  now_ += 50.0;
  EXPECT_FALSE(engine_->step());
  EXPECT_EQ(answer.finish, FinishReason::kLength);
  EXPECT_EQ(cancelled.finish, FinishReason::kCancelled);
  EXPECT_EQ(answer.error + cancelled.error, "");
}

TEST_F(DeadlineTest, CallbacksMayCancelAndSubmitWhateverIsOverdue) {
  Answer late;
  Answer other;
  Answer next;
  Answer by_token;
  const EventSink collected = collect(late);
  late.id = engine_->submit(within(request(9, 40), 2.0), [&](const RequestEvent& event) {
    collected(event);
    if (event.finish == FinishReason::kNone) return;
    engine_->cancel(late.id);   // it is over
    engine_->cancel(other.id);  // overdue as well
    submit(next, within(request(12, 3), 1.0));
  });
  Answer first;
  submit(first, within(request(10, 40), 2.0));
  // Its token is what makes the others overdue; it cancels itself in the same step.
  const EventSink seen = collect(by_token);
  steps(2);
  by_token.id = engine_->submit(within(request(11, 40), 1.0), [&](const RequestEvent& event) {
    seen(event);
    if (event.finish != FinishReason::kNone) return;
    now_ += 10.0;
    engine_->cancel(by_token.id);
  });
  engine_->cancel(first.id);  // room for it
  submit(other, within(request(10, 40), 2.0));
  engine_->run();
  EXPECT_EQ(by_token.finish, FinishReason::kCancelled);
  EXPECT_EQ(by_token.tokens.size(), 1U);
  EXPECT_EQ(first.finish, FinishReason::kCancelled);
  EXPECT_EQ(late.finish, FinishReason::kDeadline);
  EXPECT_EQ(other.finish, FinishReason::kCancelled);
  EXPECT_EQ(next.finish, FinishReason::kLength);
  EXPECT_EQ(next.tokens.size(), 3U);
}

TEST_F(DeadlineTest, ASinkThatThrowsAtItsDeadlineHurtsNobody) {
  Answer other;
  engine_->submit(within(request(9, 40), 2.0), [](const RequestEvent& event) {
    if (event.finish != FinishReason::kNone) throw runtime_failure("sink");
  });
  submit(other, request(10, 20));
  steps(3);
  now_ += 3.0;
  engine_->run();
  EXPECT_EQ(other.tokens.size(), 20U);
}

TEST_F(DeadlineTest, ValuesThatAreNoTimeAreRefused) {
  for (const double seconds : {-1.0, static_cast<double>(NAN), -std::numeric_limits<double>::min(),
                               std::numeric_limits<double>::infinity()}) {
    Request r = request(5, 5);
    r.deadline = seconds;
    EXPECT_THROW(engine_->submit(r, EventSink()), Error) << seconds;
    r.deadline = 0.0;
    r.queue_deadline = seconds;
    EXPECT_THROW(engine_->submit(r, EventSink()), Error) << seconds;
  }
  EXPECT_FALSE(engine_->step());
}

}  // namespace
}  // namespace heddle
