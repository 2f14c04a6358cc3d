#include "tools/heddle/needle_questions.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "tools/needle/ruler_file.h"

namespace heddle::cli {
namespace {

using needle::CellGroup;
using needle::CellKey;
using needle::TaskSpec;

void check_lengths(NeedleOptions& options, std::int64_t context) {
  if (options.lengths.empty()) options.lengths = needle::default_lengths(context);
  if (options.lengths.back() <= context) return;
  throw bad_input(fmt::format("--lengths: {} tokens, allowed: up to the model's context, {}",
                              options.lengths.back(), context));
}

Questions grid_questions(const NeedleOptions& options, needle::PromptEncoder& encoder) {
  Questions questions;
  questions.haystack.emplace(options.haystack.empty() ? needle::Haystack::of_essays()
                                                      : needle::Haystack::read(options.haystack));
  questions.hash = questions.haystack->hash();
  auto builder =
      std::make_unique<needle::PromptBuilder>(encoder, *questions.haystack, options.prompt);
  questions.groups = needle::groups_of({.tasks = options.tasks,
                                        .lengths = options.lengths,
                                        .depths = options.depths,
                                        .samples = options.samples,
                                        .seed = options.seed});
  // Every cell has room for its needles: the user knows before anything is asked. Samples are of
  // one form.
  std::optional<Error> left_out;
  const auto fits = [&](const TaskSpec& task, const CellKey& key) {
    try {
      if (key.sample == 0) builder->check(task, key);
      return true;
    } catch (const Error& error) {
      if (!options.leave_out) throw;
      left_out = error;
      return false;
    }
  };
  for (CellGroup& group : questions.groups) {
    std::erase_if(group.keys, [&](const CellKey& key) { return !fits(group.task, key); });
  }
  std::erase_if(questions.groups, [](const CellGroup& group) { return group.keys.empty(); });
  if (questions.groups.empty() && left_out) throw *left_out;
  questions.prompts = std::move(builder);
  return questions;
}

/// `options.lengths` become that of the longest prompt.
Questions file_questions(NeedleOptions& options,
                         needle::PromptEncoder& encoder,
                         const std::optional<std::int64_t>& context) {
  Questions questions;
  auto file = std::make_unique<needle::RulerFile>(options.ruler_data, encoder, *options.chat,
                                                  options.prompt);
  if (context && file->longest() > *context) {
    throw bad_input(
        fmt::format("--ruler-data: a prompt and its answer take {} tokens, allowed: up "
                    "to the model's context, {}",
                    file->longest(), *context));
  }
  options.lengths = {file->longest()};
  questions.groups = file->groups();
  questions.hash = file->hash();
  questions.prompts = std::move(file);
  return questions;
}

}  // namespace

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

void set_prefix(NeedleOptions& options, bool chat) {
  const std::string prefix = options.prefix.value_or(chat ? "none" : "task");
  options.prompt.task_prefix = prefix == "task";
  options.prompt.prefix = prefix == "task" || prefix == "none" ? "" : prefix;
}

Questions questions_of(NeedleOptions& options,
                       needle::PromptEncoder& encoder,
                       const std::optional<std::int64_t>& context) {
  if (!options.ruler_data.empty()) return file_questions(options, encoder, context);
  if (context) {
    check_lengths(options, *context);
  } else if (options.lengths.empty()) {
    throw bad_input("--lengths is missing: the server does not tell its context");
  }
  return grid_questions(options, encoder);
}

}  // namespace heddle::cli
