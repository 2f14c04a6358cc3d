#include "tools/needle/server_encoder.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace heddle::needle {
namespace {

constexpr std::uint64_t kMostTokens = std::uint64_t{1} << 40U;  // of one text

}  // namespace

Json chat_body(const std::string& text, const std::string& prefix) {
  Json body{{"messages", Json::array({{{"role", "user"}, {"content", text}}})}};
  if (prefix.empty()) return body;
  body["messages"].push_back({{"role", "assistant"}, {"content", prefix}});
  body["continue_final_message"] = true;
  body["add_generation_prompt"] = false;
  return body;
}

std::string raw_text(const EncodedPrompt& prompt) {
  return prompt.prefix.empty() ? prompt.text : prompt.text + " " + prompt.prefix;
}

ServerEncoder::ServerEncoder(ServerApi& api) : api_(api) {
  const std::string probe = "The grass is green.";
  const auto vllm = api_.call("/tokenize", {{"model", api_.model()}, {"prompt", probe}});
  const auto is_count = [](const ServerApi::Response& response) {
    return response.body.is_object() && response.body.contains("count") &&
           response.body["count"].is_number_unsigned() && response.body["count"] > 0;
  };
  if (vllm.error.empty() && is_count(vllm)) return;
  form_ = Form::kContent;
  const auto llama = api_.call("/tokenize", {{"content", probe}});
  const bool has_tokens = llama.body.is_object() && llama.body.contains("tokens") &&
                          llama.body["tokens"].is_array() && !llama.body["tokens"].empty();
  if (has_tokens) return;
  throw bad_input(fmt::format(
      "--url: the server does not count tokens (POST /tokenize: {}); --tokenizer MODEL names a "
      "checkpoint with its tokenizer",
      vllm.error.empty() ? "neither `count` nor `tokens`" : vllm.error));
}

bool ServerEncoder::has_template() {
  Json body = chat_body("a", "");
  body["model"] = api_.model();
  const char* const path = form_ == Form::kPrompt ? "/tokenize" : "/apply-template";
  const ServerApi::Response response = api_.call(path, body);
  const bool refused = response.status >= 400 && response.status < 500;
  if (!response.error.empty() && !refused) {
    throw runtime_failure(fmt::format("POST {}: {}", path, response.error));
  }
  return response.error.empty();
}

std::int64_t ServerEncoder::count_of(const Json& body) {
  const ServerApi::Response response = api_.call("/tokenize", body);
  if (!response.error.empty()) {
    throw runtime_failure(fmt::format("POST /tokenize: {}", response.error));
  }
  const char* const name = form_ == Form::kPrompt ? "count" : "tokens";
  const auto is_count = [](const Json& value) {
    return value.is_number_unsigned() && value.get<std::uint64_t>() <= kMostTokens;
  };
  const bool valid =
      response.body.is_object() && response.body.contains(name) &&
      (form_ == Form::kPrompt ? is_count(response.body[name]) : response.body[name].is_array());
  if (!valid) throw runtime_failure(fmt::format("POST /tokenize: no `{}` in the answer", name));
  return form_ == Form::kPrompt ? response.body[name].get<std::int64_t>()
                                : static_cast<std::int64_t>(response.body[name].size());
}

std::int64_t ServerEncoder::count_text(const std::string& text, bool special) {
  if (form_ == Form::kPrompt) {
    return count_of({{"model", api_.model()}, {"prompt", text}, {"add_special_tokens", special}});
  }
  return count_of({{"content", text}, {"add_special", special}, {"parse_special", special}});
}

std::int64_t ServerEncoder::count_chat(const std::string& text, const std::string& prefix) {
  Json body = chat_body(text, prefix);
  if (form_ == Form::kPrompt) {
    body["model"] = api_.model();
    return count_of(body);
  }
  const ServerApi::Response response = api_.call("/apply-template", body);
  const bool valid = response.body.is_object() && response.body.contains("prompt") &&
                     response.body["prompt"].is_string();
  if (!response.error.empty() || !valid) {
    throw runtime_failure(fmt::format("POST /apply-template: {}",
                                      response.error.empty() ? "no `prompt`" : response.error));
  }
  return count_text(response.body["prompt"].get<std::string>(), true);
}

EncodedPrompt ServerEncoder::encode(std::string text, std::string prefix) {
  EncodedPrompt prompt{.text = std::move(text), .prefix = std::move(prefix)};
  prompt.n_tokens =
      chat_ ? count_chat(prompt.text, prompt.prefix) : count_text(raw_text(prompt), true);
  return prompt;
}

std::int64_t ServerEncoder::count_piece(const std::string& piece) {
  const std::string before = "It was so.";
  if (n_before_ < 0) n_before_ = count_text(before, false);
  return count_text(before + piece, false) - n_before_;
}

}  // namespace heddle::needle
