// heddle batch: the server's answers to a file of requests, without a socket.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <fstream>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "engine/engine.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/commit.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"
#include "tools/heddle/options.h"
#include "tools/heddle/serve_options.h"
#include "tools/serve/api/answer.h"
#include "tools/serve/api/api_error.h"
#include "tools/serve/driver.h"
#include "tools/serve/engine_host.h"
#include "tools/serve/service.h"

namespace heddle::cli {
namespace {

constexpr std::string_view kUrls[] = {"/v1/chat/completions", "/v1/completions", "/v1/responses",
                                      "/v1/embeddings"};

struct BatchLine {
  std::string id;
  std::string url;
  std::string body;
};

/// Runs tasks of other threads on this one.
class TaskQueue {
 public:
  void post(std::function<void()> task) {
    {
      const std::scoped_lock lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
  }
  /// Runs what is there; waits a moment if there is nothing.
  void run_some() {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, std::chrono::milliseconds(100), [this] { return !tasks_.empty(); });
    std::deque<std::function<void()>> taken;
    taken.swap(tasks_);
    lock.unlock();
    for (const auto& task : taken) task();
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
};

/// A request that came from a file; its answer goes to `done`.
class FileExchange : public serve::Exchange {
 public:
  using Done = std::function<void(const serve::HttpReply&)>;
  FileExchange(TaskQueue& queue, const BatchLine& line, Done done)
      : queue_(queue),
        request_{.method = "POST", .path = line.url, .body = line.body},
        done_(std::move(done)) {}

  const serve::HttpRequest& request() const override { return request_; }
  const std::string& peer() const override { return peer_; }
  void reply(serve::HttpReply reply) override {
    on_gone_ = nullptr;  // it holds what holds this
    if (auto done = std::exchange(done_, nullptr)) done(reply);
  }
  void begin_stream(serve::HttpReply) override {}
  void write(std::string_view) override {}
  void end_stream(bool) override {
    reply(serve::error_reply({.code = "invalid_value",
                              .message = "stream: a batch has whole answers",
                              .param = "stream"}));
  }
  bool gone() const override { return false; }
  void on_gone(std::function<void()> callback) override { on_gone_ = std::move(callback); }
  void after(double, std::function<void()>) override {}
  void post(std::function<void()> task) override { queue_.post(std::move(task)); }
  /// The answer is not wanted any more.
  void leave() {
    done_ = nullptr;
    if (auto callback = std::exchange(on_gone_, nullptr)) callback();
  }

