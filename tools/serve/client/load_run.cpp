#include "tools/serve/client/load_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "tools/serve/client/streamed_answer.h"

namespace heddle::serve {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{100};

double seconds_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

CallRecord record_of(StreamedAnswer& answer, const ClientResult& result, const LoadPrompt& prompt) {
  CallRecord record{.error = answer.end(result)};
  if (!record.error.empty()) return record;
  record.first_s = answer.first_s();
  record.last_s = answer.last_s();
  record.gaps_s = answer.gaps_s();
  const AnswerUsage& usage = answer.usage();
  record.n_prompt = usage.n_prompt;
  if (usage.n_prompt == 0) {  // it does not say: a word each
    record.n_prompt = std::count(prompt.text.begin(), prompt.text.end(), ' ') + 1;
  }
  record.n_output = usage.n_output > 0 ? usage.n_output : answer.n_pieces();
  record.n_cached = usage.n_cached;
  return record;
}

class Run {
 public:
  Run(const LoadOptions& options, const std::vector<LoadPrompt>& prompts)
      : options_(options),
        prompts_(prompts),
        client_(io_, options.url, "--url"),
        arrival_(io_),
        look_(io_),
        random_(options.seed) {}

  LoadResult run() {
    result_.model = options_.model.empty() ? ask_model() : options_.model;
    start_ = Clock::now();
    last_end_ = start_;
    next_arrival_ = start_;
    arrive();
    look();
    io_.restart();
    io_.run();
    result_.duration_s = seconds_between(start_, last_end_);
    return std::move(result_);
  }

 private:
  std::string ask_model() {
    std::string body;
    ClientResult end;
    client_.send({.method = "GET",
                  .target = api_target(options_.url, "/models"),
                  .headers = api_headers(options_.api_key),
                  .timeout_seconds = 30.0},
                 {.received = [&](int, std::string_view bytes) { body += bytes; },
                  .done = [&](const ClientResult& result) { end = result; }});
    io_.run();
    const auto failed = [](const std::string& why) {
      return runtime_failure(fmt::format(
          "--url: which model is served there is not known: {} (--model names it)", why));
    };
    if (!end.error.empty()) throw failed(end.error);
    if (end.status != 200) throw failed(http_error_text(end.status, body));
    const Json json = Json::parse(body, nullptr, false);
    if (json.is_object() && json.contains("data") && json["data"].is_array() &&
        !json["data"].empty() && json["data"][0].is_object() && json["data"][0].contains("id") &&
        json["data"][0]["id"].is_string()) {
      return json["data"][0]["id"].get<std::string>();
    }
    throw failed("GET /v1/models does not list one");
  }

  /// The next request is due.
  void arrive() {
    while (n_due_ < prompts_.size()) {
      if (options_.request_rate > 0.0 && next_arrival_ > Clock::now()) {
        arrival_.expires_at(next_arrival_);
        arrival_.async_wait([this](boost::system::error_code error) {
          if (!error) arrive();
        });
        break;
      }
      ++n_due_;
      if (options_.request_rate > 0.0) {
        std::exponential_distribution<double> gap(options_.request_rate);
        next_arrival_ += std::chrono::duration_cast<Clock::duration>(
            std::chrono::duration<double>(gap(random_)));
      }
    }
    send_due();
  }

  void send_due() {
    while (n_sent_ < n_due_ &&
           (options_.max_concurrency == 0 || n_running_ < options_.max_concurrency)) {
      send(prompts_[n_sent_++]);
    }
  }

  void send(const LoadPrompt& prompt) {
    ++n_running_;
    const auto answer = std::make_shared<StreamedAnswer>(options_.chat);
    client_.send(
        {.target = api_target(options_.url, options_.chat ? "/chat/completions" : "/completions"),
         .headers = api_headers(options_.api_key),
         .body = body_of(prompt),
         .timeout_seconds = options_.timeout_seconds},
        {.received = [answer](int status,
                              std::string_view bytes) { answer->received(status, bytes); },
         .done =
             [this, answer, &prompt](const ClientResult& result) {
               --n_running_;
               last_end_ = Clock::now();
               result_.records.push_back(record_of(*answer, result, prompt));
               if (options_.progress) options_.progress(result_.records.size());
               if (result_.records.size() == prompts_.size()) look_.cancel();
               send_due();
             }});
  }

