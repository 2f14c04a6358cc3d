#include "tools/serve/api/answer_form.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "engine/grammar/grammar_builder.h"
#include "tools/serve/api/api_error.h"

namespace heddle::serve {
namespace {

/// What the text of an answer must be.
struct Form {
  enum class Kind { kFree, kJsonObject, kSchema, kRegex, kChoice, kGrammar };
  Kind kind = Kind::kFree;
  std::string source = {};  // schema, pattern, grammar
  std::vector<std::string> choices = {};
  std::string param = {};  // the field that says so
};

/// Throws unless `object` has these members alone.
void check_members(const Json& object,
                   const std::string& param,
                   std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : object.items()) {
    if (std::ranges::find(known, key) != known.end() || value.is_null()) continue;
    throw invalid_value(param, fmt::format("{}: has a member that is not known here, allowed: {}",
                                           param, fmt::join(known, ", ")));
  }
}

/// Throws unless the member is absent, null, or as `fits` says.
void check_member(const Json& object,
                  const std::string& param,
                  const char* name,
                  bool (*fits)(const Json&),
                  const char* allowed) {
  if (!object.contains(name) || object[name].is_null() || fits(object[name])) return;
  throw invalid_type(param, fmt::format("{}.{}: got {}, allowed {}", param, name,
                                        object[name].type_name(), allowed));
}

bool is_schema(const Json& value) {
  return value.is_object() || value.is_boolean();
}

/// {type, json_schema {name, schema}} of chat completions; in /v1/responses name and schema stand
/// beside type.
Form read_response_format(const Json& format, const std::string& param, bool flat) {
  if (!format.is_object()) {
    throw invalid_type(param,
                       fmt::format("{}: got {}, allowed an object", param, format.type_name()));
  }
  const std::string type = text_member(format, "type");
  if (type == "text") {
    check_members(format, param, {"type"});
    return {};
  }
  if (type == "json_object") {  // llama.cpp's form has a schema beside it
    check_members(format, param, {"type", "schema"});
    check_member(format, param, "schema", is_schema, "a JSON Schema");
    if (!format.contains("schema") || format["schema"].is_null()) {
      return {.kind = Form::Kind::kJsonObject, .param = param};
    }
    return {.kind = Form::Kind::kSchema, .source = format["schema"].dump(), .param = param};
  }
  if (type != "json_schema") {
    throw invalid_value(param, param + ".type: allowed: text, json_object, json_schema");
  }
  if (!flat && (!format.contains("json_schema") || !format["json_schema"].is_object())) {
    throw invalid_type(param, param + ".json_schema is missing or not an object");
  }
  if (!flat) check_members(format, param, {"type", "json_schema"});
  const Json& holder = flat ? format : format["json_schema"];
  const std::string place = flat ? param : param + ".json_schema";
  check_members(
      holder, place,
      flat ? std::initializer_list<std::string_view>{"type", "name", "description", "schema",
                                                     "strict"}
           : std::initializer_list<std::string_view>{"name", "description", "schema", "strict"});
  check_member(
      holder, place, "name", [](const Json& v) { return v.is_string(); }, "a string");
  check_member(
      holder, place, "description", [](const Json& v) { return v.is_string(); }, "a string");
  check_member(
      holder, place, "strict", [](const Json& v) { return v.is_boolean(); }, "a boolean");
  check_member(holder, place, "schema", is_schema, "a JSON Schema");
  if (!is_name(text_member(holder, "name"))) {
    throw invalid_value(param, param + ": the name of a schema is 1 to 64 of [A-Za-z0-9_-]");
  }
  if (!holder.contains("schema") || holder["schema"].is_null()) {
    return {.kind = Form::Kind::kJsonObject, .param = param};
  }
  return {.kind = Form::Kind::kSchema, .source = holder["schema"].dump(), .param = param};
}

Form read_structured(const Json& object) {
  const std::string param = "structured_outputs";
  Form form{.param = param};
  int n_forms = 0;
  for (const auto& [key, value] : object.items()) {
    if (value.is_null() || (key == "json_object" && value == false)) continue;
    ++n_forms;
    if (key == "json" && (value.is_object() || value.is_boolean())) {
      form.kind = Form::Kind::kSchema;
      form.source = value.dump();
    } else if (key == "json_object" && value == true) {
      form.kind = Form::Kind::kJsonObject;
    } else if (key == "choice" && value.is_array()) {
      if (value.empty())
        throw invalid_value(param, param + ".choice: got an empty list, allowed one text or more");
      form.kind = Form::Kind::kChoice;
      for (const Json& text : value) {
        if (!text.is_string()) throw invalid_type(param, param + ".choice: allowed texts");
        form.choices.push_back(text.get<std::string>());
      }
    } else if ((key == "json" || key == "regex" || key == "grammar") && value.is_string()) {
      form.kind = key == "json"    ? Form::Kind::kSchema
                  : key == "regex" ? Form::Kind::kRegex
                                   : Form::Kind::kGrammar;
      form.source = value.get<std::string>();
    } else {
      throw invalid_value(param, param +
                                     ": allowed: json (a schema), regex, choice, grammar, "
                                     "json_object");
    }
  }
  if (n_forms != 1) throw invalid_value(param, param + ": exactly one form is allowed");
  return form;
}

Form read_form(const Fields& fields) {
  Form form;
  if (const Json* format = fields.find("response_format")) {
    form = read_response_format(*format, "response_format", false);
  }
  if (const Json* text = fields.find("text")) {
    check_members(*text, "text", {"format", "verbosity"});
    check_member(
        *text, "text", "verbosity", [](const Json& v) { return v.is_string(); }, "a string");
    if (text->contains("format") && !(*text)["format"].is_null()) {
      form = read_response_format((*text)["format"], "text.format", true);
    }
  }
  if (const Json* structured = fields.find("structured_outputs")) {
    if (form.kind != Form::Kind::kFree) {
      throw invalid_value("structured_outputs", "structured_outputs: not beside response_format");
    }
    form = read_structured(*structured);
  }
  return form;
}

GrammarNode form_node(GrammarBuilder& builder, const Form& form) {
  switch (form.kind) {
    case Form::Kind::kJsonObject:
      return json_object_node(builder);
    case Form::Kind::kSchema:
      return json_schema_node(builder, form.source);
    case Form::Kind::kRegex:
      return regex_node(builder, form.source);
    case Form::Kind::kChoice:
      return builder.one_of(form.choices);
    case Form::Kind::kGrammar:
      return ebnf_node(builder, form.source);
    case Form::Kind::kFree:
      break;
  }
  return builder.empty();
}

GrammarNode calls_node(GrammarBuilder& builder,
                       const ToolCallGrammar& parts,
                       const ChatInput& input,
                       bool several) {
  std::vector<GrammarNode> calls;
  for (const ToolSpec& tool : input.tools) {
    if (input.tool_choice == ToolChoice::kNamed && tool.name != input.named_tool) continue;
    const bool any = tool.parameters_json == "{}";
    calls.push_back(builder.sequence(
        {builder.literal(std::string(parts.call_begin) + tool.name +
                         std::string(parts.arguments_begin)),
         any ? json_object_node(builder) : json_schema_node(builder, tool.parameters_json),
         builder.literal(parts.call_end)}));
  }
  const GrammarNode call = builder.shared(builder.alternatives(calls));
  GrammarNode all = call;
  if (several) {
    all = builder.sequence(
        {call, builder.repeat(builder.sequence({builder.literal(parts.between), call}), 0)});
  }
  return builder.sequence({builder.literal(parts.begin), all, builder.literal(parts.end)});
}

/// Thoughts come before the form, and have none.
GrammarNode after_thoughts(GrammarBuilder& builder, const ReplyStyle& style, GrammarNode node) {
  if (style.reasoning == ReasoningStyle::kNone) return node;
  const GrammarNode thoughts =
      builder.sequence({builder.text_without("</think>"), builder.literal("</think>"),
                        builder.repeat(builder.literal("\n"), 0, 2)});
  if (style.reasoning_open) return builder.sequence({thoughts, node});
  return builder.sequence(
      {builder.optional(builder.sequence({builder.literal("<think>"), thoughts})), node});
}

std::string key_of(const Form& form, const ChatInput& input, const GenerationPlan& plan) {
  Json key = Json::array(
      {static_cast<int>(form.kind), form.source, form.choices, static_cast<int>(plan.style.tools),
       plan.style.newer_form, static_cast<int>(plan.style.reasoning), plan.style.reasoning_open,
       static_cast<int>(input.tool_choice), input.named_tool, plan.parallel_tools});
  for (const ToolSpec& tool : input.tools) key.push_back({tool.name, tool.parameters_json});
  return key.dump(-1, ' ', false, Json::error_handler_t::replace);
}

GrammarPtr compiled(const Form& form,
                    const std::string& key,
                    const PlanContext& context,
                    const std::function<GrammarNode(GrammarBuilder&)>& root) {
  try {
    return context.grammars.get(key, [&] {
      GrammarLimits limits;
      limits.source_bytes = context.limits.schema_bytes;
      limits.depth = context.limits.schema_depth;
      GrammarBuilder builder(limits);
      return builder.build(root(builder));
    });
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kBadInput) throw;
    const bool schema = form.kind != Form::Kind::kRegex && form.kind != Form::Kind::kGrammar;
    throw ApiError({.code = schema ? "unsupported_schema" : "invalid_value",
                    .message = e.what(),
                    .param = form.param.empty() ? "tools" : form.param});
  }
}

