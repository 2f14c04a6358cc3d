#include "tools/serve/client/streamed_answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace heddle::serve {
namespace {

constexpr std::size_t kMostErrorBytes = 4096;
constexpr std::size_t kMostText = std::size_t{64} << 20;  // of an answer

/// Control characters and white space are single spaces.
std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text.substr(0, kMostErrorBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte != 0x7f) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  while (line.ends_with(' ')) line.pop_back();
  return line;
}

/// What a server says of an error, in one line.
std::string message_of(const Json& error) {
  if (error.is_string()) return one_line(error.get_ref<const std::string&>());
  if (error.is_object()) {
    const auto it = error.find("message");
    if (it != error.end() && it->is_string()) return one_line(it->get_ref<const std::string&>());
  }
  return error.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 200);
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

/// The member's text; "" where it is none.
std::string text_in(const Json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

bool has_calls(const Json& delta) {
  const auto it = delta.find("tool_calls");
  return it != delta.end() && !it->is_null() && !it->empty();
}

}  // namespace

std::string api_target(const Url& url, std::string_view path) {
  return url.path + (url.path.ends_with("/v1") ? "" : "/v1") + std::string(path);
}

HeaderList api_headers(const std::string& api_key) {
  HeaderList headers = {{"content-type", "application/json"}};
  if (!api_key.empty()) headers.emplace_back("authorization", "Bearer " + api_key);
  return headers;
}

std::string http_error_text(int status, const std::string& body) {
  const Json json = Json::parse(body, nullptr, false);
  if (json.is_object()) {
    if (json.contains("error"))
      return fmt::format("HTTP {}: {}", status, message_of(json["error"]));
    for (const char* name : {"message", "detail"}) {  // of servers that are near to OpenAI's
      const std::string text = text_in(json, name);
      if (!text.empty()) return fmt::format("HTTP {}: {}", status, one_line(text));
    }
  }
  return fmt::format("HTTP {}", status);
}

void StreamedAnswer::received(int status, std::string_view bytes) {
  if (status != 200) {
    error_body_.append(
        bytes.substr(0, kMostErrorBytes - std::min(kMostErrorBytes, error_body_.size())));
    return;
  }
  const double now = std::chrono::duration<double>(Clock::now() - sent_).count();
  const bool good = events_.push(bytes, [&](std::string_view data) { take(data, now); });
  if (!good) fail("an event is too long");
}

std::string StreamedAnswer::end(const ClientResult& result) {
  if (!error_.empty()) return error_;
  if (!result.error.empty()) return result.error;
  if (result.status != 200) return http_error_text(result.status, error_body_);
  if (!finished_) return "the stream ended before the answer did";
  if (n_pieces_ == 0 && !allow_empty) return "an answer without text";
  return "";
}

void StreamedAnswer::fail(const std::string& error) {
  if (error_.empty()) error_ = error;
}

void StreamedAnswer::take(std::string_view data, double now_s) {
  if (data == "[DONE]") {
    finished_ = true;
    return;
  }
  const Json event = Json::parse(data, nullptr, false);
  if (!event.is_object()) return fail("an event is not a JSON object");
  if (event.contains("error") && !event["error"].is_null()) {
    return fail("in the stream: " + message_of(event["error"]));
  }
  if (const auto usage = event.find("usage"); usage != event.end() && usage->is_object()) {
    usage_.n_prompt = count_in(*usage, "prompt_tokens");
    usage_.n_output = count_in(*usage, "completion_tokens");
    const auto details = usage->find("prompt_tokens_details");
    if (details != usage->end()) usage_.n_cached = count_in(*details, "cached_tokens");
  }
  const auto choices = event.find("choices");
  if (choices == event.end() || !choices->is_array() || choices->empty()) return;
  for (const Json& choice : *choices) {
    if (!choice.is_object() || count_in(choice, "index") != 0) continue;
    take_choice(choice, now_s);
  }
}

void StreamedAnswer::take_choice(const Json& choice, double now_s) {
  if (choice.contains("finish_reason") && choice["finish_reason"].is_string()) {
    finished_ = true;
    finish_reason_ = choice["finish_reason"].get<std::string>();
  }
  const auto delta = choice.find("delta");
  const bool in_delta = chat_ && delta != choice.end() && delta->is_object();
  const std::string text =
      in_delta ? text_in(*delta, "content") : (chat_ ? std::string() : text_in(choice, "text"));
  std::string thoughts;
  if (in_delta) thoughts = text_in(*delta, "reasoning_content") + text_in(*delta, "reasoning");
  if (text.empty() && thoughts.empty() && !(in_delta && has_calls(*delta))) return;
  text_ += text;
  thoughts_ += thoughts;
  if (text_.size() + thoughts_.size() > kMostText) return fail("the answer is too long");
  if (n_pieces_++ == 0) {
    first_s_ = now_s;
  } else {
    gaps_s_.push_back(now_s - last_s_);
  }
  last_s_ = now_s;
}

}  // namespace heddle::serve
