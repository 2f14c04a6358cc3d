// heddle batch: the server's answers to a file of requests, without a socket.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/new_file.h"
#include "engine/engine.h"
#include "models/spec_hash.h"
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

constexpr std::int64_t kNoBound = std::int64_t{1} << 60;  // lines wait here, not in the queue

constexpr std::string_view kUrls[] = {"/v1/chat/completions", "/v1/completions", "/v1/responses"};

struct BatchLine {
  std::string id;
  std::string url;
  std::string body;
  std::string hash;  // of url and body; the order of the body's members does not count
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
    serve::HttpReply refusal = serve::error_reply({.code = "invalid_value",
                                                   .message = "stream: a batch has whole answers",
                                                   .param = "stream"});
    refusal.headers.emplace_back("x-request-id", serve::random_id());
    reply(std::move(refusal));
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
  BatchLine line{.id = field("custom_id"), .url = field("url"), .body = {}, .hash = {}};
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
  ValueHash hash;
  hash.text(line.url);
  hash.text(nlohmann::json::parse(line.body).dump());
  line.hash = hash.hex().substr(0, 16);
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

/// What earlier runs have left of OUT.
struct Answered {
  std::set<std::string> ids;                  // with an answer that stays
  std::map<std::string, std::string> models;  // numerics id -> the first custom_id of it
  std::set<std::int64_t> dropped;             // lines with an error that is answered again
  std::int64_t n_errors_kept = 0;             // of requests that IN does not hold
  std::int64_t n_unmarked = 0;                // answers that do not say what they answer
  bool torn = false;                          // the last line was cut
};

bool is_error(const Json& line) {
  const auto error = line.find("error");
  if (error != line.end() && !error->is_null()) return true;
  const auto response = line.find("response");
  return response == line.end() || !response->is_object() ||
         response->value("status_code", 500) >= 400;
}

/// An answer to another request of that name is refused: it would be taken for this one's.
void take_answer(const Json& json,
                 const std::string& id,
                 const std::string& where,
                 const std::string& hash,
                 Answered& found) {
  found.ids.insert(id);
  const auto mark = json.find("heddle");
  if (mark == json.end() || !mark->is_object()) {
    ++found.n_unmarked;
    return;
  }
  if (mark->value("request", "") != hash) {
    throw bad_input(fmt::format(
        "{}: {} is the answer to another request than the one of that custom_id now: name "
        "another OUT, or take the line away",
        where, json_quote(id)));
  }
  found.models.emplace(mark->value("numerics_id", ""), id);
}

/// `hashes`: custom_id -> the request's.
Answered read_answers(const std::string& path, const std::map<std::string, std::string>& hashes) {
  Answered found;
  std::ifstream file(path, std::ios::binary);
  std::int64_t number = 0;
  for (std::string text; file && std::getline(file, text);) {
    if (file.eof()) {
      found.torn = true;
      break;
    }
    const std::string where = fmt::format("{}:{}", path, ++number);
    const Json json = parse_json(text, path);
    if (!json.is_object() || !json.contains("custom_id") || !json["custom_id"].is_string()) {
      throw bad_input(fmt::format("{}: not the answers of a batch", path));
    }
    if (!json.contains("response") && !json.contains("error")) {
      throw bad_input(where + ": no response and no error: this is not the output of a batch");
    }
    const std::string id = json["custom_id"].get<std::string>();
    const auto asked = hashes.find(id);
    if (!is_error(json)) {
      if (asked != hashes.end()) take_answer(json, id, where, asked->second, found);
    } else if (asked != hashes.end()) {
      found.dropped.insert(number);
    } else {
      ++found.n_errors_kept;
    }
  }
  return found;
}

void check_model(const std::string& path, const Answered& found, const std::string& numerics_id) {
  for (const auto& [model, id] : found.models) {
    if (model == numerics_id) continue;
    throw bad_input(fmt::format(
        "{}: {} is the answer of another model, or of other options (numerics {}; now {}): name "
        "another OUT",
        path, json_quote(id), model, numerics_id));
  }
  if (found.n_unmarked > 0) {
    log_warning(fmt::format("{}: {} answers do not say what they answer, and are kept", path,
                            found.n_unmarked));
  }
}

/// Takes away what is answered again, all at once.
void drop_errors(const std::string& path, const Answered& found) {
  if (found.dropped.empty() && !found.torn) return;
  NewFile kept(path, path + ": batch");
  std::ifstream file(path, std::ios::binary);
  std::int64_t number = 0;
  for (std::string text; std::getline(file, text) && !file.eof();) {
    if (found.dropped.contains(++number)) continue;
    text += '\n';
    kept.append(std::as_bytes(std::span(text)));
  }
  kept.publish();
}

class Output {
 public:
  explicit Output(const std::string& path)
      : path_(path), file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (file_ < 0) throw bad_input(fmt::format("{}: cannot be written", path));
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      ::close(file_);
      throw bad_input(fmt::format("{}: another run writes to it", path));
    }
  }
  ~Output() { ::close(file_); }
  /// Throws if it cannot be written. A new one is not left behind: the model may be wrong yet.
  static void check(const std::string& path) {
    const bool is_new = ::access(path.c_str(), F_OK) != 0;
    const Output output(path);
    if (is_new) static_cast<void>(::unlink(path.c_str()));
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  /// `numerics_id` and the request's hash say later what this answers.
  void add(const BatchLine& asked, const std::string& numerics_id, const serve::HttpReply& reply) {
    std::string request_id;
    for (const auto& [name, value] : reply.headers) {
      if (name == "x-request-id") request_id = value;
    }
    const Json line{{"id", "batch_req_" + serve::random_id()},
                    {"custom_id", asked.id},
                    {"response",
                     {{"status_code", reply.status},
                      {"request_id", request_id},
                      {"body", Json::parse(reply.body)}}},
                    {"error", nullptr},
                    {"heddle", {{"request", asked.hash}, {"numerics_id", numerics_id}}}};
    const std::string text = serve::to_text(line) + "\n";
    for (std::size_t n = 0; n < text.size();) {
      const ssize_t written = ::write(file_, text.data() + n, text.size() - n);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        throw runtime_failure(
            fmt::format("{}: cannot be written: {}; the answers in it are kept, and not asked for "
                        "again by a run with more room",
                        path_, std::strerror(errno)));
      }
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
  std::error_code missing;
  const auto out_status = std::filesystem::status(out_path, missing);
  if (std::filesystem::exists(out_status) && !std::filesystem::is_regular_file(out_status)) {
    throw bad_input(fmt::format(
        "{}: OUT, got what is no regular file, allowed a regular file: what it holds is read first",
        out_path));
  }
  if (std::filesystem::equivalent(args.operands().at(1), out_path, missing)) {
    throw bad_input(fmt::format("{}: OUT is IN", out_path));
  }
  std::deque<BatchLine> waiting = read_batch(args.operands().at(1));
  const std::size_t n_all = waiting.size();
  std::map<std::string, std::string> hashes;
  for (const BatchLine& line : waiting) hashes.emplace(line.id, line.hash);
  const Answered found = read_answers(out_path, hashes);
  std::erase_if(waiting, [&](const BatchLine& line) { return found.ids.contains(line.id); });
  Output::check(out_path);

  serve::ServerLimits limits = server_limits(args);
  limits.queue_seconds = 0.0;  // nobody waits for one of them
  EngineOptions options = server_engine_options(args);
  std::unique_ptr<Engine> engine = Engine::load(options);
  serve::ServiceOptions service_options{
      .style = server_reply_style(args, *engine), .version = program_version(), .limits = limits};
  TaskQueue queue;
  serve::EngineHost host(serve::make_driver(std::move(engine), server_facts(args)),
                         {.most_open = kNoBound, .most_open_tokens = kNoBound});
  serve::Service service(host, std::move(service_options));
  const std::string& numerics_id = host.facts().numerics_id;
  check_model(out_path, found, numerics_id);
  drop_errors(out_path, found);
  Output output(out_path);

  std::size_t n_done = n_all - waiting.size();
  std::size_t n_failed = 0;
  std::map<std::string, std::shared_ptr<FileExchange>> open;
  std::exception_ptr failure;  // of OUT: nothing is asked for any more
  ProgressLine progress;
  const PolledInterrupt interrupt;
  const auto most_open = static_cast<std::size_t>(2 * options.max_sequences + 8);
  while ((!waiting.empty() || !open.empty()) && !interrupt.raised() && !failure) {
    while (!waiting.empty() && open.size() < most_open) {
      const BatchLine line = std::move(waiting.front());
      waiting.pop_front();
      auto exchange =
          std::make_shared<FileExchange>(queue, line, [&, line](const serve::HttpReply& reply) {
            queue.post([&, id = line.id] { open.erase(id); });
            if (failure) return;
            try {
              output.add(line, numerics_id, reply);
            } catch (const Error&) {
              failure = std::current_exception();
              return;
            }
            ++n_done;
            if (reply.status >= 400) ++n_failed;
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
  if (failure) std::rethrow_exception(failure);
  const std::string report =
      fmt::format("{}: {} of {} requests are answered, {} of them with an error{}", out_path,
                  n_done, n_all, n_failed,
                  found.n_errors_kept > 0
                      ? fmt::format("; {} more errors are of requests that are not asked now",
                                    found.n_errors_kept)
                      : "");
  if (n_failed > 0 || found.n_errors_kept > 0) {
    log_warning(report);
  } else {
    note(report);
  }
  if (interrupt.raised()) return kExitInterrupted;
  return n_failed > 0 || found.n_errors_kept > 0 ? 1 : 0;
}

}  // namespace heddle::cli
