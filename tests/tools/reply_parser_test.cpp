#include "tools/serve/reply/reply_parser.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace heddle::serve {
namespace {

ReplyStyle style_of(ToolStyle tools, ReasoningStyle reasoning = ReasoningStyle::kNone) {
  ReplyStyle style;
  style.tools = tools;
  style.reasoning = reasoning;
  return style;
}

std::function<std::string()> counting_ids() {
  return [n = 0]() mutable { return fmt::format("call_{}", n++); };
}

/// Put together from a text given in pieces; `cuts` are ascending offsets.
Reply in_pieces(const ReplyStyle& style,
                std::string_view text,
                const std::vector<std::size_t>& cuts,
                bool cut = false) {
  ReplyParser parser(style, counting_ids());
  Reply reply;
  std::size_t begin = 0;
  for (const std::size_t end : cuts) {
    reply.add(parser.push(text.substr(begin, end - begin)));
    begin = end;
  }
  reply.add(parser.push(text.substr(begin)));
  reply.add(parser.finish(cut));
  return reply;
}

std::vector<std::size_t> every_byte(std::string_view text) {
  std::vector<std::size_t> cuts;
  for (std::size_t i = 0; i < text.size(); ++i) cuts.push_back(i);
  return cuts;
}

std::string shown(const Reply& reply) {
  std::string out = fmt::format("C:{}|", reply.content);
  if (!reply.reasoning.empty()) out += fmt::format("R:{}|", reply.reasoning);
  for (const ToolCall& call : reply.calls) {
    out += fmt::format("{}:{}:{}|", call.id, call.name, call.arguments);
  }
  return out;
}

std::string parsed(const ReplyStyle& style, std::string_view text, bool cut = false) {
  return shown(parse_reply(style, counting_ids(), text, cut));
}

bool unfinished(const ReplyStyle& style, std::string_view text, bool cut) {
  ReplyParser parser(style, counting_ids());
  parser.push(text);
  parser.finish(cut);
  return parser.has_unfinished_call();
}

struct Case {
  const char* what;
  ToolStyle style;
  std::string text;
  std::string want;
};

const std::vector<Case> kHermesCases = {
    {"plain", ToolStyle::kHermes, "Hello <b>x</b> {\"a\": 1}\n", "C:Hello <b>x</b> {\"a\": 1}\n|"},
    {"one", ToolStyle::kHermes,
     "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, -2.5e3, \"x\"]}}\n</tool_call>",
     "C:|call_0:f:{\"a\": [1, -2.5e3, \"x\"]}|"},
    {"two and text", ToolStyle::kHermes,
     "I look.\n\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>\n"
     "{\"name\": \"g\", \"arguments\": {\"b\": null}}\n</tool_call>\n Done.\n",
     "C:I look.\n\n\n\n Done.\n|call_0:f:{}|call_1:g:{\"b\": null}|"},
    {"white space between two texts", ToolStyle::kHermes,
     "hello <tool_call> {\"name\": \"f\", \"arguments\": { \"a\": 1 } }\n</tool_call>\tbye "
     "<tool_call>{\"name\": \"g\"}</tool_call> <tool_call>no</tool_call>",
     "C:hello \tbye  <tool_call>no</tool_call>|call_0:f:{ \"a\": 1 }|call_1:g:{}|"},
    {"arguments first", ToolStyle::kHermes,
     R"(<tool_call>{"arguments": {"a": "}\"{"}, "name": "f"}</tool_call>)",
     R"(C:|call_0:f:{"a": "}\"{"}|)"},
    {"tags and braces in strings", ToolStyle::kHermes,
     R"(<tool_call>{"name": "f", "arguments": {"a": "</tool_call>{\\\"<tool_call>"}}</tool_call>)",
     R"(C:|call_0:f:{"a": "</tool_call>{\\\"<tool_call>"}|)"},
    {"wrapped", ToolStyle::kHermes,
     R"(<tool_call>{"name": "f", "arguments": "{\"a\": \"\u00fc\\n\ud83d\ude00\"} "}</tool_call>)",
     "C:|call_0:f:{\"a\": \"\u00fc\\n\U0001F600\"}|"},
    {"empty arguments", ToolStyle::kHermes,
     "<tool_call>{\"name\": \"f\"}</tool_call><tool_call>{\"name\": \"g\", \"arguments\": \"\"}"
     "</tool_call><tool_call>{\"arguments\": null, \"name\": \"h\"}</tool_call>",
     "C:|call_0:f:{}|call_1:g:{}|call_2:h:{}|"},
    {"other members", ToolStyle::kHermes,
     R"(<tool_call>{"type": "function", "n": -1 , "m": {"name": [1e5]}, "name": "f", "arguments": {}, "x": 0}</tool_call>)",
     "C:|call_0:f:{}|"},
    {"no closing tag", ToolStyle::kHermes,
     "x<tool_call>{\"name\": \"f\", \"arguments\": {}}\n<tool_call>{\"name\": \"g\", "
     "\"arguments\": "
     "{}}",
     "C:x|call_0:f:{}|call_1:g:{}|"},
    {"no closing brace", ToolStyle::kHermes,
     "<tool_call>{\"name\": \"f\", \"arguments\": {}\n</tool_call>x", "C:x|call_0:f:{}|"},
    {"text behind the arguments", ToolStyle::kHermes,
     "<tool_call>{\"name\": \"f\", \"arguments\": {}, </tool_call>", "C:, |call_0:f:{}|"},
    {"several in a block", ToolStyle::kHermes,
     "<tool_call>[{\"name\": \"f\", \"arguments\": {}},\n{\"name\": \"g\", \"arguments\": {}}]"
     "</tool_call>",
     "C:|call_0:f:{}|call_1:g:{}|"},
    {"unicode", ToolStyle::kHermes,
     "Gr\u00fc\u00dfe \U0001F44B\n<tool_call>{\"name\": \"f\", \"arguments\": {\"\u4f60\": "
     "\"\u597d\"}}</tool_call>",
     "C:Gr\u00fc\u00dfe \U0001F44B|call_0:f:{\"\u4f60\": \"\u597d\"}|"},
    {"mended strings", ToolStyle::kHermes,
     "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"1\n2\t\\d\\u12x\\ud800\\udc\", \"b\": "
     "\"\\udfffx\\ud800y\"}}"
     "</tool_call>",
     "C:|call_0:f:{\"a\": \"1\\n2\\t\\\\d\\\\u12x\\ufffd\\\\udc\", \"b\": \"\\ufffdx\\ufffdy\"}|"},
    {"elements", ToolStyle::kHermes,
     "<tool_call>\n<function=f>\n<parameter=city>\nK\u00f6ln \"Mitte\"\n\n</parameter>\n"
     "<parameter=days>\n2\n</parameter>\n<parameter=list>[1, {\"a\": 2}]</parameter>"
     "<parameter=exact>True</parameter><parameter=e></parameter>\n</function>\n</tool_call>",
     "C:|call_0:f:{\"city\": \"K\u00f6ln \\\"Mitte\\\"\\n\", \"days\": 2, \"list\": [1, {\"a\": "
     "2}], \"exact\": true, \"e\": \"\"}|"},
    {"elements without some tags", ToolStyle::kHermes,
     "<function=f>\n<parameter=a>1 or 2</parameter></function>\n<tool_call><function=g>"
     "</tool_call>\n<tool_call><function=h><parameter=b>x</b>",
     "C:|call_0:f:{\"a\": \"1 or 2\"}|call_1:g:{}|call_2:h:{\"b\": \"x</b>\"}|"},
    {"a block that an element's end closes", ToolStyle::kHermes,
     "<tool_call><function=f></tool_call> {\"name\": \"g\", \"arguments\": {}}",
     "C:{\"name\": \"g\", \"arguments\": {}}|call_0:f:{}|"},
    {"object in an element", ToolStyle::kHermes,
     "<tool_call><function=f>{\"a\": {\"b\": 1}}</function></tool_call>",
     "C:|call_0:f:{\"a\": {\"b\": 1}}|"},
};

