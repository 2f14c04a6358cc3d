#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"
#include "tools/serve/reply/reply_parser.h"
#include "tools/serve/reply/reply_style.h"

namespace heddle::serve {
namespace {

constexpr ToolStyle kStyles[] = {ToolStyle::kNone, ToolStyle::kHermes, ToolStyle::kLlama3,
                                 ToolStyle::kMistral, ToolStyle::kMiniMax};

/// "hermes", and behind it what else is detected.
std::string detected(std::string_view source) {
  const ReplyStyle style = detect_reply_style(source);
  std::string out(tool_style_name(style.tools));
  if (style.newer_form) out += " newer";
  if (style.reasoning == ReasoningStyle::kThink) out += " think";
  return out;
}

TEST(ToolStyle, NamesAreReadAndWrongOnesAreAnsweredWithTheList) {
  for (const ToolStyle style : kStyles)
    EXPECT_EQ(tool_style_by_name(tool_style_name(style)), style);
  EXPECT_FALSE(tool_style_by_name("auto").has_value());
  try {
    tool_style_by_name("Hermes\n");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_STREQ(
        error.what(),
        "tool style \"Hermes\\n\" is unknown; known: auto, none, hermes, llama3, mistral, minimax");
  }
}

TEST(ToolStyle, IsDetectedByTheMarkersOfATemplate) {
  EXPECT_EQ(detected(""), "none");
  EXPECT_EQ(detected("{{ messages }} tools arguments \"name\""), "none");
  const std::string hermes =
      R"({{ '<tool_call>\n{"name": "' + t.name + '", "arguments": ' }}{{ t.arguments }}{{ '}\n</tool_call>' }})";
  EXPECT_EQ(detected(hermes), "hermes");
  EXPECT_EQ(detected(hermes + "{% if '</think>' in content %}"), "hermes think");
  EXPECT_EQ(detected("<tool_call>\\n<function=' + t.name + '>\\n' ... </function>\\n</tool_call>"),
            "hermes newer");
  // GLM-4 and Gemma 4 have forms of their own; so has DeepSeek.
  EXPECT_EQ(detected(hermes + "<arg_key>"), "none");
  EXPECT_EQ(
      detected("'<|tool_call>call:' + function['name'] + '{' arguments \"name\" '}<tool_call|>'"),
      "none");
  EXPECT_EQ(detected("<\uff5ctool\u2581calls\u2581begin\uff5c> arguments \"name\""), "none");
  EXPECT_EQ(detected("{{ '[TOOL_CALLS][' }}"), "mistral");
  EXPECT_EQ(detected("'[TOOL_CALLS]' + name + '[ARGS]' + arguments"), "mistral newer");
  EXPECT_EQ(detected("'<|python_tag|>' + tool_call.name"), "llama3");
  EXPECT_EQ(detected("<|start_header_id|> '{\"name\": \"' + call.name '\"parameters\": '"),
            "llama3");
  EXPECT_EQ(detected("<|start_header_id|> {{ \"parameters\" }}"), "none");
  EXPECT_EQ(detected("<beginning_of_sentence>ai <tool_calls>\\n{\"name\": </tool_calls>"),
            "minimax think");
  EXPECT_EQ(detected("<tool_calls>[{\"name\": ]</tool_calls>"), "minimax");
  EXPECT_EQ(detected("'<minimax:tool_call>' <invoke name= </think>"), "minimax newer think");
  EXPECT_EQ(detected("<seed:think></seed:think> <mm:think></mm:think>"), "none");
}

// tests/tools/reply_style_test.py names the file.
TEST(ToolStyle, IsDetectedInTheTemplatesOfAFile) {
  const char* path = std::getenv("HEDDLE_REPLY_TEMPLATES");
  if (path == nullptr) GTEST_SKIP() << "HEDDLE_REPLY_TEMPLATES names no file";
  std::ifstream in(path);
  int n = 0;
  for (std::string line; std::getline(in, line); ++n) {
    const Json row = parse_json(line, path);
    EXPECT_EQ(detected(row.at("template").get<std::string>()), row.at("want").get<std::string>())
        << row.at("name").get<std::string>();
  }
  EXPECT_GT(n, 0);
}

TEST(ToolStyle, APromptThatEndsWithAnOpenTagBeginsInThoughts) {
  EXPECT_TRUE(ends_in_thoughts("<|im_start|>assistant\n<think>\n"));
  EXPECT_TRUE(ends_in_thoughts("<think>"));
  EXPECT_FALSE(ends_in_thoughts("<think>\n\n</think>\n\n"));
  EXPECT_FALSE(ends_in_thoughts("what is <think>?"));
  EXPECT_FALSE(ends_in_thoughts(" \n"));
  EXPECT_FALSE(ends_in_thoughts(""));
}

TEST(ToolStyle, TextParametersAreThoseWhoseSchemaTakesOnlyStrings) {
  const Json schema = parse_json(
      R"({"type": "object", "properties": {
        "a": {"type": "string"}, "b": {"enum": ["x", "y"]}, "c": {"enum": ["x", 1]}, "d": {"type": ["string", "null"]},
        "e": {"type": "integer"}, "f": {}, "g": true, "h": {"enum": []}, "i": {"type": "string", "enum": [1]}}})",
      "schema");
  const DeclaredTool tool = declared_tool("t", schema);
  EXPECT_EQ(tool.name, "t");
  EXPECT_THAT(tool.text_parameters, testing::ElementsAre("a", "b", "i"));
  EXPECT_TRUE(declared_tool("t", Json()).text_parameters.empty());
  EXPECT_TRUE(
      declared_tool("t", parse_json(R"({"properties": []})", "schema")).text_parameters.empty());
}

TEST(ToolStyle, WhatAGrammarIsMadeOfIsReadAsCalls) {
  EXPECT_FALSE(tool_call_grammar_parts(ToolStyle::kNone, false).has_value());
  for (const ToolStyle tools : kStyles) {
    for (const bool newer : {false, true}) {
      const auto parts = tool_call_grammar_parts(tools, newer);
      if (!parts.has_value()) continue;
      const auto call = [&](std::string_view name, std::string_view arguments) {
        std::string text(parts->call_begin);
        for (const std::string_view piece :
             {name, parts->arguments_begin, arguments, parts->call_end})
          text += piece;
        return text;
      };
      std::string text(parts->marker);
      text += parts->begin;
      text += call("f_1", R"({"a": "}]</tool_call>"})");
      text += parts->between;
      text += call("g-2", "{}");
      text += parts->end;
      ReplyStyle style;
      style.tools = tools;
      ReplyParser parser(style, [] { return std::string("id"); });
      Reply reply;
      reply.add(parser.push(text));
      reply.add(parser.finish(false));
      ASSERT_EQ(reply.calls.size(), 2U) << text;
      EXPECT_EQ(reply.content, "") << text;
      EXPECT_EQ(reply.calls[0].name, "f_1");
      EXPECT_EQ(reply.calls[0].arguments, R"({"a": "}]</tool_call>"})");
      EXPECT_EQ(reply.calls[1].name, "g-2");
      EXPECT_EQ(reply.calls[1].arguments, "{}");
      EXPECT_FALSE(parser.has_unfinished_call()) << text;
    }
  }
}

}  // namespace
}  // namespace heddle::serve
