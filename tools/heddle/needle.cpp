// heddle needle: asks, scores, and tells.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/error.h"
#include "engine/engine.h"
#include "models/checkpoint.h"
#include "models/registry.h"
#include "models/tokenizer/chat_template.h"
#include "tools/heddle/commands.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"
#include "tools/heddle/needle_options.h"
#include "tools/heddle/options.h"
#include "tools/needle/engine_target.h"
#include "tools/needle/grid.h"
#include "tools/needle/results_file.h"
#include "tools/needle/run.h"
#include "tools/needle/scripted_target.h"

namespace heddle::cli {
namespace {

using needle::CellGroup;
using needle::CellKey;
using needle::Row;

constexpr std::int64_t kPromptsVersion = 1;  // of texts and choices of places: run.json
constexpr std::int64_t kSelfCheckLongest = 4096;
constexpr std::int64_t kSpareSnapshots = 16;  // ends of prompts and answers, a sparse grid

/// A checkpoint's tokenizer and template, without its weights.
struct Texts {
  Checkpoint checkpoint;
  std::optional<ChatTemplate> chat_template;
};

Texts open_texts(const std::string& path, const std::optional<bool>& chat) {
  Texts texts{.checkpoint = open_checkpoint(path), .chat_template = {}};
  const Checkpoint& checkpoint = texts.checkpoint;
  if (chat.value_or(false) && checkpoint.chat_template.empty()) {
    throw bad_input(
        fmt::format("--template chat: {}: the checkpoint has no chat template", path));
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

needle::Haystack haystack_of(const NeedleOptions& options) {
  return options.haystack.empty() ? needle::Haystack::of_essays()
                                  : needle::Haystack::read(options.haystack);
}

std::vector<CellGroup> groups_of(const NeedleOptions& options) {
  return needle::groups_of({.tasks = options.tasks,
                            .lengths = options.lengths,
                            .depths = options.depths,
                            .samples = options.samples,
                            .seed = options.seed});
}

/// Every cell has room for its needles: the first error is the user's before anything is asked.
void check_cells(const std::vector<CellGroup>& groups, needle::PromptBuilder& builder) {
  for (const CellGroup& group : groups) {
    if (group.keys.front().sample > 0) continue;  // texts of the same form
    for (const CellKey& key : group.keys) builder.check(group.task, key);
  }
}

/// What decides a row's content beside its key.
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
          {"scorer", static_cast<int>(options.scorer)},
          {"haystack", haystack_hash},
          {"needle", own.needle.empty() ? Json(nullptr)
                                        : Json({own.needle, own.question, own.answer})}};
}

/// What an engine needs for the grid: room for the longest prompts, and of each length the states
/// that the others of it begin with.
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

/// One grid from its first to its last row.
class NeedleRun {
 public:
  NeedleRun(const NeedleOptions& options, const std::vector<CellGroup>& groups)
      : options_(options), groups_(groups) {
    for (const CellGroup& group : groups) n_cells_ += group.keys.size();
  }

  /// False: interrupted.
  bool run(needle::PromptBuilder& builder,
           needle::Target& target,
           needle::ResultsFile& results,
           const std::string& model,
           const std::string& attention,
           const PolledInterrupt& interrupt) {
    needle::RunOptions run{.model = model,
                           .attention = attention,
                           .scorer = options_.scorer,
                           .concurrency = options_.concurrency};
    run.is_done = [&](const CellKey& key) { return results.has(key); };
    run.write = [&](Row row) {
      results.append(std::move(row));
      tell(++n_done_);
    };
    run.skipped = [&](const CellKey&) { tell(++n_done_); };
    run.stop = [&] { return interrupt.raised(); };
    const bool complete = needle::run_grid(groups_, builder, target, run);
    progress_.clear();
    return complete;
  }

 private:
  void tell(std::size_t n) {
    progress_.bar(static_cast<double>(n) / static_cast<double>(n_cells_),
                  fmt::format("{} of {} prompts", n, n_cells_));
  }

