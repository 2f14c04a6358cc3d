#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "engine/engine.h"
#include "models/quote_text.h"
#include "models/tokenizer/utf8.h"
#include "tools/heddle/answer.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"
#include "tools/heddle/options.h"
#include "tools/heddle/session.h"

namespace heddle::cli {
namespace {

constexpr std::string_view kCommands =
    "/clear         forgets the conversation\n"
    "/regen         answers the last message again\n"
    "/history       lists your messages with their numbers\n"
    "/edit N TEXT   replaces message N, drops what came after it and answers anew\n"
    "/edit N        shows message N\n"
    "/system TEXT   sets the system message; without TEXT: removes it\n"
    "/stats         tells what was reused and what the caches hold\n"
    "/help          lists these\n"
    "/exit          leaves\n"
    "A message that begins with a slash is written with two.";

void say(std::string_view line) {
  write_stderr(std::string(line) + "\n");
}

/// `text` on one line, cut at the character that reaches a limit.
std::string preview(std::string_view text) {
  constexpr std::size_t kLimitBytes = 72;
  std::size_t end = 0;
  while (end < std::min(kLimitBytes, text.size())) end += utf8_step(text, end).length;
  return printable(text.substr(0, end)) + (end < text.size() ? "..." : "");
}

/// Lines of standard input; a last one without a newline counts.
class LineReader {
 public:
  /// `polled`: Ctrl-C ends the lines; else it ends the process.
  explicit LineReader(bool polled) : polled_(polled) {}
  bool interrupted() const { return interrupted_; }

  std::optional<std::string> next() {
    for (;;) {
      const std::size_t end = pending_.find('\n', searched_);
      if (end != std::string::npos) {
        std::string line = pending_.substr(0, end);
        pending_.erase(0, end + 1);
        searched_ = 0;
        if (line.ends_with('\r')) line.pop_back();
        return line;
      }
      searched_ = pending_.size();
      if (pending_.size() > kMaxLineBytes) {
        throw bad_input(fmt::format("chat: a line of more than {} bytes", kMaxLineBytes));
      }
      if (polled_ && !PolledInterrupt().wait_for_input(STDIN_FILENO)) {
        interrupted_ = true;
        return std::nullopt;
      }
      char buffer[4096];
      const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        if (pending_.empty()) return std::nullopt;
        searched_ = 0;
        return std::exchange(pending_, {});
      }
      pending_.append(buffer, static_cast<std::size_t>(n));
    }
  }

 private:
  static constexpr std::size_t kMaxLineBytes = std::size_t{64} << 20;
  std::string pending_;
  std::size_t searched_ = 0;
  bool polled_;
  bool interrupted_ = false;
};

/// What the user wrote, and the answer.
struct Turn {
  std::string message = {};
  std::string answer = {};
};

/// What cannot be answered leaves it as it was.
class Conversation {
 public:
  Conversation(Engine& engine, const Arguments& args, Session& session)
      : engine_(engine),
        session_(session),
        raw_(args.on("raw") || engine.chat_template() == nullptr),
        system_(args.text("system").value_or("")),
        base_(request_template(args, engine.default_sampling())) {
    if (raw_ && !system_.empty()) encode_prompt(engine_, "", system_, args.on("raw"));  // refuses
  }

  void clear() {
    turns_.clear();
    tokens_.clear();
    say("the conversation is forgotten");
  }

  void set_system(const std::string& text) {
    if (raw_) return say("error: /system needs a chat template, which is not in use");
    system_ = text;
    say(text.empty() ? "no system message" : "the system message is set");
  }

  void regenerate() {
    if (turns_.empty()) return say("error: /regen: there is no message to answer");
    // Other random numbers: greedy answers stay the same.
    answer(turns_.size() - 1, turns_.back().message, choice_ + 1);
  }

  void message(const std::string& text) { answer(turns_.size(), text, 0); }

  void history() const {
    if (turns_.empty()) return say("error: /history: there is no message yet");
    for (std::size_t i = 0; i < turns_.size(); ++i) {
      say(fmt::format("{}: {}", i + 1, preview(turns_[i].message)));
    }
  }

  void show_stats() const { write_stderr(describe(engine_.stats())); }

  /// `rest` is "N TEXT", with TEXT as it stands; blanks alone are no text.
  void edit(const std::string& rest) {
    if (turns_.empty()) return say("error: /edit: there is no message to change");
    const std::size_t begin = std::min(rest.find_first_not_of(' '), rest.size());
    const std::size_t end = std::min(rest.find(' ', begin), rest.size());
    std::size_t n = 0;
    const auto [stop, error] = std::from_chars(rest.data() + begin, rest.data() + end, n);
    if (error != std::errc{} || stop != rest.data() + end || n < 1 || n > turns_.size()) {
      return say(
          fmt::format("error: /edit: message number, got {}, allowed 1 to {} (/history lists them)",
                      quote_text(rest.substr(begin, end - begin)), turns_.size()));
    }
    if (rest.find_first_not_of(' ', end) == std::string::npos) {
      return say(fmt::format("{0}: {1}\n/edit {0} TEXT replaces it and drops what came after it", n,
                             printable(turns_[n - 1].message)));
    }
    answer(n - 1, rest.substr(end + 1), 0);
  }

