// Every name of the table on every endpoint, with values of every kind: a request is refused in
// words or planned, and what is told to be ignored has no effect.
#include <gtest/gtest.h>

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
std::string made_of(Endpoint endpoint, const Json& body) {
  static const ServerLimits kLimits;
  static GrammarStore grammars;
  try {
    if (generates(endpoint)) {
      ReplyStyle style;
      style.tools = ToolStyle::kHermes;
      const PlanContext context{
          .facts = driver().facts(), .limits = kLimits, .style = style, .grammars = grammars};
      return kept(plan_generation(body.dump(), endpoint, context));
    }
    const Fields fields = Fields::read(body.dump(), endpoint, kLimits, false);
    check_model(fields, driver().facts());
    if (endpoint == Endpoint::kTokenize) return tokenize(fields, driver().facts(), kLimits).dump();
    if (endpoint == Endpoint::kDetokenize) return detokenize(fields, driver().facts()).dump();
    if (endpoint == Endpoint::kTemplate) {
      return apply_template(fields, driver().facts(), kLimits).dump();
    }
    return "";
  } catch (const ApiError& e) {
    EXPECT_TRUE(e.spec().status == 400 || e.spec().status == 404);
    return e.spec().code + " " + e.spec().param;
  }
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

}  // namespace
}  // namespace heddle::serve
