#include "models/tokenizer/chat_template.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "base/error.h"
#include "models/tokenizer/jinja/interpreter.h"
#include "models/tokenizer/jinja/json.h"
#include "models/tokenizer/jinja/parser.h"

namespace heddle {
namespace {

std::string checked_source(std::string_view source, const TemplateLimits& limits) {
  if (source.size() > limits.source_bytes) {
    throw bad_input("size, got " + std::to_string(source.size()) + " bytes, allowed up to " +
                    std::to_string(limits.source_bytes));
  }
  const std::size_t invalid = jinja::first_invalid_utf8(source);
  if (invalid != std::string_view::npos) {
    throw bad_input("text, got bytes that are not UTF-8 at byte " + std::to_string(invalid) +
                    ", allowed UTF-8");
  }
  return std::string(source);
}

/// Adds the variables of a JSON object; they replace those that are there.
void add_variables(jinja::Runtime& rt, const std::string& json, jinja::Variables& variables) {
  if (json.empty()) return;
  const jinja::Value extra = jinja::parse_json(rt, json, "template variables");
  if (!extra.is(jinja::Type::kDict)) {
    throw bad_input("template variables: a JSON object is needed");
  }
  const auto n_own = variables.size();  // what is added are other names than one another
  for (const auto& [key, value] : extra.dict->entries) {
    const std::string name(key.view());
    if (name == "messages" || name == "tools" || name == "add_generation_prompt") {
      throw bad_input("template variables: '" + name + "' cannot be set there");
    }
    const auto same = [&](const auto& v) { return v.first == name; };
    const auto end = variables.begin() + static_cast<std::ptrdiff_t>(n_own);
    const auto old = std::find_if(variables.begin(), end, same);
    if (old != end) {
      old->second = value;
    } else {
      variables.emplace_back(name, value);
    }
  }
}

jinja::Value checked_text(jinja::Runtime& rt, const std::string& text, const char* what) {
  if (jinja::first_invalid_utf8(text) != std::string::npos) {
    throw bad_input(std::string("chat template: ") + what + " is not UTF-8");
  }
  return rt.text(text, false);
}

/// What `work` refuses is said to be in the template.
template <typename Work>
auto named(const std::string& name, const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    throw Error(error.kind(), name + ": " + error.what());
  }
}

}  // namespace

struct ChatTemplate::Impl {
  std::string name;
  std::string source;
  TemplateLimits limits;
  jinja::Template parsed;
};

ChatTemplate::ChatTemplate(std::string_view source, TemplateLimits limits, std::string name) {
  auto impl = std::make_unique<Impl>();
  impl->name = std::move(name);
  impl->source = named(impl->name, [&] { return checked_source(source, limits); });
  impl->limits = limits;
  impl->parsed = named(impl->name, [&] { return jinja::parse(impl->source, limits); });
  impl_ = std::move(impl);
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

const std::string& ChatTemplate::source() const {
  return impl_->source;
}

RenderedPrompt ChatTemplate::render(const TemplateInputs& inputs) const {
  const std::int64_t now = inputs.now_unix_seconds != 0
                               ? inputs.now_unix_seconds
                               : static_cast<std::int64_t>(std::time(nullptr));
  jinja::Runtime rt(impl_->parsed.source, impl_->limits, now);
  jinja::Variables variables;
  variables.emplace_back("messages", jinja::parse_json(rt, inputs.messages_json, "messages"));
  if (!variables[0].second.is(jinja::Type::kList)) {
    throw bad_input("messages: a JSON list is needed");
  }
  variables.emplace_back("tools", inputs.tools_json.empty()
                                      ? jinja::Value::none()
                                      : jinja::parse_json(rt, inputs.tools_json, "tools"));
  variables.emplace_back("documents", jinja::Value::none());
  variables.emplace_back("add_generation_prompt", jinja::Value::of(inputs.add_generation_prompt));
  variables.emplace_back("bos_token", checked_text(rt, inputs.bos_token, "bos_token"));
  variables.emplace_back("eos_token", checked_text(rt, inputs.eos_token, "eos_token"));
  add_variables(rt, inputs.extra_json, variables);
  jinja::Text text =
      named(impl_->name, [&] { return jinja::render(rt, impl_->parsed, variables); });
  return {std::move(text.bytes), std::move(text.untrusted)};
}

std::string messages_to_json(const std::vector<ChatMessage>& messages) {
  std::string out = "[";
  TemplateLimits limits;
  limits.milliseconds = 60'000;
  for (const ChatMessage& message : messages) {
    jinja::Runtime rt("", limits, 0);
    jinja::Dict* dict = rt.heap.add_dict();
    const auto add = [&](const char* key, const std::string& value) {
      if (jinja::first_invalid_utf8(value) != std::string::npos) {
        throw bad_input(std::string("message: ") + key + " is not UTF-8");
      }
      rt.insert(*dict, rt.text(key, true), rt.text(value, true));
    };
    add("role", message.role);
    add("content", message.content);
    if (!message.extra_json.empty()) {
      const jinja::Value extra = jinja::parse_json(rt, message.extra_json, "message");
      if (!extra.is(jinja::Type::kDict)) throw bad_input("message: a JSON object is needed");
      for (const auto& [key, value] : extra.dict->entries) rt.insert(*dict, key, value);
    }
    bool untrusted = false;
    if (out.size() > 1) out += ",";
    out += jinja::to_json(rt, rt.dict(dict), {}, untrusted);
  }
  return out + "]";
}

}  // namespace heddle
