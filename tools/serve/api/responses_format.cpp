// /v1/responses: one choice, its thoughts, text and calls as output items.

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "tools/serve/api/answer.h"

namespace heddle::serve {
namespace {

/// The output items come of the reply's parts alone: those of a stream, those at its end and those
/// of a whole answer are the same.
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
    delta.in_order([&](ReplyPartKind kind, std::string_view text, const ToolDelta* tool) {
      const bool begins_call = tool != nullptr && !tool->name.empty();
      if (n_open_ == 0 || kind != part(answer, n_open_ - 1).kind || begins_call) open(answer, out);
      if (text.empty()) return;
      if (kind == ReplyPartKind::kCall) {
        event("response.function_call_arguments.delta", place(answer, {{"delta", text}}), out);
      } else if (kind == ReplyPartKind::kContent) {
        event("response.output_text.delta",
              place(answer, {{"content_index", 0}, {"delta", text}, {"logprobs", Json::array()}}),
              out);
      } else {
        event("response.reasoning_text.delta",
              place(answer, {{"content_index", 0}, {"delta", text}}), out);
      }
    });
  }

  void progress(
      const Answer&, const AnswerChoice&, const RequestEvent&, double, std::string&) override {}

  void finish(const Answer& answer, const AnswerChoice&, std::string& out) override {
    if (n_open_ == 0) open(answer, out);
    close(answer, out);
  }

  void end(const Answer& answer, std::string& out) override {
    const char* status = end_status(answer);
    event(std::string_view(status) == "incomplete" ? "response.incomplete" : "response.completed",
          {{"response", whole(answer)}}, out);
  }

  void error(const Answer& answer, const ApiErrorSpec& error, std::string& out) override {
    Json items = Json::array();
    for (std::size_t i = 0; i < n_open_; ++i) items.push_back(item(answer, i, "incomplete"));
    Json failed = response(answer, "failed", std::move(items));
    failed["error"] = {{"code", "server_error"}, {"message", error.message}};
    event("response.failed", {{"response", std::move(failed)}}, out);
  }

  Json whole(const Answer& answer) override {
    const char* status = end_status(answer);
    Json items = Json::array();
    const std::size_t n_items = std::max<std::size_t>(answer.choices[0].reply.parts.size(), 1);
    for (std::size_t i = 0; i < n_items; ++i) items.push_back(item(answer, i, status));
    return response(answer, status, std::move(items));
  }

 private:
  static const char* end_status(const Answer& answer) {
    return answer.choices[0].finish == "length" ? "incomplete" : "completed";
  }

  /// An answer without anything is an empty message.
  static ReplyPart part(const Answer& answer, std::size_t i) {
    const std::vector<ReplyPart>& parts = answer.choices[0].reply.parts;
    return i < parts.size() ? parts[i] : ReplyPart{};
  }
  static std::string item_id(const Answer& answer, std::size_t i) {
    const ReplyPartKind kind = part(answer, i).kind;
    return fmt::format("{}_{}{:04x}",
                       kind == ReplyPartKind::kReasoning ? "rs"
                       : kind == ReplyPartKind::kContent ? "msg"
                                                         : "fc",
                       answer.id, i);
  }

  static Json content_part(ReplyPartKind kind, std::string_view text) {
    if (kind == ReplyPartKind::kReasoning) return {{"type", "reasoning_text"}, {"text", text}};
    return {{"type", "output_text"},
            {"text", text},
            {"annotations", Json::array()},
            {"logprobs", Json::array()}};
  }

  /// `status` is the answer's: what is not its last item is complete, and so is a call with all its
  /// arguments.
  static Json item(const Answer& answer, std::size_t i, const char* status) {
    const Reply& reply = answer.choices[0].reply;
    const ReplyPart found = part(answer, i);
    const bool at_work = std::string_view(status) == "in_progress";
    if (i + 1 < reply.parts.size() && !at_work) status = "completed";
    Json json{{"id", item_id(answer, i)}, {"status", status}};
    if (found.kind == ReplyPartKind::kCall) {
      const ToolCall& call = reply.calls[found.begin];
      if (!at_work) json["status"] = Json::accept(call.arguments) ? "completed" : "incomplete";
      json.update({{"type", "function_call"},
                   {"call_id", call.id},
                   {"name", call.name},
                   {"arguments", at_work ? "" : call.arguments}});
      return json;
    }
    json["content"] = Json::array();
    if (!at_work) json["content"].push_back(content_part(found.kind, text(answer, i)));
    if (found.kind == ReplyPartKind::kReasoning) {
      json.update({{"type", "reasoning"}, {"summary", Json::array()}});
    } else {
      json.update({{"type", "message"}, {"role", "assistant"}});
    }
    return json;
  }

