#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "engine/engine.h"
#include "tools/heddle/answer.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/grammar_flags.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"
#include "tools/heddle/options.h"
#include "tools/heddle/session.h"

namespace heddle::cli {
namespace {

std::string required_prompt(const Arguments& args) {
  const auto text = input_text(args);
  if (!text) {
    throw bad_input(
        "generate: a prompt is missing: -p TEXT, -f FILE, - (standard input) or --prompts FILE");
  }
  if (text->empty()) throw bad_input("generate: the prompt is empty");
  return *text;
}

/// One below the other: they were made at one time.
std::string all_choices(const Answer& answer) {
  std::string text;
  for (std::size_t i = 0; i < answer.n_choices(); ++i) {
    text += fmt::format("[{} of {}]\n{}\n", i + 1, answer.n_choices(), answer.text(i));
  }
  return text;
}

}  // namespace

int run_generate(const Arguments& args) {
  if (args.has("prompts")) {
    for (const char* flag : {"session", "choices"}) {
      if (args.has(flag)) {
        throw bad_input(fmt::format("--{} cannot be combined with --prompts", flag));
      }
    }
    return run_prompts(args);
  }
  const bool json = args.on("json");
  const auto n_logprobs = args.integer("logprobs");
  if (n_logprobs && !json) throw bad_input("--logprobs needs --json");
  request_template(args, {});  // what is wrong with the flags shows before the model is loaded
  const GrammarPtr grammar = grammar_of(args);
  Session session(args);
  EngineOptions options = engine_options(args);
  const auto n_choices = static_cast<int>(args.integer("choices").value_or(1));
  options.max_sequences = n_choices;
  const std::string text = required_prompt(args);

  const std::unique_ptr<Engine> engine = Engine::load(options);
  session.restore(*engine);
  Request request = request_template(args, engine->default_sampling());
  set_prompt(request,
             encode_prompt(*engine, text, args.text("system").value_or(""), args.on("raw")));
  request.n = n_choices;
  request.grammar = grammar;
  request.n_logprobs = static_cast<int>(n_logprobs.value_or(-1));

  Answer answer;
  bool interrupted = false;
  {
    const PolledInterrupt interrupt;
    answer.start(*engine, std::move(request));
    log_info(fmt::format("prompt of {} tokens", answer.n_prompt()));
    while (!answer.done() && engine->step()) {
      if (!json && answer.n_choices() == 1) write_stdout(answer.take_new_text());
      if (interrupt.raised() && !answer.done()) {
        interrupted = true;
        engine->cancel(answer.id());
      }
    }
  }
  HEDDLE_CHECK(answer.done());
  if (json && answer.finish() != FinishReason::kError) {
    Json json_answer = answer.to_json(*engine, args.operands()[0]);
    if (session.on()) json_answer["session"] = session.to_json();
    write_json(json_answer);
  } else if (!json) {
    write_stdout(answer.n_choices() == 1 ? answer.take_new_text() + "\n" : all_choices(answer));
  }
  if (answer.failed()) throw runtime_failure(answer.error());
  session.tell_skipped(answer);
  if (session.on()) log_info(answer.describe_reuse());
  if (!json) note(answer.describe_timings());
  if (!interrupted) verify_hits(*engine);
  require_verified(*engine);  // what may be wrong is not saved
  session.save(*engine, answer.prompt_and_answer());
  return interrupted ? kExitInterrupted : 0;
}

}  // namespace heddle::cli
