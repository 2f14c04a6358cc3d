#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/checkpoint.h"
#include "models/quote_text.h"
#include "models/tokenizer/chat_template.h"
#include "models/tokenizer/tokenizer.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/io.h"
#include "tools/heddle/options.h"

namespace heddle::cli {
namespace {

std::string join(const std::vector<TokenId>& ids) {
  std::string text;
  for (const TokenId id : ids) text += fmt::format("{}{}", text.empty() ? "" : " ", id);
  return text;
}

Error not_an_id(std::string_view text, std::int32_t vocab_size) {
  return bad_input(fmt::format("tokenize: {} is not a token id, allowed: 0 .. {}",
                               quote_text(text, 40), vocab_size - 1));
}

/// "[1, 2, 3]"
std::vector<TokenId> parse_json_ids(std::string_view text, std::int32_t vocab_size) {
  constexpr std::size_t kMostIds = std::size_t{1} << 28;
  const Json list = parse_json(text, "tokenize: the list of ids", {.nodes = kMostIds});
  std::vector<TokenId> ids;
  for (const Json& item : list) {
    const bool fits = item.is_number_unsigned() &&
                      item.get<std::uint64_t>() < static_cast<std::uint64_t>(vocab_size);
    if (!fits) {
      throw not_an_id(item.dump(-1, ' ', true, Json::error_handler_t::replace), vocab_size);
    }
    ids.push_back(item.get<TokenId>());
  }
  return ids;
}

/// A JSON list, or "1 2,3".
std::vector<TokenId> parse_ids(std::string_view text, std::int32_t vocab_size) {
  constexpr std::string_view kSeparators = " \t\r\n,";
  const std::size_t first = std::min(text.find_first_not_of(" \t\r\n"), text.size());
  if (text.substr(first).starts_with('[')) return parse_json_ids(text, vocab_size);
  std::vector<TokenId> ids;
  for (;;) {
    const std::size_t begin = text.find_first_not_of(kSeparators);
    if (begin == std::string_view::npos) return ids;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find_first_of(kSeparators));
    text.remove_prefix(word.size());
    TokenId id = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size() || id < 0 || id >= vocab_size) {
      throw not_an_id(word, vocab_size);
    }
    ids.push_back(id);
  }
}

int render_chat(const Arguments& args, const Checkpoint& checkpoint, const Tokenizer& tokenizer) {
  const std::string file = *args.text("chat");
  if (checkpoint.chat_template.empty()) {
    throw bad_input(args.operands()[0] + ": the checkpoint has no chat template");
  }
  const Json messages = parse_json(read_input(file), file);
  if (!messages.is_array() || messages.empty()) {
    throw bad_input(file + ": must be a JSON list of messages, not empty");
  }
  for (const Json& message : messages) {
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
      throw bad_input(file + ": every message must be an object with the text 'role'");
    }
  }
  const auto text_of = [&](const std::optional<TokenId>& id) {
    return id ? tokenizer.token_bytes(*id, true) : std::string();
  };
  const RenderedPrompt prompt =
      ChatTemplate(checkpoint.chat_template, TemplateLimits{}, checkpoint.chat_template_source)
          .render({.messages_json = messages.dump(),
                   .tools_json = "",
                   .extra_json = "",
                   .add_generation_prompt = true,
                   .bos_token = text_of(tokenizer.facts().bos),
                   .eos_token = text_of(tokenizer.facts().eos)});
  if (args.on("json")) {
    const std::vector<TokenId> ids =
        tokenizer.encode(prompt.text, {.add_special = false, .plain = prompt.untrusted});
    write_json({{"text", prompt.text}, {"ids", ids}});
  } else {
    write_stdout(prompt.text + "\n");
  }
  return 0;
}

}  // namespace

int run_tokenize(const Arguments& args) {
  if (args.has("chat") && (args.on("decode") || args.on("no-special") || args.has("prompt") ||
                           args.has("file") || args.operands().size() > 1)) {
    throw bad_input(
        "tokenize: --chat cannot be combined with another input, --decode or "
        "--no-special");
  }
  const std::string path = model_path(args);
  const auto text = input_text(args);
  if (!text && !args.has("chat")) {
    throw bad_input(
        "tokenize: a text is missing: -p TEXT, -f FILE, - (standard input) or --chat FILE");
  }
  const Checkpoint checkpoint = open_checkpoint(path);
  const Tokenizer& tokenizer = *checkpoint.tokenizer;
  if (args.has("chat")) return render_chat(args, checkpoint, tokenizer);
  const bool special = !args.on("no-special");
  if (args.on("decode")) {
    const std::string decoded = tokenizer.decode(parse_ids(*text, tokenizer.vocab_size()), special);
    if (args.on("json")) {
      write_json({{"text", decoded}});
    } else {
      write_stdout(decoded + "\n");
    }
    return 0;
  }
  const std::vector<TokenId> ids = tokenizer.encode(*text, {.add_special = special});
  if (args.on("json")) {
    write_json({{"ids", ids}});
  } else {
    write_stdout(join(ids) + "\n");
  }
  return 0;
}

}  // namespace heddle::cli