const std::vector<Case> kOtherCases = {
    {"llama", ToolStyle::kLlama3, R"({"name": "f", "parameters": {"a": "b"}})",
     R"(C:|call_0:f:{"a": "b"}|)"},
    {"llama, tag", ToolStyle::kLlama3,
     R"(<|python_tag|>{"type": "function", "name": "f", "parameters": {"a": 1}})",
     R"(C:|call_0:f:{"a": 1}|)"},
    {"llama, several", ToolStyle::kLlama3,
     "\n{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}\n{\"name\": "
     "\"h\", \"arguments\": {}};",
     "C:|call_0:f:{}|call_1:g:{}|call_2:h:{}|"},
    {"llama, text behind", ToolStyle::kLlama3, "{\"name\": \"f\", \"parameters\": {}} That's all.",
     "C:That's all.|call_0:f:{}|"},
    {"llama, other JSON", ToolStyle::kLlama3, R"({"answer": {"name": "f", "parameters": {}}})",
     R"(C:{"answer": {"name": "f", "parameters": {}}}|)"},
    {"llama, other JSON with a name", ToolStyle::kLlama3,
     R"({"name": "f", "age": 3, "parameters": {}})",
     R"(C:{"name": "f", "age": 3, "parameters": {}}|)"},
    {"llama, no arguments", ToolStyle::kLlama3, R"({"name": "Ann"})", R"(C:{"name": "Ann"}|)"},
    {"llama, not at the start", ToolStyle::kLlama3, R"(So: {"name": "f", "parameters": {}})",
     R"(C:So: {"name": "f", "parameters": {}}|)"},
    {"llama, code", ToolStyle::kLlama3, "<|python_tag|>f.call(a=1)",
     "C:<|python_tag|>f.call(a=1)|"},
    {"llama, elements", ToolStyle::kLlama3,
     "Go <function=f>{\"a\": 1}</function> <function=g>{}</function>.",
     "C:Go  .|call_0:f:{\"a\": 1}|call_1:g:{}|"},
    {"mistral", ToolStyle::kMistral,
     R"([TOOL_CALLS] [{"name": "f", "arguments": {"a": [[]]}}, {"name": "g", "arguments": {}, "id": "x"}] )",
     R"(C:|call_0:f:{"a": [[]]}|call_1:g:{}|)"},
    {"mistral, ids", ToolStyle::kMistral,
     R"(Hm. [TOOL_CALLS][{"id": "abcDEF123", "name": "f", "arguments": {}}, {"id": "abcDEF123", "name": "g", "arguments": {}}, {"id": "short", "name": "h", "arguments": {}}])",
     "C:Hm.|abcDEF123:f:{}|call_0:g:{}|call_1:h:{}|"},
    {"mistral, object behind the list", ToolStyle::kMistral,
     R"([TOOL_CALLS][{"name": "f", "arguments": {}}] {"name": "g", "arguments": {}})",
     R"(C:{"name": "g", "arguments": {}}|call_0:f:{}|)"},
    {"mistral, one object", ToolStyle::kMistral, R"([TOOL_CALLS]{"name": "f", "arguments": {}})",
     "C:|call_0:f:{}|"},
    {"mistral, newer", ToolStyle::kMistral,
     R"([TOOL_CALLS]f-1[ARGS]{"a": "]["}[TOOL_CALLS] g [CALL_ID]abcDEF123[ARGS] {}[TOOL_CALLS]h{"b": 1})",
     R"(C:|call_0:f-1:{"a": "]["}|abcDEF123:g:{}|call_1:h:{"b": 1}|)"},
    {"mistral, brackets", ToolStyle::kMistral, "[1, [TOOL], [TOOL_CALLS",
     "C:[1, [TOOL], [TOOL_CALLS|"},
    {"minimax-m1", ToolStyle::kMiniMax,
     "Sure.\n<tool_calls>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n{\"name\": \"g\", "
     "\"arguments\": {}}\n</tool_calls>\n",
     "C:Sure.|call_0:f:{\"a\": 1}|call_1:g:{}|"},
    {"minimax, list", ToolStyle::kMiniMax,
     "<tool_calls>[\n{\"name\": \"f\", \"arguments\": {}},\n    {\"name\": \"g\", \"arguments\": "
     "{}}\n]</tool_calls>",
     "C:|call_0:f:{}|call_1:g:{}|"},
    {"minimax-m2", ToolStyle::kMiniMax,
     "\n<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"a\">x < y </parameter >"
     "</parameter>\n<parameter name=\"b\">{\"c\": 1}</parameter>\n</invoke>\n<invoke "
     "name=\"g\">\n</invoke>\n</minimax:tool_call>",
     "C:|call_0:f:{\"a\": \"x < y </parameter >\", \"b\": {\"c\": 1}}|call_1:g:{}|"},
    {"none", ToolStyle::kNone,
     " <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>[TOOL_CALLS]\n",
     "C: <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>[TOOL_CALLS]\n|"},
};

