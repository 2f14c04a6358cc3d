// Answers of an engine that writes a known text: what a stream puts together is what a whole answer
// says, and the metrics count what was said.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/json.h"
#include "tools/serve/fake_driver.h"
#include "tools/serve/service.h"

namespace heddle::serve {
namespace {

/// Asks without a wire; its tasks run where the answer is waited for.
class TestExchange : public Exchange {
 public:
  TestExchange(const std::string& path, const Json& asked)
      : request_{.method = "POST",
                 .path = path,
                 .headers = {{"content-type", "application/json"}},
                 .body = asked.dump()} {}

  const HttpRequest& request() const override { return request_; }
  const std::string& peer() const override { return peer_; }
  void reply(HttpReply reply) override {
    status = reply.status;
    body = reply.body;
    end();
  }
  void begin_stream(HttpReply head) override { status = head.status; }
  void write(std::string_view bytes) override { body += bytes; }
  void end_stream(bool) override { end(); }
  bool gone() const override { return false; }
  void on_gone(std::function<void()> callback) override { on_gone_ = std::move(callback); }
  void after(double, std::function<void()>) override {}
  void post(std::function<void()> task) override {
    const std::scoped_lock lock(mutex_);
    if (over_) return;
    tasks_.push_back(std::move(task));
    wake_.notify_one();
  }

  /// Until the answer is there, or `enough` of it.
  void wait(const std::function<bool()>& enough = [] { return false; }) {
    while (!over_ && !enough()) {
      std::unique_lock lock(mutex_);
      ASSERT_TRUE(
          wake_.wait_for(lock, std::chrono::seconds(60), [this] { return !tasks_.empty(); }));
      const auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
  }
  void leave() {
    if (auto callback = std::exchange(on_gone_, nullptr)) callback();
    end();
  }

  int status = 0;
  std::string body;

 private:
  /// What is posted holds this: it goes, too.
  void end() {
    std::deque<std::function<void()>> dropped;
    const std::scoped_lock lock(mutex_);
    over_ = true;
    on_gone_ = nullptr;
    dropped.swap(tasks_);
  }

  HttpRequest request_;
  std::string peer_ = "test";
  std::function<void()> on_gone_;
  bool over_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
};

class Answers {
 public:
  explicit Answers(FakeDriverOptions driver, ReplyStyle style = {})
      : host_(std::make_unique<FakeDriver>(std::move(driver)), {}),
        service_(host_, {.style = std::move(style)}) {}
  ~Answers() { service_.stop(); }

  std::shared_ptr<TestExchange> begin(const std::string& path, const Json& body) {
    auto exchange = std::make_shared<TestExchange>(path, body);
    service_.handle(exchange);
    return exchange;
  }
  std::string ask(const std::string& path, const Json& body) {
    const auto exchange = begin(path, body);
    exchange->wait();
    EXPECT_EQ(exchange->status, 200) << exchange->body;
    return exchange->body;
  }
  Json whole(const std::string& path, const Json& body) { return Json::parse(ask(path, body)); }
  /// The data of the events.
  std::vector<Json> streamed(const std::string& path, Json body) {
    body["stream"] = true;
    std::istringstream text(ask(path, body));
    std::vector<Json> events;
    for (std::string line; std::getline(text, line);) {
      if (line.starts_with("data: {")) events.push_back(Json::parse(line.substr(6)));
    }
    return events;
  }
  /// Samples by name and labels; the labels that all have are left out. What the engine says is of
  /// its last step.
  std::map<std::string, double> metrics() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (host_.n_open() > 0 || host_.stats().running > 0) {
      if (std::chrono::steady_clock::now() > end) ADD_FAILURE() << "the engine has no end";
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::istringstream text(service_.metrics().write(host_, {}));
    std::map<std::string, double> samples;
    for (std::string line; std::getline(text, line);) {
      if (line.starts_with("#")) continue;
      const std::size_t space = line.rfind(' ');
      std::string name = line.substr(0, space);
      for (const char* label : {"model_name=\"fake\",", "{model_name=\"fake\"}"}) {
        if (const auto at = name.find(label); at != std::string::npos) {
          name.erase(at, std::string_view(label).size());
        }
      }
      samples[name] = std::stod(line.substr(space + 1));
    }
    return samples;
  }
  EngineHost& host() { return host_; }

