#include "tools/loadtest/child_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <thread>

#include "tools/loadtest/peers.h"
#include "tools/serve/engine_host.h"
#include "tools/serve/fake_driver.h"
#include "tools/serve/http/server.h"
#include "tools/serve/service.h"

namespace heddle::loadtest {
namespace {

std::int64_t number_of_line(const std::string& file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name)) return std::atoll(line.c_str() + name.size());
  }
  return -1;
}

/// Of a sample in Prometheus' text format, whatever its labels are.
std::int64_t metric(const std::string& text, const std::string& name) {
  const std::size_t at = text.find("\n" + name + "{") != std::string::npos
                             ? text.find("\n" + name + "{")
                             : text.find("\n" + name + " ");
  if (at == std::string::npos) return -1;
  const std::size_t end = text.find('\n', at + 1);
  return std::atoll(text.c_str() + text.rfind(' ', end) + 1);
}

}  // namespace

void raise_descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::string ChildOptions::text() const {
  return fmt::format("{} {} {} {} {}", rate, running, queue, stamps ? 1 : 0, http_threads);
}

ChildOptions ChildOptions::of(const std::string& text) {
  ChildOptions o;
  int stamps_on = 0;
  long long run = 0;
  long long wait = 0;
  if (std::sscanf(text.c_str(), "%lf %lld %lld %d %d", &o.rate, &run, &wait, &stamps_on,
                  &o.http_threads) != 5) {
    throw std::runtime_error("the child's options: " + text);
  }
  o.running = run;
  o.queue = wait;
  o.stamps = stamps_on != 0;
  return o;
}

ChildServer::ChildServer(const ChildOptions& options) {
  int in[2];
  int out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string text = options.text();
  pid_ = fork();
  if (pid_ == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    setenv("MALLOC_ARENA_MAX", "2", 1);
    execl(self.c_str(), self.c_str(), "--child", text.c_str(), nullptr);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  input_ = in[1];
  FILE* lines = fdopen(out[0], "r");
  unsigned port = 0;
  const bool started = std::fscanf(lines, "port %u", &port) == 1;
  std::fclose(lines);
  if (!started) {
    stop();
    throw std::runtime_error("the server has not started");
  }
  port_ = static_cast<std::uint16_t>(port);
}

ChildServer::~ChildServer() {
  stop();
}

int ChildServer::stop() {
  if (pid_ < 0) return 0;
  close(input_);
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::int64_t ChildServer::rss_bytes() const {
  return number_of_line(fmt::format("/proc/{}/status", pid_), "VmRSS:") * 1024;
}

Counters ChildServer::counters() const {
  Counters c;
  const std::string text = fetch(port_, "/metrics");
  c.open_requests =
      metric(text, "vllm:num_requests_running") + metric(text, "vllm:num_requests_waiting");
  c.connections = metric(text, "heddle:http_connections") - 1;  // this one's
  c.threads = number_of_line(fmt::format("/proc/{}/status", pid_), "Threads:");
  for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid_))) {
    (void)entry;
    ++c.fds;
  }
  return c;
}

Counters ChildServer::wait_for(const Counters& wanted, double seconds) const {
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    const Counters now = counters();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    if (now == wanted || passed.count() > seconds) return now;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

int run_child(const std::string& text) {
  raise_descriptor_limit();
  const ChildOptions o = ChildOptions::of(text);
  serve::ServerLimits limits;
  limits.queue = o.queue;
  limits.queue_tokens = std::int64_t{1} << 40U;
  limits.connections = 1 << 20;
  std::unique_ptr<serve::Service> service;
  serve::HttpServer http(
      {.port = 0, .threads = o.http_threads, .limits = limits},
      [&](auto exchange) { service->handle(std::move(exchange)); },
      [&](const serve::Refusal& refusal) { return service->refuse(refusal); });
  serve::EngineHost host(
      std::make_unique<serve::FakeDriver>(serve::FakeDriverOptions{
          .max_running = o.running, .tokens_per_second = o.rate, .stamps = o.stamps}),
      {.most_open = o.queue + o.running, .most_open_tokens = limits.queue_tokens});
  service = std::make_unique<serve::Service>(host, serve::ServiceOptions{.limits = limits});
  service->watch(&http);
  http.start();
  fmt::print("port {}\n", http.port());
  std::fflush(stdout);
  char byte = 0;
  while (read(0, &byte, 1) > 0) continue;
  http.stop();
  service->stop();
  return 0;
}

}  // namespace heddle::loadtest