/// What a tool that says strict asks for must be possible, whoever chooses to call it.
void check_strict_tools(const ChatInput& input, const PlanContext& context) {
  for (const ToolSpec& tool : input.tools) {
    if (!tool.strict || tool.parameters_json == "{}") continue;
    compiled(
        {.param = "tools"}, "strict " + tool.parameters_json, context,
        [&](GrammarBuilder& builder) { return json_schema_node(builder, tool.parameters_json); });
  }
}

}  // namespace

void set_chat_form(const Fields& fields,
                   const ChatInput& input,
                   const PlanContext& context,
                   GenerationPlan& plan,
                   Request& request) {
  const Form form = read_form(fields);
  for (const ToolSpec& tool : input.tools) {
    plan.style.declared.push_back(
        declared_tool(tool.name, parse_json(tool.parameters_json, "tools")));
  }
  if (input.tools.empty()) plan.style.tools = ToolStyle::kNone;
  const auto parts = tool_call_grammar_parts(plan.style.tools, plan.style.newer_form);
  plan.forced_tools =
      input.tool_choice == ToolChoice::kRequired || input.tool_choice == ToolChoice::kNamed;
  if (plan.forced_tools && !parts) {
    throw unsupported("tool_choice",
                      "tool_choice: the model's chat template has no form of tool calls that is "
                      "known here (--tool-parser names one)");
  }
  check_strict_tools(input, context);
  plan.style.only_calls = plan.forced_tools;
  plan.style.only_calls_or_text = form.kind != Form::Kind::kFree;
  request.control_text = plan.style.tools != ToolStyle::kNone;
  if (plan.forced_tools && !parts->marker.empty()) {
    // The control token that begins calls is part of the prompt: no grammar has such tokens. A
    // model that has no such token reads its text.
    if (const auto marker = context.facts.tokenizer->find(parts->marker)) {
      request.prompt.push_back(*marker);
    } else {
      const auto ids = context.facts.tokenizer->encode(parts->marker, {.add_special = false});
      request.prompt.insert(request.prompt.end(), ids.begin(), ids.end());
    }
    plan.forced_marker = parts->marker;
  }
  if (form.kind == Form::Kind::kFree && !plan.forced_tools) return;
  request.grammar =
      compiled(form, key_of(form, input, plan), context, [&](GrammarBuilder& builder) {
        std::vector<GrammarNode> ways;
        if (!plan.forced_tools) ways.push_back(form_node(builder, form));
        const bool callable = plan.forced_tools || (parts && parts->marker.empty());
        if (callable && !input.tools.empty()) {
          ways.push_back(calls_node(builder, *parts, input, plan.parallel_tools));
        }
        return after_thoughts(builder, plan.style, builder.alternatives(ways));
      });
}

void set_completion_form(const Fields& fields, const PlanContext& context, Request& request) {
  const Form form = read_form(fields);
  if (form.kind == Form::Kind::kFree) return;
  const ChatInput no_input;
  const GenerationPlan no_plan;
  request.grammar = compiled(form, key_of(form, no_input, no_plan), context,
                             [&](GrammarBuilder& builder) { return form_node(builder, form); });
}

}  // namespace heddle::serve
