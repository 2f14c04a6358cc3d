#pragma once
// A request that makes the model write, as read: what the engine is asked, and the form of the
// answer.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/request.h"
#include "tools/serve/api/chat_input.h"
#include "tools/serve/api/fields.h"
#include "tools/serve/api/grammar_store.h"
#include "tools/serve/driver.h"
#include "tools/serve/limits.h"
#include "tools/serve/reply/reply_style.h"

namespace heddle::serve {

struct GenerationPlan {
  Endpoint endpoint = Endpoint::kChat;
  std::vector<Request> requests = {};          // one a prompt
  std::vector<std::string> prompt_texts = {};  // of each, for echo
  int n = 1;                                   // choices of each
  std::string model = {};                      // as the request names it
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool progress = false;
  bool token_ids = false;
  bool echo = false;
  bool prompt_only = false;  // echo without an answer
  int logprobs = -1;         // chat: of the answer; completions: of the prompt too with echo
  int prompt_logprobs = -1;
  bool parallel_tools = true;
  bool forced_tools = false;       // the grammar lets the model write nothing but calls
  std::string forced_marker = {};  // of them, already in the prompt
  ReplyStyle style = {};           // chat and responses
  std::string session_id = {};
  std::vector<std::string> unknown_fields = {};
  // /v1/responses gives back what it was asked.
  std::shared_ptr<const Json> echoed = {};  // (a Json is not complete here)

  std::int64_t n_tokens() const;  // of all prompts and answers, at most
};

/// What decides how answers are read, besides the request.
struct PlanContext {
  const ModelFacts& facts;
  const ServerLimits& limits;
  ReplyStyle style;  // of the model
  GrammarStore& grammars;
  std::string client = {};  // whose prefixes and turn it is
  bool strict_fields = false;
};

/// Throws ApiError (404) where a request names a model that is not served.
void check_model(std::string_view name, const ModelFacts& facts);
void check_model(const Fields& fields, const ModelFacts& facts);

/// Reads the body of a chat, completions or responses request. Throws ApiError.
GenerationPlan plan_generation(std::string_view body,
                               Endpoint endpoint,
                               const PlanContext& context);

}  // namespace heddle::serve