 private:
  EngineHost host_;
  Service service_;
};

ReplyStyle thinking_style() {
  ReplyStyle style;
  style.tools = ToolStyle::kHermes;
  style.reasoning = ReasoningStyle::kThink;
  return style;
}

Json weather() {
  return {{"type", "function"},
          {"name", "weather"},
          {"parameters", {{"type", "object"}, {"properties", {{"city", {{"type", "string"}}}}}}}};
}

/// Without what is another at each time.
Json lasting(Json response) {
  for (const char* name : {"id", "created_at", "completed_at"}) response.erase(name);
  for (Json& item : response["output"]) {
    item.erase("id");
    item.erase("call_id");
  }
  return response;
}

Json shown_items(const Json& response) {
  Json shown = Json::array();
  for (const Json& item : response["output"]) {
    const std::string type = item["type"];
    shown.push_back({type, item["status"],
                     type == "function_call" ? item["arguments"] : item["content"][0]["text"]});
  }
  return shown;
}

const std::string kCall =
    "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>";
const std::string kThoughts = "<think>\nIt is in Italy. \n</think>\n\n";
const std::vector<std::string> kTexts = {
    "An answer of nothing but words.",
    kThoughts + "Yes.",
    "<think>never an end of it",
    kThoughts,
    "hello " + kCall + " bye",
    kThoughts + "I look.\n\n" + kCall + "\n" + kCall + "\nThat is all. " + kCall,
    kCall + kCall,
    "It breaks off <tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": 1,}}</tool_call> "
    "so",
};

TEST(ResponsesAnswers, AStreamEndsWithTheWholeAnswerWhereverItIsCut) {
  for (const std::string& text : kTexts) {
    Answers answers({.text = text}, thinking_style());
    for (std::size_t n = 16; n <= text.size() + 1; ++n) {
      SCOPED_TRACE(text.substr(0, n));
      for (const bool parallel : {true, false}) {
        const Json body{{"input", "a"},
                        {"max_output_tokens", n},
                        {"parallel_tool_calls", parallel},
                        {"tools", {weather()}}};
        const Json whole = answers.whole("/v1/responses", body);
        const std::vector<Json> events = answers.streamed("/v1/responses", body);
        const Json& last = events.back();
        ASSERT_EQ(last["type"], "response." + whole["status"].get<std::string>());
        ASSERT_EQ(lasting(last["response"]).dump(1), lasting(whole).dump(1));
        // The events are the same items once more.
        Json items = Json::array();
        std::map<std::string, std::string> texts;
        for (const Json& event : events) {
          const std::string type = event["type"];
          if (type == "response.output_item.done") {
            ASSERT_EQ(event["output_index"], items.size());
            items.push_back(event["item"]);
          } else if (type == "response.output_item.added") {
            ASSERT_EQ(event["output_index"], items.size());
          } else if (type.ends_with(".delta")) {
            texts[event["item_id"]] += event["delta"];
          }
        }
        ASSERT_EQ(items, last["response"]["output"]);
        for (const Json& item : items) {
          ASSERT_EQ(texts[item["id"]], item["type"] == "function_call"
                                           ? item["arguments"]
                                           : item["content"][0]["text"]);
        }
      }
    }
  }
}

TEST(ResponsesAnswers, ItemsStandInTheOrderOfTheText) {
  const Json body{{"input", "a"}, {"tools", {weather()}}, {"max_output_tokens", 1000}};
  Answers answers({.text = "hello " + kCall + " bye"}, thinking_style());
  EXPECT_EQ(shown_items(answers.whole("/v1/responses", body)),
            Json::parse(R"([["message", "completed", "hello"],
                            ["function_call", "completed", "{\"city\": \"Rome\"}"],
                            ["message", "completed", "  bye"]])"));
}

TEST(ResponsesAnswers, WhatIsCutIsIncompleteAndNothingElse) {
  const auto cut_behind = [](const std::string& text, std::string_view last) {
    Answers answers({.text = text}, thinking_style());
    const Json response =
        answers.whole("/v1/responses", {{"input", "a"},
                                        {"tools", {weather()}},
                                        {"max_output_tokens", text.find(last) + last.size()}});
    EXPECT_EQ(response["status"], "incomplete");
    EXPECT_EQ(response["completed_at"], nullptr);
    return shown_items(response);
  };
  EXPECT_EQ(cut_behind(kThoughts + "Yes.", "It is in"),
            Json::parse(R"([["reasoning", "incomplete", "It is in"]])"));
  EXPECT_EQ(cut_behind(kThoughts + "Yes.", "Ye"),
            Json::parse(R"([["reasoning", "completed", "It is in Italy. "],
                            ["message", "incomplete", "Ye"]])"));
  EXPECT_EQ(cut_behind("I look " + kCall, "Ro"), Json::parse(R"([["message", "completed", "I look"],
                            ["function_call", "incomplete", "{\"city\": \"Ro"]])"));
}

TEST(ResponsesAnswers, TheObjectHasWhatTheSchemaHas) {
  Answers answers({.natural_length = 5});
  const Json response = answers.whole("/v1/responses", {{"input", "a"},
                                                        {"reasoning", {{"effort", "low"}}},
                                                        {"temperature", 0.5},
                                                        {"presence_penalty", 0.25}});
  EXPECT_EQ(response["reasoning"], Json::parse(R"({"effort": "low", "summary": null})"));
  EXPECT_EQ(response["service_tier"], "default");
  EXPECT_EQ(response["top_logprobs"], 0);
  EXPECT_EQ(response["presence_penalty"], 0.25);
  EXPECT_EQ(response["frequency_penalty"], 0.0);
  EXPECT_EQ(response["max_tool_calls"], nullptr);
  EXPECT_GE(response["completed_at"], response["created_at"]);
}

TEST(ChatAnswers, ACallBetweenTwoTextsDoesNotJoinThem) {
  Answers answers({.text = "hello " + kCall + " bye"}, thinking_style());
  const Json body{{"messages", {{{"role", "user"}, {"content", "a"}}}},
                  {"tools",
                   {{{"type", "function"},
                     {"function", {{"name", "weather"}, {"parameters", Json::object()}}}}}}};
  const Json message = answers.whole("/v1/chat/completions", body)["choices"][0]["message"];
  EXPECT_EQ(message["content"], "hello  bye");
  EXPECT_EQ(message["tool_calls"].size(), 1U);
  std::string content;
  for (const Json& chunk : answers.streamed("/v1/chat/completions", body)) {
    content += chunk["choices"][0]["delta"].value("content", "");
  }
  EXPECT_EQ(content, "hello  bye");
}

/// What a stream of one choice says, put together as a whole answer's choice.
Json joined(const std::vector<Json>& chunks) {
  Json choice{{"content", ""}, {"calls", Json::array()}, {"finish", nullptr}};
  for (const Json& chunk : chunks) {
    if (chunk["choices"].empty()) continue;
    const Json& part = chunk["choices"][0];
    choice["content"] = choice["content"].get<std::string>() + part["delta"].value("content", "");
    for (const Json& call : part["delta"].value("tool_calls", Json::array())) {
      const std::string text = call["function"]["arguments"];
      if (call["index"] == choice["calls"].size()) {
        choice["calls"].push_back({call["function"]["name"], text});
      } else {
        Json& last = choice["calls"].back()[1];
        last = last.get<std::string>() + text;
      }
    }
    if (!part["finish_reason"].is_null()) choice["finish"] = part["finish_reason"];
  }
  return choice;
}

/// The same of a whole answer.
Json shortened(const Json& answer) {
  const Json& choice = answer["choices"][0];
  const Json& message = choice["message"];
  Json out{{"content", message["content"].is_null() ? Json("") : message["content"]},
           {"calls", Json::array()},
           {"finish", choice["finish_reason"]}};
  for (const Json& call : message.value("tool_calls", Json::array())) {
    out["calls"].push_back({call["function"]["name"], call["function"]["arguments"]});
  }
  return out;
}

Json ask_weather(const char* choice) {
  return {{"messages", {{{"role", "user"}, {"content", "a"}}}},
          {"tool_choice", choice},
          {"tools",
           {{{"type", "function"},
             {"function", {{"name", "get_weather"}, {"parameters", {{"type", "object"}}}}}}}}};
}

ReplyStyle dialect(ToolStyle tools, bool newer) {
  ReplyStyle style;
  style.tools = tools;
  style.newer_form = newer;
  return style;
}

TEST(ChatAnswers, ARequiredCallThatIsCutIsNeverContent) {
  const std::pair<ReplyStyle, std::string> dialects[] = {
      {dialect(ToolStyle::kHermes, false),
       "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"a\": 1}}\n</tool_call>"},
      {dialect(ToolStyle::kHermes, true),
       "<tool_call>\n<function=get_weather>\n{\"a\": 1}\n</function>\n</tool_call>"},
      {dialect(ToolStyle::kLlama3, false), R"({"name": "get_weather", "parameters": {"a": 1}})"},
      {dialect(ToolStyle::kMistral, false),  // its marker is in the prompt
       R"( [{"name": "get_weather", "arguments": {"a": 1}}])"},
      {dialect(ToolStyle::kMistral, true), R"(get_weather[ARGS]{"a": 1})"},
      {dialect(ToolStyle::kMiniMax, false),
       "<tool_calls>\n{\"name\": \"get_weather\", \"arguments\": {\"a\": 1}}\n</tool_calls>"},
      {dialect(ToolStyle::kMiniMax, true),
       "<minimax:tool_call>\n<invoke name=\"get_weather\">\n{\"a\": 1}\n</invoke>\n"
       "</minimax:tool_call>"}};
  for (const auto& [style, text] : dialects) {
    Answers answers({.text = text}, style);
    for (std::size_t n = 1; n < text.size(); ++n) {
      SCOPED_TRACE(text.substr(0, n));
      Json body = ask_weather("required");
      body["max_tokens"] = n;
      const Json answer = answers.whole("/v1/chat/completions", body);
      const Json whole = shortened(answer);
      ASSERT_EQ(answer["choices"][0]["message"]["content"], nullptr);
      ASSERT_EQ(joined(answers.streamed("/v1/chat/completions", body)), whole);
      ASSERT_EQ(whole["finish"], "length");
      const std::string arguments = whole["calls"].empty() ? "" : whole["calls"][0][1];
      ASSERT_TRUE(std::string_view("{\"a\": 1}").starts_with(arguments));
    }
    Json body = ask_weather("required");
    body["max_tokens"] = text.size() + 1;
    EXPECT_EQ(shortened(answers.whole("/v1/chat/completions", body)),
              Json::parse(R"({"content": "", "calls": [["get_weather", "{\"a\": 1}"]],
                              "finish": "tool_calls"})"));
  }
}

