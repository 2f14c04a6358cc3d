// /v1/completions.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "tools/serve/api/answer.h"

namespace heddle::serve {
namespace {

std::int64_t n_code_points(std::string_view text) {
  return std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
}

/// The object of four lists; grows token by token.
class LogprobLists {
 public:
  LogprobLists(const Tokenizer& tokenizer, int n_top) : tokenizer_(tokenizer), n_top_(n_top) {}

  /// Of a prompt; `text` is what is echoed of it: control tokens that are put around a text are no
  /// part of it.
  void add_prompt(const std::vector<std::int32_t>& tokens,
                  const std::vector<TokenInfo>& scored,
                  std::string_view text) {
    const auto shown = [&](std::int32_t token) {
      std::string bytes = tokenizer_.next_bytes(token, state_, true);
      if (tokenizer_.is_control(token) && !text.starts_with(bytes)) bytes.clear();
      text.remove_prefix(std::min(bytes.size(), text.size()));
      return bytes;
    };
    add(tokens[0], nullptr, nullptr, shown(tokens[0]));
    for (const TokenInfo& info : scored) add_scored(info, shown(info.token));
  }
  void add(const TokenInfo& info) {
    add_scored(info, tokenizer_.next_bytes(info.token, state_, false));
  }
  /// What was added since the last time.
  Json take() { return std::exchange(json_, empty()); }

 private:
  void add_scored(const TokenInfo& info, const std::string& bytes) {
    Json top = Json::object();
    for (std::size_t i = 0; i < info.top.size() && i < static_cast<std::size_t>(n_top_); ++i) {
      top[token_text(tokenizer_, info.top[i].token)] = shown_logprob(info.top[i].logprob);
    }
    if (n_top_ > 0) top[token_text(tokenizer_, info.token)] = shown_logprob(info.logprob);
    add(info.token, shown_logprob(info.logprob), std::move(top), bytes);
  }
  static Json empty() {
    return {{"tokens", Json::array()},
            {"token_logprobs", Json::array()},
            {"top_logprobs", Json::array()},
            {"text_offset", Json::array()}};
  }
  void add(std::int32_t token, Json logprob, Json top, const std::string& bytes) {
    json_["tokens"].push_back(token_text(tokenizer_, token));
    json_["token_logprobs"].push_back(std::move(logprob));
    json_["top_logprobs"].push_back(std::move(top));
    json_["text_offset"].push_back(offset_);
    offset_ += n_code_points(decoder_.push(bytes));
  }

  const Tokenizer& tokenizer_;
  int n_top_;
  DecodeState state_;
  StreamDecoder decoder_;
  std::int64_t offset_ = 0;
  Json json_ = empty();
};

class CompletionFormat : public AnswerFormat {
 public:
  void begin(const Answer& answer, std::string&) override {
    head_ = fmt::format(R"({{"id":"cmpl-{}","object":"text_completion","created":{},"model":{},)"
                        R"("system_fingerprint":"{}")",
                        answer.id, answer.created, json_string(answer.plan->model),
                        answer.facts->numerics_id);
    lists_.clear();
    echo_due_.clear();
    ids_due_.clear();
    for (std::size_t i = 0; i < answer.choices.size(); ++i) {
      lists_.emplace_back(*answer.facts->tokenizer, answer.plan->logprobs);
      echo_due_.push_back(answer.plan->echo);
      ids_due_.push_back(answer.plan->token_ids);
    }
  }

  void piece(const Answer& answer,
             const AnswerChoice& choice,
             const RequestEvent& event,
             const ReplyDelta&,
             std::string& out) override {
    if (!event.token) return;
    echo(answer, choice, out);
    const bool logprobs = answer.plan->logprobs >= 0;
    const bool ids = answer.plan->token_ids;
    if (event.text.empty() && !logprobs && !ids) return;
    std::string extra;
    if (logprobs) {
      LogprobLists& lists = lists_[static_cast<std::size_t>(choice.index)];
      lists.add(choice.tokens.back());
      extra = R"("logprobs":)" + to_text(lists.take()) + ",";
    }
    if (ids) extra += fmt::format(R"("token_ids":[{}],)", *event.token);
    chunk(answer, choice, event.text, "null", extra, "", out);
  }