std::vector<Case> all_cases() {
  std::vector<Case> cases = kHermesCases;
  cases.insert(cases.end(), kOtherCases.begin(), kOtherCases.end());
  return cases;
}

TEST(ReplyParser, CallsOfEveryStyle) {
  for (const Case& c : all_cases()) {
    SCOPED_TRACE(c.what);
    EXPECT_EQ(parsed(style_of(c.style), c.text), c.want);
    const Reply reply = parse_reply(style_of(c.style), counting_ids(), c.text);
    for (const ToolCall& call : reply.calls)
      EXPECT_TRUE(Json::accept(call.arguments)) << call.arguments;
    EXPECT_FALSE(unfinished(style_of(c.style), c.text, false));
  }
}

TEST(ReplyParser, NoDivisionOfTheTextChangesTheReply) {
  for (const Case& c : all_cases()) {
    SCOPED_TRACE(c.what);
    const ReplyStyle style = style_of(c.style);
    EXPECT_EQ(shown(in_pieces(style, c.text, every_byte(c.text))), c.want);
    for (std::size_t i = 0; i <= c.text.size(); ++i) {
      ASSERT_EQ(shown(in_pieces(style, c.text, {i})), c.want) << i;
      const std::size_t j = i + (c.text.size() - i) / 2;
      ASSERT_EQ(shown(in_pieces(style, c.text, {i, j})), c.want) << i << " " << j;
    }
  }
}

