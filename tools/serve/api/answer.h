#pragma once
// An answer as it grows, and how it is written: one way for each endpoint.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/request.h"
#include "tools/serve/api/api_error.h"
#include "tools/serve/api/generation_plan.h"
#include "tools/serve/driver.h"
#include "tools/serve/reply/reply_parser.h"

namespace heddle::serve {

/// 32 hex digits that nobody guesses.
std::string random_id();

/// A token with its log probabilities.
struct TokenInfo {
  std::int32_t token = 0;
  float logprob = 0.0F;
  std::vector<TokenLogprob> top = {};
};

struct AnswerChoice {
  int index = 0;
  std::size_t prompt = 0;
  std::string text = {};  // all of it, thoughts and calls too
  Reply reply = {};       // the same, divided (chat, responses)
  std::unique_ptr<ReplyParser> parser = {};
  std::vector<TokenInfo> tokens = {};  // if log probabilities are wanted
  std::vector<std::int32_t> token_ids = {};
  std::int64_t n_tokens = 0;
  std::int64_t n_thought_tokens = 0;
  bool begun = false;  // some of its prompt is computed
  bool ended = false;
  std::string finish = {};  // "stop", "length", "tool_calls"
};

struct AnswerPrompt {
  std::int64_t n_tokens = 0;
  std::vector<TokenInfo> scored = {};  // from the second token on, if wanted
  ReuseReport reuse = {};
  bool reported = false;  // reuse is known
};

struct Answer {
  const GenerationPlan* plan = nullptr;
  const ModelFacts* facts = nullptr;
  std::string id = {};  // without the endpoint's prefix
  std::int64_t created = 0;
  std::vector<AnswerChoice> choices = {};  // of prompt 0, then 1, ...
  std::vector<AnswerPrompt> prompts = {};

  std::int64_t n_prompt_tokens() const;
  std::int64_t n_answer_tokens() const;
  std::int64_t n_cached_tokens() const;
};

/// {prompt_tokens, completion_tokens, ..., heddle {replayed_tokens, not_reused, ...}}
Json usage_json(const Answer& answer);
/// As vLLM has it: for each token of the prompt null or {id: {logprob, decoded_token}}.
Json prompt_logprobs_json(const Answer& answer, const AnswerPrompt& prompt);
/// The text of one token: as it is, or "bytes:\xe2" where it is no UTF-8 alone.
std::string token_text(const Tokenizer& tokenizer, std::int32_t token);
/// id, object, created, model, system_fingerprint: the members that whole answers begin with.
Json answer_head(const Answer& answer, std::string_view id_prefix, std::string_view object);
/// ',"prompt_progress":{...}' of a chunk.
std::string progress_member(const Answer& answer,
                            const AnswerChoice& choice,
                            const RequestEvent& event,
                            double seconds);
/// ',"usage":...' of a chunk, or "": as stream_options ask.
std::string usage_member(const Answer& answer);
/// The chunk of the usage, if asked for, and [DONE]; `head` begins every chunk.
void append_stream_end(const Answer& answer, std::string_view head, std::string& out);
/// JSON has no infinities: -9999 at least, as OpenAI has it.
double shown_logprob(float logprob);
/// "data: ...\n\n"
void append_event(std::string& out, std::string_view json);

/// Writes answers in one endpoint's form. Streams are pieces in this order: begin, then for each
/// choice its pieces and its finish, then end; an error takes the place of what is left.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  virtual void begin(const Answer& answer, std::string& out) = 0;
  /// What one event adds; `delta` is the divided text (chat, responses).
  virtual void piece(const Answer& answer,
                     const AnswerChoice& choice,
                     const RequestEvent& event,
                     const ReplyDelta& delta,
                     std::string& out) = 0;
  virtual void progress(const Answer& answer,
                        const AnswerChoice& choice,
                        const RequestEvent& event,
                        double seconds,
                        std::string& out) = 0;
  virtual void finish(const Answer& answer, const AnswerChoice& choice, std::string& out) = 0;
  virtual void end(const Answer& answer, std::string& out) = 0;
  virtual void error(const Answer& answer, const ApiErrorSpec& error, std::string& out) = 0;
  virtual Json whole(const Answer& answer) = 0;
};

std::unique_ptr<AnswerFormat> chat_format();
std::unique_ptr<AnswerFormat> completion_format();
std::unique_ptr<AnswerFormat> responses_format();

}  // namespace heddle::serve
