#include "tools/serve/api/openapi.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "tools/serve/api/fields.h"
#include "tools/serve/api/routes.h"

namespace heddle::serve {
namespace {

struct Body {
  Endpoint endpoint;
  std::string_view schema;  // of the answer
  bool streams = false;
};

std::optional<Body> body_of(RouteId route) {
  switch (route) {
    case RouteId::kChat:
      return Body{Endpoint::kChat, "ChatCompletion", true};
    case RouteId::kCompletions:
      return Body{Endpoint::kCompletions, "Completion", true};
    case RouteId::kResponses:
      return Body{Endpoint::kResponses, "Response", true};
    case RouteId::kEmbeddings:
      return Body{Endpoint::kEmbeddings, "Error", false};
    case RouteId::kTokenize:
      return Body{Endpoint::kTokenize, "Tokens", false};
    case RouteId::kDetokenize:
      return Body{Endpoint::kDetokenize, "Text", false};
    case RouteId::kTemplate:
      return Body{Endpoint::kTemplate, "Prompt", false};
    default:
      return std::nullopt;
  }
}

std::string_view answer_schema(RouteId route) {
  switch (route) {
    case RouteId::kHealth:
      return "Health";
    case RouteId::kVersion:
      return "Version";
    case RouteId::kModels:
      return "ModelList";
    case RouteId::kModel:
      return "Model";
    case RouteId::kSessions:
      return "SessionList";
    case RouteId::kSession:
      return "Session";
    default:
      return "Object";
  }
}

constexpr std::string_view kSchemas = R"json({
  "Object": {"type": "object"},
  "Error": {"type": "object", "required": ["error"], "properties": {"error": {
    "type": "object", "required": ["message", "type", "param", "code"],
    "properties": {"message": {"type": "string"}, "type": {"type": "string"},
                   "param": {"type": ["string", "null"]}, "code": {"type": "string"}}}}},
  "Health": {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}},
  "Version": {"type": "object", "required": ["version"], "properties": {"version": {"type": "string"}}},
  "Model": {"type": "object", "required": ["id", "object", "created", "owned_by"], "properties": {
    "id": {"type": "string"}, "object": {"type": "string", "enum": ["model"]},
    "created": {"type": "integer"}, "owned_by": {"type": "string"}, "root": {"type": "string"},
    "max_model_len": {"type": "integer"}, "family": {"type": "string"},
    "numerics_id": {"type": "string"}}},
  "ModelList": {"type": "object", "required": ["object", "data"], "properties": {
    "object": {"type": "string", "enum": ["list"]},
    "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}}},
  "Session": {"type": "object", "required": ["id", "object"], "properties": {
    "id": {"type": "string"}, "object": {"type": "string", "enum": ["session"]},
    "saved": {"type": "boolean"}, "restored": {"type": "boolean"}, "deleted": {"type": "boolean"},
    "tokens": {"type": "integer"}, "snapshots": {"type": "integer"}, "bytes": {"type": "integer"}}},
  "SessionList": {"type": "object", "required": ["object", "data"], "properties": {
    "object": {"type": "string", "enum": ["list"]},
    "data": {"type": "array", "items": {"$ref": "#/components/schemas/Session"}}}},
  "Tokens": {"type": "object", "required": ["count", "max_model_len", "tokens"], "properties": {
    "count": {"type": "integer"}, "max_model_len": {"type": "integer"},
    "tokens": {"type": "array", "items": {"type": "integer"}},
    "token_strs": {"type": "array", "items": {"type": "string"}}}},
  "Text": {"type": "object", "required": ["prompt", "content"], "properties": {
    "prompt": {"type": "string"}, "content": {"type": "string"}}},
  "Prompt": {"type": "object", "required": ["prompt", "tokens"], "properties": {
    "prompt": {"type": "string"}, "count": {"type": "integer"},
    "tokens": {"type": "array", "items": {"type": "integer"}}}},
  "Usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {"prompt_tokens": {"type": "integer"}, "completion_tokens": {"type": "integer"},
      "total_tokens": {"type": "integer"}, "prompt_tokens_details": {"type": "object"},
      "completion_tokens_details": {"type": "object"},
      "heddle": {"type": "object", "properties": {"cached_tokens": {"type": "integer"},
        "replayed_tokens": {"type": "integer"}, "known_tokens": {"type": "integer"},
        "not_reused": {"type": ["string", "null"], "enum": ["none", "no_prefix", "diverged_at",
          "no_snapshot", "evicted", "scope", "too_short", "disabled", null]}}}}},
  "ChatCompletion": {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
    "properties": {"id": {"type": "string"}, "object": {"type": "string", "enum": ["chat.completion"]},
      "created": {"type": "integer"}, "model": {"type": "string"},
      "system_fingerprint": {"type": "string"},
      "choices": {"type": "array", "minItems": 1, "items": {"type": "object",
        "required": ["index", "message", "logprobs", "finish_reason"], "properties": {
          "index": {"type": "integer"},
          "message": {"type": "object", "required": ["role", "content", "refusal"], "properties": {
            "role": {"type": "string", "enum": ["assistant"]}, "content": {"type": ["string", "null"]},
            "refusal": {"type": "null"}, "reasoning_content": {"type": "string"},
            "tool_calls": {"type": "array", "minItems": 1, "items": {"type": "object"}}}},
          "logprobs": {"type": ["object", "null"]},
          "finish_reason": {"type": "string", "enum": ["stop", "length", "tool_calls"]},
          "token_ids": {"type": "array", "items": {"type": "integer"}}}}},
      "usage": {"$ref": "#/components/schemas/Usage"}, "prompt_logprobs": {"type": "array"},
      "prompt_token_ids": {"type": "array", "items": {"type": "integer"}}}},
  "Completion": {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
    "properties": {"id": {"type": "string"}, "object": {"type": "string", "enum": ["text_completion"]},
      "created": {"type": "integer"}, "model": {"type": "string"},
      "choices": {"type": "array", "minItems": 1, "items": {"type": "object",
        "required": ["index", "text", "logprobs", "finish_reason"], "properties": {
          "index": {"type": "integer"}, "text": {"type": "string"},
          "logprobs": {"type": ["object", "null"]},
          "finish_reason": {"type": "string", "enum": ["stop", "length"]},
          "prompt_logprobs": {"type": "array"},
          "prompt_token_ids": {"type": "array", "items": {"type": "integer"}},
          "token_ids": {"type": "array", "items": {"type": "integer"}}}}},
      "usage": {"$ref": "#/components/schemas/Usage"}}},
  "Response": {"type": "object", "required": ["id", "object", "created_at", "status", "model", "output"],
    "properties": {"id": {"type": "string"}, "object": {"type": "string", "enum": ["response"]},
      "created_at": {"type": "integer"}, "model": {"type": "string"},
      "status": {"type": "string", "enum": ["completed", "incomplete"]},
      "output": {"type": "array", "items": {"type": "object"}}}}
})json";

