#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "engine/engine.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/commit.h"
#include "tools/heddle/io.h"
#include "tools/heddle/options.h"
#include "tools/heddle/serve_options.h"
#include "tools/serve/driver.h"
#include "tools/serve/engine_host.h"
#include "tools/serve/http/server.h"
#include "tools/serve/service.h"
#include "tools/serve/session_folder.h"
#include "tools/serve/shutdown_signals.h"
#include "tools/serve/thread_states.h"

namespace heddle::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kFlushSeconds = 2.0;  // for what was written to reach its clients

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

serve::HttpServerOptions http_options(const Arguments& args, const serve::ServerLimits& limits) {
  if (args.text("host") == "") throw bad_input("--host: got '', allowed: a name or an address");
  serve::HttpServerOptions options{
      .host = args.text("host").value_or("127.0.0.1"),
      .port = static_cast<std::uint16_t>(args.integer("port").value_or(8080)),
      .tls_certificate = args.text("tls-cert").value_or(""),
      .tls_key = args.text("tls-key").value_or(""),
      .threads = static_cast<int>(args.integer("http-threads").value_or(1)),
      .limits = limits};
  if (options.tls_certificate.empty() != options.tls_key.empty()) {
    throw bad_input("--tls-cert and --tls-key: one needs the other");
  }
  return options;
}

/// As many descriptors as its connections may need, if the system lets it.
void raise_descriptor_limit(const serve::ServerLimits& limits) {
  constexpr rlim_t kOthers = 512;  // files, and connections that are turned away
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = static_cast<rlim_t>(limits.connections) + kOthers;
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::vector<std::string> api_keys(const Arguments& args) {
  const std::vector<std::string> keys = args.texts("api-key");
  for (const std::string& key : keys) {
    const bool clean = !key.empty() && key.find_first_of(" \t\r\n") == std::string::npos;
    if (!clean) throw bad_input("--api-key: a key is empty or holds white space");
  }
  if (args.integer("max-per-key").value_or(0) > 0 && keys.size() < 2) {
    throw bad_input("--max-per-key: it is for several --api-key; one client has --max-queue");
  }
  return keys;
}

/// Of several keys none can fill the queue: each has its share.
serve::HostOptions host_options(const Arguments& args,
                                const serve::ServerLimits& limits,
                                std::int64_t max_sequences,
                                std::int64_t n_keys) {
  serve::HostOptions options{.most_open = limits.queue + max_sequences,
                             .most_open_tokens = limits.queue_tokens,
                             .stall_seconds = args.number("stall-seconds").value_or(60.0)};
  if (n_keys > 1) {
    const std::int64_t share = std::max<std::int64_t>(1, options.most_open / n_keys);
    options.most_open_of_client = limits.queue_of_key > 0 ? limits.queue_of_key : share;
    options.most_open_tokens_of_client = options.most_open_tokens / n_keys;
  }
  return options;
}

std::string cors_origin(const Arguments& args) {
  const auto origin = args.text("cors-origin");
  if (!origin) return "";
  const bool clean = std::ranges::all_of(*origin, [](char c) { return c > 0x20 && c < 0x7f; });
  const std::size_t host = origin->find("://");
  const bool whole = host != std::string::npos && host + 3 < origin->size() &&
                     origin->find_first_of("/?#", host + 3) == std::string::npos;
  if (*origin != "*" && (!clean || !whole)) {
    throw bad_input("--cors-origin: allowed are * and an origin like https://chat.example.com");
  }
  return *origin;
}

/// Until a signal comes or the engine dies.
void wait_for_end(const serve::ShutdownSignals& signals, const serve::EngineHost& host) {
  bool stalled = false;
  while (!signals.wait(0.2) && host.state() != serve::HostState::kDead) {
    const bool now = host.state() == serve::HostState::kStalled;
    if (now && !stalled) {
      log(LogLevel::kError, "the engine has not ended its step for a long time: /health is 503");
      for (const std::string& state : serve::thread_states()) log(LogLevel::kError, state);
    }
    stalled = now;
  }
}

/// What runs may end; what does not is told so.
void drain(const Arguments& args,
           serve::EngineHost& host,
           const serve::Service& service,
           serve::HttpServer& http) {
  const double most = args.number("drain-seconds").value_or(30.0);
  host.drain();
  http.drain();
  log_warning(fmt::format("draining: {} requests are open", host.n_open()));
  const auto wait_while = [&](auto condition, double seconds) {
    const auto start = Clock::now();
    while (condition() && seconds_since(start) < seconds) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  };
  const auto open = [&] { return host.n_open() > 0 || service.n_reading() > 0; };
  wait_while([&] { return open() && host.state() != serve::HostState::kDead; }, most);
  if (open()) host.cancel_all("draining");
  wait_while(open, kFlushSeconds);
  wait_while([&] { return http.stats().connections > 0; }, kFlushSeconds);
}

}  // namespace

int run_serve(const Arguments& args) {
  const serve::ServerLimits limits = server_limits(args);
  if (args.on("show-limits")) {
    write_stdout(describe(limits));
    return 0;
  }
  const auto start = Clock::now();
  raise_descriptor_limit(limits);
  serve::ServiceOptions service_options{.api_keys = api_keys(args),
                                        .strict_fields = args.on("strict-fields"),
                                        .cors_origin = cors_origin(args),
                                        .session_folder = args.text("session-dir").value_or(""),
                                        .version = program_version(),
                                        .limits = limits};
  // In the order of who uses whom. All that can be wrong without the model is told before it is
  // loaded.
  std::unique_ptr<serve::EngineHost> host;
  std::unique_ptr<serve::Service> service;
  serve::HttpServer http(
      http_options(args, limits), [&](auto exchange) { service->handle(std::move(exchange)); },
      [&](const serve::Refusal& refusal) { return service->refuse(refusal); },
      [&](const serve::HttpRequest& head) { return service->check_head(head); });
  const serve::SessionFolder check(service_options.session_folder);
  serve::ModelFacts facts = server_facts(args);
  const EngineOptions options = server_engine_options(args);
  std::unique_ptr<Engine> engine = Engine::load(options);
  service_options.style = server_reply_style(args, *engine);
  log_info(engine->memory().describe());
  host = std::make_unique<serve::EngineHost>(
      serve::make_driver(std::move(engine), std::move(facts)),
      host_options(args, limits, options.max_sequences,
                   static_cast<std::int64_t>(service_options.api_keys.size())));
  service = std::make_unique<serve::Service>(*host, std::move(service_options));
  service->watch(&http);

  const serve::ShutdownSignals signals;
  http.start();
  const std::string host_name = args.text("host").value_or("127.0.0.1");
  const bool tls = args.has("tls-cert");
  write_stderr(fmt::format(
      "{} at {}://{}:{} (ready in {:.1f} s)\n", host->facts().id, tls ? "https" : "http",
      host_name.find(':') == std::string::npos ? host_name : "[" + host_name + "]", http.port(),
      seconds_since(start)));
  if (!http.is_loopback() && !args.has("api-key")) {
    log_warning("anybody who reaches this address may use the model: --api-key asks for a key");
  }
  wait_for_end(signals, *host);
  const bool dead = host->state() == serve::HostState::kDead;
  drain(args, *host, *service, http);
  http.stop();
  service->stop();
  if (dead) throw runtime_failure("the engine has ended");
  return 0;
}

}  // namespace heddle::cli
