// /v1/chat/completions.

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "tools/serve/api/answer.h"

namespace heddle::serve {
namespace {

Json token_json(const Tokenizer& tokenizer, std::int32_t token, float logprob) {
  const std::string bytes = tokenizer.token_bytes(token, true);
  Json list = Json::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return {{"token", token_text(tokenizer, token)},
          {"logprob", shown_logprob(logprob)},
          {"bytes", std::move(list)}};
}

Json token_json(const Tokenizer& tokenizer, const TokenInfo& info) {
  Json json = token_json(tokenizer, info.token, info.logprob);
  json["top_logprobs"] = Json::array();
  for (const TokenLogprob& top : info.top) {
    json["top_logprobs"].push_back(token_json(tokenizer, top.token, top.logprob));
  }
  return json;
}

Json call_json(const ToolCall& call) {
  return {{"id", call.id},
          {"type", "function"},
          {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

class ChatFormat : public AnswerFormat {
 public:
  void begin(const Answer& answer, std::string& out) override {
    head_ = fmt::format(
        R"({{"id":"chatcmpl-{}","object":"chat.completion.chunk","created":{},"model":{},)"
        R"("system_fingerprint":"{}")",
        answer.id, answer.created, json_string(answer.plan->model), answer.facts->numerics_id);
    for (const AnswerChoice& choice : answer.choices) {
      std::string delta = R"({"role":"assistant","content":""})";
      chunk(answer, choice, delta, "null", "", first(answer), out);
    }
  }

  void piece(const Answer& answer,
             const AnswerChoice& choice,
             const RequestEvent& event,
             const ReplyDelta& delta,
             std::string& out) override {
    const bool logprobs = answer.plan->logprobs >= 0 && event.token;
    const bool ids = answer.plan->token_ids && event.token;
    if (delta.empty() && !logprobs && !ids) return;
    std::string fields;
    if (!delta.reasoning.empty()) {
      fields += R"("reasoning_content":)";
      append_quoted(fields, delta.reasoning);
    }
    if (!delta.content.empty() || (delta.reasoning.empty() && delta.tools.empty())) {
      if (!fields.empty()) fields += ',';
      fields += R"("content":)";
      append_quoted(fields, delta.content);
    }
    if (!delta.tools.empty()) {
      if (!fields.empty()) fields += ',';
      append_tools(delta.tools, fields);
    }
    std::string extra;
    if (logprobs) {
      const Json info = token_json(*answer.facts->tokenizer, choice.tokens.back());
      extra += R"("logprobs":{"content":[)" + to_text(info) + R"(],"refusal":null},)";
    }
    if (ids) extra += fmt::format(R"("token_ids":[{}],)", *event.token);
    chunk(answer, choice, "{" + fields + "}", "null", extra, "", out);
  }

  void progress(const Answer& answer,
                const AnswerChoice& choice,
                const RequestEvent& event,
                double seconds,
                std::string& out) override {
    chunk(answer, choice, "{}", "null", "", progress_member(answer, choice, event, seconds), out);
  }

  void finish(const Answer& answer, const AnswerChoice& choice, std::string& out) override {
    chunk(answer, choice, "{}", "\"" + choice.finish + "\"", "", "", out);
  }

  void end(const Answer& answer, std::string& out) override {
    append_stream_end(answer, head_, out);
  }

  void error(const Answer&, const ApiErrorSpec& error, std::string& out) override {
    append_event(out, error_body(error));
  }

  Json whole(const Answer& answer) override {
    Json json = answer_head(answer, "chatcmpl-", "chat.completion");
    json["choices"] = Json::array();
    for (const AnswerChoice& choice : answer.choices) json["choices"].push_back(of(answer, choice));
    json["usage"] = usage_json(answer);
    if (answer.plan->prompt_logprobs >= 0) {
      json["prompt_logprobs"] = prompt_logprobs_json(answer, answer.prompts[0]);
    }
    if (answer.plan->token_ids) json["prompt_token_ids"] = answer.plan->requests[0].prompt;
    return json;
  }

 private:
  static std::string first(const Answer& answer) {
    if (!answer.plan->token_ids) return "";
    return R"(,"prompt_token_ids":)" + Json(answer.plan->requests[0].prompt).dump();
  }

  static void append_tools(const std::vector<ToolDelta>& tools, std::string& fields) {
    fields += R"("tool_calls":[)";
    for (std::size_t i = 0; i < tools.size(); ++i) {
      const ToolDelta& tool = tools[i];
      if (i > 0) fields += ',';
      fields += fmt::format(R"({{"index":{},)", tool.index);
      if (!tool.id.empty()) {
        fields += fmt::format(R"("id":{},"type":"function",)", json_string(tool.id));
      }
      fields += R"("function":{)";
      if (!tool.id.empty()) fields += fmt::format(R"("name":{},)", json_string(tool.name));
      fields += fmt::format(R"("arguments":{}}}}})", json_string(tool.arguments));
    }
    fields += ']';
  }

  void chunk(const Answer& answer,
             const AnswerChoice& choice,
             std::string_view delta,
             std::string_view finish,
             std::string_view extra,
             std::string_view more,
             std::string& out) const {
    append_event(
        out, fmt::format(R"({},"choices":[{{"index":{},"delta":{},{}"finish_reason":{}}}]{}{}}})",
                         head_, choice.index, delta, extra.empty() ? R"("logprobs":null,)" : extra,
                         finish, more, usage_member(answer)));
  }

  static Json of(const Answer& answer, const AnswerChoice& choice) {
    const Reply& reply = choice.reply;
    const bool no_content =
        reply.content.empty() && (!reply.calls.empty() || answer.plan->forced_tools);
    Json message{{"role", "assistant"},
                 {"content", no_content ? Json(nullptr) : Json(reply.content)},
                 {"refusal", nullptr}};
    if (!reply.reasoning.empty()) message["reasoning_content"] = reply.reasoning;
    for (const ToolCall& call : reply.calls) message["tool_calls"].push_back(call_json(call));
    Json json{{"index", choice.index},
              {"message", std::move(message)},
              {"logprobs", nullptr},
              {"finish_reason", choice.finish}};
    if (answer.plan->logprobs >= 0) {
      Json content = Json::array();
      for (const TokenInfo& info : choice.tokens) {
        content.push_back(token_json(*answer.facts->tokenizer, info));
      }
      json["logprobs"] = {{"content", std::move(content)}, {"refusal", nullptr}};
    }
    if (answer.plan->token_ids) json["token_ids"] = choice.token_ids;
    return json;
  }

  std::string head_;  // of every chunk
};

}  // namespace

std::unique_ptr<AnswerFormat> chat_format() {
  return std::make_unique<ChatFormat>();
}

}  // namespace heddle::serve
