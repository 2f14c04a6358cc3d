// generate --prompts: a file of requests, batched, answered in input order.

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/error.h"
#include "engine/chat_prompt.h"
#include "engine/engine.h"
#include "models/checkpoint.h"
#include "models/quote_text.h"
#include "tools/heddle/answer.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/grammar_flags.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"
#include "tools/heddle/options.h"

namespace heddle::cli {
namespace {

constexpr std::string_view kKeys[] = {"prompt",      "messages", "id",      "max_tokens",
                                      "temperature", "top_k",    "top_p",   "min_p",
                                      "seed",        "stop",     "deadline"};

struct Line {
  std::string where;  // "FILE:3: "
  Json object;
};

std::vector<Line> read_lines(const std::string& file) {
  const std::string text = read_input(file);
  const std::string shown = file == "-" ? "standard input" : file;
  std::vector<Line> lines;
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = fmt::format("{}:{}", shown, number);
    Json object = parse_json(line, where);
    if (!object.is_object()) throw bad_input(where + ": must be a JSON object");
    lines.push_back({where + ": ", std::move(object)});
  }
  if (lines.empty()) throw bad_input(shown + ": holds no prompts");
  return lines;
}

Error out_of_range(const Line& line, const char* key, const std::string& allowed) {
  const std::string value =
      line.object.at(key).dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 40);
  return bad_input(fmt::format("{}'{}' is {}, allowed: {}", line.where, key, value, allowed));
}

/// The value of a numeric key inside [low, high], nullopt if absent.
std::optional<double> number_of(const Line& line, const char* key, double low, double high) {
  const auto it = line.object.find(key);
  if (it == line.object.end()) return std::nullopt;
  const double value = it->is_number() ? it->get<double>() : 0.0;
  if (!it->is_number() || !(value >= low && value <= high)) {
    throw out_of_range(line, key, fmt::format("a number from {:.0f} to {:.0f}", low, high));
  }
  return value;
}

/// The same for whole numbers from 0, which a double would round.
std::optional<std::int64_t> whole_number_of(const Line& line, const char* key, std::int64_t high) {
  const auto it = line.object.find(key);
  if (it == line.object.end()) return std::nullopt;
  const bool negative =
      it->is_number_integer() && !it->is_number_unsigned() && it->get<std::int64_t>() < 0;
  if (!it->is_number_integer() || negative ||
      it->get<std::uint64_t>() > static_cast<std::uint64_t>(high)) {
    throw out_of_range(line, key, fmt::format("a whole number from 0 to {}", high));
  }
  return it->get<std::int64_t>();
}

void apply_stop(const Line& line, Request& request) {
  const auto it = line.object.find("stop");
  if (it == line.object.end()) return;
  const Json list = it->is_array() ? *it : Json::array({*it});
  request.stop.clear();
  for (const Json& stop : list) {
    if (!stop.is_string() || stop.get_ref<const std::string&>().empty()) {
      throw bad_input(line.where + "'stop' must be a text or a list of texts, none of them empty");
    }
    request.stop.push_back(stop.get<std::string>());
  }
}

void apply_overrides(const Line& line, Request& request) {
  for (const auto& [key, value] : line.object.items()) {
    if (std::find(std::begin(kKeys), std::end(kKeys), key) == std::end(kKeys)) {
      std::string valid;
      for (const auto known : kKeys) valid += (valid.empty() ? "" : ", ") + std::string(known);
      throw bad_input(
          fmt::format("{}unknown key {}; valid: {}", line.where, quote_text(key), valid));
    }
  }
  SamplingParams& p = request.sampling;
  const auto to_float = [](double v) { return static_cast<float>(v); };
  constexpr std::int64_t kIntMax = std::numeric_limits<std::int32_t>::max();
  if (const auto v = whole_number_of(line, "max_tokens", kIntMax)) request.max_new_tokens = *v;
  if (const auto v = number_of(line, "temperature", 0, 100)) p.temperature = to_float(*v);
  if (const auto v = whole_number_of(line, "top_k", kIntMax)) p.top_k = static_cast<int>(*v);
  if (const auto v = number_of(line, "top_p", 0, 1)) p.top_p = to_float(*v);
  if (const auto v = number_of(line, "min_p", 0, 1)) p.min_p = to_float(*v);
  if (const auto v = whole_number_of(line, "seed", std::numeric_limits<std::int64_t>::max())) {
    p.seed = static_cast<std::uint64_t>(*v);
  }
  if (const auto v = number_of(line, "deadline", 0, 1e9)) request.deadline = *v;
  if (p.top_p == 0.0F) throw bad_input(line.where + "'top_p' is 0, allowed: above 0 up to 1");
  apply_stop(line, request);
}

