#pragma once
// What /metrics tells: Prometheus' text format, vLLM's names where there is one. The series are
// fixed: nothing of a request becomes a name or a label.

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/serve/engine_host.h"
#include "tools/serve/http/server.h"

namespace heddle::serve {

/// Counts of values by upper bounds; for any thread, without a lock.
class Histogram {
 public:
  static constexpr std::size_t kMostBounds = 24;
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds) {}
  void observe(double value);
  void write(std::string& out, std::string_view name, std::string_view labels) const;

 private:
  std::span<const double> bounds_;  // static
  std::array<std::atomic<std::uint64_t>, kMostBounds + 1> counts_ = {};
  std::atomic<std::uint64_t> sum_micro_{0};  // of the values, in millionths
};

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
  std::atomic<std::uint64_t> prompt_tokens{0};
  std::atomic<std::uint64_t> cached_tokens{0};
  Histogram time_to_first_token;
  Histogram inter_token_latency;
  Histogram e2e_latency;
  Histogram prompt_length;
  Histogram answer_length;
};

}  // namespace heddle::serve
