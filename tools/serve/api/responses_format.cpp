// /v1/responses: one choice, its thoughts, text and calls as output items.

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "tools/serve/api/answer.h"

namespace heddle::serve {
namespace {

class ResponsesFormat : public AnswerFormat {
 public:
  void begin(const Answer& answer, std::string& out) override {
    event("response.created", {{"response", response(answer, "in_progress", Json::array())}}, out);
    event("response.in_progress", {{"response", response(answer, "in_progress", Json::array())}},
          out);
  }

  void piece(const Answer& answer,
             const AnswerChoice&,
             const RequestEvent&,
             const ReplyDelta& delta,
             std::string& out) override {
    if (!delta.reasoning.empty()) {
      open(answer, Item::kReasoning, out);
      reasoning_ += delta.reasoning;
      event("response.reasoning_text.delta", place({{"delta", delta.reasoning}}), out);
    }
    if (!delta.content.empty()) {
      open(answer, Item::kMessage, out);
      text_ += delta.content;
      event("response.output_text.delta",
            place({{"delta", delta.content}, {"logprobs", Json::array()}}), out);
    }
    for (const ToolDelta& tool : delta.tools) {
      if (!tool.id.empty()) {
        close(answer, "completed", out);
        call_ = {tool.id, tool.name, ""};
        open(answer, Item::kCall, out);
      }
      if (tool.arguments.empty()) continue;
      call_.arguments += tool.arguments;
      event("response.function_call_arguments.delta",
            {{"item_id", item_id_}, {"output_index", n_items_ - 1}, {"delta", tool.arguments}},
            out);
    }
  }

  void progress(
      const Answer&, const AnswerChoice&, const RequestEvent&, double, std::string&) override {}

  void finish(const Answer& answer, const AnswerChoice& choice, std::string& out) override {
    if (item_ == Item::kNone && choice.reply.calls.empty()) open(answer, Item::kMessage, out);
    close(answer, choice.finish == "length" ? "incomplete" : "completed", out);
  }

  void end(const Answer& answer, std::string& out) override {
    const bool cut = answer.choices[0].finish == "length";
    event(cut ? "response.incomplete" : "response.completed",
          {{"response", response(answer, cut ? "incomplete" : "completed", items_)}}, out);
  }

  void error(const Answer& answer, const ApiErrorSpec& error, std::string& out) override {
    Json failed = response(answer, "failed", items_);
    failed["error"] = {{"code", "server_error"}, {"message", error.message}};
    event("response.failed", {{"response", std::move(failed)}}, out);
  }

  Json whole(const Answer& answer) override {
    const AnswerChoice& choice = answer.choices[0];
    const Reply& reply = choice.reply;
    const bool cut = choice.finish == "length";
    const char* status = cut ? "incomplete" : "completed";
    Json items = Json::array();
    if (!reply.reasoning.empty()) {
      items.push_back(reasoning_item("rs_" + random_id(), reply.reasoning));
    }
    if (!reply.content.empty() || reply.calls.empty()) {
      items.push_back(message_item("msg_" + random_id(), status, reply.content));
    }
    for (const ToolCall& call : reply.calls) {
      items.push_back(call_item("fc_" + random_id(), status, call));
    }
    return response(answer, status, std::move(items));
  }

 private:
  enum class Item { kNone, kReasoning, kMessage, kCall };

  static Json text_part(const std::string& text) {
    return {{"type", "output_text"},
            {"text", text},
            {"annotations", Json::array()},
            {"logprobs", Json::array()}};
  }
  static Json reasoning_item(const std::string& id, const std::string& text) {
    return {{"id", id},
            {"type", "reasoning"},
            {"summary", Json::array()},
            {"content", {{{"type", "reasoning_text"}, {"text", text}}}}};
  }
  static Json message_item(const std::string& id, const char* status, const std::string& text) {
    return {{"id", id},
            {"type", "message"},
            {"status", status},
            {"role", "assistant"},
            {"content", {text_part(text)}}};
  }
  static Json call_item(const std::string& id, const char* status, const ToolCall& call) {
    return {{"id", id},           {"type", "function_call"}, {"status", status},
            {"call_id", call.id}, {"name", call.name},       {"arguments", call.arguments}};
  }

  Json item(const char* status) const {
    if (item_ == Item::kReasoning) return reasoning_item(item_id_, reasoning_);
    if (item_ == Item::kMessage) return message_item(item_id_, status, text_);
    return call_item(item_id_, status, call_);
  }

