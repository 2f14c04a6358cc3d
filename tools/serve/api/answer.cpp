#include "tools/serve/api/answer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace heddle::serve {

std::string random_id() {
  constexpr std::size_t kBytes = 16;
  constexpr std::string_view kHex = "0123456789abcdef";
  thread_local std::array<unsigned char, 64 * kBytes> pool;
  thread_local std::size_t n_left = 0;
  if (n_left == 0) {
    HEDDLE_CHECK(getentropy(pool.data(), 256) == 0 && getentropy(pool.data() + 256, 256) == 0 &&
                 getentropy(pool.data() + 512, 256) == 0 &&
                 getentropy(pool.data() + 768, 256) == 0);
    n_left = pool.size();
  }
  n_left -= kBytes;
  std::string id;
  for (std::size_t i = 0; i < kBytes; ++i) {
    id += kHex[pool[n_left + i] >> 4U];
    id += kHex[pool[n_left + i] & 15U];
  }
  return id;
}

std::int64_t Answer::n_prompt_tokens() const {
  std::int64_t n = 0;
  for (const AnswerPrompt& prompt : prompts) n += prompt.n_tokens;
  return n;
}

std::int64_t Answer::n_answer_tokens() const {
  std::int64_t n = 0;
  for (const AnswerChoice& choice : choices) n += choice.n_tokens;
  return n;
}

std::int64_t Answer::n_cached_tokens() const {
  std::int64_t n = 0;
  for (const AnswerPrompt& prompt : prompts) n += prompt.reuse.cached_tokens;
  return n;
}

Json usage_json(const Answer& answer) {
  std::int64_t n_thoughts = 0;
  for (const AnswerChoice& choice : answer.choices) n_thoughts += choice.n_thought_tokens;
  std::int64_t n_replayed = 0;
  std::int64_t n_known = 0;
  std::string_view reason;  // the first that is not "none"
  for (const AnswerPrompt& prompt : answer.prompts) {
    n_replayed += prompt.reuse.replayed_tokens;
    n_known += prompt.reuse.known_tokens;
    const bool told = !reason.empty() && reason != "none";
    if (!told && !prompt.reuse.reason.empty()) reason = prompt.reuse.reason;
  }
  return {{"prompt_tokens", answer.n_prompt_tokens()},
          {"completion_tokens", answer.n_answer_tokens()},
          {"total_tokens", answer.n_prompt_tokens() + answer.n_answer_tokens()},
          {"prompt_tokens_details", {{"cached_tokens", answer.n_cached_tokens()}}},
          {"completion_tokens_details", {{"reasoning_tokens", n_thoughts}}},
          {"heddle",
           {{"cached_tokens", answer.n_cached_tokens()},
            {"replayed_tokens", n_replayed},
            {"not_reused", reason.empty() ? Json(nullptr) : Json(reason)},
            {"known_tokens", n_known}}}};
}

std::string token_text(const Tokenizer& tokenizer, std::int32_t token) {
  const std::string bytes = tokenizer.token_bytes(token, true);
  if (utf8_lossy(bytes) == bytes) return bytes;
  std::string text = "bytes:";
  for (const char c : bytes) {
    fmt::format_to(std::back_inserter(text), "\\x{:02x}", static_cast<unsigned char>(c));
  }
  return text;
}

Json prompt_logprobs_json(const Answer& answer, const AnswerPrompt& prompt) {
  const Tokenizer& tokenizer = *answer.facts->tokenizer;
  Json list = Json::array({nullptr});
  for (const TokenInfo& info : prompt.scored) {
    Json entry = Json::object();
    const auto add = [&](std::int32_t token, float logprob) {
      entry[std::to_string(token)] = {{"logprob", shown_logprob(logprob)},
                                      {"decoded_token", token_text(tokenizer, token)}};
    };
    add(info.token, info.logprob);
    for (const TokenLogprob& top : info.top) add(top.token, top.logprob);
    list.push_back(std::move(entry));
  }
  return list;
}

Json answer_head(const Answer& answer, std::string_view id_prefix, std::string_view object) {
  return {{"id", std::string(id_prefix) + answer.id},
          {"object", object},
          {"created", answer.created},
          {"model", answer.plan->model},
          {"system_fingerprint", answer.facts->numerics_id}};
}

std::string progress_member(const Answer& answer,
                            const AnswerChoice& choice,
                            const RequestEvent& event,
                            double seconds) {
  return fmt::format(
      R"(,"prompt_progress":{{"total":{},"cache":{},"processed":{},"time_ms":{:.0f}}})",
      answer.prompts[choice.prompt].n_tokens, event.reuse.cached_tokens, event.prompt_computed,
      seconds * 1000.0);
}

std::string usage_member(const Answer& answer) {
  if (answer.plan->continuous_usage) return R"(,"usage":)" + to_text(usage_json(answer));
  return answer.plan->include_usage ? R"(,"usage":null)" : "";
}

void append_stream_end(const Answer& answer, std::string_view head, std::string& out) {
  if (answer.plan->include_usage) {
    append_event(out,
                 fmt::format(R"({},"choices":[],"usage":{}}})", head, to_text(usage_json(answer))));
  }
  append_event(out, "[DONE]");
}

double shown_logprob(float logprob) {
  return logprob > -9999.0F ? static_cast<double>(logprob) : -9999.0;
}

void append_event(std::string& out, std::string_view json) {
  out += "data: ";
  out += json;
  out += "\n\n";
}

}  // namespace heddle::serve
