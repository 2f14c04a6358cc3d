#pragma once
// Messages and tools of a request: checked, and in the form that the chat template takes.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/chat_prompt.h"
#include "tools/serve/api/fields.h"
#include "tools/serve/driver.h"
#include "tools/serve/limits.h"

namespace heddle::serve {

enum class ToolChoice { kNone, kAuto, kRequired, kNamed };

struct ToolSpec {
  std::string name;
  std::string parameters_json;  // a JSON Schema of an object
  bool strict = false;          // the schema must be one that can be kept to
};

struct ChatInput {
  std::vector<ChatMessage> messages = {};
  ChatVariables variables = {};
  bool add_generation_prompt = true;
  bool continue_final_message = false;
  std::vector<ToolSpec> tools = {};  // that the model may call
  ToolChoice tool_choice = ToolChoice::kNone;
  std::string named_tool = {};
};

/// Of /v1/chat/completions, /apply-template and /tokenize. Throws ApiError.
ChatInput read_chat(const Fields& fields, const ModelFacts& facts, const ServerLimits& limits);
/// Of /v1/responses: input, instructions, tools.
ChatInput read_responses(const Fields& fields, const ModelFacts& facts, const ServerLimits& limits);

/// Throws ApiError (context_length_exceeded) for a text that is so long that it is not encoded to
/// know that it does not fit: of more than a MiB, and of four times the bytes that the context's
/// tokens have at most (an encoder may drop some: white space).
void check_text_length(std::size_t n_bytes, const ModelFacts& facts, std::string_view param);

struct RenderedChat {
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<std::int64_t> departures;
};
/// Throws ApiError for a model without a template and for what the template refuses.
RenderedChat render_chat(const ChatInput& input, const ModelFacts& facts, bool with_departures);

}  // namespace heddle::serve
