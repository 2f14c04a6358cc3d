#include "tools/serve/reply/reply_style.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace heddle::serve {
namespace {

constexpr std::array<std::pair<std::string_view, ToolStyle>, 5> kNames = {{
    {"none", ToolStyle::kNone},
    {"hermes", ToolStyle::kHermes},
    {"llama3", ToolStyle::kLlama3},
    {"mistral", ToolStyle::kMistral},
    {"minimax", ToolStyle::kMiniMax},
}};

/// Whether a schema takes strings and nothing else.
bool is_text_schema(const Json& schema) {
  if (!schema.is_object()) return false;
  const auto type = schema.find("type");
  if (type != schema.end()) return type->is_string() && *type == "string";
  const auto values = schema.find("enum");
  return values != schema.end() && values->is_array() && !values->empty() &&
         std::all_of(values->begin(), values->end(), [](const Json& v) { return v.is_string(); });
}

}  // namespace

ReplyStyle detect_reply_style(std::string_view source) {
  const auto has = [&](std::string_view marker) {
    return source.find(marker) != std::string_view::npos;
  };
  ReplyStyle style;
  if (has("</think>")) style.reasoning = ReasoningStyle::kThink;
  if (has("<minimax:tool_call>")) {
    style.tools = ToolStyle::kMiniMax;
    style.newer_form = true;
  } else if (has("[TOOL_CALLS]")) {
    style.tools = ToolStyle::kMistral;
    style.newer_form = has("[ARGS]");
  } else if (has("<tool_calls>") && has("</tool_calls>")) {
    style.tools = ToolStyle::kMiniMax;
    // MiniMax-M1 thinks, though its template does not say so.
    if (has("<beginning_of_sentence>")) style.reasoning = ReasoningStyle::kThink;
  } else if (has("<tool_call>") && has("</tool_call>") && !has("<arg_key>")) {
    style.newer_form = has("<function=");
    const bool objects = has("arguments") && (has("\"name\"") || has("\\\"name\\\""));
    if (style.newer_form || objects) style.tools = ToolStyle::kHermes;
  } else if (has("<|python_tag|>")) {
    style.tools = ToolStyle::kLlama3;
    style.newer_form = has("<function=") || has("<function`");
  } else if (has("<|start_header_id|>") || has("<|header_start|>")) {
    if (has("{\"name\": ") && has("\"parameters\": ")) style.tools = ToolStyle::kLlama3;
  }
  return style;
}

bool ends_in_thoughts(std::string_view prompt) {
  constexpr std::string_view kOpen = "<think>";
  const std::size_t last = prompt.find_last_not_of(" \t\r\n");
  const std::string_view text = prompt.substr(0, last == std::string_view::npos ? 0 : last + 1);
  return text.size() >= kOpen.size() && text.substr(text.size() - kOpen.size()) == kOpen;
}

std::optional<ToolStyle> tool_style_by_name(std::string_view name) {
  if (name == "auto") return std::nullopt;
  for (const auto& [known, style] : kNames) {
    if (known == name) return style;
  }
  throw bad_input(
      fmt::format("tool style {} is unknown; known: {}", json_quote(name), tool_style_names()));
}

std::string_view tool_style_name(ToolStyle style) {
  for (const auto& [name, known] : kNames) {
    if (known == style) return name;
  }
  return "?";
}

std::string tool_style_names() {
  std::string names = "auto";
  for (const auto& [name, style] : kNames) names += fmt::format(", {}", name);
  return names;
}

DeclaredTool declared_tool(std::string_view name, const Json& parameters) {
  DeclaredTool tool;
  tool.name = name;
  if (!parameters.is_object()) return tool;
  const auto properties = parameters.find("properties");
  if (properties == parameters.end() || !properties->is_object()) return tool;
  for (const auto& [key, schema] : properties->items()) {
    if (is_text_schema(schema)) tool.text_parameters.push_back(key);
  }
  return tool;
}

std::optional<ToolCallGrammar> tool_call_grammar_parts(ToolStyle style, bool newer_form) {
  constexpr std::string_view kName = "{\"name\": \"";
  constexpr std::string_view kArguments = "\", \"arguments\": ";
  switch (style) {
    case ToolStyle::kNone:
      return std::nullopt;
    case ToolStyle::kHermes:
      if (newer_form) {
        return ToolCallGrammar{
            "", "", "<tool_call>\n<function=", ">\n", "\n</function>\n</tool_call>", "\n", ""};
      }
      return ToolCallGrammar{
          "",   "", std::string_view("<tool_call>\n{\"name\": \""), kArguments, "}\n</tool_call>",
          "\n", ""};
    case ToolStyle::kLlama3:
      return ToolCallGrammar{"", "", kName, "\", \"parameters\": ", "}", "; ", ""};
    case ToolStyle::kMistral:
      if (newer_form)
        return ToolCallGrammar{"[TOOL_CALLS]", "", "", "[ARGS]", "", "[TOOL_CALLS]", ""};
      return ToolCallGrammar{"[TOOL_CALLS]", " [", kName, kArguments, "}", ", ", "]"};
    case ToolStyle::kMiniMax:
      if (newer_form) {
        return ToolCallGrammar{
            "",   "<minimax:tool_call>\n", "<invoke name=\"", "\">\n", "\n</invoke>",
            "\n", "\n</minimax:tool_call>"};
      }
      return ToolCallGrammar{"", "<tool_calls>\n", kName, kArguments, "}", "\n", "\n</tool_calls>"};
  }
  return std::nullopt;
}

}  // namespace heddle::serve
