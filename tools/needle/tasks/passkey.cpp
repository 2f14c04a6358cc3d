// Suite passkey: Landmark's pass key (arXiv 2305.16300) in noise.

#include <fmt/format.h>

#include "base/error.h"
#include "tools/needle/task.h"
#include "tools/needle/tasks/parts.h"
#include "tools/needle/words.h"

namespace heddle::needle {
namespace {

/// One that neither holds `key` nor is part of it.
std::string other_key(const std::string& key, Random& random) {
  for (;;) {
    std::string other = passkey(random);
    if (other.find(key) == std::string::npos && key.find(other) == std::string::npos) return other;
  }
}

Draft draft_passkey(const TaskSpec&, const CellKey& key, const DraftOptions& options) {
  HEDDLE_CHECK(key.depth);
  Random random = draw(key, "pass key", Same::kNone);
  const std::string value = passkey(random);
  Draft draft;
  draft.hay = Hay::kNoise;
  lay_out(draft, options.wording);
  draft.preamble =
      "There is an important info hidden inside a lot of irrelevant text. Find it and memorize "
      "it. I will quiz you about the important information there.";
  draft.needles = {
      {fmt::format("The pass key is {0}. Remember it. {0} is the pass key.", value), *key.depth}};
  draft.question = "What is the pass key?";
  draft.answer_prefix = "The pass key is";
  draft.expected = {value};
  draft.match = Match::kFirstInteger;
  draft.wrong = {other_key(value, random)};
  return draft;
}

// Landmark has 10 tokens, which is too few for a model that begins with a sentence.
constexpr TaskSpec kTasks[] = {
    {"passkey", "passkey", "a number from 1 to 50000 in noise", true, 32, draft_passkey}};

}  // namespace

std::span<const TaskSpec> passkey_tasks() {
  return kTasks;
}

}  // namespace heddle::needle
