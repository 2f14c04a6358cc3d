#include "tools/serve/api/token_routes.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/serve/api/answer.h"
#include "tools/serve/api/api_error.h"
#include "tools/serve/api/chat_input.h"

namespace heddle::serve {

Json tokenize(const Fields& fields, const ModelFacts& facts, const ServerLimits& limits) {
  std::vector<TokenId> ids;
  const int n_given = static_cast<int>(fields.find("messages") != nullptr) +
                      static_cast<int>(fields.find("prompt") != nullptr) +
                      static_cast<int>(fields.find("content") != nullptr);
  if (n_given > 1) {
    throw invalid_value("prompt", "prompt, content and messages: one of them is allowed");
  }
  if (fields.find("messages") != nullptr) {
    ids = render_chat(read_chat(fields, facts, limits), facts, false).tokens;
  } else {
    const auto prompt = fields.text("prompt");
    const auto text = prompt ? prompt : fields.text("content");
    if (!text) {
      throw ApiError({.code = "missing_required_parameter",
                      .message = "prompt or messages is missing",
                      .param = "prompt"});
    }
    check_text_length(text->size(), facts, "prompt");
    ids = facts.tokenizer->encode(*text, {.add_special = fields.on("add_special_tokens", true)});
  }
  Json out{{"count", ids.size()}, {"max_model_len", facts.context}, {"tokens", ids}};
  if (fields.on("return_token_strs")) {
    out["token_strs"] = Json::array();
    for (const TokenId id : ids) out["token_strs"].push_back(token_text(*facts.tokenizer, id));
  }
  return out;
}

Json detokenize(const Fields& fields, const ModelFacts& facts) {
  std::vector<TokenId> ids;
  for (const Json& value : *fields.find("tokens")) {
    const auto id = whole_number(value);
    if (!id || *id < 0 || *id >= facts.vocab) {
      throw ApiError({.code = "invalid_token_id",
                      .message = fmt::format("tokens[{}] is not a token id, allowed 0 to {}",
                                             ids.size(), facts.vocab - 1),
                      .param = "tokens"});
    }
    ids.push_back(static_cast<TokenId>(*id));
  }
  const std::string text = facts.tokenizer->decode(ids, true);
  return {{"prompt", text}, {"content", text}};
}

Json apply_template(const Fields& fields, const ModelFacts& facts, const ServerLimits& limits) {
  const RenderedChat chat = render_chat(read_chat(fields, facts, limits), facts, false);
  return {{"prompt", chat.text}, {"count", chat.tokens.size()}, {"tokens", chat.tokens}};
}

}  // namespace heddle::serve
