// heddle needle: asks, scores, and tells.

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/error.h"
#include "engine/engine.h"
#include "models/checkpoint.h"
#include "models/quote_text.h"
#include "models/registry.h"
#include "models/tokenizer/chat_template.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"
#include "tools/heddle/kv_bytes_read.h"
#include "tools/heddle/needle_options.h"
#include "tools/heddle/options.h"
#include "tools/needle/engine_target.h"
#include "tools/needle/grid.h"
#include "tools/needle/report/compare.h"
#include "tools/needle/report/live_table.h"
#include "tools/needle/report/reports.h"
#include "tools/needle/report/summary_text.h"
#include "tools/needle/results_file.h"
#include "tools/needle/run.h"
#include "tools/needle/self_check.h"
#include "tools/needle/server_encoder.h"
#include "tools/needle/url_target.h"

namespace heddle::cli {
namespace {

using needle::CellGroup;
using needle::CellKey;
using needle::Row;

constexpr std::int64_t kPromptsVersion = 1;  // of texts and places: run.json
constexpr std::int64_t kSelfCheckLongest = 4096;
constexpr std::int64_t kSpareSnapshots = 16;  // ends of prompts and answers, a sparse grid

/// A checkpoint's tokenizer and template, without its weights.
struct Texts {
  Checkpoint checkpoint;
  std::optional<ChatTemplate> chat_template;
  const ChatTemplate* chat() const { return chat_template ? &*chat_template : nullptr; }
};

Texts open_texts(const std::string& path, const std::optional<bool>& chat) {
  Texts texts{.checkpoint = open_checkpoint(path), .chat_template = {}};
  const Checkpoint& checkpoint = texts.checkpoint;
  if (chat.value_or(false) && checkpoint.chat_template.empty()) {
    throw bad_input(fmt::format("--template chat: {}: the checkpoint has no chat template", path));
  }
  if (chat.value_or(true) && !checkpoint.chat_template.empty()) {
    texts.chat_template.emplace(checkpoint.chat_template, TemplateLimits{},
                                checkpoint.chat_template_source);
  }
  return texts;
}

void check_lengths(NeedleOptions& options, std::int64_t context) {
  if (options.lengths.empty()) options.lengths = needle::default_lengths(context);
  if (options.lengths.back() <= context) return;
  throw bad_input(fmt::format("--lengths: {} tokens, allowed: up to the model's context, {}",
                              options.lengths.back(), context));
}

/// "task": the task's own; "none" or a text of the user's.
void set_prefix(NeedleOptions& options, bool chat) {
  const std::string prefix = options.prefix.value_or(chat ? "none" : "task");
  options.prompt.task_prefix = prefix == "task";
  options.prompt.prefix = prefix == "task" || prefix == "none" ? "" : prefix;
}

/// What all modes of a run are asked.
struct Questions {
  Questions(const NeedleOptions& options, needle::PromptEncoder& encoder)
      : haystack(options.haystack.empty() ? needle::Haystack::of_essays()
                                          : needle::Haystack::read(options.haystack)),
        builder(encoder, haystack, options.prompt),
        groups(needle::groups_of({.tasks = options.tasks,
                                  .lengths = options.lengths,
                                  .depths = options.depths,
                                  .samples = options.samples,
                                  .seed = options.seed})) {
    // Every cell has room for its needles: the user knows before anything is asked. Samples are of
    // one form.
    for (const CellGroup& group : groups) {
      if (group.keys.front().sample > 0) continue;
      for (const CellKey& key : group.keys) builder.check(group.task, key);
    }
  }

