#pragma once
// What a caller asks of the engine and what comes back.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/grammar/grammar.h"

namespace heddle {

using RequestId = std::int64_t;

/// Defaults are neutral: greedy, no penalty. Ranges in brackets; submit() refuses others (kBadInput
/// naming the field, value and range).
struct SamplingParams {
  float temperature = 0.0F;  // [0, 100]; 0: greedy
  int top_k = 0;             // [0, 2^31); 0: off
  float top_p = 1.0F;        // (0, 1]
  float min_p = 0.0F;        // [0, 1]
  float repetition_penalty =
      1.0F;  // (0, 100]: logits of seen tokens (prompt too) divided if > 0, else multiplied
  float presence_penalty = 0.0F;   // [-100, 100]: subtracted once from generated tokens
  float frequency_penalty = 0.0F;  // [-100, 100]: subtracted per occurrence among generated tokens
  std::map<std::int32_t, float> logit_bias = {};  // token -> added, [-100, 100]
  std::uint64_t seed = 0;
};

struct Request {
  std::vector<std::int32_t> prompt = {};  // at least one token, all inside the vocabulary
  SamplingParams sampling = {};
  std::int64_t max_new_tokens = 0;          // 0: until the context is full (generate); see `score`
  std::vector<std::string> stop = {};       // texts that end the answer and are not part of it
  std::vector<std::int32_t> stop_ids = {};  // besides the tokenizer's end-of-sequence tokens
  bool ignore_eos = false;
  bool control_text = false;  // control tokens of the answer are spelled out in its text
  /// Tokens before which end-of-sequence tokens and stop_ids are not drawn, with ignore_eos too.
  std::int64_t min_new_tokens = 0;
  /// The answer is one of its texts, or the begin of one where max_new_tokens or a stop text cuts
  /// it. It decides where the answer ends: end-of-sequence tokens and stop_ids are drawn where the
  /// text is complete only, and end it with ignore_eos too; where nothing may follow it ends with
  /// kStop, whatever min_new_tokens says. null: any text.
  std::shared_ptr<const Grammar> grammar = {};
  /// Seconds from submit(), 0: none. A request that has not begun (queue_deadline: later it does
  /// not count, whatever happens) or not ended (deadline) by then ends with kDeadline; what it has
  /// given stays. Looked at before each step, so a step late at most.
  double queue_deadline = 0.0;
  double deadline = 0.0;
  int n_logprobs = -1;  // >= 0: log probabilities of the token and of the n best, up to 20
  /// Choices: answers to one prompt, which is computed once. Best-of is made of them: with
  /// n_logprobs = 0 each token's event has its log probability, and the best choice is the one with
  /// the highest mean of them.
  int n = 1;
  std::uint32_t choice = 0;  // of the first of them; keys the random numbers
  bool score = false;        // compute log p of every prompt token but the first; no generation
  /// >= 0: the events before the first token have `scores` of the prompt's tokens as score requests
  /// do, and `top_scores`, the n likeliest at each place, up to 20; of choice 0 alone. The answer
  /// follows. As with `score`, nothing is reused.
  int prompt_logprobs = -1;
  /// Events that tell how much of the prompt is computed, ascending; the last says all of it, and
  /// comes before the first token. Choices that begin with another one's prompt have none.
  bool report_progress = false;
  /// score, prompt_logprobs, all_logits: the first position of the prompt whose row of logits is
  /// wanted (scores: of the tokens behind it); those before cost less.
  std::int64_t logits_from = 0;
  bool reuse = true;  // begin behind what is cached, and leave what is computed there;
                      // never with `score`, `prompt_logprobs` or `all_logits`
  /// With `reuse`. False: what it computes leaves the cache when it ends, as far as no other prompt
  /// goes on from it; for prompts of which all that comes again is there already.
  bool leave = true;
  /// Who is served fairly beside others, and finds no prefix of theirs: how fast an answer comes
  /// would tell what they have asked.
  std::string client = {};
  std::string cache_scope = {};  // parts what a client's requests share, too: a salt
  bool shared_scope = false;     // cache_scope is one for all clients that ask for this
  int priority = 0;  // -100 .. 100, lower goes first; what waits rises (scheduler/fair_queue.h)
  /// Positions in the prompt where other prompts may depart (ends of messages), ascending: the
  /// recurrent state is kept there.
  std::vector<std::int64_t> snapshot_at = {};
  /// Observation (selftest, tests): every row whose logits are computed, with its position in the
  /// sequence. With `all_logits` also the rows of the prompt.
  std::function<void(std::int64_t position, std::span<const float> logits)> on_logits = {};
  bool all_logits = false;
};

/// Whether the rows of the prompt's logits are wanted.
inline bool scores_prompt(const Request& request) {
  return request.score || request.prompt_logprobs >= 0;
}

/// The scheduler's scope of a request: of its client and its cache_scope, or of the latter alone if
/// that is shared. Different ones have different names; a client without a name and without a
/// cache_scope has "".
std::string prefix_scope(const Request& request);

/// Most choices of one request.
inline constexpr int kMostChoices = 128;

enum class FinishReason { kNone, kStop, kLength, kCancelled, kDeadline, kError };
/// "stop", "length", "cancelled", "deadline", "error"
std::string_view name(FinishReason reason);

/// Throws kBadInput naming the field, its value and its range.
void validate(const Request& request, std::int64_t vocab);

/// What of a prompt did not have to be computed, and why not more.
struct ReuseReport {
  std::int64_t cached_tokens = 0;
  std::int64_t replayed_tokens = 0;  // known too, but computed again for want of a state
  /// "none" (all was reused but the last token), "no_prefix", "diverged_at", "no_snapshot",
  /// "evicted", "scope", "too_short", "disabled": scheduler/prefix_cache.h; "" if the request ended
  /// before it began
  std::string_view reason = "";
  std::int64_t known_tokens = 0;  // where it departs from what is known
};

struct TokenLogprob {
  std::int32_t token = 0;
  float logprob =
      0.0F;  // natural log of the probability at temperature 1, before penalties and filters
};

/// One piece of progress of one request; delivered in order on the thread that calls step().
struct RequestEvent {
  RequestId request = 0;
  std::uint32_t choice = 0;                // of Request::n
  std::optional<std::int32_t> token = {};  // a generated token
  std::string text = {};  // text that became certain (whole code points; stop texts held back)
  std::optional<TokenLogprob> logprob = {};
  std::vector<TokenLogprob> top_logprobs = {};
  std::vector<float> scores = {};  // log p of the next prompt tokens, in order
  std::vector<std::vector<TokenLogprob>> top_scores = {};  // prompt_logprobs: for each of these
  std::int64_t prompt_computed = -1;  // report_progress: tokens of the prompt; -1: no such event
  FinishReason finish = FinishReason::kNone;  // not kNone exactly once a choice: its last event
  bool stop_text = false;                     // kStop, of a stop text: the answer was cut there
  std::string error = {};                     // kError, kDeadline: what happened
  ReuseReport reuse = {};                     // of the last event, and of prompt_computed's
  /// Nothing of the engine's: whoever passes the event on may say when the step began.
  std::chrono::steady_clock::time_point step_begun = {};
};
using EventSink = std::function<void(const RequestEvent&)>;

}  // namespace heddle
