#include "tools/serve/api/routes.h"

#include <optional>

namespace heddle::serve {
namespace {

constexpr RouteSpec kRoutes[] = {
    {RouteId::kPage, "GET", "/", RouteLabel::kPage, false, "the chat page"},
    {RouteId::kHealth, "GET", "/health", RouteLabel::kHealth, false,
     "200 while the engine makes progress, else 503"},
    {RouteId::kHealth, "GET", "/ready", RouteLabel::kHealth, false, "same as /health", true},
    {RouteId::kVersion, "GET", "/version", RouteLabel::kOther, true, "the program's version"},
    {RouteId::kMetrics, "GET", "/metrics", RouteLabel::kMetrics, true,
     "metrics in Prometheus' text format"},
    {RouteId::kOpenapi, "GET", "/openapi.json", RouteLabel::kOther, true, "this document"},
    {RouteId::kModels, "GET", "/v1/models", RouteLabel::kModels, true, "the served model"},
    {RouteId::kModels, "GET", "/models", RouteLabel::kModels, true, "", true},
    {RouteId::kModel, "GET", "/v1/models/{}", RouteLabel::kModels, true, "one model"},
    {RouteId::kModel, "GET", "/models/{}", RouteLabel::kModels, true, "", true},
    {RouteId::kChat, "POST", "/v1/chat/completions", RouteLabel::kChat, true,
     "the answer to a conversation"},
    {RouteId::kCompletions, "POST", "/v1/completions", RouteLabel::kCompletions, true,
     "what follows a text"},
    {RouteId::kResponses, "POST", "/v1/responses", RouteLabel::kResponses, true,
     "the answer to a conversation, as output items; nothing is kept"},
    {RouteId::kEmbeddings, "POST", "/v1/embeddings", RouteLabel::kEmbeddings, true,
     "400: no model here has a pooling head"},
    {RouteId::kTokenize, "POST", "/tokenize", RouteLabel::kTokens, true, "text to token ids"},
    {RouteId::kTokenize, "POST", "/v1/tokenize", RouteLabel::kTokens, true, "", true},
    {RouteId::kDetokenize, "POST", "/detokenize", RouteLabel::kTokens, true, "token ids to text"},
    {RouteId::kDetokenize, "POST", "/v1/detokenize", RouteLabel::kTokens, true, "", true},
    {RouteId::kTemplate, "POST", "/apply-template", RouteLabel::kTokens, true,
     "a conversation as the text of a prompt"},
    {RouteId::kSessions, "GET", "/v1/sessions", RouteLabel::kSessions, true,
     "conversations by session_id"},
    {RouteId::kSession, "POST", "/v1/sessions/{}", RouteLabel::kSessions, true,
     "save, restore or delete one"},
};

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// nullopt: a broken escape, or one of a control character.
std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int value = hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]);
    if (hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0 || value < 0x20) {
      return std::nullopt;
    }
    out += static_cast<char>(value);
    i += 2;
  }
  return out;
}

bool is_session_call(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash > 64) return false;
  const std::string_view action = text.substr(slash + 1);
  if (action != "save" && action != "restore" && action != "delete") return false;
  return text.substr(0, slash).find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
         std::string_view::npos;
}

std::optional<std::string> parameter_of(const RouteSpec& route, std::string_view path) {
  const std::size_t at = route.path.find("{}");
  if (at == std::string_view::npos) {
    return path == route.path ? std::optional(std::string()) : std::nullopt;
  }
  if (!path.starts_with(route.path.substr(0, at)) || path.size() <= at) return std::nullopt;
  auto parameter = decoded(path.substr(at));
  if (parameter && route.id == RouteId::kSession && !is_session_call(*parameter)) {
    return std::nullopt;
  }
  return parameter;
}

}  // namespace

std::span<const RouteSpec> route_table() {
  return kRoutes;
}

RouteMatch match_route(std::string_view method, std::string_view path) {
  for (const RouteSpec& route : kRoutes) {
    auto parameter = parameter_of(route, path);
    if (!parameter) continue;
    const bool get = route.method == "GET";
    return {.id = route.id,
            .label = route.label,
            .allowed = method == route.method || (get && method == "HEAD"),
            .needs_key = route.needs_key,
            .methods = get ? "GET, HEAD, OPTIONS" : "POST, OPTIONS",
            .parameter = std::move(*parameter)};
  }
  return {};
}

}  // namespace heddle::serve
