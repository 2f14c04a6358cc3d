#pragma once
#include <string>

#include "tools/needle/prompt.h"
#include "tools/needle/server_api.h"

namespace heddle::needle {

/// Counts tokens as the server does: by its POST /tokenize, in the form of vLLM and Heddle
/// (prompt or messages; count) or of llama-server (content; tokens), with /apply-template there.
class ServerEncoder final : public PromptEncoder {
 public:
  /// Asks which form it is. Throws kBadInput where it has none: --tokenizer names a checkpoint
  /// then.
  explicit ServerEncoder(ServerApi& api);
  /// Whether it can render messages: it does not refuse (4xx) to. Throws kRuntime for what else
  /// fails.
  bool has_template();
  void use_template(bool chat) { chat_ = chat; }

  EncodedPrompt encode(std::string text, std::string prefix) override;
  std::int64_t count_piece(const std::string& piece) override;

 private:
  enum class Form { kPrompt, kContent };
  std::int64_t count_text(const std::string& text, bool special);
  std::int64_t count_chat(const std::string& text, const std::string& prefix);
  std::int64_t count_of(const Json& body);

  ServerApi& api_;
  Form form_ = Form::kPrompt;
  bool chat_ = true;
  std::int64_t n_before_ = -1;  // tokens of what count_piece() puts before a piece
};

/// The messages of a prompt, and with a prefix what asks a server to continue it (vLLM, Heddle;
/// llama-server does so unasked).
Json chat_body(const std::string& text, const std::string& prefix);
/// Text and prefix as one, for raw completions.
std::string raw_text(const EncodedPrompt& prompt);

}  // namespace heddle::needle
