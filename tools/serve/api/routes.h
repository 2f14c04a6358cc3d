#pragma once
// Paths and methods. A path is compared as it was sent: nothing is decoded but the parameter.

#include <span>
#include <string>
#include <string_view>

#include "tools/serve/metrics.h"

namespace heddle::serve {

enum class RouteId {
  kNone,
  kPage,
  kHealth,
  kVersion,
  kMetrics,
  kOpenapi,
  kModels,
  kModel,
  kChat,
  kCompletions,
  kResponses,
  kEmbeddings,
  kTokenize,
  kDetokenize,
  kTemplate,
  kSessions,
  kSession,
};

struct RouteSpec {
  RouteId id = RouteId::kNone;
  std::string_view method;  // GET (then HEAD too) or POST
  std::string_view path;    // "{}" stands for the parameter
  RouteLabel label = RouteLabel::kOther;
  bool needs_key = true;
  std::string_view summary = {};
  bool alias = false;  // another spelling of the row before
};

std::span<const RouteSpec> route_table();

struct RouteMatch {
  RouteId id = RouteId::kNone;
  RouteLabel label = RouteLabel::kOther;
  bool allowed = false;  // the method
  bool needs_key = true;
  std::string methods = {};  // "GET, HEAD, OPTIONS"
  std::string parameter = {};
};

RouteMatch match_route(std::string_view method, std::string_view path);

}  // namespace heddle::serve
