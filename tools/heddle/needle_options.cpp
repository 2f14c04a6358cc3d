#include "tools/heddle/needle_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

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

needle::Scorer scorer_of(const Arguments& args) {
  const std::string name = args.text("scorer").value_or("task");
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

void take_prefix(const Arguments& args, NeedleOptions& options) {
  const auto prefix = args.text("answer-prefix");
  if (!prefix) return;
  options.prefix = *prefix;
}

}  // namespace

NeedleOptions needle_options(const Arguments& args, const std::string& model) {
  NeedleOptions options;
  options.suite = args.text("suite").value_or("niah");
  if (const auto own = own_needle(args)) {
    options.tasks = {needle::custom_task()};
    options.prompt.draft.own = *own;
  } else {
    options.tasks = needle::tasks_of(options.suite, args.texts("task"));
  }
  if (const auto text = args.text("lengths")) options.lengths = needle::read_lengths(*text);
  options.depths = needle::read_depths(args.text("depths").value_or("11"),
                                       args.text("spacing").value_or("linear") == "sigmoid");
  options.samples = args.integer("samples").value_or(1);
  options.seed = static_cast<std::uint64_t>(args.integer("seed").value_or(0));
  options.haystack = args.text("haystack").value_or("");
  if (const auto text = args.text("template")) options.chat = *text == "chat";
  options.prompt.draft.wording = wording_of(args, model);
  options.prompt.answer_tokens = args.integer("answer-tokens").value_or(0);
  take_prefix(args, options);
  options.stop = args.texts("stop");
  if (options.stop.empty() && options.prompt.draft.wording == needle::Wording::kPlain) {
    options.stop = {"."};
  }
  options.scorer = scorer_of(args);
  options.reuse = args.text("cache").value_or("on") == "on";
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
  if (modes.size() < 2) {
    throw bad_input(fmt::format("--compare: {} is one mode, at least two are needed", quote_text(text)));
  }
  return modes;
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