TEST(ChatAnswers, ACallThatAStopTextCutsIsNoWholeOne) {
  const std::string object =
      "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"a\": \"Rome\"}}\n</tool_call>";
  const std::string element =
      "<tool_call>\n<function=get_weather>\n<parameter=a>\nRome\n</parameter>\n</function>\n"
      "</tool_call>";
  struct {
    const std::string& text;
    const char* stop;
    const char* want;
  } const cases[] = {
      {object, "weather", R"({"content": "", "calls": [], "finish": "stop"})"},
      {object, "ome",
       R"({"content": "", "calls": [["get_weather", "{\"a\": \"R"]], "finish": "stop"})"},
      {object, "</tool_call>",
       R"({"content": "", "calls": [["get_weather", "{\"a\": \"Rome\"}"]], "finish": "tool_calls"})"},
      {element, "ome",
       R"({"content": "", "calls": [["get_weather", "{\"a\": \"R"]], "finish": "stop"})"}};
  for (const auto& c : cases) {
    for (const char* choice : {"auto", "required"}) {
      SCOPED_TRACE(std::string(c.stop) + choice);
      Answers answers({.text = c.text}, dialect(ToolStyle::kHermes, &c.text == &element));
      Json body = ask_weather(choice);
      body["stop"] = c.stop;
      const Json whole = shortened(answers.whole("/v1/chat/completions", body));
      EXPECT_EQ(whole, Json::parse(c.want));
      EXPECT_EQ(joined(answers.streamed("/v1/chat/completions", body)), whole);
    }
  }
}

