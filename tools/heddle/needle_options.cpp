#include "tools/heddle/needle_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "base/error.h"
#include "models/attention_mode.h"
#include "models/quote_text.h"
#include "tools/needle/grid.h"

namespace heddle::cli {
namespace {

constexpr std::string_view kPlainModel = "needle-hybrid";  // has learned Wording::kPlain

needle::Wording wording_of(const Arguments& args, const std::string& model) {
  const std::string fallback = model == kPlainModel ? "plain" : "ruler";
  return args.text("wording").value_or(fallback) == "plain" ? needle::Wording::kPlain
                                                            : needle::Wording::kRuler;
}

needle::Scorer scorer_of(const std::string& name) {
  if (name == "contain") return needle::Scorer::kContain;
  if (name == "rouge1") return needle::Scorer::kRouge1;
  return name == "exact" ? needle::Scorer::kExact : needle::Scorer::kTask;
}

/// The three flags go together.
std::optional<needle::OwnNeedle> own_needle(const Arguments& args) {
  const auto needle = args.text("needle");
  const auto question = args.text("question");
  const auto answer = args.text("answer");
  if (!needle && !question && !answer) return std::nullopt;
  for (const char* flag : {"needle", "question", "answer"}) {
    if (args.text(flag).value_or("").empty()) {
      throw bad_input(
          fmt::format("--{} is missing: --needle, --question and --answer go together", flag));
    }
  }
  for (const char* flag : {"suite", "task"}) {
    if (args.has(flag)) throw bad_input(fmt::format("--needle and --{} exclude each other", flag));
  }
  return needle::OwnNeedle{.needle = *needle, .question = *question, .answer = *answer};
}

std::vector<needle::TaskSpec> tasks_of(const std::string& suite, const Arguments& args) {
  try {
    return needle::tasks_of(suite, args.texts("task"));
  } catch (const Error& error) {
    throw bad_input(fmt::format("--task: {}", error.what()));
  }
}

/// As a shell reads it.
std::string quoted(const std::string& text) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("-_./:,@%+=").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

}  // namespace

NeedleOptions needle_options(const Arguments& args, const std::string& model) {
  NeedleOptions options;
  options.suite = args.text("suite").value_or("niah");
  if (const auto own = own_needle(args)) {
    options.tasks = {needle::custom_task()};
    options.prompt.draft.own = *own;
  } else {
    options.tasks = tasks_of(options.suite, args);
  }
  if (const auto text = args.text("lengths")) options.lengths = needle::read_lengths(*text);
  options.depths = needle::read_depths(args.text("depths").value_or("11"),
                                       args.text("spacing").value_or("linear") == "sigmoid");
  options.samples = args.integer("samples").value_or(1);
  options.seed = static_cast<std::uint64_t>(args.integer("seed").value_or(0));
  options.haystack = args.text("haystack").value_or("");
  options.ruler_data = args.texts("ruler-data");
  if (!options.ruler_data.empty()) {
    for (const char* flag : {"suite", "task", "lengths", "depths", "spacing", "samples", "seed",
                             "needle", "haystack", "wording", "answer-prefix"}) {
      if (!args.has(flag)) continue;
      throw bad_input(fmt::format("--ruler-data and --{} exclude each other", flag));
    }
    options.suite = "ruler";
  }
  if (const auto text = args.text("template")) options.chat = *text == "chat";
  options.prompt.draft.wording = wording_of(args, model);
  options.prompt.answer_tokens = args.integer("answer-tokens").value_or(0);
  options.prefix = args.text("answer-prefix");
  options.prompt.stop = args.texts("stop");
  options.prompt.stop_is_given = !options.prompt.stop.empty();
  for (const std::string& stop : options.prompt.stop) {
    if (stop.empty()) throw bad_input("--stop: '' is not valid; allowed: text of 1 to 1024 bytes");
  }
  if (options.prompt.stop.empty() && options.prompt.draft.wording == needle::Wording::kPlain) {
    options.prompt.stop = {"."};
  }
  options.scorer_name = args.text("scorer").value_or("task");
  options.scorer = scorer_of(options.scorer_name);
  options.reuse = args.text("cache").value_or("on") == "on";
  if (args.has("judge-url") && args.integer("concurrency").value_or(1) > 1) {
    throw bad_input("--judge-url needs --concurrency 1: answers are judged one by one");
  }
  if (args.has("judge-url") && args.has("scorer")) {
    throw bad_input("--judge-url and --scorer exclude each other");
  }
  options.concurrency = static_cast<std::size_t>(args.integer("concurrency").value_or(1));
  if (const auto text = args.text("compare")) {
    if (args.has("attention")) throw bad_input("--compare and --attention exclude each other");
    options.modes = attention_modes(*text);
  }
  options.self_check = args.on("self-check");
  options.resume = args.on("resume");
  options.out = args.text("out").value_or("needle-" + folder_name(model));
  if (options.out.empty()) throw bad_input("--out: '' is not valid; allowed: the name of a folder");
  return options;
}

std::vector<std::string> attention_modes(const std::string& text) {
  std::vector<std::string> modes;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    begin = end + 1;
    const bool continues =
        !modes.empty() && !part.empty() && std::isdigit(static_cast<unsigned char>(part[0])) != 0;
    if (continues) {
      modes.back() += "," + part;
    } else {
      modes.push_back(part);
    }
  }
  for (const std::string& mode : modes) {
    try {
      check_attention_mode(mode);
    } catch (const Error& error) {
      throw bad_input(fmt::format("--compare: {}", error.what()));
    }
    if (std::count(modes.begin(), modes.end(), mode) > 1) {
      throw bad_input(fmt::format("--compare: {} is there twice", quote_text(mode)));
    }
  }
  std::map<std::string, std::string> folders;
  for (const std::string& mode : modes) {
    const auto [it, is_new] = folders.try_emplace(folder_name(mode), mode);
    if (is_new) continue;
    throw bad_input(fmt::format("--compare: {} and {} would have one folder, {}",
                                quote_text(it->second), quote_text(mode), it->first));
  }
  if (modes.size() < 2) {
    throw bad_input(
        fmt::format("--compare: {} is one mode, at least two are needed", quote_text(text)));
  }
  return modes;
}

