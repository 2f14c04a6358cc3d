#include "tools/needle/url_target.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "models/quote_text.h"
#include "tools/needle/server_encoder.h"

namespace heddle::needle {
namespace {

constexpr int kMostRetries = 6;
constexpr int kTooManyRequests = 429;
constexpr std::int64_t kTokensBeside = 2;  // a begin-of-text token that /tokenize does not count
// Ends that are no answer of the model's own; servers have many names for the others.
constexpr std::string_view kNoAnswers[] = {"abort",    "error",      "content_filter", "cancelled",
                                           "deadline", "tool_calls", "function_call"};

}  // namespace

struct UrlTarget::Asked {
  Json body;
  std::int64_t n_prompt = 0;  // tokens, as they were counted
  int n_retries = 0;
  std::function<void()> prefilled;
  std::function<void(Reply)> done;
};

void UrlTarget::ask(Question question,
                    std::function<void()> prefilled,
                    std::function<void(Reply)> done) {
  const EncodedPrompt& prompt = question.prompt->prompt;
  auto asked = std::make_shared<Asked>();
  asked->n_prompt = prompt.n_tokens;
  asked->prefilled = std::move(prefilled);
  asked->done = std::move(done);
  Json body{{"model", api_.model()}};
  if (chat_) {
    body.update(chat_body(prompt.text, prompt.prefix));
  } else {
    body["prompt"] = raw_text(prompt);
  }
  body["max_tokens"] = question.prompt->answer_tokens;
  body["temperature"] = 0;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  if (!question.prompt->stop.empty()) body["stop"] = question.prompt->stop;
  asked->body = std::move(body);
  ++n_open_;
  send(asked);
}

void UrlTarget::send(const std::shared_ptr<Asked>& asked) {
  api_.stream(
      chat_, asked->body, [asked] { asked->prefilled(); },
      [this, asked](serve::StreamedAnswer& answer, const serve::ClientResult& result) {
        if (result.status != kTooManyRequests || asked->n_retries == kMostRetries) {
          return finish(asked, answer, result);
        }
        const auto timer = std::make_shared<boost::asio::steady_timer>(api_.io());
        timer->expires_after(std::chrono::seconds(1 << asked->n_retries++));
        timer->async_wait([this, asked, timer](boost::system::error_code) { send(asked); });
      });
}

void UrlTarget::finish(const std::shared_ptr<Asked>& asked,
                       serve::StreamedAnswer& answer,
                       const serve::ClientResult& result) {
  Reply reply{.text = answer.text(), .error = answer.end(result)};
  const serve::AnswerUsage& usage = answer.usage();
  reply.prompt_tokens = usage.n_prompt > 0 ? usage.n_prompt : asked->n_prompt;
  reply.cached_tokens = usage.n_cached;
  if (answer.begun()) {
    reply.prefill_s = answer.first_s();
    reply.decode_s = answer.last_s() - answer.first_s();
  }
  const std::string& finish = answer.finish_reason();
  if (reply.error.empty() && std::ranges::find(kNoAnswers, finish) != std::end(kNoAnswers)) {
    reply.error = fmt::format("the answer ended with finish_reason {}", quote_text(finish));
  }
  if (reply.error.empty() && reply.text.empty() && finish.empty()) {
    reply.error = "the stream holds no answer";
  }
  if (reply.error.empty() && reply.text.empty() && !answer.thoughts().empty()) {
    reply.error = "thoughts took all the room of the answer (--answer-tokens)";
  }
  const bool differs = usage.n_prompt > 0 && (usage.n_prompt < asked->n_prompt ||
                                              usage.n_prompt > asked->n_prompt + kTokensBeside);
  if (reply.error.empty() && differs) {
    reply.error =
        fmt::format("the server read {} tokens of a prompt of {}", usage.n_prompt, asked->n_prompt);
  }
  if (reply.error.empty() && usage.n_cached > reply.prompt_tokens) {
    reply.error = fmt::format("the server tells of {} cached tokens in a prompt of {}",
                              usage.n_cached, reply.prompt_tokens);
  }
  --n_open_;
  asked->prefilled();
  asked->done(std::move(reply));
}

bool UrlTarget::step() {
  if (n_open_ == 0) return false;
  api_.run_some();
  return true;
}

}  // namespace heddle::needle
