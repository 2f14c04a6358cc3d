#pragma once
// Chat templates: the Jinja subset that published checkpoints use, sandboxed and limited. Equal to
// Python's jinja2 as `transformers` sets it up (trim_blocks, lstrip_blocks, loop controls, tojson
// without HTML escapes). Templates are untrusted: no host objects, no I/O, bounded steps, depth,
// output and time.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_range.h"

namespace heddle {

struct ChatMessage {
  std::string role;
  std::string content;
  std::string extra_json;  // other keys of the message (tool_calls, name, ...): a JSON object or ""
};

/// Bounds of one parse or render; over them: kBadInput naming the bound. A step is an evaluated
/// node, an iteration, a list item or sixteen produced bytes, so `steps` also bounds the memory.
/// `depth` bounds the nesting of tags and expressions, of values, and of macro calls; at the
/// default an optimized build needs less than 256 KiB of stack.
struct TemplateLimits {
  std::size_t source_bytes = 1 << 20;
  std::size_t output_bytes = 64 << 20;
  std::int64_t steps = 10'000'000;
  int depth = 100;
  int milliseconds = 2000;
};

/// The variables of a render. As transformers does, `tools` and `documents` are None when absent,
/// not undefined. JSON is read strictly: UTF-8, no duplicate keys, integers within 64 bits.
struct TemplateInputs {
  std::string messages_json = {};  // JSON list of objects
  std::string tools_json = {};     // JSON list or "" (None)
  /// JSON object of further variables (documents, chat_template_kwargs) or ""; may replace
  /// bos_token and eos_token, not messages, tools or add_generation_prompt.
  std::string extra_json = {};
  bool add_generation_prompt = true;
  std::string bos_token = {}, eos_token = {};  // trusted: they come from the checkpoint
  std::int64_t now_unix_seconds = 0;           // for strftime_now, in local time; 0: the real time
};

/// A rendered prompt. `untrusted` are the parts that came from the inputs (message content, tool
/// texts, kwargs), sorted and disjoint: special tokens are not parsed there (EncodeOptions::plain).
/// A string keeps the origin of its parts through +, ~, join, slices, strip and split; where an
/// operation has no such map (replace, upper, tojson, ...) its whole result is untrusted if any
/// part of an operand is. `role` and the keys of objects count as input too; numbers, booleans and
/// None do not.
struct RenderedPrompt {
  std::string text;
  std::vector<ByteRange> untrusted;
};

/// A parsed template; immutable, safe to share between threads.
class ChatTemplate {
 public:
  /// Parses. Errors, here and of render(), are kBadInput and begin with `name`, where the template
  /// comes from: "FILE: chat_template: line 12, column 7: expected 'endif', got 'endfor'".
  explicit ChatTemplate(std::string_view source,
                        TemplateLimits limits = {},
                        std::string name = "chat template");
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  /// Renders. kBadInput for what the template raises (raise_exception) and for limits.
  RenderedPrompt render(const TemplateInputs& inputs) const;
  const std::string& source() const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

/// JSON text of a message list, for TemplateInputs::messages_json. A key of extra_json that is also
/// a field (content: null beside tool_calls) replaces it. Throws kBadInput for text that is not
/// UTF-8 and for an extra_json that is not a JSON object.
std::string messages_to_json(const std::vector<ChatMessage>& messages);

}  // namespace heddle
