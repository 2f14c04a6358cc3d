#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "tools/needle/task.h"

namespace heddle::needle {
namespace {

bool is_named(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::vector<TaskSpec> all_of(std::string_view suite) {
  std::vector<TaskSpec> tasks = all_tasks();
  std::erase_if(tasks, [&](const TaskSpec& task) { return task.suite != suite; });
  return tasks;
}

}  // namespace

std::vector<TaskSpec> all_tasks() {
  std::vector<TaskSpec> tasks;
  for (const std::span<const TaskSpec> part :
       {niah_tasks(), passkey_tasks(), ruler_needle_tasks(), ruler_tracing_tasks(),
        ruler_counting_tasks(), ruler_question_tasks()}) {
    tasks.insert(tasks.end(), part.begin(), part.end());
  }
  return tasks;
}

std::vector<std::string> suite_names() {
  std::vector<std::string> names;
  for (const TaskSpec& task : all_tasks()) {
    if (!is_named(names, task.suite)) names.emplace_back(task.suite);
  }
  return names;
}

std::vector<TaskSpec> tasks_of(std::string_view suite, const std::vector<std::string>& names) {
  std::vector<TaskSpec> tasks = all_of(suite);
  if (tasks.empty()) {
    throw bad_input(fmt::format("suite '{}', allowed: {}", suite, fmt::join(suite_names(), ", ")));
  }
  std::vector<std::string> known;
  known.reserve(tasks.size());
  for (const TaskSpec& task : tasks) known.emplace_back(task.name);
  for (const std::string& name : names) {
    if (is_named(known, name)) continue;
    throw bad_input(
        fmt::format("task '{}' of suite {}, allowed: {}", name, suite, fmt::join(known, ", ")));
  }
  if (!names.empty()) {
    std::erase_if(tasks, [&](const TaskSpec& task) { return !is_named(names, task.name); });
  }
  return tasks;
}

}  // namespace heddle::needle
