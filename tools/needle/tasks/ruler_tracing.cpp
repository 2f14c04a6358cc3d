// Suite ruler: vt, variables that pass on a value.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "tools/needle/haystack.h"
#include "tools/needle/task.h"
#include "tools/needle/tasks/parts.h"

namespace heddle::needle {
namespace {

constexpr std::size_t kVariables = 5;  // one chain of four hops
constexpr std::size_t kNameLetters = 5;
constexpr std::size_t kExampleLetters = 3;  // so that no name of the example is one of the text

constexpr std::string_view kTask =
    "The text below gives a value to a variable and hands it on from one variable to the next. "
    "Keep track of which variables hold which value.";

/// Names of capitals that no two share, put to those in `used`.
std::vector<std::string> fresh_names(std::size_t letters,
                                     std::vector<std::string>& used,
                                     Random& random) {
  std::vector<std::string> names;
  while (names.size() < kVariables) {
    std::string name;
    for (std::size_t i = 0; i < letters; ++i) name += static_cast<char>('A' + random.below(26));
    if (std::find(used.begin(), used.end(), name) != used.end()) continue;
    used.push_back(name);
    names.push_back(name);
  }
  return names;
}

std::string number5(Random& random) {
  return fmt::format("{}", 10'000 + random.below(90'000));
}

/// VAR A = 12345, VAR B = VAR A, ...; in one line each is a sentence.
std::vector<std::string> statements(const std::vector<std::string>& names,
                                    const std::string& value,
                                    Wording wording) {
  std::vector<std::string> texts;
  std::string source = value;
  for (const std::string& name : names) {
    texts.push_back(
        fmt::format("VAR {} = {}{}", name, source, wording == Wording::kPlain ? "." : ""));
    source = "VAR " + name;
  }
  return texts;
}

std::string question(const std::string& value) {
  return fmt::format(
      "Question: Which variables hold the value {} in the text above, by themselves or through "
      "another variable?",
      value);
}

std::string answer_prefix(const std::string& value) {
  return fmt::format(
      "Answer: The {} variables that hold the value {} in the text above are:", kVariables, value);
}

struct Example {
  std::string value;
  std::string text;
};

/// A solved one, the same for all samples: about 600 tokens, 250 for short texts.
Example example(const CellKey& key, Wording wording, const Draft& layout) {
  const int n_rounds = key.length < 4096 ? 1 : 3;  // of noise around each statement
  Random random = draw(key, "example", Same::kSamples);
  std::vector<std::string> used;
  const std::vector<std::string> names = fresh_names(kExampleLetters, used, random);
  Example solved;
  solved.value = number5(random);
  const std::vector<std::string> noise = noise_sentences();
  std::vector<std::string> parts;
  for (const std::string& statement : statements(names, solved.value, wording)) {
    for (int i = 0; i < n_rounds; ++i) parts.insert(parts.end(), noise.begin(), noise.end());
    parts.push_back(statement);
  }
  parts.insert(parts.end(), noise.begin(), noise.end());
  solved.text =
      fmt::format("{1}{0}{2}{0}{3} {4}", layout.outer, fmt::join(parts, layout.inner),
                  question(solved.value), answer_prefix(solved.value), fmt::join(names, " "));
  return solved;
}

Draft trace(const TaskSpec&, const CellKey& key, const DraftOptions& options) {
  Draft draft;
  draft.hay = Hay::kNoise;
  lay_out(draft, options.wording, true);
  const Example solved = example(key, options.wording, draft);
  draft.preamble = fmt::format("{1}{0}{2}{0}{1}", draft.outer, kTask, solved.text);
  Random random = draw(key, "chain", Same::kNone);
  std::vector<std::string> used;
  draft.expected = fresh_names(kNameLetters, used, random);
  draft.wrong = fresh_names(kNameLetters, used, random);
  std::string value = solved.value;
  while (value == solved.value) value = number5(random);
  std::vector<double> depths;
  for (std::size_t i = 0; i < kVariables; ++i) depths.push_back(random.uniform(0.0, 100.0));
  std::sort(depths.begin(), depths.end());
  const std::vector<std::string> texts = statements(draft.expected, value, options.wording);
  for (std::size_t i = 0; i < kVariables; ++i) draft.needles.push_back({texts[i], depths[i]});
  draft.question = question(value);
  draft.answer_prefix = answer_prefix(value);
  return draft;
}

constexpr TaskSpec kTasks[] = {
    {"ruler", "vt", "the 5 variables of a chain of assignments in noise", false, 30, trace}};

}  // namespace

std::span<const TaskSpec> ruler_tracing_tasks() {
  return kTasks;
}

}  // namespace heddle::needle
