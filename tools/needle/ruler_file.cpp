#include "tools/needle/ruler_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"
#include "models/quote_text.h"
#include "tools/heddle/io.h"

namespace heddle::needle {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kAnswerTokens = 128;  // of tasks that RULER does not have
constexpr std::string_view kSuite = "ruler";

/// RULER writes DATA/TASK/validation.jsonl.
std::string task_name(const std::string& path) {
  const fs::path file = fs::absolute(path);
  const std::string stem = file.stem().string();
  const bool by_folder = stem == "validation" || stem == "test";
  return by_folder ? file.parent_path().filename().string() : stem;
}

std::int64_t room_of(const std::string& name) {
  for (const TaskSpec& task : all_tasks()) {
    if (task.suite == kSuite && task.name == name) return task.answer_tokens;
  }
  return kAnswerTokens;
}

std::string text_of_key(const Json& line, const char* key, const std::string& where) {
  const auto it = line.find(key);
  if (it == line.end() || !it->is_string()) {
    throw bad_input(fmt::format("{}: the text '{}' is missing", where, key));
  }
  return it->get<std::string>();
}

std::vector<std::string> outputs_of(const Json& line, const std::string& where) {
  std::vector<std::string> outputs;
  const auto it = line.find("outputs");
  if (it != line.end() && it->is_array()) {
    for (const Json& output : *it) {
      if (output.is_string() && !output.get_ref<const std::string&>().empty()) {
        outputs.push_back(output.get<std::string>());
      }
    }
    if (!outputs.empty() && outputs.size() == it->size()) return outputs;
  }
  throw bad_input(fmt::format("{}: 'outputs' must be a list of texts, none of them empty", where));
}

}  // namespace

RulerFile::RulerFile(const std::vector<std::string>& paths,
                     PromptEncoder& encoder,
                     bool chat,
                     const PromptOptions& options)
    : encoder_(encoder) {
  if (options.stop_is_given) stop_ = options.stop;
  for (const std::string& path : paths) read(path, chat, options.answer_tokens);
  for (const std::string& name : names_) {
    if (std::count(names_.begin(), names_.end(), name) == 1) continue;
    throw bad_input(fmt::format("--ruler-data: two files of the task {}", quote_text(name)));
  }
}

void RulerFile::read(const std::string& path, bool chat, std::int64_t answer_tokens) {
  const std::string text = cli::read_input(path);
  hash_ = sha256_hex(hash_ + sha256_hex(text));
  const std::string& name = names_.emplace_back(task_name(path));
  const TaskSpec task{.suite = kSuite,
                      .name = name,
                      .summary = "a file of RULER's",
                      .has_depth = false,
                      .answer_tokens = answer_tokens > 0 ? answer_tokens : room_of(name)};
  std::size_t number = 0;
  std::int64_t sample = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view bytes = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (bytes.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", path, number);
    const Json json = parse_json(bytes, where);
    if (!json.is_object()) throw bad_input(where + ": must be a JSON object");
    Line line{.task = task,
              .key = {.suite = std::string(kSuite), .task = name, .sample = sample++},
              .text = text_of_key(json, "input", where),
              .prefix = json.contains("answer_prefix") ? text_of_key(json, "answer_prefix", where)
                                                       : std::string(),
              .expected = outputs_of(json, where)};
    if (!chat) line.text += std::exchange(line.prefix, "");
    const std::int64_t needed =
        encoder_.encode(line.text, line.prefix).n_tokens + task.answer_tokens;
    line.key.length = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(needed)));
    longest_ = std::max(longest_, needed);
    lines_.push_back(std::move(line));
  }
  if (sample == 0) throw bad_input(path + ": holds no prompt");
}

std::vector<CellGroup> RulerFile::groups() const {
  std::vector<CellGroup> groups;
  for (const Line& line : lines_) groups.push_back({.task = line.task, .keys = {line.key}});
  return groups;
}

BuiltPrompt RulerFile::build(const TaskSpec& task, const CellKey& key) {
  const auto line = std::find_if(lines_.begin(), lines_.end(), [&](const Line& l) {
    return l.key.task == key.task && l.key.sample == key.sample;
  });
  HEDDLE_CHECK(line != lines_.end());
  const bool any = key.task.starts_with("qa");
  return {.key = key,
          .prompt = encoder_.encode(line->text, line->prefix),
          .answer_tokens = task.answer_tokens,
          .expected = line->expected,
          .match = any ? Match::kAny : Match::kAll,
          .stop = stop_};
}

}  // namespace heddle::needle