  /// Prompt and answer of the last turn, as the model saw them; empty: there is none.
  const std::vector<std::int32_t>& tokens() const { return tokens_; }

 private:
  /// The first `n_before` turns and then `message`.
  ChatPrompt encode(std::size_t n_before, const std::string& message) const {
    std::vector<ChatMessage> messages;
    const auto add = [&](std::string_view role, const std::string& text) {
      messages.push_back({.role = std::string(role), .content = text, .extra_json = ""});
    };
    if (!raw_ && !system_.empty()) add("system", system_);
    for (std::size_t i = 0; i < n_before; ++i) {
      add("user", turns_[i].message);
      add("assistant", turns_[i].answer);
    }
    add("user", message);
    if (!raw_) return engine_.encode_conversation(messages);
    std::string text;
    for (const ChatMessage& part : messages) text += part.content + "\n";
    return {.tokens = engine_.tokenizer().encode(text, {})};
  }

  /// Answers `message` after the first `n_before` turns; the others are dropped.
  void answer(std::size_t n_before, const std::string& message, std::uint32_t choice) {
    Request request = base_;
    Answer answer;
    try {
      set_prompt(request, encode(n_before, message));
      request.choice = choice;
      run(answer, std::move(request));
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::kBadInput) throw;
      return say(
          fmt::format("error: {}; the conversation is as it was, /clear starts afresh", e.what()));
    }
    HEDDLE_CHECK(answer.done());
    write_stdout(answer.take_new_text() + "\n");
    if (answer.finish() == FinishReason::kError) {
      return say(fmt::format("error: {}; the conversation is as it was", answer.error()));
    }
    choice_ = choice;
    Turn turn{.message = message, .answer = answer.text()};
    turns_.resize(n_before);  // `message` may have been in one of those dropped
    turns_.push_back(std::move(turn));
    tokens_ = answer.prompt_and_answer();
    report(answer);
    verify_hits(engine_);
  }

  void run(Answer& answer, Request request) {
    const PolledInterrupt interrupt;
    answer.start(engine_, std::move(request));
    while (!answer.done() && engine_.step()) {
      write_stdout(answer.take_new_text());
      if (interrupt.raised() && !answer.done()) engine_.cancel(answer.id());
    }
  }

  void report(const Answer& answer) {
    session_.tell_skipped(answer);
    if (answer.n_prompt() + answer.n_tokens() >= engine_.options().context) {
      say(fmt::format("the context of {} tokens is full: the answer was cut; /clear starts afresh",
                      engine_.options().context));
    } else if (answer.finish() == FinishReason::kLength) {
      note("the answer was cut at its length limit (-n)");
    }
    if (log_level() <= LogLevel::kInfo) {
      say(fmt::format("{}; {}", answer.describe_reuse(), answer.describe_timings()));
    }
  }

  Engine& engine_;
  Session& session_;
  bool raw_;
  std::string system_;
  Request base_;
  std::vector<Turn> turns_;
  std::vector<std::int32_t> tokens_;
  std::uint32_t choice_ = 0;  // of the last answer
};

/// False: leave.
bool handle(Conversation& conversation, const std::string& line) {
  if (line.empty()) return true;
  if (!line.starts_with('/') || line.starts_with("//")) {
    conversation.message(line.starts_with('/') ? line.substr(1) : line);
    return true;
  }
  const std::size_t space = line.find(' ');
  const std::string command = line.substr(0, space);
  const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
  if (command == "/exit" || command == "/quit") return false;
  if (command == "/clear") {
    conversation.clear();
  } else if (command == "/regen") {
    conversation.regenerate();
  } else if (command == "/system") {
    conversation.set_system(rest);
  } else if (command == "/history") {
    conversation.history();
  } else if (command == "/edit") {
    conversation.edit(rest);
  } else if (command == "/stats") {
    conversation.show_stats();
  } else if (command == "/help") {
    say(kCommands);
  } else {
    say(fmt::format("error: unknown command {}; /help lists those there are", quote_text(command)));
  }
  return true;
}

}  // namespace

int run_chat(const Arguments& args) {
  request_template(args, {});  // what is wrong with the flags shows before the model is loaded
  Session session(args);
  const std::unique_ptr<Engine> engine = Engine::load(engine_options(args));
  session.restore(*engine);
  Conversation conversation(*engine, args, session);
  const bool interactive = ::isatty(STDIN_FILENO) == 1;
  if (!args.on("raw") && engine->chat_template() == nullptr) {
    note("the model has no chat template: turns are joined by newlines");
  }
  if (session.restored()) {
    note("the conversation begins anew; what is said in the same words is not computed again");
  }
  if (interactive) say("/help lists the commands");
  LineReader reader(session.on());
  std::optional<std::string> line;
  do {
    if (interactive) write_stderr("> ");
    line = reader.next();
  } while (line && handle(conversation, *line));
  if (log_level() <= LogLevel::kInfo) conversation.show_stats();
  require_verified(*engine);  // what may be wrong is not saved
  if (!conversation.tokens().empty()) session.save(*engine, conversation.tokens());
  if (!reader.interrupted()) return 0;
  say("\nerror: interrupted");
  return kExitInterrupted;
}

}  // namespace heddle::cli
