#pragma once
// What /metrics tells: Prometheus' text format, vLLM's names where there is one. The series are
// fixed: nothing of a request becomes a name or a label.

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "tools/serve/engine_host.h"
#include "tools/serve/histogram.h"
#include "tools/serve/http/server.h"

namespace heddle::serve {

/// The routes that requests are counted by; anything else is "other".
enum class RouteLabel {
  kChat,
  kCompletions,
  kResponses,
  kEmbeddings,
  kModels,
  kTokens,
  kSessions,
  kHealth,
  kMetrics,
  kPage,
  kOther,
};
inline constexpr std::size_t kRouteLabels = 11;
std::string_view name(RouteLabel route);

struct ServerMetrics {
  ServerMetrics();
  void count_reply(RouteLabel route, int status);
  std::string write(const EngineHost& host, const HttpServerStats& http) const;

  std::array<std::array<std::atomic<std::uint64_t>, 6>, kRouteLabels> replies = {};  // status / 100
  std::atomic<std::uint64_t> finished_stop{0};
  std::atomic<std::uint64_t> finished_length{0};
  std::atomic<std::uint64_t> finished_tools{0};
  std::atomic<std::uint64_t> finished_abort{0};  // the client went
  std::atomic<std::uint64_t> finished_error{0};
  std::atomic<std::uint64_t> disconnected{0};
  std::atomic<std::uint64_t> generation_tokens{0};
  std::atomic<std::uint64_t> prompt_tokens{0};  // of prompts that are begun
  std::atomic<std::uint64_t> snapshot_hits{0};
  Histogram time_to_first_token;
  Histogram inter_token_latency;
  Histogram e2e_latency;
  Histogram queue_time;      // from the request to the step that begins it
  Histogram prefill_time;    // from there to its first token
  Histogram decode_time;     // from there to its last token
  Histogram inference_time;  // the last two together
  Histogram prompt_length;
  Histogram answer_length;
};

}  // namespace heddle::serve
