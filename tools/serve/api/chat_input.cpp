#include "tools/serve/api/chat_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "tools/serve/api/api_error.h"

namespace heddle::serve {
namespace {

constexpr std::string_view kRoles[] = {"developer", "system", "user",
                                       "assistant", "tool",   "function"};

/// Text of a message's content: a string, or parts of type text.
std::string content_text(const Json& content, const std::string& where) {
  if (content.is_null()) return "";
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) {
    throw invalid_type(where, fmt::format("{}: got {}, allowed a string or an array of parts",
                                          where, content.type_name()));
  }
  std::string text;
  for (std::size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string place = fmt::format("{}[{}]", where, i);
    if (!part.is_object() || !part.contains("type") || !part["type"].is_string()) {
      throw invalid_type(place, fmt::format("{}: a part is an object with a type", place));
    }
    const auto& type = part["type"].get_ref<const std::string&>();
    const char* key = type == "refusal" ? "refusal" : "text";
    const bool known =
        type == "text" || type == "input_text" || type == "output_text" || type == "refusal";
    if (!known) {
      throw unsupported(place, fmt::format("{}: parts are of type text here", place));
    }
    if (!part.contains(key) || !part[key].is_string()) {
      throw invalid_type(place, fmt::format("{}: {} is missing or not a string", place, key));
    }
    if (!text.empty()) text += '\n';
    text += part[key].get_ref<const std::string&>();
  }
  return text;
}

/// Templates write arguments with tojson: as the object, not its text, where it is one.
Json template_tool_calls(const Json& calls, const std::string& where, const ServerLimits& limits) {
  if (!calls.is_array()) {
    throw invalid_type(where,
                       fmt::format("{}: got {}, allowed an array", where, calls.type_name()));
  }
  Json out = Json::array();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    Json call = calls[i];
    const std::string place = fmt::format("{}[{}]", where, i);
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object() ||
        !call["function"].contains("name") || !call["function"]["name"].is_string()) {
      throw invalid_type(place, place + ": a tool call has function {name, arguments}");
    }
    Json& function = call["function"];
    if (!function.contains("arguments") || function["arguments"].is_null()) {
      function["arguments"] = Json::object();
    } else if (function["arguments"].is_string()) {
      try {
        Json parsed = parse_json(function["arguments"].get_ref<const std::string&>(), place);
        bound_members(parsed, place, limits);
        if (parsed.is_object()) function["arguments"] = std::move(parsed);
      } catch (const Error&) {  // the model wrote it: it stays a text
      }
    }
    out.push_back(std::move(call));
  }
  return out;
}

ChatMessage read_message(const Json& message,
                         const std::string& where,
                         bool knows_developer,
                         const ServerLimits& limits) {
  if (!message.is_object()) throw invalid_type(where, where + ": a message is an object");
  if (!message.contains("role") || !message["role"].is_string()) {
    throw ApiError({.code = "missing_required_parameter",
                    .message = where + ".role is missing or not a string",
                    .param = where + ".role"});
  }
  ChatMessage out{.role = message["role"].get<std::string>(), .content = {}, .extra_json = {}};
  if (std::ranges::find(kRoles, out.role) == std::end(kRoles)) {
    throw invalid_value(where + ".role",
                        fmt::format("{}.role: allowed: {}", where, fmt::join(kRoles, ", ")));
  }
  if (out.role == "developer" && !knows_developer) out.role = "system";
  for (const char* key : {"name", "tool_call_id"}) {
    if (!message.contains(key) || message[key].is_null() || message[key].is_string()) continue;
    throw invalid_type(
        fmt::format("{}.{}", where, key),
        fmt::format("{}.{}: got {}, allowed a string", where, key, message[key].type_name()));
  }
  Json extra = Json::object();
  for (const auto& [key, value] : message.items()) {
    if (key == "role" || value.is_null()) continue;
    if (key == "content") {
      out.content = content_text(value, where + ".content");
    } else if (key == "tool_calls") {
      Json calls = template_tool_calls(value, where + ".tool_calls", limits);
      if (!calls.empty()) add_member(extra, key, std::move(calls));
    } else {
      add_member(extra, key, value);
    }
  }
  const bool has_content = message.contains("content") && !message["content"].is_null();
  if (!has_content && out.role != "assistant") {
    throw ApiError({.code = "missing_required_parameter",
                    .message = where + ".content is missing",
                    .param = where + ".content"});
  }
  if (!extra.empty()) out.extra_json = extra.dump(-1, ' ', false, Json::error_handler_t::replace);
  return out;
}

