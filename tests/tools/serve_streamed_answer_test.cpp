// A streamed answer as a client reads it: however it is cut, and what is wrong with it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/serve/client/streamed_answer.h"

namespace heddle::serve {
namespace {

const ClientResult kWhole{.status = 200, .error = ""};

std::string event(const std::string& data) {
  return "data: " + data + "\n\n";
}
std::string chat_event(const std::string& delta, const std::string& rest = "") {
  return event(R"({"choices": [{"index": 0, "delta": )" + delta + rest + "}]}");
}
std::string said(const std::string& text) {
  return chat_event(R"({"content": ")" + text + "\"}");
}
const std::string kStop = chat_event("{}", R"(, "finish_reason": "stop")");
const std::string kDone = event("[DONE]");

struct Heard {
  std::string error;
  std::string text;
  std::string thoughts;
  AnswerUsage usage;
  std::int64_t n_pieces = 0;
};

Heard hear(const std::string& bytes,
           bool chat = true,
           ClientResult result = kWhole,
           std::size_t piece = 0) {
  StreamedAnswer answer(chat);
  if (piece == 0) piece = bytes.size() + 1;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    answer.received(result.status, std::string_view(bytes).substr(at, piece));
  }
  const std::string error = answer.end(result);
  EXPECT_EQ(answer.begun(), answer.n_pieces() > 0);
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  return {error, answer.text(), answer.thoughts(), answer.usage(), answer.n_pieces()};
}

TEST(ServeStreamedAnswer, IsTheSameHoweverItIsCut) {
  const std::string bytes =
      ": ping\n\n" + chat_event(R"({"role": "assistant", "content": ""})") +
      chat_event(R"({"reasoning_content": "Hm"})") + said("Gr\u00fc\u00df") + said(" \\u4f60\\n") +
      "event: x\r\ndata: {\"choices\": [{\"delta\":\r\ndata: {\"content\": \"!\"}}]}\r\n\r\n" +
      kStop +
      event(R"({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3, )"
            R"("prompt_tokens_details": {"cached_tokens": 8}}})") +
      kDone;
  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
    const Heard heard = hear(bytes, true, kWhole, piece);
    ASSERT_EQ(heard.error, "") << piece;
    ASSERT_EQ(heard.text, "Gr\u00fc\u00df \u4f60\n!");
    ASSERT_EQ(heard.thoughts, "Hm");
    ASSERT_EQ(heard.n_pieces, 4);
    ASSERT_EQ(heard.usage.n_prompt, 12);
    ASSERT_EQ(heard.usage.n_output, 3);
    ASSERT_EQ(heard.usage.n_cached, 8);
  }
}

TEST(ServeStreamedAnswer, CompletionsHaveTheirTextElsewhere) {
  const std::string bytes = event(R"({"choices": [{"text": "a", "finish_reason": null}]})") +
                            event(R"({"choices": [{"text": "b", "finish_reason": "length"}]})");
  EXPECT_EQ(hear(bytes, false).text, "ab");
  EXPECT_EQ(hear(bytes, false).error, "");
  EXPECT_EQ(hear(bytes, true).text, "");
  EXPECT_EQ(hear(said("a") + kStop, false).text, "");
}

TEST(ServeStreamedAnswer, EndsWithAReasonOrDone) {
  EXPECT_EQ(hear(said("a") + kStop).error, "");
  EXPECT_EQ(hear(said("a") + kDone).error, "");
  const std::string cut = "the stream ended before the answer did";
  EXPECT_EQ(hear(said("a")).error, cut);
  EXPECT_EQ(hear(said("a") + chat_event("{}", R"(, "finish_reason": null)")).error, cut);
  EXPECT_EQ(hear(said("a") + "data: [DONE]").error, cut);  // without its blank line
  EXPECT_EQ(hear("").error, cut);
  EXPECT_EQ(hear(kStop).error, "an answer without text");
  StreamedAnswer empty(true);
  empty.allow_empty = true;
  empty.received(200, kStop);
  EXPECT_EQ(empty.end(kWhole), "");
}

TEST(ServeStreamedAnswer, WhatFailedFirstIsTold) {
  const ClientResult lost{.status = 200, .error = "connection reset"};
  EXPECT_EQ(hear(said("a"), true, lost).error, "connection reset");
  EXPECT_EQ(hear(said("a") + event(R"({"error": {"message": "no memory"}})"), true, lost).error,
            "in the stream: no memory");
  EXPECT_EQ(hear(event(R"({"error": "one"})") + event(R"({"error": "two"})")).error,
            "in the stream: one");
  EXPECT_EQ(hear("", true, {.status = 0, .error = "refused"}).error, "refused");
}

