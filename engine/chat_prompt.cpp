#include "engine/chat_prompt.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <set>
#include <string>

#include "base/error.h"

namespace heddle {
namespace {

constexpr std::size_t kMessages = 16;  // whose ends are looked for
/// Of all renderings together: a template may be slow, a conversation long.
constexpr std::chrono::milliseconds kMostTime(200);
constexpr std::size_t kMostBytes = std::size_t{256} << 10U;  // or twice the prompt's text

/// Looks how far other conversations agree with one.
class Departures {
 public:
  Departures(const ChatTemplate& chat_template,
             const Tokenizer& tokenizer,
             std::span<const TokenId> tokens,
             const ChatVariables& variables)
      : template_(chat_template), tokenizer_(tokenizer), tokens_(tokens), variables_(variables) {}

  void look(const std::vector<ChatMessage>& other) {
    if (std::chrono::steady_clock::now() - start_ > kMostTime) return;
    if (bytes_ > std::max(kMostBytes, 2 * longest_)) return;
    std::vector<TokenId> ids;
    try {
      const RenderedPrompt prompt =
          render_messages(template_, tokenizer_, other, false, variables_);
      longest_ = std::max(longest_, prompt.text.size());
      bytes_ += prompt.text.size();
      ids = encode_rendered(tokenizer_, prompt);
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::kBadInput) throw;
      return;  // no conversation of this template
    }
    const auto end =
        ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), tokens_.size()));
    const auto n = std::mismatch(ids.begin(), end, tokens_.begin()).first - ids.begin();
    if (n > 0 && n < static_cast<std::ptrdiff_t>(tokens_.size())) found_.insert(n);
  }

  std::vector<std::int64_t> found() const { return {found_.begin(), found_.end()}; }

 private:
  const ChatTemplate& template_;
  const Tokenizer& tokenizer_;
  std::span<const TokenId> tokens_;
  const ChatVariables& variables_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::size_t bytes_ = 0;
  std::size_t longest_ = 0;
  std::set<std::int64_t> found_;
};

/// A message that begins with another character.
ChatMessage changed(ChatMessage message) {
  message.content = message.content.starts_with('A') ? "B" : "A";
  return message;
}

}  // namespace

RenderedPrompt render_messages(const ChatTemplate& chat_template,
                               const Tokenizer& tokenizer,
                               const std::vector<ChatMessage>& messages,
                               bool add_generation_prompt,
                               const ChatVariables& variables) {
  const auto text_of = [&](const std::optional<TokenId>& id) {
    return id ? tokenizer.token_bytes(*id, true) : std::string();
  };
  return chat_template.render({.messages_json = messages_to_json(messages),
                               .tools_json = variables.tools_json,
                               .extra_json = variables.extra_json,
                               .add_generation_prompt = add_generation_prompt,
                               .bos_token = text_of(tokenizer.facts().bos),
                               .eos_token = text_of(tokenizer.facts().eos)});
}

std::vector<TokenId> encode_rendered(const Tokenizer& tokenizer, const RenderedPrompt& prompt) {
  // The template itself writes what special tokens the prompt begins with.
  return tokenizer.encode(prompt.text,
                          {.add_special = false, .parse_special = true, .plain = prompt.untrusted});
}

std::vector<TokenId> encode_messages(const ChatTemplate& chat_template,
                                     const Tokenizer& tokenizer,
                                     const std::vector<ChatMessage>& messages,
                                     bool add_generation_prompt,
                                     const ChatVariables& variables) {
  return encode_rendered(tokenizer, render_messages(chat_template, tokenizer, messages,
                                                    add_generation_prompt, variables));
}

std::vector<std::int64_t> chat_departures(const ChatTemplate& chat_template,
                                          const Tokenizer& tokenizer,
                                          const std::vector<ChatMessage>& messages,
                                          std::span<const TokenId> tokens,
                                          const ChatVariables& variables) {
  if (messages.empty()) return {};
  Departures departures(chat_template, tokenizer, tokens, variables);
  const bool system = messages[0].role == "system";
  departures.look({system ? messages[0] : changed(messages[0])});
  // The last first: what earlier turns computed is known already.
  std::vector<ChatMessage> begin = messages;
  for (std::size_t i = 0; i < kMessages && !begin.empty(); ++i, begin.pop_back()) {
    departures.look(begin);
  }
  return departures.found();
}

std::vector<std::int64_t> snapshot_positions(std::vector<std::int64_t> wanted,
                                             std::int64_t n_prompt,
                                             std::int64_t state_block) {
  if (n_prompt % state_block == 0) wanted.push_back(n_prompt - 1);
  std::erase_if(wanted, [&](std::int64_t n) { return n < 1 || n >= n_prompt; });
  wanted.push_back(n_prompt);
  std::sort(wanted.begin(), wanted.end());
  std::vector<std::int64_t> kept;
  for (std::size_t i = 0; i + 1 < wanted.size(); ++i) {
    const bool served = wanted[i + 1] / state_block * state_block <= wanted[i];
    if (!served) kept.push_back(wanted[i]);
  }
  return kept;
}

}  // namespace heddle