  const NeedleOptions& options_;
  const std::vector<CellGroup>& groups_;
  std::size_t n_cells_ = 0;
  std::size_t n_done_ = 0;
  ProgressLine progress_;
};

double mean_score(const std::vector<Row>& rows, std::size_t& n_errors) {
  double sum = 0.0;
  std::size_t n = 0;
  n_errors = 0;
  for (const Row& row : rows) {
    if (row.score) {
      sum += *row.score;
      ++n;
    } else {
      ++n_errors;
    }
  }
  return n > 0 ? sum / static_cast<double>(n) : 0.0;
}

int self_check(const Arguments& args, NeedleOptions options, const Texts& texts) {
  if (!args.has("suite") && !args.has("task") && !args.has("needle")) {
    options.tasks = needle::all_tasks();
  }
  if (!args.has("lengths")) {
    std::erase_if(options.lengths, [](std::int64_t length) { return length > kSelfCheckLongest; });
  }
  const needle::Haystack haystack = haystack_of(options);
  const ChatTemplate* chat = texts.chat_template ? &*texts.chat_template : nullptr;
  needle::LocalEncoder encoder(*texts.checkpoint.tokenizer, chat);
  needle::PromptBuilder builder(encoder, haystack, options.prompt);
  const std::vector<CellGroup> groups = groups_of(options);
  check_cells(groups, builder);
  const auto decode = [&](const needle::EncodedPrompt& prompt) {
    return texts.checkpoint.tokenizer->decode(prompt.tokens);
  };
  const PolledInterrupt interrupt;
  bool passed = true;
  for (const auto kind :
       {needle::ScriptedTarget::Kind::kKnowing, needle::ScriptedTarget::Kind::kGuessing}) {
    const bool knows = kind == needle::ScriptedTarget::Kind::kKnowing;
    needle::ScriptedTarget target(kind, decode);
    std::vector<Row> rows;
    needle::RunOptions run{.model = "script", .attention = "none", .scorer = options.scorer};
    run.write = [&](Row row) { rows.push_back(std::move(row)); };
    run.stop = [&] { return interrupt.raised(); };
    if (!needle::run_grid(groups, builder, target, run)) return kExitInterrupted;
    std::size_t n_wrong = 0;
    for (const Row& row : rows) {
      if (row.score && *row.score == (knows ? 1.0 : 0.0)) continue;
      if (++n_wrong > 5) continue;
      write_stderr(fmt::format("{}: {}\n", text_of(row.key),
                               printable(row.error.empty() ? "answered " + row.answer : row.error)));
    }
    std::size_t n_errors = 0;
    const double score = mean_score(rows, n_errors);
    write_stdout(fmt::format("{}: {:.1f} % of {} prompts, {} must be {} %: {}\n",
                             knows ? "an answerer that knows the needles"
                                   : "an answerer that does not",
                             100.0 * score, rows.size(), "score", knows ? 100 : 0,
                             n_wrong == 0 ? "ok" : fmt::format("{} are not", n_wrong)));
    passed = passed && n_wrong == 0 && !rows.empty();
  }
  return passed ? 0 : 1;
}

}  // namespace

int run_needle(const Arguments& args) {
  if (args.operands().empty()) throw bad_input("needle: MODEL is missing");
  const ModelFile model = resolve_model(args.operands()[0]);
  NeedleOptions options = needle_options(args, model.name);
  const Texts texts = open_texts(model.path, options.chat);
  const bool chat = texts.chat_template.has_value();
  check_lengths(options, texts.checkpoint.config.context);
  set_prefix(options, chat);
  if (options.self_check) return self_check(args, options, texts);
  const needle::Haystack haystack = haystack_of(options);
  needle::LocalEncoder encoder(*texts.checkpoint.tokenizer,
                               chat ? &*texts.chat_template : nullptr);
  needle::PromptBuilder builder(encoder, haystack, options.prompt);
  const std::vector<CellGroup> groups = groups_of(options);
  check_cells(groups, builder);
  const std::string attention = args.text("attention").value_or("trained");
  const PolledInterrupt interrupt;
  const auto engine = Engine::load(sized(engine_options(args), options));
  needle::EngineTarget target(*engine, options.stop);
  needle::ResultsFile results(
      options.out,
      facts_of(options, model.name, engine->numerics_id(), attention, haystack.hash(), chat),
      options.resume);
  NeedleRun run(options, groups);
  const bool complete = run.run(builder, target, results, model.name, attention, interrupt);
  std::size_t n_errors = 0;
  const double score = mean_score(results.rows(), n_errors);
  write_stdout(fmt::format("{:.1f} % of {} prompts, {} errors\n", 100.0 * score,
                           results.rows().size(), n_errors));
  if (!complete) return kExitInterrupted;
  return n_errors == 0 ? 0 : 1;
}

}  // namespace heddle::cli
