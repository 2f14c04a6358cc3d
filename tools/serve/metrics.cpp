#include "tools/serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/log.h"

namespace heddle::serve {
namespace {

constexpr double kSeconds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25, 0.5,
                               0.75,  1.0,   2.5,  5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0};
constexpr double kTokens[] = {1,    2,    5,     10,    20,    50,     100,    200,    500,    1000,
                              2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000};

void head(std::string& out, std::string_view name, std::string_view type, std::string_view help) {
  fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

template <typename T>
void sample(std::string& out, std::string_view name, std::string_view labels, T value) {
  fmt::format_to(std::back_inserter(out), "{}{{{}}} {}\n", name, labels, value);
}

template <typename T>
void gauge(std::string& out,
           std::string_view name,
           std::string_view labels,
           T value,
           std::string_view help) {
  head(out, name, "gauge", help);
  sample(out, name, labels, value);
}

template <typename T>
void counter(std::string& out,
             std::string_view name,
             std::string_view labels,
             T value,
             std::string_view help) {
  head(out, name, "counter", help);
  sample(out, name, labels, value);
}

double share(std::int64_t used, std::int64_t all) {
  return all > 0 ? static_cast<double>(used) / static_cast<double>(all) : 0.0;
}

/// A model's name as the value of a label.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

void write_pools(std::string& out, std::string_view labels, const EngineStats& s) {
  const double kv = share(s.kv_blocks_used, s.kv_blocks);
  const double state = share(s.state_slots_used, s.state_slots);
  gauge(out, "vllm:kv_cache_usage_perc", labels, std::max(kv, state),
        "Share of the fuller of both pools (KV blocks, state slots) that requests use, 0 to 1.");
  gauge(out, "heddle:kv_pool_usage", labels, kv, "Share of the KV blocks that requests use.");
  gauge(out, "heddle:state_pool_usage", labels, state,
        "Share of the state slots that requests use.");
  gauge(out, "heddle:kv_blocks_cached", labels, s.kv_blocks_cached,
        "KV blocks that are kept of prefixes alone.");
  gauge(out, "heddle:snapshots", labels, s.snapshots, "Snapshots of recurrent states.");
  gauge(out, "heddle:host_blocks", labels, s.host_blocks, "KV blocks in host memory.");
  gauge(out, "heddle:host_snapshots", labels, s.host_snapshots, "Snapshots in host memory.");
  counter(out, "heddle:evicted_blocks_total", labels, s.evicted_blocks,
          "KV blocks of cached prefixes that had to go.");
  counter(out, "heddle:evicted_snapshots_total", labels, s.evicted_snapshots,
          "Snapshots that had to go.");
}

void write_reuse(std::string& out, std::string_view labels, const EngineStats& s) {
  counter(out, "vllm:prefix_cache_queries_total", labels, s.prompt_tokens,
          "Prompt tokens of requests that have begun.");
  counter(out, "vllm:prefix_cache_hits_total", labels, s.cached_tokens,
          "Of these, tokens that the prefix cache had.");
  counter(out, "heddle:replayed_tokens_total", labels, s.replayed_tokens,
          "Known tokens that were computed again for want of a state.");
  head(out, "heddle:not_reused_total", "counter",
       "Requests by the reason why not more of their prompt was reused.");
  for (const auto& [reason, n] : s.not_reused) {
    sample(out, "heddle:not_reused_total", fmt::format(R"({},reason="{}")", labels, reason), n);
  }
  counter(out, "heddle:verify_checked_total", labels, s.verify.checked,
          "Cache hits that were computed again, cold.");
  counter(out, "heddle:verify_mismatches_total", labels, s.verify.mismatches,
          "Of these, those that differed.");
}

}  // namespace

std::string_view name(RouteLabel route) {
  constexpr std::string_view kNames[] = {"chat",    "completions", "responses", "embeddings",
                                         "models",  "tokens",      "sessions",  "health",
                                         "metrics", "page",        "other"};
  static_assert(std::size(kNames) == kRouteLabels);
  return kNames[static_cast<std::size_t>(route)];
}

ServerMetrics::ServerMetrics()
    : time_to_first_token(kSeconds),
      inter_token_latency(kSeconds),
      e2e_latency(kSeconds),
      queue_time(kSeconds),
      prefill_time(kSeconds),
      decode_time(kSeconds),
      inference_time(kSeconds),
      prompt_length(kTokens),
      answer_length(kTokens) {}

void ServerMetrics::count_reply(RouteLabel route, int status) {
  const auto kind = static_cast<std::size_t>(std::clamp(status / 100, 0, 5));
  replies[static_cast<std::size_t>(route)][kind].fetch_add(1, std::memory_order_relaxed);
}

std::string ServerMetrics::write(const EngineHost& host, const HttpServerStats& http) const {
  const EngineStats s = host.stats();
  const ModelFacts& facts = host.facts();
  const std::string labels = fmt::format(R"(model_name="{}")", escaped(facts.id));
  std::string out;
  gauge(out, "vllm:num_requests_running", labels, s.running, "Sequences that are computed.");
  gauge(out, "vllm:num_requests_waiting", labels,
        std::max<std::int64_t>(host.n_open() - s.running, s.waiting), "Requests that wait.");
  write_pools(out, labels, s);
  gauge(out, "vllm:cache_config_info",
        fmt::format(R"({},block_size="{}",num_gpu_blocks="{}")", labels, facts.block_tokens,
                    s.kv_blocks),
        1, "Sizes of the KV cache.");
  write_reuse(out, labels, s);
  gauge(out, "heddle:snapshot_bytes", labels,
        static_cast<std::uint64_t>(s.snapshots) * facts.snapshot_bytes,
        "Memory of the snapshots of recurrent states, without those in host memory.");
  counter(out, "heddle:snapshot_hits_total", labels, snapshot_hits.load(),
          "Prompts that went on from a snapshot.");
  counter(out, "vllm:num_preemptions_total", labels, s.preemptions, "Preempted sequences.");
  counter(out, "vllm:prompt_tokens_total", labels, prompt_tokens.load(),
          "Tokens of the prompts of choices that are begun, cached ones too.");
  counter(out, "vllm:generation_tokens_total", labels, generation_tokens.load(),
          "Tokens of answers.");
  head(out, "vllm:request_success_total", "counter", "Answers by how they ended.");
  for (const auto& [reason, n] : {std::pair<std::string_view, std::uint64_t>("stop", finished_stop),
                                  {"length", finished_length},
                                  {"tool_calls", finished_tools},
                                  {"abort", finished_abort},
                                  {"error", finished_error}}) {
    sample(out, "vllm:request_success_total",
           fmt::format(R"({},finished_reason="{}")", labels, reason), n);
  }
  counter(out, "heddle:disconnected_total", labels, disconnected.load(),
          "Requests whose client went away.");
  for (const auto& [name, histogram, help] :
       {std::tuple("vllm:time_to_first_token_seconds", &time_to_first_token,
                   "From the request to its first token."),
        std::tuple("vllm:inter_token_latency_seconds", &inter_token_latency,
                   "Between two tokens of one choice."),
        std::tuple("vllm:e2e_request_latency_seconds", &e2e_latency, "Of whole answers."),
        std::tuple("vllm:request_queue_time_seconds", &queue_time,
                   "From the request to the step that begins it."),
        std::tuple("vllm:request_prefill_time_seconds", &prefill_time,
                   "From that step to the first token."),
        std::tuple("vllm:request_decode_time_seconds", &decode_time,
                   "From the first token to the last."),
        std::tuple("vllm:request_inference_time_seconds", &inference_time,
                   "From the step that begins a request to its last token."),
        std::tuple("vllm:request_prompt_tokens", &prompt_length, "Tokens of a request's prompts."),
        std::tuple("vllm:request_generation_tokens", &answer_length,
                   "Tokens of a request's answers.")}) {
    head(out, name, "histogram", help);
    histogram->write(out, name, labels);
  }
  if (facts.step_tokens != nullptr) {
    head(out, "vllm:iteration_tokens_total", "histogram", "Tokens that a step computes.");
    facts.step_tokens->write(out, "vllm:iteration_tokens_total", labels);
  }
  head(out, "heddle:http_replies_total", "counter", "Answers by route and status class.");
  for (std::size_t route = 0; route < kRouteLabels; ++route) {
    for (std::size_t kind = 2; kind < 6; ++kind) {
      sample(out, "heddle:http_replies_total",
             fmt::format(R"(route="{}",status="{}xx")", name(static_cast<RouteLabel>(route)), kind),
             replies[route][kind].load());
    }
  }
  head(out, "heddle:log_lines_dropped_total", "counter", "Lines that the log did not take.");
  fmt::format_to(std::back_inserter(out), "heddle:log_lines_dropped_total {}\n",
                 dropped_log_lines());
  head(out, "heddle:http_connections", "gauge", "Open connections.");
  fmt::format_to(std::back_inserter(out), "heddle:http_connections {}\n", http.connections);
  head(out, "heddle:http_turned_away_total", "counter", "Connections over a limit.");
  fmt::format_to(std::back_inserter(out), "heddle:http_turned_away_total {}\n", http.turned_away);
  return out;
}

}  // namespace heddle::serve
