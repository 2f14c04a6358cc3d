#pragma once
// A conversation as the tokens of a prompt, and where in it others may depart from it.

#include <cstdint>
#include <span>
#include <vector>

#include "models/tokenizer/chat_template.h"
#include "models/tokenizer/tokenizer.h"

namespace heddle {

/// What a template gets besides the messages (TemplateInputs).
struct ChatVariables {
  std::string tools_json = {};
  std::string extra_json = {};
};

struct ChatPrompt {
  std::vector<TokenId> tokens = {};
  /// For Request::snapshot_at.
  std::vector<std::int64_t> departures = {};
};

/// Renders and encodes; special tokens written inside a message stay plain text. Throws kBadInput
/// for what the template refuses.
std::vector<TokenId> encode_messages(const ChatTemplate& chat_template,
                                     const Tokenizer& tokenizer,
                                     const std::vector<ChatMessage>& messages,
                                     bool add_generation_prompt,
                                     const ChatVariables& variables = {});

/// Positions in `tokens`, the prompt of `messages`, where other conversations are likely to depart,
/// ascending: the end of the system message, or else where the first message begins; the ends of
/// the last messages, at most 16, which include the begin of the generation prompt. Found by
/// rendering shorter conversations and looking how far their tokens agree; those that the template
/// refuses are left out. Bounded in time: early messages of a long conversation may be missing.
std::vector<std::int64_t> chat_departures(const ChatTemplate& chat_template,
                                          const Tokenizer& tokenizer,
                                          const std::vector<ChatMessage>& messages,
                                          std::span<const TokenId> tokens,
                                          const ChatVariables& variables = {});

/// The text of a conversation, and its tokens.
RenderedPrompt render_messages(const ChatTemplate& chat_template,
                               const Tokenizer& tokenizer,
                               const std::vector<ChatMessage>& messages,
                               bool add_generation_prompt,
                               const ChatVariables& variables = {});
std::vector<TokenId> encode_rendered(const Tokenizer& tokenizer, const RenderedPrompt& prompt);

/// Where snapshots of a recurrent state are worth a step that ends there, ascending, below
/// n_prompt, whose own state is kept anyway. A state after n tokens serves any position from the
/// last multiple of `state_block` up to n, so the last of those in one block does for all. The same
/// prompt once more needs the state before its last token: where n_prompt is a multiple of the
/// block, that is one of its own.
std::vector<std::int64_t> snapshot_positions(std::vector<std::int64_t> wanted,
                                             std::int64_t n_prompt,
                                             std::int64_t state_block);

}  // namespace heddle