  needle::Haystack haystack;
  needle::PromptBuilder builder;
  std::vector<CellGroup> groups;
};

/// What decides a row beside its key.
Json facts_of(const NeedleOptions& options,
              const std::string& model,
              const std::string& numerics,
              const std::string& attention,
              const std::string& haystack_hash,
              bool chat) {
  const needle::OwnNeedle& own = options.prompt.draft.own;
  return {{"prompts", kPromptsVersion},
          {"model", model},
          {"numerics", numerics},
          {"attention", attention},
          {"template", chat ? "chat" : "raw"},
          {"wording", options.prompt.draft.wording == needle::Wording::kPlain ? "plain" : "ruler"},
          {"answer_prefix", options.prompt.task_prefix ? "task" : options.prompt.prefix},
          {"answer_tokens", options.prompt.answer_tokens},
          {"stop", options.stop},
          {"scorer", options.scorer_name},
          {"haystack", haystack_hash},
          {"needle",
           own.needle.empty() ? Json(nullptr) : Json({own.needle, own.question, own.answer})}};
}

needle::ReportFacts report_facts(const Arguments& args,
                                 const NeedleOptions& options,
                                 const std::string& model,
                                 const std::string& attention) {
  return {.model = model,
          .attention = attention,
          .command = command_line(args),
          .seed = options.seed,
          .samples = options.samples,
          .notes = needle_notes(options)};
}

/// A grid from its first to its last row, told as it goes. False: interrupted.
bool run_rows(const NeedleOptions& options,
              Questions& questions,
              needle::Target& target,
              needle::ResultsFile& results,
              const std::string& model,
              const std::string& attention,
              const PolledInterrupt& interrupt) {
  std::vector<needle::PlannedRow> plan;
  const CellGroup* before = nullptr;
  for (const CellGroup& group : questions.groups) {
    for (std::size_t i = 0; i < group.keys.size(); ++i) {
      plan.push_back(
          {.key = group.keys[i], .cost = needle::expected_cost(group, before, i, options.reuse)});
    }
    before = &group;
  }
  needle::LiveTable table(plan);
  for (const Row& row : results.rows()) table.add_known(row);
  needle::RunOptions run{.model = model,
                         .attention = attention,
                         .scorer = options.scorer,
                         .concurrency = options.concurrency};
  run.is_done = [&](const CellKey& key) { return results.has(key); };
  run.write = [&](Row row) {
    results.append(row);
    table.add(row);
  };
  run.stop = [&] { return interrupt.raised(); };
  return needle::run_grid(questions.groups, questions.builder, target, run);
}

/// What an engine needs for the grid: room for two of the longest prompts, the haystack and one
/// that goes on from it, and for the states where prompts depart.
EngineOptions sized(EngineOptions engine, const NeedleOptions& options) {
  const auto n = static_cast<std::int64_t>(options.concurrency);
  engine.context = options.lengths.back();
  engine.max_sequences = n;
  engine.prefix_cache = options.reuse;
  if (engine.kv_tokens == 0 && options.reuse) engine.kv_tokens = engine.context * (n + 1);
  if (engine.snapshot_memory == 0 && options.reuse) {
    engine.snapshots = 2 * static_cast<std::int64_t>(options.depths.size()) + n + kSpareSnapshots;
  }
  return engine;
}

int exit_code(const std::vector<Row>& rows, bool complete) {
  if (!complete) return kExitInterrupted;
  return std::any_of(rows.begin(), rows.end(), [](const Row& row) { return !row.score; }) ? 1 : 0;
}

/// Where the results are.
void tell_folder(const std::string& folder) {
  write_stdout(
      fmt::format("\n{}/ has results.jsonl, summary.csv, heatmap.svg, heatmap.png, "
                  "report.html\n",
                  folder));
}

struct ModeRun {
  std::vector<Row> rows;
  bool complete = false;
  std::map<std::int64_t, double> bytes_read;  // of a token, by length
};

ModeRun run_mode(const Arguments& args,
                 const NeedleOptions& options,
                 Questions& questions,
                 const ModelFile& model,
                 const std::string& mode,
                 const std::string& folder,
                 const PolledInterrupt& interrupt) {
  EngineOptions engine_of_mode = sized(engine_options(args), options);
  if (mode != kTrainedAttention) engine_of_mode.attention = mode;
  const auto engine = Engine::load(engine_of_mode);
  needle::EngineTarget target(*engine, options.stop);
  needle::ResultsFile results(folder,
                              facts_of(options, model.name, engine->numerics_id(), mode,
                                       questions.haystack.hash(), options.chat.value_or(false)),
                              options.resume);
  ModeRun run;
  run.complete = run_rows(options, questions, target, results, model.name, mode, interrupt);
  run.rows = results.rows();
  for (const std::int64_t length : options.lengths) {
    run.bytes_read[length] = kv_bytes_read(*engine, length) +
                             static_cast<double>(engine->memory().state_bytes_per_sequence);
  }
  needle::write_reports(folder, report_facts(args, options, model.name, mode), run.rows);
  return run;
}

int run_compare(const Arguments& args,
                const NeedleOptions& options,
                Questions& questions,
                const ModelFile& model,
                const PolledInterrupt& interrupt) {
  std::vector<needle::ComparedMode> modes;
  bool complete = true;
  int code = 0;
  for (const std::string& mode : options.modes) {
    note(fmt::format("{}:", mode));
    ModeRun run = run_mode(args, options, questions, model, mode,
                           options.out + "/" + folder_name(mode), interrupt);
    code = std::max(code, exit_code(run.rows, true));
    modes.push_back({.label = mode,
                     .rows = std::move(run.rows),
                     .extra = {{"bytes read per token", std::move(run.bytes_read)}}});
    complete = complete && run.complete;
    if (!complete) break;
  }
  needle::write_comparison(options.out, report_facts(args, options, model.name, ""), modes);
  write_stdout(needle::comparison_table(modes));
  write_stdout(
      fmt::format("\n{}/ has compare.csv, compare.svg, compare.png, compare.html, and a "
                  "folder of each mode\n",
                  options.out));
  return complete ? code : kExitInterrupted;
}

int run_in_process(const Arguments& args) {
  const ModelFile model = resolve_model(args.operands()[0]);
  NeedleOptions options = needle_options(args, model.name);
  const Texts texts = open_texts(model.path, options.chat);
  options.chat = texts.chat() != nullptr;
  check_lengths(options, texts.checkpoint.config.context);
  set_prefix(options, *options.chat);
  needle::LocalEncoder encoder(*texts.checkpoint.tokenizer, texts.chat());
  const PolledInterrupt interrupt;
  if (options.self_check) {
    if (!args.has("suite") && !args.has("task") && !args.has("needle")) {
      options.tasks = needle::all_tasks();
    }
    if (!args.has("lengths")) {
      std::erase_if(options.lengths, [](std::int64_t n) { return n > kSelfCheckLongest; });
    }
    Questions questions(options, encoder);
    return needle::self_check(
        questions.groups, questions.builder, *texts.checkpoint.tokenizer, options.scorer,
        [&] { return interrupt.raised(); }, [](const std::string& line) { write_stdout(line); });
  }
  needle::require_free(options.out, options.resume);
  Questions questions(options, encoder);
  if (!options.modes.empty()) return run_compare(args, options, questions, model, interrupt);
  const std::string mode = args.text("attention").value_or(std::string(kTrainedAttention));
  const ModeRun run = run_mode(args, options, questions, model, mode, options.out, interrupt);
  write_stdout(needle::summary_table(needle::summarize(run.rows)));
  tell_folder(options.out);
  return exit_code(run.rows, run.complete);
}

std::string api_key(const Arguments& args) {
  const auto name = args.text("api-key-env");
  if (!name) return "";
  const char* const key = std::getenv(name->c_str());
  if (key == nullptr || *key == '\0') {
    throw bad_input(
        fmt::format("--api-key-env: the environment variable {} is not set", quote_text(*name)));
  }
  const std::string text = key;
  const bool clean =
      std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (!clean) {
    throw bad_input(fmt::format("--api-key-env: {} holds what a key may not have", *name));
  }
  return text;
}

void refuse(const Arguments& args, std::initializer_list<const char*> flags, std::string_view why) {
  for (const char* flag : flags) {
    if (args.has(flag)) throw bad_input(fmt::format("needle: --{} {}", flag, why));
  }
}

/// The longest that the server takes, where lengths are not given.
void check_server_lengths(needle::ServerApi& api, NeedleOptions& options) {
  const std::optional<std::int64_t> context = api.context();
  if (context) return check_lengths(options, *context);
  if (!options.lengths.empty()) return;
  throw bad_input("--lengths is missing: the server does not tell its context");
}

int run_on_server(const Arguments& args) {
  if (!args.operands().empty()) throw bad_input("needle: MODEL and --url exclude each other");
  refuse(args, {"self-check", "compare", "cache", "attention"}, "needs a MODEL in this process");
  needle::ServerApi api({.url = serve::parse_url(*args.text("url"), "--url"),
                         .model = args.text("model").value_or(""),
                         .api_key = api_key(args),
                         .timeout_seconds = args.number("timeout").value_or(600.0)});
  NeedleOptions options = needle_options(args, api.model());
  needle::require_free(options.out, options.resume);
  std::optional<Texts> texts;
  std::unique_ptr<needle::PromptEncoder> encoder;
  if (const auto name = args.text("tokenizer")) {
    texts.emplace(open_texts(resolve_model(*name).path, options.chat));
    options.chat = texts->chat() != nullptr;
    encoder = std::make_unique<needle::LocalEncoder>(*texts->checkpoint.tokenizer, texts->chat());
  } else {
    auto counter = std::make_unique<needle::ServerEncoder>(api);
    if (!options.chat) options.chat = counter->has_template();
    counter->use_template(*options.chat);
    encoder = std::move(counter);
  }
  check_server_lengths(api, options);
  set_prefix(options, *options.chat);
  Questions questions(options, *encoder);
  const PolledInterrupt interrupt;
  needle::UrlTarget target(api, *options.chat, options.stop);
  needle::ResultsFile results(
      options.out,
      facts_of(options, api.model(), "server", "server", questions.haystack.hash(), *options.chat),
      options.resume);
  const bool complete =
      run_rows(options, questions, target, results, api.model(), "server", interrupt);
  needle::write_reports(options.out, report_facts(args, options, api.model(), "server"),
                        results.rows());
  write_stdout(needle::summary_table(needle::summarize(results.rows())));
  tell_folder(options.out);
  return exit_code(results.rows(), complete);
}

}  // namespace

int run_needle(const Arguments& args) {
  if (args.has("url")) return run_on_server(args);
  if (args.operands().empty()) throw bad_input("needle: MODEL or --url is missing");
  refuse(args, {"model", "api-key-env", "tokenizer", "timeout"}, "needs --url");
  return run_in_process(args);
}

}  // namespace heddle::cli
