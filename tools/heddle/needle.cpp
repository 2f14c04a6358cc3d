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
#include "models/quote_text.h"
#include "models/registry.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"
#include "tools/heddle/kv_bytes_read.h"
#include "tools/heddle/needle_options.h"
#include "tools/heddle/needle_questions.h"
#include "tools/heddle/options.h"
#include "tools/needle/engine_target.h"
#include "tools/needle/judge.h"
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
using needle::TaskSpec;

constexpr std::int64_t kPromptsVersion = 1;  // of texts and places: run.json
constexpr std::int64_t kSelfCheckLongest = 4096;
constexpr std::int64_t kSpareSnapshots = 16;      // ends of prompts and answers, and of
constexpr std::int64_t kTokensOfSnapshot = 1024;  // the longest haystack, a sparse grid

/// What decides a row beside its key.
Json facts_of(const NeedleOptions& options,
              const std::string& model,
              const std::string& numerics,
              const std::string& attention,
              const std::string& haystack_hash,
              const Json& judge) {
  const needle::OwnNeedle& own = options.prompt.draft.own;
  return {
      {"prompts", kPromptsVersion},
      {"model", model},
      {"seed", options.seed},
      {"attention", attention},
      {"template", *options.chat ? "chat" : "raw"},
      {"wording", options.prompt.draft.wording == needle::Wording::kPlain ? "plain" : "ruler"},
      {"answer_prefix", options.prompt.task_prefix ? "task" : options.prompt.prefix},
      {"answer_tokens", options.prompt.answer_tokens},
      {"stop", options.prompt.stop},
      {"scorer", options.scorer_name},
      {"judge", judge},
      {"haystack", haystack_hash},
      {"needle", own.needle.empty() ? Json(nullptr) : Json({own.needle, own.question, own.answer})},
      {"numerics", numerics}};  // last: what else differs says more
}

std::vector<CellKey> plan_of(const Questions& questions) {
  std::vector<CellKey> keys;
  for (const CellGroup& group : questions.groups) {
    keys.insert(keys.end(), group.keys.begin(), group.keys.end());
  }
  return keys;
}

needle::ReportFacts report_facts(const Arguments& args,
                                 const NeedleOptions& options,
                                 const Questions& questions,
                                 const std::string& model,
                                 const std::string& attention) {
  return {.model = model,
          .attention = attention,
          .command = command_line(args),
          .seed = options.seed,
          .samples = options.samples,
          .plan = plan_of(questions),
          .notes = needle_notes(options)};
}

std::string api_key(const Arguments& args, std::string_view flag) {
  const auto name = args.text(flag);
  if (!name) return "";
  const char* const key = std::getenv(name->c_str());
  if (key == nullptr || *key == '\0') {
    throw bad_input(
        fmt::format("--{}: the environment variable {} is not set", flag, quote_text(*name)));
  }
  const std::string text = key;
  const bool clean =
      std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (clean) return text;
  throw bad_input(fmt::format("--{}: {} holds what a key may not have", flag, quote_text(*name)));
}

/// The server of --judge-url.
struct JudgeServer {
  explicit JudgeServer(const Arguments& args)
      : api({.url = serve::parse_url(*args.text("judge-url"), "--judge-url"),
             .model = args.text("judge-model").value_or(""),
             .api_key = api_key(args, "judge-key-env"),
             .flag = "--judge-url",
             .model_flag = "--judge-model"}),
        judge(api) {}
  needle::ServerApi api;
  needle::Judge judge;
};

Json model_of(JudgeServer* judge) {
  return judge == nullptr ? Json(nullptr) : Json(judge->api.model());
}

/// Null without the flag.
std::unique_ptr<JudgeServer> judge_of(const Arguments& args) {
  if (args.has("judge-url")) return std::make_unique<JudgeServer>(args);
  for (const char* flag : {"judge-model", "judge-key-env"}) {
    if (args.has(flag)) throw bad_input(fmt::format("needle: --{} needs --judge-url", flag));
  }
  return nullptr;
}

