// Replies of models. The first byte says style, thoughts and whether the text was cut, the second
// how it is divided; the rest is the text. However it is divided, the same comes out; without calls
// nothing is lost; the arguments of whole calls are JSON.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>

#include "tests/fuzz/fuzz.h"
#include "tools/serve/reply/reply_parser.h"

namespace heddle::serve {
namespace {

struct Input {
  ReplyStyle style;
  bool cut = false;
  unsigned division = 0;
  std::string_view text;
};

Input input_of(std::string_view data) {
  Input input;
  const auto first = static_cast<unsigned char>(data[0]);
  input.style.tools = static_cast<ToolStyle>(first % 5);
  const unsigned flags = first / 5;
  if ((flags & 1U) != 0) input.style.reasoning = ReasoningStyle::kThink;
  input.style.reasoning_open = (flags & 2U) != 0;
  input.cut = (flags & 4U) != 0;
  input.style.declared = {{"f", {"a", "text"}}};
  input.division = static_cast<unsigned char>(data[1]);
  input.text = data.substr(2);
  return input;
}

std::function<std::string()> ids() {
  return [n = 0]() mutable { return "call_" + std::to_string(n++); };
}

std::string without_spaces(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t') out += c;
  }
  return out;
}

/// Pieces of one byte, or of random lengths.
Reply divided(const Input& input, bool& unfinished) {
  ReplyParser parser(input.style, ids());
  Reply reply;
  fuzz::Rng rng(input.division);
  for (std::size_t at = 0; at < input.text.size();) {
    const std::size_t n = input.division == 0 ? 1 : 1 + fuzz::pick(rng, 7);
    reply.add(parser.push(input.text.substr(at, n)));
    at += n;
  }
  reply.add(parser.finish(input.cut));
  unfinished = parser.has_unfinished_call();
  fuzz::require(static_cast<std::size_t>(parser.n_calls()) == reply.calls.size());
  return reply;
}

bool same(const Reply& a, const Reply& b) {
  if (a.content != b.content || a.reasoning != b.reasoning || a.calls.size() != b.calls.size()) {
    return false;
  }
  for (std::size_t i = 0; i < a.calls.size(); ++i) {
    if (a.calls[i].id != b.calls[i].id || a.calls[i].name != b.calls[i].name) return false;
    if (a.calls[i].arguments != b.calls[i].arguments) return false;
  }
  return true;
}

/// Numbers that no double holds, and bytes that are not UTF-8, are passed on.
bool is_object(std::string_view arguments) {
  try {
    return nlohmann::json::parse(arguments).is_object();
  } catch (const nlohmann::json::out_of_range&) {
    return true;
  }
}

bool is_utf8(std::string_view text) {
  return nlohmann::json::accept(
             nlohmann::json(std::string(text))
                 .dump(-1, ' ', false, nlohmann::json::error_handler_t::ignore)) &&
         nlohmann::json(std::string(text))
                 .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                 .find("\xEF\xBF\xBD") == std::string::npos;
}

void check(const Input& input) {
  const Reply whole = parse_reply(input.style, ids(), input.text, input.cut);
  bool unfinished = false;
  fuzz::require(same(whole, divided(input, unfinished)));
  if (whole.calls.empty()) {
    fuzz::require(!unfinished || input.cut);
    if (unfinished) {  // a call was cut before it began
      fuzz::require(input.style.reasoning != ReasoningStyle::kNone ||
                    input.text.starts_with(whole.content));
    } else if (input.style.reasoning == ReasoningStyle::kNone) {
      fuzz::require(whole.content == input.text);
    } else {  // but for the tags
      const std::string text = without_spaces(input.text);
      const std::string thoughts = without_spaces(whole.reasoning);
      const std::string content = without_spaces(whole.content);
      const std::size_t n_tags = text.size() - thoughts.size() - content.size();
      fuzz::require(n_tags == 0 || n_tags == 7 || n_tags == 8 || n_tags == 15);
      fuzz::require(text.find(thoughts) != std::string::npos && text.ends_with(content));
    }
  }
  if (unfinished || !is_utf8(input.text)) return;
  for (const ToolCall& call : whole.calls) {
    fuzz::require(!call.name.empty() && !call.id.empty() && is_object(call.arguments));
  }
}

}  // namespace
}  // namespace heddle::serve

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size >= 2) {
    heddle::serve::check(heddle::serve::input_of({reinterpret_cast<const char*>(data), size}));
  }
  return 0;
}