std::vector<ChatMessage> read_messages(const Json& list,
                                       const std::string& where,
                                       const ModelFacts& facts,
                                       const ServerLimits& limits) {
  const auto n = static_cast<std::int64_t>(list.size());
  if (n < 1 || n > limits.messages) {
    throw invalid_value(
        where, fmt::format("{}: got {} messages, allowed 1 to {}", where, n, limits.messages));
  }
  const bool knows_developer = facts.chat_template != nullptr &&
                               facts.chat_template->source().find("developer") != std::string::npos;
  std::vector<ChatMessage> messages;
  for (std::size_t i = 0; i < list.size(); ++i) {
    messages.push_back(
        read_message(list[i], fmt::format("{}[{}]", where, i), knows_developer, limits));
  }
  return messages;
}

/// False where a schema's own words leave no object: arguments that fit it cannot be written.
bool takes_objects(const Json& schema) {
  const auto has = [](const Json& list, const auto& fits) {
    return !list.is_array() || std::any_of(list.begin(), list.end(), fits);
  };
  const auto is_object = [](const Json& value) { return value.is_object(); };
  if (schema.contains("const") && !schema["const"].is_object()) return false;
  if (schema.contains("enum") && !has(schema["enum"], is_object)) return false;
  if (!schema.contains("type")) return true;
  const Json& type = schema["type"];
  if (type.is_string()) return type == "object";
  return has(type, [](const Json& name) { return name == "object"; });
}

/// One tool in the form of chat completions.
Json read_tool(const Json& tool, const std::string& where, ChatInput& input) {
  if (text_member(tool, "type") != "function") {
    throw unsupported(where, where + ": tools are of type function here");
  }
  const bool flat = !tool.contains("function");  // as /v1/responses has it
  const Json& function = flat ? tool : tool["function"];
  if (!function.is_object() || !function.contains("name") || !function["name"].is_string() ||
      !is_name(function["name"].get_ref<const std::string&>())) {
    throw invalid_value(where, where + ": a function has a name of [A-Za-z0-9_-]{1,64}");
  }
  if (function.contains("description") && !function["description"].is_null() &&
      !function["description"].is_string()) {
    throw invalid_type(where + ".description", where + ".description: allowed a string");
  }
  const Json* strict = function.contains("strict") ? &function["strict"] : nullptr;
  if (strict != nullptr && !strict->is_null() && !strict->is_boolean()) {
    throw invalid_type(where + ".strict", where + ".strict: allowed a boolean");
  }
  Json parameters = Json::object();
  if (function.contains("parameters") && !function["parameters"].is_null()) {
    parameters = function["parameters"];
  }
  if (!parameters.is_object()) {
    throw invalid_type(where + ".parameters", where + ".parameters: allowed a JSON Schema");
  }
  if (!takes_objects(parameters)) {
    throw invalid_value(where + ".parameters",
                        where + ".parameters: arguments are an object, which this schema refuses");
  }
  for (const ToolSpec& other : input.tools) {
    if (other.name != function["name"]) continue;
    throw invalid_value(where, where + ": another function has the same name");
  }
  input.tools.push_back(
      {.name = function["name"].get<std::string>(),
       .parameters_json = parameters.dump(),
       .strict = strict != nullptr && strict->is_boolean() && strict->get<bool>()});
  if (!flat) return tool;
  Json inner = tool;
  inner.erase("type");
  return {{"type", "function"}, {"function", std::move(inner)}};
}

/// The name in {"type": "function", "function": {"name": N}}, or with N beside type, as
/// /v1/responses has it; nullptr: there is none.
const Json* function_name(const Json& choice) {
  if (text_member(choice, "type") != "function") return nullptr;
  const Json& holder =
      choice.contains("function") && choice["function"].is_object() ? choice["function"] : choice;
  return holder.contains("name") && holder["name"].is_string() ? &holder["name"] : nullptr;
}

void check_known(const std::string& name, const ChatInput& input) {
  const bool known =
      std::ranges::any_of(input.tools, [&](const ToolSpec& tool) { return tool.name == name; });
  if (!known) throw invalid_value("tool_choice", "tool_choice: no tool has that name");
}

ToolChoice choice_of_word(const std::string& word, const ChatInput& input) {
  if (word != "none" && word != "auto" && word != "required") {
    throw invalid_value("tool_choice",
                        "tool_choice: allowed: none, auto, required, a function, allowed_tools");
  }
  if (word == "required" && input.tools.empty()) {
    throw invalid_value("tool_choice", "tool_choice: required, but there are no tools");
  }
  if (word == "none" || input.tools.empty()) return ToolChoice::kNone;
  return word == "auto" ? ToolChoice::kAuto : ToolChoice::kRequired;
}