TEST(ServeStreamedAnswer, ErrorsInTheStreamAreTold) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"error": {"message": "busy", "code": 503}})", "in the stream: busy"},
      {R"({"error": "busy"})", "in the stream: busy"},
      {R"({"error": {"code": 503}})", R"(in the stream: {"code":503})"},
      {R"({"error": {"message": "line\none\r\n two\u0007"}})", "in the stream: line one two"},
      {"x", "an event is not a JSON object"},
      {"[]", "an event is not a JSON object"},
      {"{\"choices\":", "an event is not a JSON object"}};
  for (const auto& [data, wanted] : cases) {
    const Heard heard = hear(said("a") + event(data) + said("b") + kStop);
    EXPECT_EQ(heard.error, wanted) << data;
  }
  EXPECT_EQ(hear(said("a") + event(R"({"error": null})") + kStop).error, "");
}

TEST(ServeStreamedAnswer, StrangeEventsAreLeftOut) {
  for (const char* data :
       {"{}", R"({"choices": null})", R"({"choices": []})", R"({"choices": [null]})",
        R"({"choices": ["a"]})", R"({"choices": [{"delta": null}]})",
        R"({"choices": [{"delta": {"content": null}}]})",
        R"({"choices": [{"delta": {"content": 1}}]})", R"({"choices": [{"delta": [1]}]})",
        R"({"choices": [{"finish_reason": 1}]})", R"({"usage": null})", R"({"usage": []})",
        R"({"usage": {"prompt_tokens": "9"}})",
        R"({"usage": {"prompt_tokens": -1, "prompt_tokens_details": []}})",
        R"({"usage": {"prompt_tokens": 1e300, "prompt_tokens_details": null}})"}) {
    const Heard heard = hear(said("a") + event(data) + kStop);
    EXPECT_EQ(heard.error, "") << data;
    EXPECT_EQ(heard.text, "a") << data;
    EXPECT_EQ(heard.usage.n_prompt, 0) << data;
  }
}

TEST(ServeStreamedAnswer, CallsCountAsPiecesAndThoughtsAreApart) {
  const Heard heard =
      hear(chat_event(R"({"tool_calls": [{"index": 0}]})") + chat_event(R"({"tool_calls": []})") +
           chat_event(R"({"reasoning": "a", "content": null})") + kStop);
  EXPECT_EQ(heard.n_pieces, 2);
  EXPECT_EQ(heard.text, "");
  EXPECT_EQ(heard.thoughts, "a");
  EXPECT_EQ(heard.error, "");
}

TEST(ServeStreamedAnswer, UsageIsThatOfTheLastEventThatHasSome) {
  const Heard heard = hear(
      event(
          R"({"choices": [], "usage": {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}})") +
      said("a") +
      event(R"({"choices": [], "usage": {"prompt_tokens": 6, "completion_tokens": 1}})") + kStop);
  EXPECT_EQ(heard.usage.n_prompt, 6);
  EXPECT_EQ(heard.usage.n_output, 1);
  EXPECT_EQ(heard.usage.n_cached, 2);
}

TEST(ServeStreamedAnswer, ARefusalsBodyIsTold) {
  const auto refused = [](int status, const std::string& body) {
    return hear(body, true, {.status = status, .error = ""}, 3).error;
  };
  EXPECT_EQ(refused(500, R"({"error": {"message": "it broke"}})"), "HTTP 500: it broke");
  EXPECT_EQ(refused(400, R"({"error": "too long"})"), "HTTP 400: too long");
  EXPECT_EQ(refused(503, ""), "HTTP 503");
  EXPECT_EQ(refused(502, "<html>\n<p>Bad Gateway</p>"), "HTTP 502");
  EXPECT_EQ(refused(404, R"({"detail": "Not Found"})"), "HTTP 404: Not Found");
  EXPECT_EQ(refused(400, R"({"object": "error", "message": "no such model"})"),
            "HTTP 400: no such model");
  EXPECT_EQ(refused(400, R"({"error": {"message": "a\nb"}})"), "HTTP 400: a b");
  EXPECT_EQ(refused(201, said("a")), "HTTP 201");
  // A long body is cut, and says nothing then.
  EXPECT_EQ(refused(500, R"({"error": {"message": ")" + std::string(100'000, 'x') + "\"}}"),
            "HTTP 500");
}

TEST(ServeStreamedAnswer, EventsWithoutEndAreRefused) {
  const std::string flood = "data: " + std::string(std::size_t{64} << 20, 'x');
  EXPECT_EQ(hear(flood).error, "an event is too long");
}

TEST(ServeStreamedAnswer, TargetsAndHeadersAreTheApis) {
  const auto at = [](const std::string& path) {
    Url url;
    url.path = path;
    return url;
  };
  EXPECT_EQ(api_target(at(""), "/completions"), "/v1/completions");
  EXPECT_EQ(api_target(at("/v1"), "/completions"), "/v1/completions");
  EXPECT_EQ(api_target(at("/proxy"), "/models"), "/proxy/v1/models");
  EXPECT_EQ(api_target(at("/proxy/v1"), "/models"), "/proxy/v1/models");
  EXPECT_EQ(api_headers("").size(), 1U);
  EXPECT_EQ(api_headers("k").at(1).second, "Bearer k");
}

}  // namespace
}  // namespace heddle::serve
