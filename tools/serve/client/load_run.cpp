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
#include "tools/serve/client/response_reader.h"

namespace heddle::serve {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostErrorBytes = 4096;
constexpr std::chrono::milliseconds kLook{100};

double seconds_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

std::string target_of(const Url& url, std::string_view path) {
  return url.path + (url.path.ends_with("/v1") ? "" : "/v1") + std::string(path);
}

HeaderList headers_of(const LoadOptions& options) {
  HeaderList headers = {{"content-type", "application/json"}};
  if (!options.api_key.empty()) headers.emplace_back("authorization", "Bearer " + options.api_key);
  return headers;
}

/// What a server says of an error, in one line.
std::string message_of(const Json& error) {
  if (error.is_string()) return error.get<std::string>();
  if (error.is_object()) {
    const auto it = error.find("message");
    if (it != error.end() && it->is_string()) return it->get<std::string>();
  }
  return error.dump().substr(0, 200);
}

std::string http_error(int status, const std::string& body) {
  const Json json = Json::parse(body, nullptr, false);
  if (json.is_object() && json.contains("error")) {
    return fmt::format("HTTP {}: {}", status, message_of(json["error"]));
  }
  return fmt::format("HTTP {}", status);
}

/// 0 where there is none that can be one.
std::int64_t count_in(const Json& object, const char* name) {
  constexpr double kMost = 1e12;
  if (!object.is_object()) return 0;
  const auto it = object.find(name);
  if (it == object.end() || !it->is_number()) return 0;
  const double count = it->get<double>();
  return count >= 0.0 && count <= kMost ? static_cast<std::int64_t>(count) : 0;
}

/// The text of a chunk's first choice, thoughts and calls included, told by whether there is any.
bool has_text(const Json& choice, bool chat) {
  const auto filled = [](const Json& object, const char* name) {
    const auto it = object.find(name);
    return it != object.end() && !it->is_null() && !it->empty() && *it != "";
  };
  if (!chat) return filled(choice, "text");
  const auto delta = choice.find("delta");
  if (delta == choice.end() || !delta->is_object()) return false;
  return filled(*delta, "content") || filled(*delta, "reasoning_content") ||
         filled(*delta, "reasoning") || filled(*delta, "tool_calls");
}

/// One request's events as they come.
class Answer {
 public:
  Answer(bool chat, Clock::time_point sent) : chat_(chat), sent_(sent) {}

  void received(int status, std::string_view bytes) {
    if (status != 200) {
      error_body_.append(
          bytes.substr(0, kMostErrorBytes - std::min(kMostErrorBytes, error_body_.size())));
      return;
    }
    const auto now = Clock::now();
    const bool good = events_.push(bytes, [&](std::string_view data) { take(data, now); });
    if (!good && record_.error.empty()) record_.error = "an event is too long";
  }

  CallRecord end(const ClientResult& result, const LoadPrompt& prompt) {
    CallRecord& r = record_;
    if (!r.error.empty()) return r;
    if (!result.error.empty()) {
      r.error = result.error;
    } else if (result.status != 200) {
      r.error = http_error(result.status, error_body_);
    } else if (!finished_) {
      r.error = "the stream ended before the answer did";
    } else if (n_pieces_ == 0) {
      r.error = "an answer without text";
    }
    r.first_s = seconds_between(sent_, first_);
    r.last_s = seconds_between(sent_, last_);
    if (r.n_output == 0) r.n_output = n_pieces_;
    if (r.n_prompt == 0) {  // it does not say: a word each
      r.n_prompt = std::count(prompt.text.begin(), prompt.text.end(), ' ') + 1;
    }
    return r;
  }

 private:
  void take(std::string_view data, Clock::time_point now) {
    if (data == "[DONE]") {
      finished_ = true;
      return;
    }
    const Json event = Json::parse(data, nullptr, false);
    if (!event.is_object()) {
      if (record_.error.empty()) record_.error = "an event is not a JSON object";
      return;
    }
    if (event.contains("error") && !event["error"].is_null()) {
      if (record_.error.empty()) record_.error = "in the stream: " + message_of(event["error"]);
      return;
    }
    if (const auto usage = event.find("usage"); usage != event.end() && usage->is_object()) {
      record_.n_prompt = count_in(*usage, "prompt_tokens");
      record_.n_output = count_in(*usage, "completion_tokens");
      const auto details = usage->find("prompt_tokens_details");
      if (details != usage->end()) record_.n_cached = count_in(*details, "cached_tokens");
    }
    const auto choices = event.find("choices");
    if (choices == event.end() || !choices->is_array() || choices->empty()) return;
    const Json& choice = (*choices)[0];
    if (!choice.is_object()) return;
    if (choice.contains("finish_reason") && choice["finish_reason"].is_string()) finished_ = true;
    if (!has_text(choice, chat_)) return;
    if (n_pieces_++ == 0) {
      first_ = now;
    } else {
      record_.gaps_s.push_back(seconds_between(last_, now));
    }
    last_ = now;
  }

  bool chat_;
  Clock::time_point sent_;
  EventReader events_;
  CallRecord record_;
  std::string error_body_;
  std::int64_t n_pieces_ = 0;
  Clock::time_point first_ = {};
  Clock::time_point last_ = {};
  bool finished_ = false;
};

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
                  .target = target_of(options_.url, "/models"),
                  .headers = headers_of(options_),
                  .timeout_seconds = 30.0},
                 {.received = [&](int, std::string_view bytes) { body += bytes; },
                  .done = [&](const ClientResult& result) { end = result; }});
    io_.run();
    const auto failed = [](const std::string& why) {
      return runtime_failure(fmt::format(
          "--url: which model is served there is not known: {} (--model names it)", why));
    };
    if (!end.error.empty()) throw failed(end.error);
    if (end.status != 200) throw failed(http_error(end.status, body));
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
    const auto answer = std::make_shared<Answer>(options_.chat, Clock::now());
    client_.send(
        {.target = target_of(options_.url, options_.chat ? "/chat/completions" : "/completions"),
         .headers = headers_of(options_),
         .body = body_of(prompt),
         .timeout_seconds = options_.timeout_seconds},
        {.received = [answer](int status,
                              std::string_view bytes) { answer->received(status, bytes); },
         .done =
             [this, answer, &prompt](const ClientResult& result) {
               --n_running_;
               last_end_ = Clock::now();
               result_.records.push_back(answer->end(result, prompt));
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
