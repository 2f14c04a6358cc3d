#pragma once
// One request on its way through the engine, as generate and chat see it.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/engine.h"

namespace heddle::cli {

/// Collects what comes back, of all choices: what one is asked for is the first, unless said
/// otherwise. Must stay where it is until the request has finished.
class Answer {
 public:
  Answer() = default;
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  /// Submits after fit_to_context; throws kBadInput for what the engine refuses.
  void start(Engine& engine, Request request);

  bool done() const { return n_done_ == choices_.size(); }  // all
  RequestId id() const { return id_; }
  std::size_t n_choices() const { return choices_.size(); }
  FinishReason finish() const { return choices_[0].finish; }
  bool failed() const {  // any
    return failed_ != nullptr;
  }
  const std::string& error() const { return failed_ == nullptr ? choices_[0].error : *failed_; }
  const std::string& text(std::size_t choice = 0) const { return choices_[choice].text; }
  /// The part of the text that was not taken yet.
  std::string take_new_text();
  std::int64_t n_prompt() const { return static_cast<std::int64_t>(prompt_.size()); }
  std::vector<std::int32_t> prompt_and_answer() const;
  const ReuseReport& reuse() const { return reuse_; }  // once done
  std::int64_t n_tokens() const { return static_cast<std::int64_t>(choices_[0].tokens.size()); }

  /// The object that --json prints; `model` as the user named it.
  Json to_json(const Engine& engine, const std::string& model) const;
  /// "reused 96 of 120 prompt tokens; no state behind 96; 4 replayed; the rest is new from 100"
  std::string describe_reuse() const;
  bool departed() const;  // from what is known, whatever the first reason
  /// "prompt 31 tokens, 16 of them cached, in 0.0250 s (600.0 tok/s), answer ...": the rate is that
  /// of the others.
  std::string describe_timings() const;

 private:
  using Clock = std::chrono::steady_clock;
  void receive(const RequestEvent& event);
  struct Choice {
    std::vector<std::int32_t> tokens = {};
    std::vector<RequestEvent> logprobs = {};
    std::string text = {};
    FinishReason finish = FinishReason::kNone;
    std::string error = {};
  };
  std::size_t total_tokens() const;
  double prefill_s() const;
  double prefill_rate() const;
  double decode_s() const;
  Json choice_json(const Engine& engine, const Choice& choice) const;

  RequestId id_ = 0;
  std::vector<std::int32_t> prompt_;
  std::uint64_t seed_ = 0;
  bool wants_logprobs_ = false;
  std::vector<Choice> choices_ = std::vector<Choice>(1);
  std::size_t n_done_ = 0;
  const std::string* failed_ = nullptr;  // the first error
  std::size_t taken_ = 0;
  ReuseReport reuse_;
  Clock::time_point started_, first_token_, last_;
};

/// The tokens, and snapshots where other conversations may depart.
void set_prompt(Request& request, ChatPrompt prompt);

/// Fits max_new_tokens to the context. Throws kBadInput for a prompt that leaves no room.
void fit_to_context(const Engine& engine, Request& request);

/// Computes the answers again that --verify-cache has chosen, unless interrupted.
void verify_hits(Engine& engine);
/// Throws kRuntime if one of them was not as it had to be.
void require_verified(const Engine& engine);

/// The messages of one text and the system message before it; nullopt: the text is the prompt as it
/// stands. Throws kBadInput for a system message that has no place.
std::optional<std::vector<ChatMessage>> conversation_of(bool has_template,
                                                        const std::string& text,
                                                        const std::string& system,
                                                        bool raw);

/// One text as generate sees it: a user message through the template, or raw.
ChatPrompt encode_prompt(const Engine& engine,
                         const std::string& text,
                         const std::string& system,
                         bool raw);

}  // namespace heddle::cli