  std::string body_of(const LoadPrompt& prompt) const {
    Json body{{"model", result_.model}};
    if (options_.chat) {
      body["messages"] = Json::array({{{"role", "user"}, {"content", prompt.text}}});
    } else {
      body["prompt"] = prompt.text;
    }
    body["max_tokens"] = prompt.n_output;
    body["temperature"] = 0;
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", true}};
    if (options_.ignore_eos) body["ignore_eos"] = true;
    return body.dump();
  }

  void look() {
    if (!options_.stop) return;
    look_.expires_after(kLook);
    look_.async_wait([this](boost::system::error_code error) {
      if (error || result_.records.size() == prompts_.size()) return;
      if (options_.stop()) return io_.stop();
      look();
    });
  }

  const LoadOptions& options_;
  const std::vector<LoadPrompt>& prompts_;
  asio::io_context io_;
  HttpClient client_;
  asio::steady_timer arrival_;
  asio::steady_timer look_;
  std::mt19937_64 random_;
  LoadResult result_;
  Clock::time_point start_ = {};
  Clock::time_point last_end_ = {};
  Clock::time_point next_arrival_ = {};
  std::size_t n_due_ = 0;
  std::size_t n_sent_ = 0;
  std::int64_t n_running_ = 0;
};

constexpr std::string_view kWords[] = {
    "time",   "way",   "day",    "man",   "thing",   "world", "life",   "hand",   "part",
    "child",  "eye",   "place",  "work",  "week",    "case",  "point",  "group",  "number",
    "night",  "water", "room",   "book",  "line",    "name",  "house",  "side",   "story",
    "fact",   "month", "right",  "study", "kind",    "head",  "hour",   "game",   "end",
    "law",    "car",   "city",   "team",  "minute",  "idea",  "kid",    "body",   "back",
    "face",   "level", "door",   "art",   "war",     "party", "result", "change", "morning",
    "reason", "girl",  "moment", "air",   "teacher", "force"};

}  // namespace

LoadResult run_load(const LoadOptions& options, const std::vector<LoadPrompt>& prompts) {
  return Run(options, prompts).run();
}

std::vector<LoadPrompt> random_prompts(std::int64_t n,
                                       std::int64_t n_words,
                                       std::int64_t n_output,
                                       std::uint64_t seed,
                                       const std::string& salt) {
  std::mt19937_64 random(seed);
  std::vector<LoadPrompt> prompts;
  for (std::int64_t i = 0; i < n; ++i) {
    std::string text;
    if (!salt.empty()) text = fmt::format("{}{}", salt, i);
    for (std::int64_t w = salt.empty() ? 0 : 1; w < n_words; ++w) {
      if (!text.empty()) text += ' ';
      text += kWords[random() % std::size(kWords)];
    }
    prompts.push_back({.text = std::move(text), .n_output = n_output});
  }
  return prompts;
}

std::vector<LoadPrompt> prompts_of_lines(const std::string& text,
                                         const std::string& source,
                                         std::int64_t n,
                                         std::int64_t n_output) {
  std::vector<LoadPrompt> all;
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}: line {}", source, number);
    const Json json = parse_json(line, where);
    if (!json.is_object() || !json.contains("prompt") || !json["prompt"].is_string() ||
        json["prompt"].get_ref<const std::string&>().empty()) {
      throw bad_input(where + ": must be a JSON object with a text `prompt`");
    }
    LoadPrompt prompt{.text = json["prompt"].get<std::string>(), .n_output = n_output};
    if (json.contains("max_tokens")) {
      const Json& most = json["max_tokens"];
      if (!most.is_number_integer() || most.get<std::int64_t>() < 1) {
        throw bad_input(where + ": max_tokens must be a whole number from 1");
      }
      prompt.n_output = most.get<std::int64_t>();
    }
    all.push_back(std::move(prompt));
  }
  if (all.empty()) throw bad_input(source + ": holds no prompt");
  const std::size_t n_lines = all.size();
  const std::size_t wanted = n > 0 ? static_cast<std::size_t>(n) : n_lines;
  for (std::size_t i = n_lines; i < wanted; ++i) all.push_back(all[i - n_lines]);
  all.resize(wanted);
  return all;
}

}  // namespace heddle::serve