  Json place(Json fields) const {
    Json json{{"item_id", item_id_}, {"output_index", n_items_ - 1}, {"content_index", 0}};
    json.update(fields);
    return json;
  }

  /// The item that what comes belongs to.
  void open(const Answer& answer, Item kind, std::string& out) {
    if (item_ == kind && kind != Item::kCall) return;
    close(answer, "completed", out);
    item_ = kind;
    ++n_items_;
    item_id_ = (kind == Item::kReasoning ? "rs_"
                : kind == Item::kMessage ? "msg_"
                                         : "fc_") +
               random_id();
    Json added = item("in_progress");
    if (kind != Item::kCall) added["content"] = Json::array();
    event("response.output_item.added",
          {{"output_index", n_items_ - 1}, {"item", std::move(added)}}, out);
    if (kind == Item::kCall) return;
    event(
        "response.content_part.added",
        place({{"part", kind == Item::kMessage ? text_part("")
                                               : Json{{"type", "reasoning_text"}, {"text", ""}}}}),
        out);
  }

  void close(const Answer&, const char* status, std::string& out) {
    if (item_ == Item::kNone) return;
    const Json done = item(status);
    if (item_ == Item::kCall) {
      event("response.function_call_arguments.done",
            {{"item_id", item_id_},
             {"output_index", n_items_ - 1},
             {"name", call_.name},
             {"arguments", call_.arguments}},
            out);
    } else {
      const bool message = item_ == Item::kMessage;
      Json text = place({{"text", message ? text_ : reasoning_}});
      if (message) text["logprobs"] = Json::array();
      event(message ? "response.output_text.done" : "response.reasoning_text.done", std::move(text),
            out);
      event("response.content_part.done", place({{"part", done["content"][0]}}), out);
    }
    event("response.output_item.done", {{"output_index", n_items_ - 1}, {"item", done}}, out);
    items_.push_back(done);
    item_ = Item::kNone;
    text_.clear();
    reasoning_.clear();
  }

  void event(const char* type, Json fields, std::string& out) {
    Json json{{"type", type}, {"sequence_number", n_events_++}};
    json.update(fields);
    out += fmt::format("event: {}\n", type);
    append_event(out, to_text(json));
  }

  static Json response(const Answer& answer, const char* status, Json items) {
    const GenerationPlan& plan = *answer.plan;
    const Json& asked = *plan.echoed;
    const auto given = [&](const char* name, Json fallback) {
      return asked.contains(name) ? asked[name] : std::move(fallback);
    };
    const SamplingParams& sampling = plan.requests[0].sampling;
    const bool over = std::string_view(status) != "in_progress";
    Json json{{"id", "resp_" + answer.id},
              {"object", "response"},
              {"created_at", answer.created},
              {"status", status},
              {"background", false},
              {"error", nullptr},
              {"incomplete_details", nullptr},
              {"instructions", given("instructions", nullptr)},
              {"max_output_tokens", given("max_output_tokens", nullptr)},
              {"metadata", given("metadata", Json::object())},
              {"model", plan.model},
              {"output", std::move(items)},
              {"parallel_tool_calls", plan.parallel_tools},
              {"previous_response_id", nullptr},
              {"store", false},
              {"temperature", given("temperature", sampling.temperature)},
              {"text", given("text", {{"format", {{"type", "text"}}}})},
              {"tool_choice", given("tool_choice", "auto")},
              {"tools", given("tools", Json::array())},
              {"top_p", given("top_p", sampling.top_p)},
              {"truncation", "disabled"},
              {"usage", nullptr}};
    if (std::string_view(status) == "incomplete") {
      json["incomplete_details"] = {{"reason", "max_output_tokens"}};
    }
    if (!over) return json;
    const Json usage = usage_json(answer);
    json["usage"] = {{"input_tokens", usage["prompt_tokens"]},
                     {"input_tokens_details",
                      {{"cached_tokens", answer.n_cached_tokens()}, {"cache_write_tokens", 0}}},
                     {"output_tokens", usage["completion_tokens"]},
                     {"output_tokens_details", usage["completion_tokens_details"]},
                     {"total_tokens", usage["total_tokens"]},
                     {"heddle", usage["heddle"]}};
    return json;
  }

  std::int64_t n_events_ = 0;
  int n_items_ = 0;
  Item item_ = Item::kNone;  // the open one
  std::string item_id_;
  std::string text_;
  std::string reasoning_;
  ToolCall call_;
  Json items_ = Json::array();
};

}  // namespace

std::unique_ptr<AnswerFormat> responses_format() {
  return std::make_unique<ResponsesFormat>();
}

}  // namespace heddle::serve