Json content(std::string_view schema) {
  return {{"application/json",
           {{"schema", {{"$ref", "#/components/schemas/" + std::string(schema)}}}}}};
}

Json request_body(const Body& body, const ServerLimits& limits) {
  Json properties = Json::object();
  Json required = Json::array();
  for (const FieldSpec* field : fields_of(body.endpoint)) {
    properties[std::string(field->name)] = field_schema(*field, limits);
    if (field->required) required.push_back(field->name);
  }
  Json schema{{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  return {{"required", true}, {"content", {{"application/json", {{"schema", std::move(schema)}}}}}};
}

/// The aliases' paths: "/models, /v2/models".
std::string other_paths(const RouteSpec& route) {
  std::string paths;
  for (const RouteSpec& other : route_table()) {
    if (!other.alias || other.id != route.id) continue;
    if (!paths.empty()) paths += ", ";
    const std::size_t at = other.path.find("{}");
    paths += at == std::string_view::npos ? std::string(other.path)
                                          : std::string(other.path.substr(0, at)) + "{id}";
  }
  return paths;
}

Json operation(const RouteSpec& route, const ServerLimits& limits) {
  Json responses = Json::object();
  const auto body = body_of(route.id);
  Json ok{{"description", "the answer"}};
  if (route.id == RouteId::kPage) {
    ok["content"] = {{"text/html", {{"schema", {{"type", "string"}}}}}};
  } else if (route.id == RouteId::kMetrics) {
    ok["content"] = {{"text/plain", {{"schema", {{"type", "string"}}}}}};
  } else {
    ok["content"] = content(body ? body->schema : answer_schema(route.id));
  }
  if (body && body->streams) {
    ok["content"]["text/event-stream"] = {{"schema", {{"type", "string"}}}};
  }
  if (route.id != RouteId::kEmbeddings) responses["200"] = std::move(ok);
  const auto error = [&](const char* status, const char* what) {
    responses[status] = {{"description", what}, {"content", content("Error")}};
  };
  if (route.needs_key) error("401", "a key is needed, or another");
  error("400", "a request that cannot be answered");
  error("405", "another method than the path has");
  error("408", "it did not arrive in time");
  error("413", "a body over the limit");
  error("414", "a target over the limit");
  error("417", "an Expect that is not 100-continue");
  error("431", "a head over the limit");
  error("505", "another version of HTTP");
  if (body) {
    error("404", "another model");
    error("403", "a page of another site asks, and --cors-origin does not name it");
    error("415", "not JSON");
    error("429", "too busy");
  }
  if (route.path.find("{}") != std::string_view::npos) error("404", "not known");
  if (route.id == RouteId::kSession) {
    error("403", "a page of another site asks, and --cors-origin does not name it");
    error("501", "there is no --session-dir");
  }
  error("500", "a failure of ours");
  error("503", "draining, stalled, dead, or no connection left");
  Json out{{"summary", route.summary}, {"responses", std::move(responses)}};
  if (const std::string others = other_paths(route); !others.empty()) {
    out["description"] = "The same at " + others + ".";
  }
  if (body) out["requestBody"] = request_body(*body, limits);
  if (!route.needs_key) out["security"] = Json::array();
  return out;
}

Json parameter(const char* name, const char* pattern) {
  return {{"name", name},
          {"in", "path"},
          {"required", true},
          {"schema", {{"type", "string"}, {"pattern", pattern}}}};
}

}  // namespace

Json openapi_document(const ServerLimits& limits, const std::string& version) {
  Json paths = Json::object();
  for (const RouteSpec& route : route_table()) {
    if (route.alias) continue;
    std::string path(route.path);
    Json parameters = Json::array();
    if (route.id == RouteId::kModel) {
      path.replace(path.find("{}"), 2, "{id}");
      parameters.push_back(parameter("id", "^[^/?#]+$"));
    } else if (route.id == RouteId::kSession) {
      path.replace(path.find("{}"), 2, "{id}/{action}");
      parameters.push_back(parameter("id", "^[A-Za-z0-9_-]{1,64}$"));
      parameters.push_back(parameter("action", "^(save|restore|delete)$"));
    }
    Json entry = operation(route, limits);
    if (!parameters.empty()) entry["parameters"] = std::move(parameters);
    paths[path][route.method == "GET" ? "get" : "post"] = std::move(entry);
  }
  return {{"openapi", "3.1.0"},
          {"info",
           {{"title", "Heddle"},
            {"version", version},
            {"description", "OpenAI-compatible server of one model. Errors have OpenAI's form."}}},
          {"paths", std::move(paths)},
          {"components",
           {{"schemas", Json::parse(kSchemas)},
            {"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}},
          {"security", {{{"key", Json::array()}}, Json::object()}}};
}

}  // namespace heddle::serve
