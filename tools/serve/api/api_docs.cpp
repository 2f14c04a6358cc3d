#include "tools/serve/api/api_docs.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>
#include <string_view>

#include "tools/serve/api/fields.h"
#include "tools/serve/api/routes.h"

namespace heddle::serve {
namespace {

struct ErrorRow {
  std::string_view status;
  std::string_view code;
  std::string_view when;
};

constexpr ErrorRow kErrors[] = {
    {"400", "invalid_json", "the body is not one JSON object in UTF-8, or has a key twice"},
    {"400", "invalid_type", "a field has another type"},
    {"400", "invalid_value",
     "a field is out of its range; of an answer under way: its grammar leaves it no token (of a "
     "stream an event)"},
    {"400", "missing_required_parameter", "a field is missing"},
    {"400", "unsupported_parameter", "a field is known, but not to be had here"},
    {"400", "unknown_parameter",
     "a member of `stream_options` is not known; with `--strict-fields`: a field is not"},
    {"400", "context_length_exceeded",
     "prompt and answer do not fit; the message has both numbers"},
    {"400", "invalid_token_id", "a token id is none of the vocabulary"},
    {"400", "unsupported_value", "`tool_choice` is of a type that is not to be had here"},
    {"400", "unsupported_schema", "a JSON Schema that cannot be kept to (structured_output.md)"},
    {"400", "chat_template_error", "the chat template refuses the messages, or there is none"},
    {"400", "unsupported_model", "the model cannot do this"},
    {"400", "session_error", "a saved session cannot be restored"},
    {"400", "bad_request", "a request that is not HTTP/1.1 as it must be"},
    {"401", "invalid_api_key", "a key is needed, or is another"},
    {"403", "origin_not_allowed",
     "a page of another site asks, and `--cors-origin` does not name it"},
    {"404", "model_not_found", "the model is not served here"},
    {"404", "session_not_found", "no such session"},
    {"404", "unknown_url", "no such path"},
    {"405", "method_not_allowed", "header `allow` names those that are"},
    {"408", "request_timeout", "the request did not arrive in time"},
    {"413", "body_too_large", ""},
    {"414", "uri_too_long", ""},
    {"415", "unsupported_media_type, unsupported_encoding", "a body is JSON, as it stands"},
    {"417", "expectation_failed", "`Expect` may be `100-continue`"},
    {"429", "rate_limit_exceeded",
     "the queue is full, or the key's share of it: come again after `retry-after` seconds"},
    {"431", "header_too_large", ""},
    {"500", "internal_error", "a failure of ours; `x-should-retry: false` where it would repeat"},
    {"500", "numeric_error", "the model's logits are not finite (of a stream an event)"},
    {"500", "session_error",
     "a session cannot be saved: a full disk, a folder that takes no files"},
    {"501", "sessions_off, unsupported_encoding", ""},
    {"503", "draining", "the server is shutting down"},
    {"503", "engine_stalled, engine_dead", "the engine makes no progress, or has ended"},
    {"503", "server_is_overloaded", "too many connections"},
    {"503", "queue_timeout",
     "the request has not begun within `--queue-seconds`; of a stream an event, for its status is "
     "sent once the request is queued"},
    {"505", "http_version", "HTTP/1.1 and HTTP/1.0 are spoken"},
};

std::string number(double value) {
  if (value == std::floor(value) && std::fabs(value) < 1e15) return fmt::format("{:.0f}", value);
  if (std::fabs(value) == 0x1p63) return value < 0 ? "-2^63" : "2^63 - 1";
  return fmt::format("{}", value);
}

std::string type_of(const FieldSpec& field) {
  constexpr std::string_view kNames[] = {"boolean", "integer", "number", "string",
                                         "string",  "array",   "object", "any"};
  std::string text(kNames[static_cast<std::size_t>(field.kind)]);
  if (!std::isinf(field.low) || !std::isinf(field.high)) {
    text += fmt::format(" {}{} .. {}", field.low_open ? "> " : "", number(field.low),
                        number(field.high));
  }
  if (!field.choices.empty()) text += fmt::format(": {}", field.choices);
  return text;
}

/// '|' would end a cell.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

void fields(std::string& out, std::string_view path, Endpoint endpoint) {
  fmt::format_to(std::back_inserter(out),
                 "\n### POST {}\n| field | type | meaning | default |\n| --- | --- | --- | --- |\n",
                 path);
  std::string refused;
  std::string neutral;
  for (const FieldSpec* field : fields_of(endpoint)) {
    if (field->support == Support::kRefused) {
      refused += fmt::format(
          "{}`{}` ({}{})", refused.empty() ? "" : ", ", field->name, field->help,
          field->harmless.empty()
              ? std::string()
              : fmt::format("; taken: {}", field->harmless.substr(1, field->harmless.size() - 2)));
      continue;
    }
    if (field->support == Support::kNeutral) {
      neutral += fmt::format("{}`{}`", neutral.empty() ? "" : ", ", field->name);
      continue;
    }
    fmt::format_to(std::back_inserter(out), "| `{}` | {} | {} | {} |\n", field->name,
                   type_of(*field), cell(field->help),
                   field->required ? "required" : cell(field->fallback));
  }
  if (!neutral.empty()) {
    fmt::format_to(std::back_inserter(out), "\nTaken without effect: {}.\n", neutral);
  }
  if (!refused.empty()) {
    fmt::format_to(std::back_inserter(out), "\nKnown and refused: {}.\n", refused);
  }
}

}  // namespace

std::string api_markdown(const ServerLimits& limits) {
  std::string out = "## Routes\n| | | key | |\n| --- | --- | --- | --- |\n";
  for (const RouteSpec& route : route_table()) {
    fmt::format_to(std::back_inserter(out), "| {} | `{}` | {} | {} |\n", route.method, route.path,
                   route.needs_key ? "yes" : "", route.alias ? "the same" : route.summary);
  }
  out += "\n## Fields\n";
  fields(out, "/v1/chat/completions", Endpoint::kChat);
  fields(out, "/v1/completions", Endpoint::kCompletions);
  fields(out, "/v1/responses", Endpoint::kResponses);
  fields(out, "/tokenize", Endpoint::kTokenize);
  fields(out, "/detokenize", Endpoint::kDetokenize);
  fields(out, "/apply-template", Endpoint::kTemplate);
  out += "\n## Errors\n| status | `code` | when |\n| --- | --- | --- |\n";
  for (const ErrorRow& row : kErrors) {
    fmt::format_to(std::back_inserter(out), "| {} | `{}` | {} |\n", row.status, row.code, row.when);
  }
  out += "\n## Limits\n`heddle serve --show-limits` prints those in force:\n\n```\n";
  out += describe(limits);
  out += "```\n";
  return out;
}

}  // namespace heddle::serve
