#include "tools/heddle/serve_options.h"

#include <algorithm>
#include <ctime>
#include <filesystem>

#include "base/error.h"
#include "models/registry.h"
#include "tools/heddle/options.h"

namespace heddle::cli {
namespace {

constexpr std::int64_t kDefaultKvSequences = 4;  // whole contexts that the KV cache holds

/// The registry's name, else the file's stem or the folder's name.
std::string model_id(const std::string& model) {
  const ModelFile file = resolve_model(model);
  const std::filesystem::path path(file.path);
  if (file.name != file.path && !file.name.empty()) return file.name;
  return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

/// The KV cache of a server is shared by short and long requests: it does not hold the longest of
/// each at one time.
void set_kv_tokens(EngineOptions& options) {
  if (options.kv_tokens > 0) return;
  std::int64_t context = options.context;
  if (context == 0) context = open_model(options).config.context;
  options.kv_tokens = context * std::min(options.max_sequences, kDefaultKvSequences);
}

bool is_printable(const std::string& text) {
  return !text.empty() && std::ranges::none_of(text, [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
}

}  // namespace

serve::ServerLimits server_limits(const Arguments& args) {
  serve::ServerLimits limits;
  limits.reply_tokens = args.integer("max-reply-tokens").value_or(limits.reply_tokens);
  limits.choices = args.integer("max-choices").value_or(limits.choices);
  if (args.command().id != CommandId::kServe) return limits;
  limits.queue = args.integer("max-queue").value_or(limits.queue);
  limits.queue_of_key = args.integer("max-per-key").value_or(limits.queue_of_key);
  limits.connections =
      static_cast<int>(args.integer("max-connections").value_or(limits.connections));
  limits.queue_seconds = args.number("queue-seconds").value_or(limits.queue_seconds);
  limits.ping_seconds = args.number("ping-seconds").value_or(limits.ping_seconds);
  return limits;
}

EngineOptions server_engine_options(const Arguments& args) {
  EngineOptions options = engine_options(args);
  options.max_sequences = args.integer("parallel").value_or(16);
  set_kv_tokens(options);
  return options;
}

serve::ModelFacts server_facts(const Arguments& args) {
  for (const std::string& name : args.texts("served-model-name")) {
    if (!is_printable(name)) {
      throw bad_input("--served-model-name: a name is empty or holds control characters");
    }
  }
  return {.id = model_id(args.operands().at(0)),
          .aliases = args.texts("served-model-name"),
          .created = static_cast<std::int64_t>(std::time(nullptr))};
}

serve::ReplyStyle server_reply_style(const Arguments& args, const Engine& engine) {
  serve::ReplyStyle style;
  if (engine.chat_template() != nullptr) {
    style = serve::detect_reply_style(engine.chat_template()->source());
  }
  if (const auto named = serve::tool_style_by_name(args.text("tool-parser").value_or("auto"))) {
    style.tools = *named;
  }
  if (args.on("no-reasoning")) style.reasoning = serve::ReasoningStyle::kNone;
  return style;
}

}  // namespace heddle::cli
