#include "tools/serve/api/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "tools/serve/api/api_error.h"

namespace heddle::serve {
namespace {

std::unique_ptr<AnswerFormat> format_of(Endpoint endpoint) {
  if (endpoint == Endpoint::kChat) return chat_format();
  if (endpoint == Endpoint::kResponses) return responses_format();
  return completion_format();
}

bool is_failure(const RequestEvent& event) {
  return event.finish == FinishReason::kError || event.finish == FinishReason::kDeadline ||
         event.finish == FinishReason::kCancelled;
}

/// What ended a request that was running. Its text is for the log too: nothing of a request is in
/// it but numbers.
ApiErrorSpec failure_of(const RequestEvent& event) {
  if (event.finish == FinishReason::kDeadline) {
    return {.status = 503, .code = "queue_timeout", .message = event.error, .retry_after_s = 10};
  }
  if (event.error.starts_with("draining")) {
    return {.status = 503,
            .code = "draining",
            .message = "the server is shutting down",
            .retry_after_s = 5};
  }
  if (event.error.starts_with("engine_dead")) {
    return refusal_error(EngineHost::Refusal::kDead);
  }
  if (event.error.starts_with("grammar")) {
    return {.status = 400, .code = "invalid_value", .message = event.error, .never_retry = true};
  }
  const bool numeric = event.error.starts_with("numeric_error");
  return {.status = 500,
          .code = numeric ? "numeric_error" : "internal_error",
          .message = numeric ? event.error : "the engine failed on this request",
          .never_retry = true};
}

double between(std::chrono::steady_clock::time_point begin,
               std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

}  // namespace

ApiErrorSpec refusal_error(EngineHost::Refusal refusal) {
  switch (refusal) {
    case EngineHost::Refusal::kQueueFull:
      return {.status = 429,
              .code = "rate_limit_exceeded",
              .message = "the queue is full; try again later",
              .retry_after_s = 1};
    case EngineHost::Refusal::kQueueTokensFull:
      return {.status = 429,
              .code = "rate_limit_exceeded",
              .message = "the queue holds as many tokens as it may; try again later",
              .retry_after_s = 2};
    case EngineHost::Refusal::kClientFull:
      return {.status = 429,
              .code = "rate_limit_exceeded",
              .message = "this key has as many requests open as it may; try again later",
              .retry_after_s = 1};
    case EngineHost::Refusal::kDraining:
      return {.status = 503,
              .code = "draining",
              .message = "the server is shutting down",
              .retry_after_s = 5};
    default:
      return {.status = 503,
              .code = "engine_dead",
              .message = "the engine has ended; the server must be restarted",
              .retry_after_s = 30};
  }
}

/// One prompt's. Holds the generation: it lives while the engine may call.
class Generation::Receiver : public EventReceiver {
 public:
  Receiver(std::shared_ptr<Generation> owner,
           std::shared_ptr<Exchange> exchange,
           std::size_t prompt)
      : owner_(std::move(owner)), exchange_(std::move(exchange)), prompt_(prompt) {}
  void accepted() override {
    guarded([this] { owner_->accepted(); });
  }
  void refused(ErrorKind kind, const std::string& text) override {
    guarded([&] { owner_->refused(kind, text); });
  }
  void progressed(const std::vector<RequestEvent>& events) override {
    guarded([&] { owner_->progressed(prompt_, events); });
  }
  void post(std::function<void()> task) override { exchange_->post(std::move(task)); }

 private:
  /// What goes wrong with an answer ends that answer.
  template <typename Task>
  void guarded(const Task& task) {
    try {
      task();
    } catch (const std::exception& e) {
      log(LogLevel::kError, fmt::format("an answer failed: {}", e.what()));
      owner_->over_ = false;  // it may have failed at its very end
      owner_->fail({.status = 500,
                    .code = "internal_error",
                    .message = "the server failed on this",
                    .never_retry = true});
    }
  }

