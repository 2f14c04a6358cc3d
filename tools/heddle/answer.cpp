#include "tools/heddle/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
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

/// Two decimals, of less than a second three digits: "1.25", "0.00545".
std::string seconds_text(double seconds) {
  constexpr double kLeast = 1e-6;
  if (seconds < kLeast || seconds >= 1.0) return fmt::format("{:.2f}", seconds);
  return fmt::format("{:.{}f}", seconds, 2 - static_cast<int>(std::floor(std::log10(seconds))));
}

/// Why a prompt was not reused further, where a position says no more.
std::string_view words_of(std::string_view reason) {
  if (reason == "no_prefix") return "; nothing that is kept begins like it";
  if (reason == "evicted") return "; more was kept, and had to make room";
  if (reason == "scope") return "; nothing is kept in its scope";
  if (reason == "too_short") return "; one token is too short";
  if (reason == "disabled") return "; the prefix cache is not used";
  return "";
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

std::optional<std::vector<ChatMessage>> conversation_of(bool has_template,
                                                        const std::string& text,
                                                        const std::string& system,
                                                        bool raw) {
  if (raw || !has_template) {
    if (!system.empty()) {
      throw bad_input(raw ? "--system needs the chat template, which --raw turns off"
                          : "--system needs a chat template, which this checkpoint does not have");
    }
    return std::nullopt;
  }
  std::vector<ChatMessage> messages;
  if (!system.empty()) messages.push_back({.role = "system", .content = system, .extra_json = ""});
  messages.push_back({.role = "user", .content = text, .extra_json = ""});
  return messages;
}

ChatPrompt encode_prompt(const Engine& engine,
                         const std::string& text,
                         const std::string& system,
                         bool raw) {
  const auto messages = conversation_of(engine.chat_template() != nullptr, text, system, raw);
  if (messages) return engine.encode_conversation(*messages);
  return {.tokens = engine.tokenizer().encode(text, {})};
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
  choices_.resize(static_cast<std::size_t>(request.n));
  started_ = first_token_ = last_ = Clock::now();
  id_ = engine.submit(std::move(request), [this](const RequestEvent& event) { receive(event); });
}

void Answer::receive(const RequestEvent& event) {
  last_ = Clock::now();
  Choice& choice = choices_.at(event.choice);
  if (event.token) {
    if (total_tokens() == 0) first_token_ = last_;
    choice.tokens.push_back(*event.token);
    if (wants_logprobs_) choice.logprobs.push_back(event);
  }
  choice.text += event.text;
  if (event.finish == FinishReason::kNone) return;
  ++n_done_;
  choice.finish = event.finish;
  choice.error = event.error;
  const bool fails =
      event.finish == FinishReason::kError || event.finish == FinishReason::kDeadline;
  if (fails && failed_ == nullptr) failed_ = &choice.error;
  if (event.choice == 0) reuse_ = event.reuse;
}

std::size_t Answer::total_tokens() const {
  std::size_t n = 0;
  for (const Choice& choice : choices_) n += choice.tokens.size();
  return n;
}

std::string Answer::take_new_text() {
  std::string part = choices_[0].text.substr(taken_);
  taken_ = choices_[0].text.size();
  return part;
}

std::vector<std::int32_t> Answer::prompt_and_answer() const {
  std::vector<std::int32_t> all = prompt_;
  all.insert(all.end(), choices_[0].tokens.begin(), choices_[0].tokens.end());
  return all;
}

double Answer::prefill_s() const {
  return std::chrono::duration<double>(first_token_ - started_).count();
}

/// Of the tokens that were computed.
double Answer::prefill_rate() const {
  return per_second(static_cast<double>(n_prompt() - reuse_.cached_tokens), prefill_s());
}

double Answer::decode_s() const {
  return total_tokens() == 0 ? 0.0 : std::chrono::duration<double>(last_ - first_token_).count();
}

std::string Answer::describe_reuse() const {
  std::string text = fmt::format("reused {} of {} prompt tokens", reuse_.cached_tokens, n_prompt());
  if (reuse_.reason == "no_snapshot") {
    text += fmt::format("; no state behind {}", reuse_.cached_tokens);
  } else {
    text += words_of(reuse_.reason);
  }
  if (reuse_.replayed_tokens > 0) text += fmt::format("; {} replayed", reuse_.replayed_tokens);
  if (departed()) text += fmt::format("; the rest is new from {}", reuse_.known_tokens);
  return text;
}

bool Answer::departed() const {
  return reuse_.reason == "diverged_at" ||
         (reuse_.reason == "no_snapshot" && reuse_.known_tokens < n_prompt() - 1);
}

std::string Answer::describe_timings() const {
  const std::size_t n_tokens = total_tokens();
  const double decoded = std::max<double>(0.0, static_cast<double>(n_tokens) - 1.0);
  const std::string cached =
      reuse_.cached_tokens > 0 ? fmt::format(", {} of them cached,", reuse_.cached_tokens) : "";
  return fmt::format(
      "prompt {} tokens{} in {} s ({:.1f} tok/s), answer {} tokens in {} s ({:.1f} tok/s), "
      "peak {:.0f} MiB",
      prompt_.size(), cached, seconds_text(prefill_s()), prefill_rate(), n_tokens,
      seconds_text(decode_s()), per_second(decoded, decode_s()),
      static_cast<double>(peak_rss_bytes()) / (1 << 20));
}

Json Answer::choice_json(const Engine& engine, const Choice& choice) const {
  Json json{{"completion_tokens", choice.tokens.size()},
            {"tokens", choice.tokens},
            {"text", choice.text},
            {"finish_reason", name(choice.finish)}};
  if (!choice.error.empty()) json["error"] = choice.error;
  if (!wants_logprobs_) return json;
  const auto entry = [&](const TokenLogprob& value) {
    return Json{{"token", value.token},
                {"text", utf8_lossy(engine.tokenizer().token_bytes(value.token, true))},
                {"logprob", value.logprob}};
  };
  Json list = Json::array();
  for (const RequestEvent& event : choice.logprobs) {
    Json row = event.logprob ? entry(*event.logprob) : Json::object();
    row["top"] = Json::array();
    for (const TokenLogprob& top : event.top_logprobs) row["top"].push_back(entry(top));
    list.push_back(std::move(row));
  }
  json["logprobs"] = std::move(list);
  return json;
}

Json Answer::to_json(const Engine& engine, const std::string& model) const {
  const std::size_t n_tokens = total_tokens();
  const double decoded = std::max<double>(0.0, static_cast<double>(n_tokens) - 1.0);
  Json json{{"model", model}, {"prompt_tokens", prompt_.size()}};
  json.update(choice_json(engine, choices_[0]));
  json["cached_tokens"] = reuse_.cached_tokens;
  json["replayed_tokens"] = reuse_.replayed_tokens;
  json["not_reused"] = reuse_.reason.empty() ? Json(nullptr) : Json(reuse_.reason);
  if (departed()) json["diverged_at"] = reuse_.known_tokens;
  json["prompt_token_ids"] = prompt_;
  json["seed"] = seed_;
  json["timings"] = {{"load_s", engine.stats().load_s},
                     {"prefill_s", prefill_s()},
                     {"prefill_tok_s", prefill_rate()},
                     {"decode_s", decode_s()},
                     {"decode_tok_s", per_second(decoded, decode_s())}};
  json["peak_rss_bytes"] = peak_rss_bytes();
  if (choices_.size() == 1) return json;
  json["choices"] = Json::array();
  for (const Choice& choice : choices_) json["choices"].push_back(choice_json(engine, choice));
  return json;
}

}  // namespace heddle::cli