std::string command_line(const Arguments& args) {
  std::string line = fmt::format("heddle {}", args.command().name);
  for (const std::string& operand : args.operands()) line += " " + quoted(operand);
  for (const FlagSpec* flag : flags_of(args.command())) {
    if (flag->kind == ValueKind::kSwitch) {
      if (args.on(flag->name)) line += fmt::format(" --{}", flag->name);
      continue;
    }
    for (const std::string& value : args.texts(flag->name)) {
      line += fmt::format(" --{} {}", flag->name, quoted(value));
    }
  }
  return line;
}

std::vector<std::string> needle_notes(const NeedleOptions& options) {
  std::vector<std::string> notes = {
      "A length is that of prompt and answer together, in the model's own tokens, template "
      "included, "
      "and exact. A needle stands behind the sentence that ends nearest to its depth.",
      "A score says that a text was copied from where it stood, for these needles, this wording "
      "and "
      "this haystack. It does not say that the model understands a text of that length, reasons "
      "over "
      "it, or finds what shares no words with the question.",
      "With one sample a cell is right or wrong by a single prompt: small differences between two "
      "pictures are chance."};
  if (options.suite == "ruler") {
    notes.emplace_back(
        "The tasks are ruler-like: RULER's kinds, made by Heddle's own generator. Scores are near "
        "to "
        "RULER's, not the same.");
  }
  return notes;
}

std::string folder_name(std::string_view text) {
  std::string name;
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_';
    name += plain ? c : '-';
  }
  return name.empty() || name[0] == '.' ? "_" + name : name;
}

}  // namespace heddle::cli