const std::vector<std::string>& tags_of(ToolStyle style) {
  static const std::map<ToolStyle, std::vector<std::string>> kTags = {
      {ToolStyle::kHermes, {"<tool_call>", "<function="}},
      {ToolStyle::kLlama3, {"<|python_tag|>", "<function="}},
      {ToolStyle::kMistral, {"[TOOL_CALLS]"}},
      {ToolStyle::kMiniMax, {"<tool_calls>", "<minimax:tool_call>"}},
      {ToolStyle::kNone, {}}};
  return kTags.at(style);
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = std::min(text.find_first_not_of(" \n\t"), text.size());
  return text.substr(begin, text.find_last_not_of(" \n\t") + 1 - begin);
}

bool begins_with_a_tag(ToolStyle style, std::string_view text) {
  return std::ranges::any_of(tags_of(style),
                             [&](const auto& tag) { return trimmed(text).starts_with(tag); });
}

/// Whether `text` is white space, the begin of a tag, or of an object without one.
bool begins_a_tag(ToolStyle style, std::string_view text) {
  const std::string_view begin = trimmed(text);
  if (style == ToolStyle::kLlama3 && begin.starts_with('{')) return true;
  return begin.empty() || std::ranges::any_of(tags_of(style), [&](const auto& tag) {
           return std::string_view(tag).starts_with(begin);
         });
}

TEST(ReplyParser, WhereverTheTextIsCutCallsArePrefixesOfThoseOfTheWholeText) {
  for (const Case& c : all_cases()) {
    SCOPED_TRACE(c.what);
    const ReplyStyle style = style_of(c.style);
    const Reply whole = parse_reply(style, counting_ids(), c.text);
    for (std::size_t n = 0; n < c.text.size(); ++n) {
      const std::string_view text = std::string_view(c.text).substr(0, n);
      const Reply part = parse_reply(style, counting_ids(), text, true);
      ASSERT_EQ(shown(in_pieces(style, text, every_byte(text), true)), shown(part)) << n;
      ASSERT_LE(part.calls.size(), whole.calls.size()) << n;
      if (part.calls.empty()) {
        ASSERT_EQ(text.substr(0, part.content.size()), part.content) << n;
        const std::string_view rest = text.substr(part.content.size());
        ASSERT_EQ(unfinished(style, text, true), !rest.empty()) << n;
        if (!rest.empty()) {
          ASSERT_TRUE(begins_with_a_tag(c.style, rest)) << rest;
        }
      }
      if (whole.content.empty()) {  // no call's markup, but for the begin of a first tag
        ASSERT_TRUE(part.content.empty() || begins_a_tag(c.style, part.content)) << part.content;
      }
      for (std::size_t i = 0; i < part.calls.size(); ++i) {
        const ToolCall& call = part.calls[i];
        ASSERT_EQ(call.name, whole.calls[i].name);
        ASSERT_EQ(call.id, whole.calls[i].id);
        ASSERT_EQ(whole.calls[i].arguments.substr(0, call.arguments.size()), call.arguments);
        const bool last = i + 1 == part.calls.size();
        const bool open = last && unfinished(style, text, true);
        ASSERT_TRUE(call.arguments == whole.calls[i].arguments || open) << n;
      }
    }
  }
}