/// `system` begins the conversation unless the line has a system message of its own.
std::vector<ChatMessage> messages_of(const Line& line, const std::string& system) {
  const Json& list = line.object.at("messages");
  if (!list.is_array() || list.empty()) {
    throw bad_input(line.where + "'messages' must be a list of messages, not empty");
  }
  std::vector<ChatMessage> messages;
  for (const Json& item : list) {
    const auto text = [&](const char* key) {
      const auto it = item.is_object() ? item.find(key) : item.end();
      if (!item.is_object() || it == item.end() || !it->is_string()) {
        throw bad_input(
            fmt::format("{}every message must have the texts 'role' and 'content'", line.where));
      }
      return it->get<std::string>();
    };
    ChatMessage message{.role = text("role"), .content = text("content"), .extra_json = ""};
    Json extra = item;
    extra.erase("role");
    extra.erase("content");
    if (!extra.empty()) message.extra_json = extra.dump();
    messages.push_back(std::move(message));
  }
  const bool has_system = std::any_of(messages.begin(), messages.end(),
                                      [](const auto& m) { return m.role == "system"; });
  if (!system.empty() && !has_system) {
    messages.insert(messages.begin(), {.role = "system", .content = system, .extra_json = ""});
  }
  return messages;
}

/// nullopt: its prompt is a text as it stands.
std::optional<std::vector<ChatMessage>> conversation_of(const Line& line,
                                                        const Arguments& args,
                                                        bool has_template) {
  const std::string system = args.text("system").value_or("");
  if (line.object.contains("messages")) {
    if (args.on("raw"))
      throw bad_input(line.where + "'messages' need the template: not with --raw");
    return messages_of(line, system);
  }
  const std::string text = line.object.at("prompt").get<std::string>();
  return cli::conversation_of(has_template, text, system, args.on("raw"));
}

ChatPrompt encode_line(const Engine& engine, const Line& line, const Arguments& args) {
  const auto messages = conversation_of(line, args, engine.chat_template() != nullptr);
  if (messages) return engine.encode_conversation(*messages);
  return {.tokens = engine.tokenizer().encode(line.object.at("prompt").get<std::string>(), {})};
}

/// Calls encode(), whose errors say which line it was.
template <typename Encode>
void for_line(const Line& line, const Encode& encode) {
  try {
    encode();
  } catch (const Error& e) {
    const std::string text = e.what();
    throw Error(e.kind(), text.starts_with(line.where) ? text : line.where + text);
  }
}

/// Structure and values of every line; needs no model.
void check_lines(const std::vector<Line>& lines, const Arguments& args) {
  for (const Line& line : lines) {
    const bool prompt = line.object.contains("prompt");
    if (prompt == line.object.contains("messages")) {
      throw bad_input(line.where + "must have either 'prompt' or 'messages'");
    }
    if (prompt && (!line.object["prompt"].is_string() || line.object["prompt"].empty() ||
                   line.object["prompt"].get_ref<const std::string&>().empty())) {
      throw bad_input(line.where + "'prompt' must be a text, not empty");
    }
    if (!prompt) messages_of(line, "");
    Request draft = request_template(args, {});
    apply_overrides(line, draft);
  }
}

/// Enough cache for the `parallel` largest lines at the same time; more than that is never used.
std::int64_t cache_tokens(const std::vector<Line>& lines,
                          const Arguments& args,
                          const EngineOptions& options) {
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const std::int64_t context = options.context == 0 ? checkpoint.config.context : options.context;
  std::optional<ChatTemplate> chat_template;
  if (!checkpoint.chat_template.empty()) {
    chat_template.emplace(checkpoint.chat_template, TemplateLimits{},
                          checkpoint.chat_template_source);
  }
  const Tokenizer& tokenizer = *checkpoint.tokenizer;
  std::vector<std::int64_t> needs;
  for (const Line& line : lines) {
    Request draft = request_template(args, {});
    apply_overrides(line, draft);
    for_line(line, [&] {
      const auto messages = conversation_of(line, args, chat_template.has_value());
      if (messages && !chat_template) throw bad_input("the checkpoint has no chat template");
      const std::vector<TokenId> prompt =
          messages ? encode_messages(*chat_template, tokenizer, *messages, true)
                   : tokenizer.encode(line.object.at("prompt").get<std::string>(), {});
      const std::int64_t answer = draft.max_new_tokens == 0 ? context : draft.max_new_tokens;
      needs.push_back(std::min(context, std::ssize(prompt) + std::min(answer, context)));
    });
  }
  std::sort(needs.rbegin(), needs.rend());
  const std::int64_t parallel = options.max_sequences;
  std::int64_t total = 0;
  for (std::size_t i = 0; i < needs.size() && static_cast<std::int64_t>(i) < parallel; ++i) {
    total += needs[i] + 64;  // a block begun
  }
  return std::min(total, context * parallel);
}

