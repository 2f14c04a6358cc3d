#include "tools/needle/engine_target.h"

#include <chrono>
#include <memory>
#include <utility>

namespace heddle::needle {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

/// One answer as it comes.
struct Asked {
  Reply reply;
  std::int64_t n_tokens = 0;  // generated
  Clock::time_point begun;
  Clock::time_point first;
  std::function<void()> prefilled;
  std::function<void(Reply)> done;
};

void take(Asked& asked, const RequestEvent& event, const MemoryPlan& memory) {
  if (event.token) {
    ++asked.n_tokens;
    if (asked.n_tokens == 1) {
      asked.first = Clock::now();
      asked.prefilled();
    }
  }
  asked.reply.text += event.text;
  if (event.finish == FinishReason::kNone) return;
  Reply& reply = asked.reply;
  if (event.finish != FinishReason::kStop && event.finish != FinishReason::kLength) {
    reply.error = event.error.empty() ? std::string(name(event.finish)) : event.error;
  }
  reply.cached_tokens = event.reuse.cached_tokens;
  if (asked.n_tokens > 0) {
    reply.prefill_s = seconds(asked.first - asked.begun);
    reply.decode_s = seconds(Clock::now() - asked.first);
  } else {
    asked.prefilled();
  }
  const auto n = static_cast<std::uint64_t>(reply.prompt_tokens + asked.n_tokens);
  reply.kv_bytes = memory.kv_bytes_per_token * n + memory.window_bytes_per_sequence;
  reply.state_bytes = memory.state_bytes_per_sequence;
  asked.done(std::move(reply));
}

}  // namespace

void EngineTarget::ask(Question question,
                       std::function<void()> prefilled,
                       std::function<void(Reply)> done) {
  auto asked = std::make_shared<Asked>();
  asked->reply.prompt_tokens = question.prompt->prompt.n_tokens;
  asked->begun = Clock::now();
  asked->prefilled = std::move(prefilled);
  asked->done = std::move(done);
  Request request;
  request.prompt = question.prompt->prompt.tokens;
  request.max_new_tokens = question.prompt->answer_tokens;
  request.stop = question.prompt->stop;
  request.snapshot_at = std::move(question.departures);
  request.leave = question.leave;
  engine_.submit(std::move(request), [asked, memory = engine_.memory()](const RequestEvent& event) {
    take(*asked, event, memory);
  });
}

}  // namespace heddle::needle