 private:
  TaskQueue& queue_;
  serve::HttpRequest request_;
  std::string peer_ = "batch";
  Done done_;
  std::function<void()> on_gone_;
};

BatchLine read_line(const std::string& text, const std::string& where) {
  const Json json = parse_json(text, where);
  const auto field = [&](const char* name) {
    if (!json.is_object() || !json.contains(name) || !json[name].is_string()) {
      throw bad_input(fmt::format("{}: {} is missing or not a string", where, name));
    }
    return json[name].get<std::string>();
  };
  BatchLine line{.id = field("custom_id"), .url = field("url"), .body = {}};
  if (json.contains("method") && json["method"] != "POST") {
    throw bad_input(fmt::format("{}: method, allowed: POST", where));
  }
  if (std::find(std::begin(kUrls), std::end(kUrls), line.url) == std::end(kUrls)) {
    throw bad_input(fmt::format("{}: url, allowed: {}", where, fmt::join(kUrls, ", ")));
  }
  if (!json.contains("body") || !json["body"].is_object()) {
    throw bad_input(fmt::format("{}: body is missing or not an object", where));
  }
  line.body = json["body"].dump(-1, ' ', false, Json::error_handler_t::replace);
  return line;
}

/// Every line is looked at before a model is loaded.
std::deque<BatchLine> read_batch(const std::string& path) {
  const std::string text = read_input(path);
  std::deque<BatchLine> lines;
  std::set<std::string> ids;
  int number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    lines.push_back(read_line(line, fmt::format("{}:{}", path, number)));
    if (!ids.insert(lines.back().id).second) {
      throw bad_input(fmt::format("{}:{}: custom_id was there before", path, number));
    }
  }
  if (lines.empty()) throw bad_input(fmt::format("{}: no requests", path));
  return lines;
}

/// The answers that an interrupted run has left. A last line that was cut is taken away.
std::set<std::string> answered(const std::string& path) {
  std::set<std::string> ids;
  std::ifstream file(path, std::ios::binary);
  if (!file) return ids;
  std::string line;
  std::int64_t whole = 0;
  while (std::getline(file, line) && !file.eof()) {
    const Json json = parse_json(line, path);
    if (!json.is_object() || !json.contains("custom_id") || !json["custom_id"].is_string()) {
      throw bad_input(fmt::format("{}: not the answers of a batch", path));
    }
    ids.insert(json["custom_id"].get<std::string>());
    whole += static_cast<std::int64_t>(line.size()) + 1;
  }
  file.close();
  if (::truncate(path.c_str(), whole) != 0) {
    throw bad_input(fmt::format("{}: cannot be written", path));
  }
  return ids;
}

class Output {
 public:
  explicit Output(const std::string& path)
      : path_(path), file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (file_ < 0) throw bad_input(fmt::format("{}: cannot be written", path));
  }
  ~Output() { ::close(file_); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void add(const std::string& id, const serve::HttpReply& reply) {
    std::string request_id;
    for (const auto& [name, value] : reply.headers) {
      if (name == "x-request-id") request_id = value;
    }
    const Json line{{"id", "batch_req_" + serve::random_id()},
                    {"custom_id", id},
                    {"response",
                     {{"status_code", reply.status},
                      {"request_id", request_id},
                      {"body", Json::parse(reply.body)}}},
                    {"error", nullptr}};
    const std::string text = serve::to_text(line) + "\n";
    for (std::size_t n = 0; n < text.size();) {
      const ssize_t written = ::write(file_, text.data() + n, text.size() - n);
      if (written <= 0) throw runtime_failure(fmt::format("{}: cannot be written", path_));
      n += static_cast<std::size_t>(written);
    }
  }

 private:
  std::string path_;
  int file_;
};

}  // namespace

int run_batch(const Arguments& args) {
  const std::string& out_path = args.operands().at(2);
  std::deque<BatchLine> waiting = read_batch(args.operands().at(1));
  const std::size_t n_all = waiting.size();
  const std::set<std::string> done_before = answered(out_path);
  std::erase_if(waiting, [&](const BatchLine& line) { return done_before.contains(line.id); });
  Output output(out_path);
  if (waiting.empty()) {
    note(fmt::format("{}: all {} requests are answered", out_path, n_all));
    return 0;
  }

  serve::ServerLimits limits = server_limits(args);
  limits.queue_seconds = 0.0;  // nobody waits for one of them
  EngineOptions options = server_engine_options(args);
  std::unique_ptr<Engine> engine = Engine::load(options);
  serve::ServiceOptions service_options{
      .style = server_reply_style(args, *engine), .version = program_version(), .limits = limits};
  TaskQueue queue;
  serve::EngineHost host(serve::make_driver(std::move(engine), server_facts(args)),
                         {.most_open_tokens = std::int64_t{1} << 60});
  serve::Service service(host, std::move(service_options));

  std::size_t n_done = n_all - waiting.size();
  std::size_t n_failed = 0;
  std::map<std::string, std::shared_ptr<FileExchange>> open;
  ProgressLine progress;
  const PolledInterrupt interrupt;
  const auto most_open = static_cast<std::size_t>(2 * options.max_sequences + 8);
  while ((!waiting.empty() || !open.empty()) && !interrupt.raised()) {
    while (!waiting.empty() && open.size() < most_open) {
      const BatchLine line = std::move(waiting.front());
      waiting.pop_front();
      auto exchange = std::make_shared<FileExchange>(
          queue, line, [&, id = line.id](const serve::HttpReply& reply) {
            output.add(id, reply);
            ++n_done;
            if (reply.status >= 400) ++n_failed;
            queue.post([&, id] { open.erase(id); });
          });
      open[line.id] = exchange;
      service.handle(exchange);
    }
    queue.run_some();
    progress.bar(static_cast<double>(n_done) / static_cast<double>(n_all),
                 fmt::format("{} of {}", n_done, n_all));
  }
  progress.clear();
  for (const auto& [id, exchange] : open) exchange->leave();
  note(fmt::format("{}: {} of {} requests are answered, {} of them with an error in this run",
                   out_path, n_done, n_all, n_failed));
  return interrupt.raised() ? kExitInterrupted : n_failed > 0 ? 1 : 0;
}

}  // namespace heddle::cli