  std::shared_ptr<Generation> owner_;
  std::shared_ptr<Exchange> exchange_;
  std::size_t prompt_;
};

void Generation::start(std::shared_ptr<Exchange> exchange,
                       GenerationPlan plan,
                       GenerationContext context) {
  std::make_shared<Generation>(std::move(exchange), std::move(plan), std::move(context))->submit();
}

Generation::Generation(std::shared_ptr<Exchange> exchange,
                       GenerationPlan plan,
                       GenerationContext context)
    : exchange_(std::move(exchange)),
      plan_(std::move(plan)),
      context_(std::move(context)),
      answer_{.plan = &plan_,
              .facts = &context_.host.facts(),
              .id = random_id(),
              .created = static_cast<std::int64_t>(std::time(nullptr))},
      format_(format_of(plan_.endpoint)) {
  const bool divided = plan_.endpoint != Endpoint::kCompletions;
  for (std::size_t p = 0; p < plan_.requests.size(); ++p) {
    plan_.requests[p].report_progress = true;  // it tells when the request begins
    answer_.prompts.push_back(
        {.n_tokens = static_cast<std::int64_t>(plan_.requests[p].prompt.size())});
    for (int i = 0; i < plan_.n; ++i) {
      AnswerChoice choice{.index = static_cast<int>(p) * plan_.n + i, .prompt = p};
      if (divided) {
        choice.parser = std::make_unique<ReplyParser>(
            plan_.style, [] { return "call_" + random_id().substr(0, 24); });
        if (!plan_.forced_marker.empty()) choice.parser->push(plan_.forced_marker);
      }
      answer_.choices.push_back(std::move(choice));
    }
  }
  last_tokens_.resize(answer_.choices.size());
}

double Generation::seconds() const {
  return between(started_, Clock::now());
}

void Generation::submit() {
  if (exchange_->gone()) return client_gone();
  exchange_->on_gone([self = shared_from_this()] { self->client_gone(); });
  const auto n_prompts = static_cast<std::int64_t>(plan_.requests.size());
  if (n_prompts > context_.host.most_open()) {
    return fail({.code = "invalid_value",
                 .message = fmt::format("prompt: got {} prompts, the queue has room for {}",
                                        n_prompts, context_.host.most_open()),
                 .param = "prompt"});
  }
  for (std::size_t p = 0; p < plan_.requests.size(); ++p) {
    const Request& request = plan_.requests[p];
    const std::int64_t n_tokens =
        static_cast<std::int64_t>(request.prompt.size()) + request.n * request.max_new_tokens;
    const auto submitted = context_.host.submit(
        request, n_tokens, std::make_shared<Receiver>(shared_from_this(), exchange_, p));
    if (submitted.refusal != EngineHost::Refusal::kNone) {
      return fail(refusal_error(submitted.refusal));
    }
    tickets_.push_back(submitted.ticket);
  }
}

void Generation::accepted() {
  if (over_ || ++n_accepted_ < plan_.requests.size() || !plan_.stream) return;
  HttpReply head{.headers = context_.headers};
  head.headers.emplace_back("content-type", "text/event-stream; charset=utf-8");
  head.headers.emplace_back("cache-control", "no-cache");
  head.headers.emplace_back("x-accel-buffering", "no");
  exchange_->begin_stream(std::move(head));
  streaming_ = true;
  // With usage in every chunk the first one waits until it is known what is reused.
  if (!plan_.continuous_usage) write_begin();
  ping_later();
  for (const auto& [prompt, events] : std::exchange(early_, {})) progressed(prompt, events);
}

void Generation::write_begin() {
  begin_written_ = true;
  std::string out;
  format_->begin(answer_, out);
  send(out);
}

void Generation::refused(ErrorKind kind, const std::string& text) {
  if (kind == ErrorKind::kBadInput || text.starts_with("grammar")) {
    return fail({.code = "invalid_value", .message = text});
  }
  fail({.status = 500, .code = "internal_error", .message = "the engine refused the request"});
}

void Generation::progressed(std::size_t prompt, const std::vector<RequestEvent>& events) {
  if (plan_.stream && !streaming_ && !over_) {  // another prompt may still be refused
    const auto failure = std::ranges::find_if(events, is_failure);
    if (failure != events.end()) return fail(failure_of(*failure));
    early_.emplace_back(prompt, events);
    return;
  }
  std::string out;
  for (const RequestEvent& event : events) {
    if (over_) return;
    if (is_failure(event)) {
      send(out);
      return fail(failure_of(event));
    }
    if (streaming_ && !begin_written_) {
      if (event.prompt_computed >= 0) answer_.prompts[prompt].reuse = event.reuse;
      write_begin();
    }
    take(prompt, event, out);
  }
  if (over_) return;
  if (n_ended_ == answer_.choices.size()) return complete(std::move(out));
  send(out);
}

void Generation::take(std::size_t prompt, const RequestEvent& event, std::string& out) {
  AnswerChoice& choice = answer_.choices[prompt * static_cast<std::size_t>(plan_.n) + event.choice];
  take_begin(choice, event);
  if (event.prompt_computed >= 0) {
    answer_.prompts[prompt].reuse = event.reuse;
    if (streaming_ && plan_.progress) format_->progress(answer_, choice, event, seconds(), out);
    return;
  }
  if (!event.scores.empty()) take_scores(prompt, event);
  if (event.finish != FinishReason::kNone && !answer_.prompts[prompt].reported) {
    answer_.prompts[prompt].reuse = event.reuse;
    answer_.prompts[prompt].reported = true;
  }
  if (event.token) take_token(choice, event);
  if (event.token || !event.text.empty()) take_text(choice, event, out);
  if (event.finish != FinishReason::kNone) end_choice(choice, event, out);
}

/// The first that is heard of a choice. Each counts its prompt, as the engine does.
void Generation::take_begin(AnswerChoice& choice, const RequestEvent& event) {
  if (std::exchange(choice.begun, true)) return;
  ServerMetrics& metrics = context_.metrics;
  metrics.prompt_tokens += static_cast<std::uint64_t>(answer_.prompts[choice.prompt].n_tokens);
  if (event.prompt_computed < 0) return;
  if (context_.host.facts().recurrent && event.reuse.cached_tokens > 0) ++metrics.snapshot_hits;
  if (begun_ == Clock::time_point()) begun_ = std::max(event.step_begun, started_);
}

void Generation::take_scores(std::size_t prompt, const RequestEvent& event) {
  AnswerPrompt& scored = answer_.prompts[prompt];
  const std::vector<std::int32_t>& tokens = plan_.requests[prompt].prompt;
  for (std::size_t i = 0; i < event.scores.size(); ++i) {
    HEDDLE_CHECK(scored.scored.size() + 1 < tokens.size());
    TokenInfo info{.token = tokens[scored.scored.size() + 1], .logprob = event.scores[i]};
    if (i < event.top_scores.size()) info.top = event.top_scores[i];
    scored.scored.push_back(std::move(info));
  }
}

void Generation::take_token(AnswerChoice& choice, const RequestEvent& event) {
  const Clock::time_point now = Clock::now();
  ServerMetrics& metrics = context_.metrics;
  Clock::time_point& last = last_tokens_[static_cast<std::size_t>(choice.index)];
  if (first_token_ == Clock::time_point()) {
    first_token_ = now;
    if (begun_ == Clock::time_point()) begun_ = now;
    metrics.time_to_first_token.observe(between(started_, now));
  }
  if (last != Clock::time_point()) metrics.inter_token_latency.observe(between(last, now));
  last = last_token_ = now;
  ++metrics.generation_tokens;
  ++choice.n_tokens;
  choice.token_ids.push_back(*event.token);
  if (plan_.logprobs >= 0 && event.logprob) {
    choice.tokens.push_back({*event.token, event.logprob->logprob, event.top_logprobs});
  }
}

void Generation::take_text(AnswerChoice& choice, const RequestEvent& event, std::string& out) {
  choice.text += event.text;
  ReplyDelta delta;
  if (choice.parser != nullptr) {
    delta = choice.parser->push(event.text);
    if (!plan_.parallel_tools) {
      std::erase_if(delta.tools, [](const ToolDelta& tool) { return tool.index > 0; });
    }
    choice.reply.add(delta);
    if (choice.reply.content.empty() && choice.reply.calls.empty() &&
        !choice.reply.reasoning.empty()) {
      choice.n_thought_tokens = choice.n_tokens;
    }
  }
  if (streaming_) format_->piece(answer_, choice, event, delta, out);
}

void Generation::end_choice(AnswerChoice& choice, const RequestEvent& event, std::string& out) {
  const bool length = event.finish == FinishReason::kLength;
  choice.finish = length ? "length" : "stop";
  if (choice.parser != nullptr) {
    ReplyDelta delta = choice.parser->finish(length || event.stop_text);
    if (!plan_.parallel_tools) {
      std::erase_if(delta.tools, [](const ToolDelta& tool) { return tool.index > 0; });
    }
    choice.reply.add(delta);
    RequestEvent last;
    if (streaming_ && !delta.empty()) format_->piece(answer_, choice, last, delta, out);
    if (choice.parser->has_unfinished_call()) {
      choice.finish = event.stop_text ? "stop" : "length";
    } else if (choice.parser->called_tools() && !length) {
      choice.finish = "tool_calls";
    }
  }
  choice.ended = true;
  ++n_ended_;
  ServerMetrics& metrics = context_.metrics;
  ++(choice.finish == "stop"     ? metrics.finished_stop
     : choice.finish == "length" ? metrics.finished_length
                                 : metrics.finished_tools);
  if (streaming_) format_->finish(answer_, choice, out);
}

void Generation::complete(std::string out) {
  over_ = true;
  ServerMetrics& metrics = context_.metrics;
  metrics.e2e_latency.observe(seconds());
  metrics.prompt_length.observe(static_cast<double>(answer_.n_prompt_tokens()));
  metrics.answer_length.observe(static_cast<double>(answer_.n_answer_tokens()));
  if (first_token_ != Clock::time_point()) {
    metrics.queue_time.observe(between(started_, begun_));
    metrics.prefill_time.observe(between(begun_, first_token_));
    metrics.decode_time.observe(between(first_token_, last_token_));
    metrics.inference_time.observe(between(begun_, last_token_));
  }
  if (streaming_) {
    format_->end(answer_, out);
    send(out);
    exchange_->end_stream();
  } else {
    HttpReply reply = json_reply(format_->whole(answer_));
    reply.headers.insert(reply.headers.end(), context_.headers.begin(), context_.headers.end());
    exchange_->reply(std::move(reply));
  }
  tell_end(200, false);
}

/// Before the first byte an error is a status; later it is an event, and the stream is cut.
void Generation::fail(const ApiErrorSpec& error) {
  if (std::exchange(over_, true)) return;
  cancel_all();
  ++context_.metrics.finished_error;
  if (streaming_) {
    std::string out;
    format_->error(answer_, error, out);
    exchange_->write(out);
    exchange_->end_stream();
  } else {
    HttpReply reply = error_reply(error);
    reply.headers.insert(reply.headers.end(), context_.headers.begin(), context_.headers.end());
    exchange_->reply(std::move(reply));
  }
  tell_end(error.status, false);
}

void Generation::client_gone() {
  if (std::exchange(over_, true)) return;
  cancel_all();
  ++context_.metrics.disconnected;
  ++context_.metrics.finished_abort;
  tell_end(499, true);
}

void Generation::cancel_all() {
  for (const Ticket ticket : tickets_) context_.host.cancel(ticket);
}

void Generation::tell_end(int status, bool disconnected) {
  if (!context_.ended) return;
  GenerationEnd end{.status = status,
                    .disconnected = disconnected,
                    .n_prompt_tokens = answer_.n_prompt_tokens(),
                    .n_answer_tokens = answer_.n_answer_tokens(),
                    .seconds = seconds(),
                    .session_id = plan_.session_id};
  if (status == 200 && !plan_.session_id.empty()) {
    end.tokens = plan_.requests[0].prompt;
    const auto& ids = answer_.choices[0].token_ids;
    end.tokens.insert(end.tokens.end(), ids.begin(), ids.end());
  }
  context_.ended(end);
}

void Generation::send(const std::string& out) {
  if (!streaming_ || out.empty()) return;
  exchange_->write(out);
  last_sent_ = Clock::now();
}

/// A comment where nothing was sent for a while, so that nobody between takes the silence for the
/// end.
void Generation::ping_later() {
  if (context_.ping_seconds <= 0.0 || over_) return;
  exchange_->after(context_.ping_seconds, [self = weak_from_this()] {
    const auto alive = self.lock();
    if (!alive || alive->over_) return;
    const double silent = std::chrono::duration<double>(Clock::now() - alive->last_sent_).count();
    if (silent >= 0.9 * alive->context_.ping_seconds) {
      alive->exchange_->write(": ping\n\n");
      alive->last_sent_ = Clock::now();
    }
    alive->ping_later();
  });
}

}  // namespace heddle::serve