TEST(ReplyParser, WhatIsNoCallIsContentByteForByte) {
  const std::vector<std::pair<ToolStyle, std::string>> texts = {
      {ToolStyle::kHermes, "<tool_call>\nnot JSON\n</tool_call>"},
      {ToolStyle::kHermes, " \n<tool_call>\n{name: \"f\"}</tool_call> \n"},
      {ToolStyle::kHermes, "<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>"},
      {ToolStyle::kHermes, "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>"},
      {ToolStyle::kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>"},
      {ToolStyle::kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": \"no JSON\"}</tool_call>"},
      {ToolStyle::kHermes, "<tool_call>{\"arguments\": {\"a\": 01}, \"name\": \"f\"}</tool_call>"},
      {ToolStyle::kHermes, "<tool_call>{\"name\": \"f\", \"arguments\""},
      {ToolStyle::kHermes, "<tool_call></tool_call>"},
      {ToolStyle::kHermes, "<tool_call>[]</tool_call>"},
      {ToolStyle::kHermes, "<tool_call> <tool_call>\t<tool_c<tool_"},
      {ToolStyle::kHermes, "the tag <tool_call> begins <function=f> and <function=a b>{}"},
      {ToolStyle::kHermes, "<tool_call>{\"name\": \"" + std::string(300, 'n') + "\"}</tool_call>"},
      {ToolStyle::kHermes, std::string(200, ' ') + "<tool_call>" + std::string(200, '\n')},
      {ToolStyle::kLlama3, "{\"name\": \"f\", \"parameters\": 1}"},
      {ToolStyle::kLlama3, "<|python_tag|>{]"},
      {ToolStyle::kLlama3, "{}"},
      {ToolStyle::kMistral, "[TOOL_CALLS] []"},
      {ToolStyle::kMistral, "[TOOL_CALLS] f g"},
      {ToolStyle::kMistral, "[TOOL_CALLS]f[ARGS][1]"},
      {ToolStyle::kMistral, "[TOOL_CALLS][TOOL_CALLS]f"},
      {ToolStyle::kMiniMax, "<tool_calls>\n</tool_calls>\n<minimax:tool_call><invoke>"},
      {ToolStyle::kMiniMax, "<minimax:tool_call><invoke name=\"f\">no tag</invoke>"},
  };
  for (const auto& [style, text] : texts) {
    const Reply reply = parse_reply(style_of(style), counting_ids(), text);
    EXPECT_EQ(reply.content, text);
    EXPECT_TRUE(reply.calls.empty()) << text;
    EXPECT_EQ(shown(in_pieces(style_of(style), text, every_byte(text))), shown(reply));
  }
}

TEST(ReplyParser, ACallThatIsCutBeforeItBeginsIsDropped) {
  const Case cases[] = {
      {"name", ToolStyle::kHermes, "I look.\n<tool_call>\n{\"name\": \"get_", "C:I look.|"},
      {"tag alone", ToolStyle::kHermes, "<tool_call>", "C:|"},
      {"arguments", ToolStyle::kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": ", "C:|"},
      {"element", ToolStyle::kHermes, "Well <tool_call>\n<function=get_w", "C:Well|"},
      {"element alone", ToolStyle::kHermes, "<function=f>\n<param", "C:|"},
      {"second", ToolStyle::kHermes, "<tool_call>{\"name\": \"f\"}</tool_call>\n<tool_call>{\"na",
       "C:|call_0:f:{}|"},
      {"second of a list", ToolStyle::kMistral,
       "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g", "C:|call_0:f:{}|"},
      {"newer", ToolStyle::kMistral, "[TOOL_CALLS]get_weather[AR", "C:|"},
      {"lines", ToolStyle::kMiniMax,
       "<tool_calls>\n{\"name\": \"f\", \"arguments\": {}}\n{\"name\": \"g\"", "C:|call_0:f:{}|"},
      {"invoke", ToolStyle::kMiniMax, "Yes\n<minimax:tool_call>\n<invoke na", "C:Yes|"},
      {"python tag", ToolStyle::kLlama3, "<|python_tag|>{\"name\": \"f", "C:|"},
      {"second object", ToolStyle::kLlama3, "{\"name\": \"f\", \"parameters\": {}}; {\"na",
       "C:|call_0:f:{}|"},
  };
  for (const Case& c : cases) {
    const ReplyStyle style = style_of(c.style);
    EXPECT_EQ(parsed(style, c.text, true), c.want) << c.what;
    EXPECT_EQ(shown(in_pieces(style, c.text, every_byte(c.text), true)), c.want) << c.what;
    EXPECT_TRUE(unfinished(style, c.text, true)) << c.what;
  }
}

TEST(ReplyParser, WhereAllIsCallsNothingOfThemIsContent) {
  for (const Case& c : all_cases()) {
    if (c.style == ToolStyle::kNone) continue;
    SCOPED_TRACE(c.what);
    ReplyStyle style = style_of(c.style, ReasoningStyle::kThink);
    style.only_calls = true;
    const std::string text = "<think>hm</think>" + c.text;
    for (std::size_t n = 0; n <= text.size(); ++n) {
      const Reply part = parse_reply(style, counting_ids(), text.substr(0, n), n < text.size());
      ASSERT_EQ(part.content, "") << n;
    }
    const Reply whole = parse_reply(style_of(c.style), counting_ids(), c.text);
    EXPECT_GE(parse_reply(style, counting_ids(), text).calls.size(), whole.calls.size());
  }
}

TEST(ReplyParser, WhatHasAFormIsCallsFromItsBeginOrText) {
  const std::vector<Case> cases = {
      {"in a string", ToolStyle::kHermes, R"({"code": "x <function=f></function> y"})",
       R"(C:{"code": "x <function=f></function> y"}|)"},
      {"tagged", ToolStyle::kHermes, R"(["<tool_call>{\"name\": \"f\"}</tool_call>", "<"])",
       R"(C:["<tool_call>{\"name\": \"f\"}</tool_call>", "<"]|)"},
      {"a call", ToolStyle::kHermes, "\n<function=f>\n</function>", "C:|call_0:f:{}|"},
      {"two calls", ToolStyle::kHermes,
       "<tool_call>{\"name\": \"f\"}</tool_call>\n<tool_call>{\"name\": \"g\"}</tool_call>",
       "C:|call_0:f:{}|call_1:g:{}|"},
      {"behind a tag", ToolStyle::kHermes, "<tool_call>x<function=f></function>",
       "C:<tool_call>x<function=f></function>|"},
      {"a tag again", ToolStyle::kHermes, "<tool_call><tool_call>{\"name\": \"f\"}</tool_call>",
       "C:<tool_call><tool_call>{\"name\": \"f\"}</tool_call>|"},
      {"begins like a tag", ToolStyle::kHermes, "<too <function=f></function>",
       "C:<too <function=f></function>|"},
      {"after bare text", ToolStyle::kHermes, "<<function=f></function>",
       "C:<<function=f></function>|"},
      {"no call's object", ToolStyle::kLlama3, R"({"a": "<function=f></function>"})",
       R"(C:{"a": "<function=f></function>"}|)"},
      {"text behind a call", ToolStyle::kHermes,
       "<function=f></function> x <function=g></function>",
       "C:x <function=g></function>|call_0:f:{}|"},
  };
  for (const Case& c : cases) {
    ReplyStyle style = style_of(c.style, ReasoningStyle::kThink);
    style.only_calls_or_text = true;
    EXPECT_EQ(parsed(style, c.text), c.want) << c.what;
    EXPECT_EQ(shown(in_pieces(style, c.text, every_byte(c.text))), c.want) << c.what;
    EXPECT_EQ(parsed(style, "<think><function=f></think>" + c.text),
              c.want.substr(0, c.want.find('|') + 1) + "R:<function=f>|" +
                  c.want.substr(c.want.find('|') + 1))
        << c.what;
  }
}