std::uint64_t count_of(const std::map<std::string, double>& samples, const std::string& name) {
  return static_cast<std::uint64_t>(samples.at(name));
}

TEST(ServeMetrics, CountersAreWhatWasAskedAndSaid) {
  Answers answers({.tokens_per_second = 1000.0});
  const auto ask = [&](int prompt, int n, int tokens) {
    answers.ask("/v1/completions", {{"prompt", std::string(static_cast<std::size_t>(prompt), 'a')},
                                    {"n", n},
                                    {"max_tokens", tokens}});
  };
  ask(100, 1, 20);
  ask(50, 4, 41);
  answers.ask("/v1/completions", {{"prompt", {"abc", "defgh"}}, {"max_tokens", 3}});
  const auto samples = answers.metrics();
  EXPECT_EQ(count_of(samples, "vllm:prompt_tokens_total"), 100U + 4U * 50U + 8U);
  EXPECT_EQ(count_of(samples, "vllm:prefix_cache_queries_total"), 100U + 4U * 50U + 8U);
  EXPECT_EQ(count_of(samples, "vllm:generation_tokens_total"), 20U + 4U * 41U + 6U);
  EXPECT_EQ(count_of(samples, "vllm:request_success_total{finished_reason=\"length\"}"), 7U);
  EXPECT_EQ(count_of(samples, "vllm:inter_token_latency_seconds_count"), 19U + 4U * 40U + 2U * 2U);
  // Of each choice: the gap is the engine's tick, however many choices there are.
  const double gap = samples.at("vllm:inter_token_latency_seconds_sum") /
                     samples.at("vllm:inter_token_latency_seconds_count");
  EXPECT_GT(gap, 0.0008);
  for (const char* name :
       {"time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds",
        "request_prefill_time_seconds", "request_decode_time_seconds",
        "request_inference_time_seconds", "request_prompt_tokens", "request_generation_tokens"}) {
    EXPECT_EQ(count_of(samples, fmt::format("vllm:{}_count", name)), 3U) << name;
  }
  const auto seconds = [&](const char* name) {
    return samples.at(fmt::format("vllm:{}_seconds_sum", name));
  };
  EXPECT_NEAR(seconds("request_prefill_time") + seconds("request_decode_time"),
              seconds("request_inference_time"), 1e-4);
  EXPECT_NEAR(seconds("request_queue_time") + seconds("request_prefill_time"),
              seconds("time_to_first_token"), 1e-4);
  EXPECT_GT(seconds("request_decode_time"), 0.04);
  EXPECT_LE(seconds("request_queue_time") + seconds("request_inference_time"),
            seconds("e2e_request_latency") + 1e-4);
  EXPECT_EQ(count_of(samples, "vllm:request_prompt_tokens_sum"), 158U);
  EXPECT_EQ(count_of(samples, "vllm:request_generation_tokens_sum"), 190U);
  EXPECT_EQ(count_of(samples, "vllm:iteration_tokens_total_sum"), 190U);
  EXPECT_EQ(count_of(samples, "heddle:snapshot_bytes"), 0U);
  EXPECT_EQ(count_of(samples, "heddle:snapshot_hits_total"), 0U);
}

TEST(ServeMetrics, ARequestThatIsLeftHasItsPromptAndItsTokensCounted) {
  Answers answers({.tokens_per_second = 1000.0});
  const auto left =
      answers.begin("/v1/completions",
                    {{"prompt", std::string(300, 'a')}, {"max_tokens", 20000}, {"stream", true}});
  left->wait([&] { return left->body.find("data: ") != std::string::npos; });
  left->leave();
  const auto samples = answers.metrics();
  EXPECT_EQ(count_of(samples, "vllm:prompt_tokens_total"), 300U);
  EXPECT_GT(count_of(samples, "vllm:generation_tokens_total"), 0U);
  EXPECT_EQ(count_of(samples, "vllm:request_success_total{finished_reason=\"abort\"}"), 1U);
  EXPECT_EQ(count_of(samples, "vllm:e2e_request_latency_seconds_count"), 0U);
}

}  // namespace
}  // namespace heddle::serve
