// Chat templates: source NUL messages NUL tools NUL extra; what is absent is empty. Only
// heddle::Error may escape, and the ranges of what is rendered must be sorted, disjoint and inside.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "models/tokenizer/chat_template.h"

namespace {

std::string_view next_part(std::string_view& rest) {
  const std::size_t end = rest.find('\0');
  const std::string_view part = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return part;
}

void check_ranges(const heddle::RenderedPrompt& prompt) {
  std::size_t pos = 0;
  for (const heddle::ByteRange& range : prompt.untrusted) {
    if (range.begin < pos || range.end <= range.begin || range.end > prompt.text.size()) {
      std::abort();
    }
    pos = range.end;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const std::string_view source = next_part(rest);
  heddle::TemplateInputs inputs;
  inputs.messages_json = std::string(next_part(rest));
  inputs.tools_json = std::string(next_part(rest));
  inputs.extra_json = std::string(next_part(rest));
  if (inputs.messages_json.empty()) inputs.messages_json = "[]";
  inputs.bos_token = "<s>";
  inputs.eos_token = "</s>";
  inputs.now_unix_seconds = 1'700'000'000;
  heddle::TemplateLimits limits;
  limits.source_bytes = 1 << 16;
  limits.output_bytes = 1 << 18;
  limits.steps = 20'000;
  limits.depth = 40;
  try {
    const heddle::ChatTemplate parsed(source, limits);
    check_ranges(parsed.render(inputs));
  } catch (const heddle::Error&) {
  }
  return 0;
}
