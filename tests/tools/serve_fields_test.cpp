// Every name of the table on every endpoint, with values of every kind: a request is refused in
// words or planned, and what is told to be ignored has no effect.
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tools/serve/api/api_error.h"
#include "tools/serve/api/generation_plan.h"
#include "tools/serve/api/token_routes.h"
#include "tools/serve/fake_driver.h"

namespace heddle::serve {
namespace {

constexpr Endpoint kEndpoints[] = {
    Endpoint::kChat,     Endpoint::kCompletions, Endpoint::kResponses, Endpoint::kEmbeddings,
    Endpoint::kTokenize, Endpoint::kDetokenize,  Endpoint::kTemplate};

const FakeDriver& driver() {
  static const FakeDriver kDriver({.id = "m", .context = 4096});
  return kDriver;
}

bool generates(Endpoint endpoint) {
  return endpoint == Endpoint::kChat || endpoint == Endpoint::kCompletions ||
         endpoint == Endpoint::kResponses;
}

Json base_of(Endpoint endpoint) {
  const Json messages = {{{"role", "user"}, {"content", "a"}}};
  switch (endpoint) {
    case Endpoint::kChat:
    case Endpoint::kTemplate:
      return {{"messages", messages}};
    case Endpoint::kDetokenize:
      return {{"tokens", {65}}};
    case Endpoint::kCompletions:
    case Endpoint::kTokenize:
      return {{"prompt", "a"}};
    default:
      return {{"input", "a"}};
  }
}

/// Plain and nested ones, right for one field or another.
std::vector<Json> values() {
  return {nullptr,
          true,
          -1,
          3,
          0.5,
          1e300,
          "x",
          "",
          Json::array(),
          {nullptr},
          {3},
          {"a"},
          Json::array({Json::array({1}), "a"}),
          Json::array({Json::object()}),
          Json::object(),
          {{"type", 3}},
          {{"type", "function"}, {"function", 3}},
          {{"type", "allowed_tools"}, {"allowed_tools", 3}},
          {{"type", "json_schema"}, {"json_schema", {{"name", 3}}}},
          {{"type", "json_object"}, {"schema", 3}},
          {{"format", 3}},
          {{"effort", 3}},
          {{"include_usage", 3}},
          Json::array({{{"type", "function"}, {"function", {{"name", "f"}, {"strict", 3}}}}}),
          Json::array({{{"type", "function"}, {"name", "f"}, {"parameters", 3}}}),
          Json::array({{{"role", "user"}, {"content", Json::object()}}}),
          Json::array({{{"role", "assistant"}, {"tool_calls", Json::object()}, {"name", 3}}}),
          Json::array({{{"type", "function_call"}, {"call_id", 3}}})};
}

std::string kept(const GenerationPlan& plan) {
  std::string text =
      Json::array({plan.n, plan.stream, plan.include_usage, plan.progress, plan.token_ids,
                   plan.echo, plan.logprobs, plan.prompt_logprobs, plan.parallel_tools,
                   plan.forced_tools, plan.style.declared.size(), plan.session_id})
          .dump();
  for (const Request& r : plan.requests) {
    text += Json::array({r.prompt, r.max_new_tokens, r.stop, r.stop_ids, r.ignore_eos,
                         r.min_new_tokens, r.grammar != nullptr, r.n, r.priority, r.cache_scope,
                         r.sampling.temperature, r.sampling.top_k, r.sampling.logit_bias.size()})
                .dump();
  }
  return text;
}

/// What is made of a body; "CODE PARAM" if it is refused.
std::string made_of_text(Endpoint endpoint, const std::string& body, const ServerLimits& limits) {
  static GrammarStore grammars;
  try {
    if (generates(endpoint)) {
      ReplyStyle style;
      style.tools = ToolStyle::kHermes;
      const PlanContext context{
          .facts = driver().facts(), .limits = limits, .style = style, .grammars = grammars};
      return kept(plan_generation(body, endpoint, context));
    }
    const Fields fields = Fields::read(body, endpoint, limits, false);
    check_model(fields, driver().facts());
    if (endpoint == Endpoint::kTokenize) return tokenize(fields, driver().facts(), limits).dump();
    if (endpoint == Endpoint::kDetokenize) return detokenize(fields, driver().facts()).dump();
    if (endpoint == Endpoint::kTemplate) {
      return apply_template(fields, driver().facts(), limits).dump();
    }
    return "";
  } catch (const ApiError& e) {
    EXPECT_TRUE(e.spec().status == 400 || e.spec().status == 404);
    return e.spec().code + " " + e.spec().param;
  }
}

std::string made_of(Endpoint endpoint, const Json& body) {
  return made_of_text(endpoint, body.dump(), ServerLimits());
}

TEST(ServeEveryField, OnEveryEndpointIsPlannedOrRefusedInWords) {
  std::set<std::string> names;
  for (const FieldSpec& field : field_table()) names.insert(std::string(field.name));
  for (const Endpoint endpoint : kEndpoints) {
    std::set<std::string> known;
    for (const FieldSpec* field : fields_of(endpoint)) known.insert(std::string(field->name));
    const Json base = base_of(endpoint);
    const std::string plain = made_of(endpoint, base);
    for (const std::string& name : names) {
      for (const Json& value : values()) {
        SCOPED_TRACE(name + " of " + std::to_string(static_cast<unsigned>(endpoint)) + ": " +
                     value.dump());
        Json body = base;
        body[name] = value;
        std::string made;
        ASSERT_NO_THROW(made = made_of(endpoint, body));
        if (!known.contains(name)) {
          EXPECT_EQ(made, plain) << "ignored, and has an effect";
        }
      }
    }
  }
}

TEST(ServeEveryField, IsFoundOnlyWhereTheTableHasIt) {
  const Fields fields = Fields::read(R"({"input": "x", "messages": 3, "echo": 5, "no_such": 1})",
                                     Endpoint::kEmbeddings, ServerLimits(), false);
  EXPECT_NE(fields.find("input"), nullptr);
  EXPECT_EQ(fields.find("messages"), nullptr);
  EXPECT_EQ(fields.find("echo"), nullptr);
  EXPECT_EQ(fields.unknown().size(), 3U);
}

TEST(ServeEveryField, ThatOthersHaveAndWeLackIsRefused) {
  const std::pair<const char*, Json> lacking[] = {{"guided_json", Json::object()},
                                                  {"guided_regex", "a"},
                                                  {"guided_choice", {"a"}},
                                                  {"guided_grammar", "a"},
                                                  {"grammar", "a"},
                                                  {"json_schema", Json::object()},
                                                  {"regex", "a"},
                                                  {"ebnf", "a"},
                                                  {"bad_words", {"a"}},
                                                  {"logits_processors", {"a"}},
                                                  {"stop_regex", "a"},
                                                  {"include_stop_str_in_output", true},
                                                  {"skip_special_tokens", false},
                                                  {"truncate_prompt_tokens", 3},
                                                  {"thinking_token_budget", 3},
                                                  {"typical_p", 0.5},
                                                  {"repeat_penalty", 1.1},
                                                  {"min_new_tokens", 3},
                                                  {"input_ids", {1}},
                                                  {"id_slot", 1},
                                                  {"return_tokens", true},
                                                  {"return_routed_experts", true},
                                                  {"n_predict", 3},
                                                  {"spaces_between_special_tokens", false},
                                                  {"allowed_token_ids", {1}},
                                                  {"mirostat", 2}};
  for (const Endpoint endpoint : {Endpoint::kChat, Endpoint::kCompletions, Endpoint::kResponses}) {
    for (const auto& [name, value] : lacking) {
      Json body = base_of(endpoint);
      body[name] = value;
      EXPECT_EQ(made_of(endpoint, body), std::string("unsupported_parameter ") + name);
    }
    for (const auto& [name, value] :
         std::vector<std::pair<std::string, Json>>{{"skip_special_tokens", true},
                                                   {"include_stop_str_in_output", false},
                                                   {"cache_prompt", true},
                                                   {"repeat_penalty", 1.0},
                                                   {"id_slot", -1},
                                                   {"bad_words", Json::array()}}) {
      Json body = base_of(endpoint);
      body[name] = value;
      EXPECT_EQ(made_of(endpoint, body), made_of(endpoint, base_of(endpoint))) << name;
    }
  }
  Json body = base_of(Endpoint::kCompletions);
  body["tools"] = Json::array({{{"type", "function"}, {"function", {{"name", "f"}}}}});
  EXPECT_EQ(made_of(Endpoint::kCompletions, body), "unsupported_parameter tools");
}

// Objects of very many members.

/// "k0": 1, "k1": 1, ...
std::string members(int n) {
  std::string text;
  for (int i = 0; i < n; ++i) {
    if (i > 0) text += ", ";
    text += "\"k" + std::to_string(i) + "\": 1";
  }
  return text;
}

/// Every place of a body whose members are not in the field table.
std::vector<std::pair<Endpoint, std::string>> bodies_with(const std::string& more) {
  const std::string messages = R"({"messages": [{"role": "user", "content": "a")";
  const auto chat = [&](const std::string& field) {
    return std::pair(Endpoint::kChat, messages + "}], " + field + "}");
  };
  std::vector<std::pair<Endpoint, std::string>> bodies;
  for (const Endpoint endpoint : kEndpoints) {
    const std::string base = base_of(endpoint).dump();
    bodies.emplace_back(endpoint, base.substr(0, base.size() - 1) + ", " + more + "}");
  }
  for (const Endpoint endpoint : {Endpoint::kChat, Endpoint::kTemplate}) {
    bodies.emplace_back(endpoint, messages + ", " + more + "}]}");
    bodies.emplace_back(endpoint, messages + "}], \"chat_template_kwargs\": {" + more + "}}");
  }
  for (const char* field :
       {"metadata", "logit_bias", "stream_options", "structured_outputs", "response_format",
        "tool_choice", "store", "modalities", "messages_", "stop"}) {
    bodies.push_back(chat('"' + std::string(field) + "\": {" + more + "}"));
  }
  for (const std::string& tool :
       {R"({"type": "function", "function": {"name": "f", "parameters": {)" + more + "}}}",
        R"({"type": "function", "function": {"name": "f", )" + more + "}}",
        R"({"type": "function", "name": "f", )" + more + "}"}) {
    bodies.push_back(chat("\"tools\": [" + tool + "]"));
    bodies.emplace_back(Endpoint::kResponses, R"({"input": "a", "tools": [)" + tool + "]}");
  }
  bodies.emplace_back(Endpoint::kChat, messages + R"(}, {"role": "assistant", "tool_calls": [{)" +
                                           R"("function": {"name": "f", "arguments": {)" + more +
                                           "}}}]}]}");
  const std::string item = R"({"input": [{"role": "user", "content": "a", )";
  bodies.emplace_back(Endpoint::kResponses, item + more + "}]}");
  bodies.emplace_back(Endpoint::kResponses,
                      R"({"input": "a", "reasoning": {)" + more + R"(}, "text": {)" + more + "}}");
  return bodies;
}

TEST(ServeManyMembers, OfOneObjectAreRefusedWhereverTheyAre) {
  const ServerLimits limits;
  const int most = static_cast<int>(limits.json_members);
  for (const auto& [endpoint, body] : bodies_with(members(most + 1))) {
    EXPECT_EQ(made_of_text(endpoint, body, limits), "invalid_json ") << body.substr(0, 100);
  }
  for (const auto& [endpoint, body] : bodies_with(members(most - 4))) {
    EXPECT_NE(made_of_text(endpoint, body, limits), "invalid_json ") << body.substr(0, 100);
  }
  try {
    Fields::read("{" + members(200'000) + "}", Endpoint::kChat, limits, false);
    ADD_FAILURE();
  } catch (const ApiError& e) {
    EXPECT_NE(e.spec().message.find("body: members of an object, got 200000, allowed up to 10000"),
              std::string::npos)
        << e.spec().message;
  }
}

TEST(ServeManyMembers, TakeTimeThatGrowsAsTheyDo) {
  ServerLimits limits;
  limits.json_members = limits.json_nodes;
  for (const auto& [endpoint, body] : bodies_with(members(100'000))) {
    const auto start = std::chrono::steady_clock::now();
    made_of_text(endpoint, body, limits);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_LT(seconds.count(), 10.0) << body.substr(0, 100);  // a search per key: a minute
  }
}

// Tools.

Json tool(const char* name, const Json& more = Json::object()) {
  Json function = {{"name", name}};
  function.update(more);
  return {{"type", "function"}, {"function", function}};
}

/// Of a chat with tools; the template writes their names.
GenerationPlan plan_with_tools(const Json& fields, bool has_place = true) {
  static const ServerLimits kLimits;
  static const ChatTemplate kWith(
      "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}{{ messages[0].content }}");
  static const ChatTemplate kWithout("{{ messages[0].content }}");
  static GrammarStore grammars;
  ModelFacts facts = driver().facts();
  facts.chat_template = has_place ? &kWith : &kWithout;
  ReplyStyle style;
  style.tools = ToolStyle::kHermes;
  const PlanContext context{
      .facts = facts, .limits = kLimits, .style = style, .grammars = grammars};
  Json body = base_of(Endpoint::kChat);
  body.update(fields);
  return plan_generation(body.dump(), Endpoint::kChat, context);
}

std::string prompt_of(const GenerationPlan& plan) {
  return driver().facts().tokenizer->decode(plan.requests.at(0).prompt, true);
}

std::string refusal_of(const Json& fields, bool has_place = true) {
  try {
    plan_with_tools(fields, has_place);
    return "";
  } catch (const ApiError& e) {
    return e.spec().code + " " + e.spec().param;
  }
}

TEST(ServeTools, ATemplateWithoutAPlaceForThemRefusesThem) {
  const Json tools = {{"tools", Json::array({tool("f")})}};
  EXPECT_EQ(refusal_of(tools), "");
  EXPECT_EQ(refusal_of(tools, false), "unsupported_parameter tools");
  Json none = tools;
  none["tool_choice"] = "none";
  EXPECT_EQ(refusal_of(none, false), "");
}

TEST(ServeTools, AllowedOnesLeaveOutTheOthers) {
  const Json tools = Json::array({tool("f"), tool("g"), tool("h")});
  for (const char* mode : {"auto", "required"}) {
    const Json allowed = {{"mode", mode}, {"tools", {tool("h"), tool("g")}}};
    const GenerationPlan plan =
        plan_with_tools({{"tools", tools},
                         {"tool_choice", {{"type", "allowed_tools"}, {"allowed_tools", allowed}}}});
    EXPECT_EQ(prompt_of(plan), "[g][h]a");
    EXPECT_EQ(plan.style.declared.size(), 2U);
    EXPECT_EQ(plan.forced_tools, mode == std::string("required"));
    EXPECT_EQ(plan.requests[0].grammar != nullptr, plan.forced_tools);
  }
  const Json flat = {{"type", "allowed_tools"},
                     {"mode", "auto"},
                     {"tools", {{{"type", "function"}, {"name", "g"}}}}};
  EXPECT_EQ(prompt_of(plan_with_tools({{"tools", tools}, {"tool_choice", flat}})), "[g]a");
}

TEST(ServeTools, OneThatIsStrictHasASchemaThatCanBeKeptTo) {
  const Json bad = {{"parameters", {{"type", "object"}, {"not", Json::object()}}}};
  Json strict = bad;
  strict["strict"] = true;
  EXPECT_EQ(refusal_of({{"tools", Json::array({tool("f", bad)})}}), "");
  EXPECT_EQ(refusal_of({{"tools", Json::array({tool("f", strict)})}}), "unsupported_schema tools");
  EXPECT_EQ(refusal_of({{"tools", Json::array({tool("f", {{"strict", "yes"}})})}}),
            "invalid_type tools[0].strict");
}

}  // namespace
}  // namespace heddle::serve