/// A grid from its first to its last row, told as it goes. False: interrupted.
bool run_rows(const NeedleOptions& options,
              Questions& questions,
              needle::Target& target,
              needle::ResultsFile& results,
              const std::string& model,
              const std::string& attention,
              JudgeServer* judge,
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
  if (judge != nullptr) {
    run.judge = [&](const needle::BuiltPrompt& prompt, const std::string& answer) {
      return judge->judge.score(prompt, answer);
    };
  }
  run.stop = [&] { return interrupt.raised(); };
  const bool complete = needle::run_grid(questions.groups, *questions.prompts, target, run);
  std::vector<CellKey> order;
  for (const needle::PlannedRow& row : plan) order.push_back(row.key);
  if (complete) results.put_in_order(order);
  return complete;
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
    engine.snapshots = 2 * static_cast<std::int64_t>(options.depths.size()) + n + kSpareSnapshots +
                       engine.context / kTokensOfSnapshot;
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
                 JudgeServer* judge,
                 const PolledInterrupt& interrupt) {
  EngineOptions engine_of_mode = sized(engine_options(args), options);
  if (mode != kTrainedAttention) engine_of_mode.attention = mode;
  const auto engine = Engine::load(engine_of_mode);
  needle::EngineTarget target(*engine);
  needle::ResultsFile results(
      folder,
      facts_of(options, model.name, engine->numerics_id(), mode, questions.hash, model_of(judge)),
      options.resume);
  ModeRun run;
  run.complete = run_rows(options, questions, target, results, model.name, mode, judge, interrupt);
  run.rows = results.rows();
  for (const std::int64_t length : options.lengths) {
    run.bytes_read[length] = kv_bytes_read(*engine, length) +
                             static_cast<double>(engine->memory().state_bytes_per_sequence);
  }
  needle::write_reports(folder, report_facts(args, options, questions, model.name, mode), run.rows);
  return run;
}

int run_compare(const Arguments& args,
                const NeedleOptions& options,
                Questions& questions,
                const ModelFile& model,
                JudgeServer* judge,
                const PolledInterrupt& interrupt) {
  std::vector<needle::ComparedMode> modes;
  bool complete = true;
  int code = 0;
  for (const std::string& mode : options.modes) {
    write_stderr(fmt::format("{}:\n", mode));
    ModeRun run = run_mode(args, options, questions, model, mode,
                           options.out + "/" + folder_name(mode), judge, interrupt);
    code = std::max(code, exit_code(run.rows, true));
    modes.push_back({.label = mode,
                     .rows = std::move(run.rows),
                     .plan = plan_of(questions),
                     .extra = {{"bytes_read_per_token", std::move(run.bytes_read)}}});
    complete = complete && run.complete;
    if (!complete) break;
  }
  needle::write_comparison(options.out, report_facts(args, options, questions, model.name, ""),
                           modes);
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
  const std::int64_t context = texts.checkpoint.config.context;
  set_prefix(options, *options.chat);
  needle::LocalEncoder encoder(*texts.checkpoint.tokenizer, texts.chat());
  const PolledInterrupt interrupt;
  if (options.self_check) {
    if (!args.has("suite") && !args.has("task") && !args.has("needle")) {
      options.tasks = needle::all_tasks();
    }
    if (!args.has("lengths")) {
      options.leave_out = true;
      options.lengths = needle::default_lengths(context);
      std::erase_if(options.lengths, [](std::int64_t n) { return n > kSelfCheckLongest; });
    }
    const Questions questions = questions_of(options, encoder, context);
    return needle::self_check(
        questions.groups, *questions.prompts, *texts.checkpoint.tokenizer, options.scorer,
        [&] { return interrupt.raised(); }, [](const std::string& line) { write_stdout(line); });
  }
  needle::require_free(options.out, options.resume);
  const std::unique_ptr<JudgeServer> judge = judge_of(args);
  Questions questions = questions_of(options, encoder, context);
  if (!options.modes.empty()) {
    return run_compare(args, options, questions, model, judge.get(), interrupt);
  }
  const std::string mode = args.text("attention").value_or(std::string(kTrainedAttention));
  const ModeRun run =
      run_mode(args, options, questions, model, mode, options.out, judge.get(), interrupt);
  write_stdout(needle::summary_table(needle::summarize(run.rows, plan_of(questions))));
  tell_folder(options.out);
  return exit_code(run.rows, run.complete);
}

void refuse(const Arguments& args, std::initializer_list<const char*> flags, std::string_view why) {
  for (const char* flag : flags) {
    if (args.has(flag)) throw bad_input(fmt::format("needle: --{} {}", flag, why));
  }
}

int run_on_server(const Arguments& args) {
  if (!args.operands().empty()) throw bad_input("needle: MODEL and --url exclude each other");
  refuse(args, {"self-check", "compare", "cache", "attention"}, "needs a MODEL in this process");
  needle::ServerApi api({.url = serve::parse_url(*args.text("url"), "--url"),
                         .model = args.text("model").value_or(""),
                         .api_key = api_key(args, "api-key-env"),
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
  set_prefix(options, *options.chat);
  Questions questions = questions_of(options, *encoder, api.context());
  const std::unique_ptr<JudgeServer> judge = judge_of(args);
  const PolledInterrupt interrupt;
  needle::UrlTarget target(api, *options.chat);
  needle::ResultsFile results(
      options.out,
      facts_of(options, api.model(), "server", "server", questions.hash, model_of(judge.get())),
      options.resume);
  const bool complete =
      run_rows(options, questions, target, results, api.model(), "server", judge.get(), interrupt);
  needle::write_reports(options.out, report_facts(args, options, questions, api.model(), "server"),
                        results.rows());
  write_stdout(needle::summary_table(needle::summarize(results.rows(), plan_of(questions))));
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