/// Keeps `parallel` requests going and prints finished ones in order.
class Batch {
 public:
  Batch(Engine& engine, const Arguments& args, const std::vector<Line>& lines, GrammarPtr grammar)
      : engine_(engine), args_(args), lines_(lines) {
    // One seed for all lines that name none: a line gives the same answer alone.
    Request common = request_template(args_, engine_.default_sampling());
    common.grammar = std::move(grammar);
    common.n_logprobs = static_cast<int>(args_.integer("logprobs").value_or(-1));
    for (const Line& line : lines_) {
      Request request = common;
      apply_overrides(line, request);
      for_line(line, [&] {
        set_prompt(request, encode_line(engine_, line, args_));
        fit_to_context(engine_, request);
        // Queued and taken back: what the engine refuses shows before anything runs.
        engine_.cancel(engine_.submit(request, [](const RequestEvent&) {}));
      });
      requests_.push_back(std::move(request));
    }
    answers_.resize(lines_.size());
  }

  int run(std::int64_t parallel) {
    const PolledInterrupt interrupt;
    ProgressLine progress;
    bool cancelled = false;
    for (;;) {
      while (!cancelled && next_ < lines_.size() && running() < parallel) start_next();
      const bool stepped = engine_.step();
      print_ready();
      progress.show(fmt::format("{} of {} prompts", printed_, lines_.size()));
      if (interrupt.raised() && !cancelled) {
        cancelled = true;
        for (std::size_t i = printed_; i < next_; ++i) engine_.cancel(answers_[i]->id());
        engine_.skip_checks();
        print_ready();
      }
      if (!stepped && (cancelled || next_ == lines_.size())) break;
    }
    print_ready();
    HEDDLE_CHECK(printed_ == next_);
    progress.clear();
    require_verified(engine_);
    if (cancelled) return kExitInterrupted;
    if (n_failed_ > 0) {
      throw runtime_failure(fmt::format("{} of {} prompts failed; the first: {}", n_failed_,
                                        lines_.size(), first_error_));
    }
    return 0;
  }

 private:
  std::int64_t running() const {
    std::int64_t n = 0;
    for (std::size_t i = printed_; i < next_; ++i) n += answers_[i]->done() ? 0 : 1;
    return n;
  }

  void start_next() {
    answers_[next_] = std::make_unique<Answer>();
    answers_[next_]->start(engine_, std::move(requests_[next_]));
    ++next_;
  }

  void print_ready() {
    for (; printed_ < next_ && answers_[printed_]->done(); ++printed_) {
      const Answer& answer = *answers_[printed_];
      Json json;
      json["index"] = printed_;
      const Json& line = lines_[printed_].object;
      if (line.contains("id")) json["id"] = line["id"];
      json.update(answer.to_json(engine_, args_.operands()[0]));
      write_stdout(json_line(json));
      if (answer.failed() && n_failed_++ == 0) {
        first_error_ = lines_[printed_].where + answer.error();
      }
      answers_[printed_].reset();
    }
  }

  Engine& engine_;
  const Arguments& args_;
  const std::vector<Line>& lines_;
  std::vector<Request> requests_;
  std::vector<std::unique_ptr<Answer>> answers_;
  std::size_t next_ = 0;     // lines before it were submitted
  std::size_t printed_ = 0;  // lines before it were printed
  std::size_t n_failed_ = 0;
  std::string first_error_;
};

}  // namespace

int run_prompts(const Arguments& args) {
  if (args.has("prompt") || args.has("file") || args.operands().size() > 1) {
    throw bad_input("--prompts cannot be combined with -p, -f or -");
  }
  const GrammarPtr grammar = grammar_of(args);
  EngineOptions options = engine_options(args);
  const std::vector<Line> lines = read_lines(*args.text("prompts"));
  check_lines(lines, args);
  options.max_sequences = std::min<std::int64_t>(args.integer("parallel").value_or(8),
                                                 static_cast<std::int64_t>(lines.size()));
  if (options.kv_tokens == 0) {
    options.kv_tokens = cache_tokens(lines, args, options);
  }
  const std::unique_ptr<Engine> engine = Engine::load(options);
  return Batch(*engine, args, lines, grammar).run(options.max_sequences);
}

}  // namespace heddle::cli