TEST(ReplyParser, ACallThatBreaksOffStaysUnfinishedAndTheRestIsContent) {
  const ReplyStyle style = style_of(ToolStyle::kHermes);
  const std::string broken = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1,}}</tool_call>";
  EXPECT_EQ(parsed(style, broken), "C:}}</tool_call>|call_0:f:{\"a\": 1,|");
  EXPECT_TRUE(unfinished(style, broken, false));
  const std::string wrapped = R"(<tool_call>{"name": "f", "arguments": "{\"a\": 1"}</tool_call>)";
  EXPECT_EQ(parsed(style, wrapped), "C:\"}</tool_call>|call_0:f:{\"a\": 1|");
  const std::string prose =
      "<tool_call><function=f><parameter=a>x</parameter> and so </function></tool_call>";
  EXPECT_EQ(parsed(style, prose), "C:and so </function></tool_call>|call_0:f:{\"a\": \"x\"|");
  EXPECT_TRUE(unfinished(style, prose, false));
  const std::string second =
      "<tool_call>{\"name\": \"f\", \"arguments\": {}}\noh\n<tool_call>{\"name\": \"g\", "
      "\"arguments\": {}}</tool_call>";
  EXPECT_EQ(parsed(style, second), "C:oh|call_0:f:{}|call_1:g:{}|");
  EXPECT_FALSE(unfinished(style, second, false));
}

