// Suites niah and niah-multi: needles at the depths of a grid, and Kamradt's sentence.

#include <fmt/format.h>

#include "base/error.h"
#include "tools/needle/scorer.h"
#include "tools/needle/task.h"
#include "tools/needle/tasks/magic.h"
#include "tools/needle/tasks/parts.h"

namespace heddle::needle {
namespace {

constexpr std::string_view kPlace = "San Francisco";
constexpr std::string_view kThing = "eat a sandwich and sit in Dolores Park on a sunny day";
constexpr std::string_view kOtherThing = "ride a cable car down to the harbor before breakfast";

Draft san_francisco(const TaskSpec&, const CellKey& key, const DraftOptions& options) {
  HEDDLE_CHECK(key.depth);
  Draft draft;
  lay_out(draft, options.wording);
  const std::string statement = fmt::format("The best thing to do in {} is", kPlace);
  draft.needles = {{fmt::format("{} {}.", statement, kThing), *key.depth}};
  draft.question = fmt::format("What is the best thing to do in {}?", kPlace);
  if (options.wording == Wording::kPlain) {
    draft.answer_prefix = statement;
  } else {
    draft.question +=
        " Answer from the text above only, without outside knowledge, and say it once.";
  }
  draft.expected = {std::string(kThing)};
  draft.wrong = {std::string(kOtherThing)};
  return draft;
}

/// The two share no character, so that one of them is neither part of `answer` nor holds it.
std::string wrong_answer(const std::string& answer) {
  const std::string word = "quiet-harbor";
  const bool alike = score(Scorer::kContain, Match::kAll, word, {answer}) > 0.0 ||
                     score(Scorer::kContain, Match::kAll, answer, {word}) > 0.0;
  return alike ? "4830172" : word;
}

Draft custom(const TaskSpec&, const CellKey& key, const DraftOptions& options) {
  HEDDLE_CHECK(key.depth);
  const OwnNeedle& own = options.own;
  if (own.needle.empty() || own.question.empty() || own.answer.empty()) {
    throw bad_input("task custom: needle, question and answer are needed, and none may be empty");
  }
  Draft draft;
  lay_out(draft, options.wording);
  draft.needles = {{own.needle, *key.depth}};
  draft.question = own.question;
  draft.expected = {own.answer};
  draft.wrong = {wrong_answer(own.answer)};
  return draft;
}

// Numbers and words take few tokens, a UUID about 40 where the vocabulary has only pieces of two
// digits, and a model that talks begins with a sentence.
constexpr std::int64_t kRoomOfOne = 64;
constexpr std::int64_t kRoomOfFour = 128;

constexpr TaskSpec kTasks[] = {
    {"niah", "number", "a seven-digit number in prose", true, kRoomOfOne, magic<MagicForm{}>},
    {"niah", "word", "a pair of words in prose", true, kRoomOfOne,
     magic<MagicForm{.values = ValueKind::kWord}>},
    {"niah", "uuid", "a UUID in prose", true, kRoomOfOne,
     magic<MagicForm{.values = ValueKind::kUuid}>},
    {"niah", "multikey8", "numbers of 8 keys in prose, one asked for", true, kRoomOfOne,
     magic<MagicForm{.n_keys = 8}>},
    {"niah", "san_francisco", "the best thing to do in San Francisco, in prose", true, kRoomOfOne,
     san_francisco},
    {"niah-multi", "queries4", "numbers of 4 keys in prose, all asked for", true, kRoomOfFour,
     magic<MagicForm{.n_keys = 4, .n_queries = 4}>},
    {"niah-multi", "values4", "4 numbers of one key in prose", true, kRoomOfFour,
     magic<MagicForm{.n_values = 4}>},
    {"niah-multi", "dense_uuid", "the UUID of a UUID among other such pairs", true, kRoomOfOne,
     magic<MagicForm{.hay = Hay::kLines, .keys = ValueKind::kUuid, .values = ValueKind::kUuid}>},
};

}  // namespace

std::span<const TaskSpec> niah_tasks() {
  return kTasks;
}

TaskSpec custom_task() {
  return {"niah", "custom", "a needle of your own, in prose", true, kRoomOfFour, custom};
}

}  // namespace heddle::needle