/// {"mode": auto or required, "tools": [...]}: the others are left out, of `list` too.
void read_allowed_tools(const Json& choice, ChatInput& input, Json& list) {
  const char* key = "allowed_tools";
  const Json& holder = choice.contains(key) ? choice[key] : choice;
  const std::string mode = text_member(holder, "mode");
  if (!holder.is_object() || !holder.contains("tools") || !holder["tools"].is_array() ||
      holder["tools"].empty() || (mode != "auto" && mode != "required")) {
    throw invalid_value("tool_choice",
                        "tool_choice: allowed_tools has a mode, auto or required, and tools");
  }
  std::set<std::string> names;
  for (const Json& tool : holder["tools"]) {
    const Json* name = function_name(tool);
    if (name == nullptr) {
      throw invalid_type("tool_choice", "tool_choice: allowed_tools.tools are functions");
    }
    check_known(name->get_ref<const std::string&>(), input);
    names.insert(name->get<std::string>());
  }
  Json kept = Json::array();
  for (std::size_t i = 0; i < input.tools.size(); ++i) {
    if (names.contains(input.tools[i].name)) kept.push_back(std::move(list[i]));
  }
  list = std::move(kept);
  std::erase_if(input.tools, [&](const ToolSpec& tool) { return !names.contains(tool.name); });
  input.tool_choice = choice_of_word(mode, input);
}

void read_tool_choice(const Json* choice, ChatInput& input, Json& list) {
  if (choice == nullptr) {
    input.tool_choice = input.tools.empty() ? ToolChoice::kNone : ToolChoice::kAuto;
  } else if (choice->is_string()) {
    input.tool_choice = choice_of_word(choice->get_ref<const std::string&>(), input);
  } else if (text_member(*choice, "type") == "allowed_tools") {
    read_allowed_tools(*choice, input, list);
  } else if (const Json* name = function_name(*choice)) {
    input.tool_choice = ToolChoice::kNamed;
    input.named_tool = name->get<std::string>();
    check_known(input.named_tool, input);
  } else if (choice->is_object() && choice->contains("type") && (*choice)["type"].is_string() &&
             text_member(*choice, "type") != "function") {
    throw ApiError({.code = "unsupported_value",
                    .message = "tool_choice: of type function and allowed_tools here",
                    .param = "tool_choice"});
  } else {
    throw invalid_type("tool_choice",
                       "tool_choice: allowed: none, auto, required, a function, allowed_tools");
  }
}