TEST(ReplyParser, ArgumentsAreNestedAtMost64Deep) {
  const auto nested = [](std::size_t depth) {
    return "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": " + std::string(depth - 1, '[') +
           std::string(depth - 1, ']') + "}}</tool_call>";
  };
  EXPECT_FALSE(unfinished(style_of(ToolStyle::kHermes), nested(64), false));
  EXPECT_TRUE(unfinished(style_of(ToolStyle::kHermes), nested(65), false));
  const Reply reply = parse_reply(style_of(ToolStyle::kHermes), counting_ids(), nested(65));
  EXPECT_EQ(reply.calls.at(0).arguments, "{\"a\": " + std::string(63, '['));
}

TEST(ReplyParser, TheFirstPieceOfACallHasNoArgumentsAndOthersNothingElse) {
  ReplyParser parser(style_of(ToolStyle::kHermes), counting_ids());
  EXPECT_TRUE(parser.push("<tool_call>{\"name\": \"f\", \"argum").empty());
  EXPECT_FALSE(parser.called_tools());
  const ReplyDelta first = parser.push("ents\": {\"a");
  ASSERT_EQ(first.tools.size(), 2U);
  EXPECT_EQ(first.tools[0].id, "call_0");
  EXPECT_EQ(first.tools[0].name, "f");
  EXPECT_EQ(first.tools[0].arguments, "");
  EXPECT_EQ(first.tools[1].id + first.tools[1].name, "");
  EXPECT_EQ(first.tools[1].arguments, "{\"a");
  const ReplyDelta next = parser.push("\": 1}}</tool_call><tool_call>{\"name\": \"g\"}");
  ASSERT_EQ(next.tools.size(), 3U);
  EXPECT_EQ(next.tools[0].index, 0);
  EXPECT_EQ(next.tools[0].arguments, "\": 1}");
  EXPECT_EQ(next.tools[1].index, 1);
  EXPECT_EQ(next.tools[2].arguments, "{}");
  EXPECT_EQ(parser.n_calls(), 2);
}

TEST(ReplyParser, TextIsHeldOnlyAsLongAsItMayBeATag) {
  ReplyParser parser(style_of(ToolStyle::kHermes), counting_ids());
  EXPECT_EQ(parser.push("a <").content, "a");
  EXPECT_EQ(parser.push("t").content, "");
  EXPECT_EQ(parser.push("d> <tool_call").content, " <td>");
  EXPECT_EQ(parser.push("s>").content, " <tool_calls>");
  EXPECT_EQ(parser.push(std::string(63, ' ')).content, "");
  EXPECT_EQ(parser.push(" ").content, std::string(64, ' '));
  EXPECT_EQ(parser.push("\u00fc").content, "\u00fc");
}

TEST(ReplyParser, DeclaredTextsAreStringsWhateverTheyLookLike) {
  ReplyStyle style = style_of(ToolStyle::kHermes);
  style.declared = {{"f", {"a"}}};
  const std::string text =
      "<tool_call><function=f><parameter=a>\n12\n</parameter><parameter=b>12</parameter>"
      "<parameter=c>{\"d\": </parameter><parameter=d> Nope</parameter><parameter=e>1 2</parameter>"
      "</function></tool_call>";
  EXPECT_EQ(parsed(style, text),
            "C:|call_0:f:{\"a\": \"12\", \"b\": 12, \"c\": \"{\\\"d\\\": \", \"d\": \" Nope\", "
            "\"e\": \"1 2\"}|");
}

