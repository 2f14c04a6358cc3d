#pragma once
// How a model writes thoughts and tool calls, and how that is known from its chat template.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace heddle::serve {

/// What is read, and in brackets what else is:
enum class ToolStyle : std::uint8_t {
  kNone,     // all text is content
  kHermes,   // <tool_call>{"name": ..., "arguments": {...}}</tool_call> [the elements of
             // Qwen3-Coder]
  kLlama3,   // {"name": ..., "parameters": {...}} as the whole reply or behind <|python_tag|>,
             // several separated by ; or spaces [<function=NAME>{...}</function>]
  kMistral,  // [TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...] [[TOOL_CALLS]name[ARGS]{...}]
  kMiniMax,  // <tool_calls>, an object a line or in a list, </tool_calls> [the elements of
             // MiniMax-M2 in <minimax:tool_call>]
};

enum class ReasoningStyle : std::uint8_t {
  kNone,
  kThink,  // <think>...</think> at the beginning of a reply
};

/// A tool of the request, as far as reading its calls needs it. Calls of tools that are not
/// declared are calls as well: what is wrong with them is the client's to say.
struct DeclaredTool {
  std::string name;
  std::vector<std::string> text_parameters;  // those of which the schema says that they are strings
};

struct ReplyStyle {
  ToolStyle tools = ToolStyle::kNone;
  ReasoningStyle reasoning = ReasoningStyle::kNone;
  bool reasoning_open = false;  // the prompt ends inside <think>: see ends_in_thoughts
  bool newer_form = false;  // the template writes calls in its style's form of the brackets above
  bool only_calls_or_text = false;  // the text has a form: what begins with no call has none later
  bool only_calls = false;  // behind the thoughts the text is calls: what is left of one is dropped
  std::vector<DeclaredTool> declared;
};

/// From the markers in a chat template; what is not known for sure is kNone. Leaves reasoning_open
/// and declared as they are by default.
ReplyStyle detect_reply_style(std::string_view chat_template_source);

/// Whether a rendered prompt ends with <think>, white space aside.
bool ends_in_thoughts(std::string_view prompt);

/// "none", "hermes", "llama3", "mistral", "minimax"; nothing for "auto". Throws kBadInput, with the
/// names, for others.
std::optional<ToolStyle> tool_style_by_name(std::string_view name);
std::string_view tool_style_name(ToolStyle style);
/// For errors and help: "auto, none, hermes, ...".
std::string tool_style_names();

/// `parameters` is the JSON schema of the tool's arguments.
DeclaredTool declared_tool(std::string_view name, const Json& parameters);

/// The literal texts around calls, for a grammar that lets a model write nothing else:
///   marker begin (call_begin NAME arguments_begin ARGUMENTS call_end), with `between` between
///   calls, end
/// NAME is the tool's name as it is (of letters, digits, '_', '-'), ARGUMENTS JSON of the tool's
/// schema. ReplyParser reads all of them as calls.
struct ToolCallGrammar {
  std::string_view marker;  // "" or one control token of the tokenizer
  std::string_view begin;
  std::string_view call_begin;
  std::string_view arguments_begin;
  std::string_view call_end;
  std::string_view between;
  std::string_view end;
};

/// Nothing for kNone. Elements (`newer_form` of kHermes and kMiniMax) hold ARGUMENTS as one object.
std::optional<ToolCallGrammar> tool_call_grammar_parts(ToolStyle style, bool newer_form);

}  // namespace heddle::serve
