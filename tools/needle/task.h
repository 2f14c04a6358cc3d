#pragma once
// What is asked: the texts of one prompt before they are cut to a length, and the answers that
// count. The texts follow Kamradt's needle test, Landmark's pass key and RULER (arXiv 2404.06654).

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/needle/row.h"

namespace heddle::needle {

/// How an answer is compared with what is expected (scorer.h).
enum class Match {
  kAll,           // share of the expected texts that it contains
  kAny,           // whether it contains one of them
  kFirstInteger,  // whether its first integer is the expected one
};

/// What stands around the needles.
enum class Hay {
  kProse,  // sentences of the haystack's files
  kNoise,  // five short sentences again and again
  kLines,  // Draft::line(0), line(1), ...: other needles
  kBody,   // Draft::body(n): the task makes its whole text
};

/// Two wordings of the same tasks.
enum class Wording {
  kRuler,  // RULER's: "a, and b", line breaks around the text, a singular preamble for one value
  kPlain,  // that of needle-hybrid's card: "a and b", one line, the preamble always in the plural
};

struct Needle {
  std::string text;
  double depth =
      0.0;  // percent of the haystack's tokens before it; put at the nearest sentence end
};

/// One prompt: preamble, haystack with needles, question, and the begin of the answer.
struct Draft {
  std::string preamble = {};  // "": none
  Hay hay = Hay::kProse;
  /// Those of equal depth stay in this order. The first stands at the cell's depth, if it has one.
  std::vector<Needle> needles = {};
  std::function<std::string(std::int64_t)> line = {};  // kLines: the i-th line, always the same
  /// kBody: the text of n units, never shorter with more, always the same; `most_units` are all it
  /// has, and enough for the cell's length up to a million tokens.
  std::function<std::string(std::int64_t)> body = {};
  std::int64_t least_units = 1;
  std::int64_t most_units = 1;
  std::string question = {};
  std::string answer_prefix = {};  // what the answer begins with: "The pass key is"
  std::string outer = "\n";        // between preamble, text and question
  std::string inner = " ";         // between sentences, lines and needles
  std::vector<std::string> expected = {};
  Match match = Match::kAll;
  bool dotted = false;  // the answer has periods of its own: "1. oak 2. elm"
  /// Answers of the same kind that are wrong, as many as are expected; none is part of an expected
  /// text or holds one. What an answerer without knowledge might say (--self-check).
  std::vector<std::string> wrong = {};
};

/// Needle, question and answer of the user's own (--needle, --question, --answer).
struct OwnNeedle {
  std::string needle;
  std::string question;
  std::string answer;
};

/// What decides a draft beside its cell.
struct DraftOptions {
  Wording wording = Wording::kRuler;
  OwnNeedle own = {};  // of the task "custom"
};

struct TaskSpec {
  std::string_view suite;
  std::string_view name;
  std::string_view summary;        // for help texts: "a seven-digit number in prose"
  bool has_depth = false;          // cells have a depth
  std::int64_t answer_tokens = 0;  // room for the answer
  Draft (*draft)(const TaskSpec& task, const CellKey& key, const DraftOptions& options) = nullptr;
};

/// All tasks, suites one after the other: niah, niah-multi, passkey, ruler.
std::vector<TaskSpec> all_tasks();
/// Those of `suite`, or the ones named `names` of it. Throws kBadInput listing what there is.
std::vector<TaskSpec> tasks_of(std::string_view suite, const std::vector<std::string>& names);
std::vector<std::string> suite_names();
/// The user's own needle, of suite niah; in no list, for it needs DraftOptions::own.
TaskSpec custom_task();

/// Parts of all_tasks(), each of a file of tasks/.
std::span<const TaskSpec> niah_tasks();
std::span<const TaskSpec> passkey_tasks();
std::span<const TaskSpec> ruler_needle_tasks();    // niah_single_1 .. niah_multiquery
std::span<const TaskSpec> ruler_tracing_tasks();   // vt
std::span<const TaskSpec> ruler_counting_tasks();  // cwe, fwe
std::span<const TaskSpec> ruler_question_tasks();  // qa_1, qa_2

}  // namespace heddle::needle
