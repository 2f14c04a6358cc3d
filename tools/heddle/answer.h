#pragma once
// One request on its way through the engine, as generate and chat see it.

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/engine.h"

namespace heddle::cli {

/// Collects what comes back. Must stay where it is until the request has finished.
class Answer {
 public:
  Answer() = default;
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  /// Submits after fit_to_context; throws kBadInput for what the engine refuses.
  void start(Engine& engine, Request request);

  bool done() const { return finish_ != FinishReason::kNone; }
  RequestId id() const { return id_; }
  FinishReason finish() const { return finish_; }
  bool failed() const {
    return finish_ == FinishReason::kError || finish_ == FinishReason::kDeadline;
  }
  const std::string& error() const { return error_; }
  const std::string& text() const { return text_; }
  /// The part of the text that was not taken yet.
  std::string take_new_text();
  std::int64_t n_prompt() const { return static_cast<std::int64_t>(prompt_.size()); }
  std::vector<std::int32_t> prompt_and_answer() const;
  const ReuseReport& reuse() const { return reuse_; }  // once done
  std::int64_t n_tokens() const { return static_cast<std::int64_t>(tokens_.size()); }

  /// The object that --json prints; `model` as the user named it.
  Json to_json(const Engine& engine, const std::string& model) const;
  /// "reused 96 of 120 prompt tokens, replayed 4; diverged_at 100"
  std::string describe_reuse() const;
  /// "prompt 31 tokens in 0.05 s (620.0 tok/s), answer ..."
  std::string describe_timings() const;

 private:
  using Clock = std::chrono::steady_clock;
  void receive(const RequestEvent& event);
  double prefill_s() const;
  double decode_s() const;
  Json logprobs_json(const Engine& engine) const;

  RequestId id_ = 0;
  std::vector<std::int32_t> prompt_;
  std::uint64_t seed_ = 0;
  bool wants_logprobs_ = false;
  std::vector<std::int32_t> tokens_;
  std::vector<RequestEvent> logprobs_;
  std::string text_;
  std::size_t taken_ = 0;
  FinishReason finish_ = FinishReason::kNone;
  std::string error_;
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

/// One text as generate sees it: a user message through the template, or raw.
ChatPrompt encode_prompt(const Engine& engine,
                         const std::string& text,
                         const std::string& system,
                         bool raw);

}  // namespace heddle::cli
