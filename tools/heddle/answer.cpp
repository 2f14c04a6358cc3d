#include "tools/heddle/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"

namespace heddle::cli {
namespace {

double per_second(double count, double seconds) {
  return seconds > 0.0 ? count / seconds : 0.0;
}

}  // namespace

void fit_to_context(const Engine& engine, Request& request) {
  const std::int64_t context = engine.options().context;
  const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
  if (n_prompt == 0) throw bad_input("the prompt has no tokens");
  const std::int64_t room = context - n_prompt;
  if (room < 1) {
    throw bad_input(
        fmt::format("the prompt has {} tokens, which leaves no room in a context of {} (--ctx; "
                    "the checkpoint allows {})",
                    n_prompt, context, engine.config().context));
  }
  request.max_new_tokens =
      request.max_new_tokens == 0 ? room : std::min(request.max_new_tokens, room);
}

void set_prompt(Request& request, ChatPrompt prompt) {
  request.prompt = std::move(prompt.tokens);
  request.snapshot_at = std::move(prompt.departures);
}

ChatPrompt encode_prompt(const Engine& engine,
                         const std::string& text,
                         const std::string& system,
                         bool raw) {
  if (raw || engine.chat_template() == nullptr) {
    if (!system.empty()) {
      throw bad_input(raw ? "--system needs the chat template, which --raw turns off"
                          : "--system needs a chat template, which this checkpoint does not have");
    }
    return {.tokens = engine.tokenizer().encode(text, {})};
  }
  std::vector<ChatMessage> messages;
  if (!system.empty()) messages.push_back({.role = "system", .content = system, .extra_json = ""});
  messages.push_back({.role = "user", .content = text, .extra_json = ""});
  return engine.encode_conversation(messages);
}

void verify_hits(Engine& engine) {
  if (engine.stats().verify.pending == 0) return;
  const PolledInterrupt interrupt;
  while (engine.stats().verify.pending > 0 && !interrupt.raised() && engine.step()) {
  }
  engine.skip_checks();
}

void require_verified(const Engine& engine) {
  const CacheCheckStats verify = engine.stats().verify;
  if (engine.options().verify_cache > 0.0) {
    log_info(fmt::format("verify-cache: {} hits computed again, {} rows compared, {} skipped",
                         verify.checked, verify.rows, verify.skipped));
  }
  if (verify.mismatches == 0) return;
  throw runtime_failure(
      fmt::format("--verify-cache: {} of {} answers behind a cached prefix have other logits than "
                  "the same prompt computed cold; this is a fault of heddle or of the machine",
                  verify.mismatches, verify.checked));
}

void Answer::start(Engine& engine, Request request) {
  fit_to_context(engine, request);
  prompt_ = request.prompt;
  seed_ = request.sampling.seed;
  wants_logprobs_ = request.n_logprobs >= 0;
  started_ = first_token_ = last_ = Clock::now();
  id_ = engine.submit(std::move(request), [this](const RequestEvent& event) { receive(event); });
}

void Answer::receive(const RequestEvent& event) {
  last_ = Clock::now();
  if (event.token) {
    if (tokens_.empty()) first_token_ = last_;
    tokens_.push_back(*event.token);
    if (wants_logprobs_) logprobs_.push_back(event);
  }
  text_ += event.text;
  if (event.finish != FinishReason::kNone) {
    finish_ = event.finish;
    error_ = event.error;
    reuse_ = event.reuse;
  }
}

std::string Answer::take_new_text() {
  std::string part = text_.substr(taken_);
  taken_ = text_.size();
  return part;
}

std::vector<std::int32_t> Answer::prompt_and_answer() const {
  std::vector<std::int32_t> all = prompt_;
  all.insert(all.end(), tokens_.begin(), tokens_.end());
  return all;
}

double Answer::prefill_s() const {
  return std::chrono::duration<double>(first_token_ - started_).count();
}

double Answer::decode_s() const {
  return tokens_.empty() ? 0.0 : std::chrono::duration<double>(last_ - first_token_).count();
}

std::string Answer::describe_reuse() const {
  std::string text = fmt::format("reused {} of {} prompt tokens", reuse_.cached_tokens, n_prompt());
  if (reuse_.replayed_tokens > 0) text += fmt::format(", replayed {}", reuse_.replayed_tokens);
  if (reuse_.reason == "none") return text;
  text += fmt::format("; {}", reuse_.reason);
  return reuse_.reason == "diverged_at" ? fmt::format("{} {}", text, reuse_.known_tokens) : text;
}

std::string Answer::describe_timings() const {
  const double decoded = std::max<double>(0.0, static_cast<double>(tokens_.size()) - 1.0);
  return fmt::format(
      "prompt {} tokens in {:.2f} s ({:.1f} tok/s), answer {} tokens in {:.2f} s ({:.1f} tok/s), "
      "peak {:.0f} MiB",
      prompt_.size(), prefill_s(), per_second(static_cast<double>(prompt_.size()), prefill_s()),
      tokens_.size(), decode_s(), per_second(decoded, decode_s()),
      static_cast<double>(peak_rss_bytes()) / (1 << 20));
}

Json Answer::logprobs_json(const Engine& engine) const {
  const auto entry = [&](const TokenLogprob& value) {
    return Json{{"token", value.token},
                {"text", utf8_lossy(engine.tokenizer().token_bytes(value.token, true))},
                {"logprob", value.logprob}};
  };
  Json list = Json::array();
  for (const RequestEvent& event : logprobs_) {
    Json row = event.logprob ? entry(*event.logprob) : Json::object();
    row["top"] = Json::array();
    for (const TokenLogprob& top : event.top_logprobs) row["top"].push_back(entry(top));
    list.push_back(std::move(row));
  }
  return list;
}

Json Answer::to_json(const Engine& engine, const std::string& model) const {
  const double decoded = std::max<double>(0.0, static_cast<double>(tokens_.size()) - 1.0);
  Json json;
  json["model"] = model;
  json["prompt_tokens"] = prompt_.size();
  json["completion_tokens"] = tokens_.size();
  json["cached_tokens"] = reuse_.cached_tokens;
  json["replayed_tokens"] = reuse_.replayed_tokens;
  json["not_reused"] = reuse_.reason;
  if (reuse_.reason == "diverged_at") json["diverged_at"] = reuse_.known_tokens;
  json["prompt_token_ids"] = prompt_;
  json["tokens"] = tokens_;
  json["text"] = text_;
  json["finish_reason"] = name(finish_);
  if (!error_.empty()) json["error"] = error_;
  json["seed"] = seed_;
  json["timings"] = {
      {"load_s", engine.stats().load_s},
      {"prefill_s", prefill_s()},
      {"prefill_tok_s", per_second(static_cast<double>(prompt_.size()), prefill_s())},
      {"decode_s", decode_s()},
      {"decode_tok_s", per_second(decoded, decode_s())}};
  json["peak_rss_bytes"] = peak_rss_bytes();
  if (wants_logprobs_) json["logprobs"] = logprobs_json(engine);
  return json;
}

}  // namespace heddle::cli