TEST(ReplyParser, OnlyAMissingEndThatWasNotCutIsSupplied) {
  const ReplyStyle style = style_of(ToolStyle::kMiniMax);
  const std::string text = "<minimax:tool_call><invoke name=\"f\"><parameter name=\"a\">x</para";
  EXPECT_EQ(parsed(style, text, false), "C:|call_0:f:{\"a\": \"x</para\"}|");
  EXPECT_FALSE(unfinished(style, text, false));
  EXPECT_EQ(parsed(style, text, true), "C:|call_0:f:{\"a\": \"x|");
  EXPECT_TRUE(unfinished(style, text, true));
}

TEST(ReplyParser, ThoughtsAreSplitFromTheAnswer) {
  const ReplyStyle style = style_of(ToolStyle::kHermes, ReasoningStyle::kThink);
  ReplyStyle open = style;
  open.reasoning_open = true;
  const std::string call = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
  struct {
    const ReplyStyle& style;
    std::string text;
    std::string want;
  } const cases[] = {
      {style, "<think>\nI <b>see</b> </thin>\n\nok\n</think>\n\n  Yes.\n",
       "C:  Yes.\n|R:I <b>see</b> </thin>\n\nok|"},
      {style, "\n<think>\n\n</think>\n\nYes", "C:Yes|"},
      {style, "Yes <think>no</think>", "C:Yes <think>no</think>|"},
      {style, " </think>Yes", "C: </think>Yes|"},
      {style, "<think>a</think>b</think>c", "C:b</think>c|R:a|"},
      {style, "<think>a\n\n" + call + "</think>" + call, "C:|R:a\n\n" + call + "|call_0:f:{}|"},
      {style, "<think>cut\n</thi", "C:|R:cut\n</thi|"},
      {style, "<thi", "C:<thi|"},
      {open, "I see\n</think>\n\nYes", "C:Yes|R:I see|"},
      {open, "\n<think>\nI see</think>Yes", "C:Yes|R:I see|"},
      {open, "</think>Yes", "C:Yes|"},
      {open, "cut <", "C:|R:cut <|"},
      {open, "<", "C:|R:<|"},
      {open, "hm</think>\n\n" + call, "C:|R:hm|call_0:f:{}|"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(parsed(c.style, c.text), c.want);
    EXPECT_EQ(shown(in_pieces(c.style, c.text, every_byte(c.text))), c.want);
    for (std::size_t i = 0; i < c.text.size(); ++i) {
      ASSERT_EQ(shown(in_pieces(c.style, c.text, {i})), c.want) << c.text << i;
    }
  }
}

/// The time of a reply in pieces of 4 bytes.
double seconds(ToolStyle style, const std::string& text) {
  std::vector<std::size_t> cuts;
  for (std::size_t i = 4; i < text.size(); i += 4) cuts.push_back(i);
  const auto begin = std::chrono::steady_clock::now();
  in_pieces(style_of(style, ReasoningStyle::kThink), text, cuts);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST(ReplyParser, TimeIsLinearInTheText) {
  // A quadratic parser takes minutes; a linear one milliseconds.
  const std::string megabyte(1'000'000, 'x');
  const double limit = 20;
  const std::string tags = [] {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += "<tool_call>{\"arguments\":{\"a\":\"";
    return text;
  }();
  EXPECT_LT(seconds(ToolStyle::kHermes,
                    "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"" + megabyte + "\"}}"),
            limit);
  EXPECT_LT(seconds(ToolStyle::kHermes,
                    "<tool_call>{\"arguments\": {\"a\": \"" + megabyte + "\"}, \"name\": \"f\"}"),
            limit);
  EXPECT_LT(seconds(ToolStyle::kHermes,
                    "<tool_call><function=f><parameter=a>[\"" + megabyte + "</parameter>"),
            limit);
  EXPECT_LT(seconds(ToolStyle::kHermes, std::string(100'000, '<')), limit);
  EXPECT_LT(seconds(ToolStyle::kHermes, "<think>" + std::string(1'000'000, '\n')), limit);
  EXPECT_LT(seconds(ToolStyle::kHermes, tags), limit);
  EXPECT_LT(seconds(ToolStyle::kLlama3, std::string(1'000'000, ' ') + "{\"name\": "), limit);
  EXPECT_LT(seconds(ToolStyle::kMistral, "[TOOL_CALLS]" + std::string(1'000'000, '[')), limit);
}

}  // namespace
}  // namespace heddle::serve