void read_tools(const Fields& fields,
                const ModelFacts& facts,
                const ServerLimits& limits,
                ChatInput& input) {
  const Json* tools = fields.find("tools");
  if (tools != nullptr && static_cast<std::int64_t>(tools->size()) > limits.tools) {
    throw invalid_value(
        "tools", fmt::format("tools: got {}, allowed at most {}", tools->size(), limits.tools));
  }
  Json list = Json::array();
  for (std::size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    list.push_back(read_tool((*tools)[i], fmt::format("tools[{}]", i), input));
  }
  read_tool_choice(fields.find("tool_choice"), input, list);
  if (input.tool_choice == ToolChoice::kNone) {
    input.tools.clear();
    return;
  }
  if (facts.chat_template != nullptr &&
      facts.chat_template->source().find("tools") == std::string::npos) {
    throw unsupported("tools", "tools: the model's chat template has no place for tools");
  }
  input.variables.tools_json = list.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void read_variables(const Fields& fields, std::optional<std::string> effort, ChatInput& input) {
  Json variables = Json::object();
  if (const Json* given = fields.find("chat_template_kwargs")) {
    for (const auto& [key, value] : given->items()) {
      if (value.is_structured()) {
        throw invalid_type("chat_template_kwargs",
                           "chat_template_kwargs: values are texts, numbers and booleans");
      }
      if (key == "messages" || key == "tools" || key == "add_generation_prompt") {
        throw invalid_value("chat_template_kwargs",
                            "chat_template_kwargs: " + key + " is a field of its own");
      }
      add_member(variables, key, value);
    }
  }
  if (effort) variables["reasoning_effort"] = *effort;
  if (!variables.empty()) {
    input.variables.extra_json = variables.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
}

/// One item of /v1/responses' input as a message.
Json message_of_item(const Json& item, const std::string& where) {
  if (!item.is_object()) throw invalid_type(where, where + ": an item is an object");
  const std::string type = item.contains("type") && item["type"].is_string()
                               ? item["type"].get<std::string>()
                               : "message";
  const auto text_of = [&](const char* key) {
    if (!item.contains(key)) {
      throw ApiError({.code = "missing_required_parameter",
                      .message = fmt::format("{}.{} is missing", where, key),
                      .param = fmt::format("{}.{}", where, key)});
    }
    return item[key].is_string() ? item[key].get<std::string>()
                                 : content_text(item[key], where + "." + key);
  };
  if (type == "message") return item;
  if (type == "function_call") {
    return {{"role", "assistant"},
            {"content", nullptr},
            {"tool_calls",
             {{{"id", text_of("call_id")},
               {"type", "function"},
               {"function", {{"name", text_of("name")}, {"arguments", text_of("arguments")}}}}}}};
  }
  if (type == "function_call_output") {
    return {{"role", "tool"}, {"tool_call_id", text_of("call_id")}, {"content", text_of("output")}};
  }
  if (type == "reasoning") return nullptr;  // the model's own thoughts are not given back to it
  throw unsupported(where, where + ": items are messages, function_call, function_call_output");
}

}  // namespace

ChatInput read_chat(const Fields& fields, const ModelFacts& facts, const ServerLimits& limits) {
  ChatInput input;
  input.messages = read_messages(*fields.find("messages"), "messages", facts, limits);
  read_tools(fields, facts, limits, input);
  read_variables(fields, fields.text("reasoning_effort"), input);
  input.continue_final_message = fields.on("continue_final_message");
  input.add_generation_prompt = fields.on("add_generation_prompt", !input.continue_final_message);
  if (input.continue_final_message &&
      (input.add_generation_prompt || input.messages.back().role != "assistant")) {
    throw invalid_value("continue_final_message",
                        "continue_final_message: the last message must be an assistant's, and "
                        "add_generation_prompt false");
  }
  return input;
}

ChatInput read_responses(const Fields& fields,
                         const ModelFacts& facts,
                         const ServerLimits& limits) {
  ChatInput input;
  Json messages = Json::array();
  if (const auto instructions = fields.text("instructions")) {
    messages.push_back({{"role", "system"}, {"content", *instructions}});
  }
  const Json& given = *fields.find("input");
  if (given.is_string()) {
    messages.push_back({{"role", "user"}, {"content", given}});
  } else if (given.is_array()) {
    for (std::size_t i = 0; i < given.size(); ++i) {
      Json message = message_of_item(given[i], fmt::format("input[{}]", i));
      if (!message.is_null()) messages.push_back(std::move(message));
    }
  } else {
    throw invalid_type("input", "input: allowed a string or an array of items");
  }
  input.messages = read_messages(messages, "input", facts, limits);
  read_tools(fields, facts, limits, input);
  std::optional<std::string> effort;
  if (const Json* reasoning = fields.find("reasoning")) {
    if (reasoning->contains("effort") && !(*reasoning)["effort"].is_null()) {
      if (!(*reasoning)["effort"].is_string()) {
        throw invalid_type("reasoning.effort", "reasoning.effort: allowed a string");
      }
      effort = (*reasoning)["effort"].get<std::string>();
    }
  }
  read_variables(fields, effort, input);
  return input;
}

void check_text_length(std::size_t n_bytes, const ModelFacts& facts, std::string_view param) {
  if (facts.max_token_bytes == 0) return;
  const std::int64_t most =
      std::max(std::int64_t{1} << 20U, 4 * facts.context * facts.max_token_bytes);
  if (static_cast<std::int64_t>(n_bytes) <= most) return;
  throw ApiError(
      {.code = "context_length_exceeded",
       .message = fmt::format("the prompt has {} bytes: more than the model's context of {} tokens "
                              "can hold",
                              n_bytes, facts.context),
       .param = std::string(param)});
}

RenderedChat render_chat(const ChatInput& input, const ModelFacts& facts, bool with_departures) {
  if (facts.chat_template == nullptr) {
    throw ApiError({.code = "chat_template_error",
                    .message = "the model has no chat template: use /v1/completions",
                    .param = "messages"});
  }
  RenderedChat out;
  try {
    RenderedPrompt prompt = render_messages(*facts.chat_template, *facts.tokenizer, input.messages,
                                            input.add_generation_prompt, input.variables);
    if (input.continue_final_message) {
      const std::string& last = input.messages.back().content;
      const std::size_t at = prompt.text.rfind(last);
      if (at == std::string::npos) {
        throw invalid_value("continue_final_message",
                            "continue_final_message: the template changes the last message");
      }
      prompt.text.resize(at + last.size());
      std::erase_if(prompt.untrusted,
                    [&](const ByteRange& r) { return r.begin >= at + last.size(); });
      for (ByteRange& r : prompt.untrusted) r.end = std::min(r.end, prompt.text.size());
    }
    check_text_length(prompt.text.size(), facts, "messages");
    out.tokens = encode_rendered(*facts.tokenizer, prompt);
    out.text = std::move(prompt.text);
  } catch (const ApiError&) {
    throw;
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kBadInput) throw;
    throw ApiError({.code = "chat_template_error", .message = e.what(), .param = "messages"});
  }
  if (with_departures && facts.recurrent) {
    out.departures = chat_departures(*facts.chat_template, *facts.tokenizer, input.messages,
                                     out.tokens, input.variables);
  }
  return out;
}

}  // namespace heddle::serve