  void progress(const Answer& answer,
                const AnswerChoice& choice,
                const RequestEvent& event,
                double seconds,
                std::string& out) override {
    chunk(answer, choice, "", "null", "", progress_member(answer, choice, event, seconds), out);
  }

  void finish(const Answer& answer, const AnswerChoice& choice, std::string& out) override {
    echo(answer, choice, out);
    chunk(answer, choice, "", "\"" + choice.finish + "\"", "", "", out);
  }

  void end(const Answer& answer, std::string& out) override {
    append_stream_end(answer, head_, out);
  }

  void error(const Answer&, const ApiErrorSpec& error, std::string& out) override {
    append_event(out, error_body(error));
  }

  Json whole(const Answer& answer) override {
    Json json = answer_head(answer, "cmpl-", "text_completion");
    json["choices"] = Json::array();
    for (const AnswerChoice& choice : answer.choices) json["choices"].push_back(of(answer, choice));
    json["usage"] = usage_json(answer);
    return json;
  }

 private:
  /// Before the choice's first piece: the log probabilities of the prompt are known by then.
  void echo(const Answer& answer, const AnswerChoice& choice, std::string& out) {
    if (!echo_due_[static_cast<std::size_t>(choice.index)]) return;
    echo_due_[static_cast<std::size_t>(choice.index)] = false;
    const AnswerPrompt& prompt = answer.prompts[choice.prompt];
    LogprobLists& lists = lists_[static_cast<std::size_t>(choice.index)];
    const std::string& text = answer.plan->prompt_texts[choice.prompt];
    std::string extra;
    if (answer.plan->logprobs >= 0) {
      lists.add_prompt(answer.plan->requests[choice.prompt].prompt, prompt.scored, text);
      extra = R"("logprobs":)" + to_text(lists.take()) + ",";
    }
    chunk(answer, choice, text, "null", extra, "", out);
  }

  void chunk(const Answer& answer,
             const AnswerChoice& choice,
             std::string_view text,
             std::string_view finish,
             std::string_view extra,
             std::string_view more,
             std::string& out) {
    std::string ids;  // of the prompt, in the first chunk of each choice
    if (ids_due_[static_cast<std::size_t>(choice.index)]) {
      ids_due_[static_cast<std::size_t>(choice.index)] = false;
      ids =
          R"("prompt_token_ids":)" + Json(answer.plan->requests[choice.prompt].prompt).dump() + ",";
    }
    append_event(
        out, fmt::format(R"({},"choices":[{{"index":{},"text":{},{}{}"finish_reason":{}}}]{}{}}})",
                         head_, choice.index, json_string(text), ids,
                         extra.empty() ? R"("logprobs":null,)" : extra, finish, more,
                         usage_member(answer)));
  }

  static Json of(const Answer& answer, const AnswerChoice& choice) {
    const GenerationPlan& plan = *answer.plan;
    const AnswerPrompt& prompt = answer.prompts[choice.prompt];
    const std::string text = (plan.echo ? plan.prompt_texts[choice.prompt] : "") + choice.text;
    Json json{{"index", choice.index},
              {"text", text},
              {"logprobs", nullptr},
              {"finish_reason", choice.finish}};
    if (plan.logprobs >= 0) {
      LogprobLists lists(*answer.facts->tokenizer, plan.logprobs);
      if (plan.echo) {
        lists.add_prompt(plan.requests[choice.prompt].prompt, prompt.scored,
                         plan.prompt_texts[choice.prompt]);
      }
      for (const TokenInfo& info : choice.tokens) lists.add(info);
      json["logprobs"] = lists.take();
    }
    if (plan.prompt_logprobs >= 0) json["prompt_logprobs"] = prompt_logprobs_json(answer, prompt);
    if (plan.token_ids) {
      json["prompt_token_ids"] = plan.requests[choice.prompt].prompt;
      json["token_ids"] = choice.token_ids;
    }
    return json;
  }

  std::string head_;
  std::vector<LogprobLists> lists_;  // of each choice, in a stream
  std::vector<bool> echo_due_;       // likewise
  std::vector<bool> ids_due_;        // likewise
};

}  // namespace

std::unique_ptr<AnswerFormat> completion_format() {
  return std::make_unique<CompletionFormat>();
}

}  // namespace heddle::serve