  static std::string_view text(const Answer& answer, std::size_t i) {
    const Reply& reply = answer.choices[0].reply;
    const ReplyPart found = part(answer, i);
    const std::string_view all =
        found.kind == ReplyPartKind::kReasoning ? reply.reasoning : reply.content;
    return all.substr(found.begin, found.size);
  }

  /// `fields` with the open item's place.
  Json place(const Answer& answer, Json fields) const {
    fields["item_id"] = item_id(answer, n_open_ - 1);
    fields["output_index"] = n_open_ - 1;
    return fields;
  }

  /// The next item.
  void open(const Answer& answer, std::string& out) {
    if (n_open_ > 0) close(answer, out);
    const std::size_t i = n_open_++;
    const ReplyPartKind kind = part(answer, i).kind;
    event("response.output_item.added",
          {{"output_index", i}, {"item", item(answer, i, "in_progress")}}, out);
    if (kind == ReplyPartKind::kCall) return;
    event("response.content_part.added",
          place(answer, {{"content_index", 0}, {"part", content_part(kind, "")}}), out);
  }

  void close(const Answer& answer, std::string& out) {
    const std::size_t i = n_open_ - 1;
    const ReplyPartKind kind = part(answer, i).kind;
    const Json done = item(answer, i, end_status(answer));
    if (kind == ReplyPartKind::kCall) {
      event("response.function_call_arguments.done",
            place(answer, {{"name", done["name"]}, {"arguments", done["arguments"]}}), out);
    } else {
      const bool message = kind == ReplyPartKind::kContent;
      Json all = place(answer, {{"content_index", 0}, {"text", text(answer, i)}});
      if (message) all["logprobs"] = Json::array();
      event(message ? "response.output_text.done" : "response.reasoning_text.done", std::move(all),
            out);
      event("response.content_part.done",
            place(answer, {{"content_index", 0}, {"part", done["content"][0]}}), out);
    }
    event("response.output_item.done", {{"output_index", i}, {"item", done}}, out);
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
    const bool completed = std::string_view(status) == "completed";
    const auto effort = [&]() -> Json {
      const auto reasoning = asked.find("reasoning");
      if (reasoning == asked.end() || !reasoning->is_object()) return nullptr;
      return reasoning->value("effort", Json());
    };
    Json json{{"id", "resp_" + answer.id},
              {"object", "response"},
              {"created_at", answer.created},
              {"completed_at", completed ? Json(std::time(nullptr)) : Json()},
              {"status", status},
              {"background", false},
              {"error", nullptr},
              {"incomplete_details", nullptr},
              {"instructions", given("instructions", nullptr)},
              {"max_output_tokens", given("max_output_tokens", nullptr)},
              {"max_tool_calls", nullptr},
              {"metadata", given("metadata", Json::object())},
              {"model", plan.model},
              {"output", std::move(items)},
              {"parallel_tool_calls", plan.parallel_tools},
              {"presence_penalty", sampling.presence_penalty},
              {"frequency_penalty", sampling.frequency_penalty},
              {"previous_response_id", nullptr},
              {"reasoning", {{"effort", effort()}, {"summary", nullptr}}},
              {"service_tier", "default"},
              {"store", false},
              {"temperature", given("temperature", sampling.temperature)},
              {"text", given("text", {{"format", {{"type", "text"}}}})},
              {"tool_choice", given("tool_choice", "auto")},
              {"tools", given("tools", Json::array())},
              {"top_logprobs", 0},
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
  std::size_t n_open_ = 0;  // items that were begun; the last is open
};

}  // namespace

std::unique_ptr<AnswerFormat> responses_format() {
  return std::make_unique<ResponsesFormat>();
}

}  // namespace heddle::serve
