// What the needle tasks ask: texts, places, answers, and what cells share.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "tools/needle/task.h"
#include "tools/needle/tasks/parts.h"

namespace heddle::needle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr std::uint64_t kSeeds = 200;

TaskSpec task_named(std::string_view suite, const std::string& name) {
  return tasks_of(suite, {name}).at(0);
}

CellKey cell_of(const TaskSpec& task, std::uint64_t seed = 1, double depth = 50.0) {
  CellKey key{.suite = std::string(task.suite),
              .task = std::string(task.name),
              .length = 4096,
              .seed = seed};
  if (task.has_depth) key.depth = depth;
  return key;
}

Draft draft_of(const TaskSpec& task, const CellKey& key, Wording wording = Wording::kRuler) {
  return task.draft(task, key, {.wording = wording});
}

Draft draft_of(std::string_view suite, const std::string& name, std::uint64_t seed = 1) {
  const TaskSpec task = task_named(suite, name);
  return draft_of(task, cell_of(task, seed));
}

std::string_view name_of(Hay hay) {
  switch (hay) {
    case Hay::kProse:
      return "prose";
    case Hay::kNoise:
      return "noise";
    case Hay::kLines:
      return "lines";
    case Hay::kBody:
      return "body";
  }
  return "?";
}

std::string_view name_of(Match match) {
  switch (match) {
    case Match::kAll:
      return "all";
    case Match::kAny:
      return "any";
    case Match::kFirstInteger:
      return "first integer";
  }
  return "?";
}

/// All of a draft but the rest of its lines and longer bodies.
std::string described(const Draft& draft) {
  std::string text = fmt::format("{}, {}, between parts {}, within {}\n", name_of(draft.hay),
                                 name_of(draft.match), draft.outer == "\n" ? "lines" : "spaces",
                                 draft.inner == "\n" ? "lines" : "spaces");
  const auto add = [&](std::string_view what, const std::string& part) {
    text += fmt::format("{}: {}\n", what, part);
  };
  add("preamble", draft.preamble);
  for (const Needle& needle : draft.needles) {
    add("needle", fmt::format("at {:.2f}: {}", needle.depth, needle.text));
  }
  if (draft.line) add("line 0", draft.line(0));
  if (draft.line) add("line 1", draft.line(1));
  if (draft.body) {
    const std::int64_t n = draft.least_units;
    add(fmt::format("{} units, up to {}", n, draft.most_units), draft.body(n));
  }
  add("question", draft.question);
  add("answer", draft.answer_prefix);
  add("expected", fmt::format("{}", fmt::join(draft.expected, " | ")));
  add("wrong", fmt::format("{}", fmt::join(draft.wrong, " | ")));
  return text;
}

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

/// K of "... magic numbers for K is: V."
std::string key_of(const std::string& needle) {
  const std::size_t begin = needle.find(" for ") + 5;
  return needle.substr(begin, needle.find(" is: ") - begin);
}

std::string refusal(const auto& act) {
  try {
    act();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
    return e.what();
  }
  return "";
}

// ---- the table

TEST(NeedleTasks, AreFoundBySuiteAndName) {
  EXPECT_THAT(suite_names(), ElementsAre("niah", "niah-multi", "passkey", "ruler"));
  const auto names = [](std::string_view suite, const std::vector<std::string>& wanted) {
    std::vector<std::string> found;
    for (const TaskSpec& task : tasks_of(suite, wanted)) found.emplace_back(task.name);
    return found;
  };
  EXPECT_THAT(names("niah", {}),
              ElementsAre("number", "word", "uuid", "multikey8", "san_francisco"));
  EXPECT_THAT(names("niah-multi", {}), ElementsAre("queries4", "values4", "dense_uuid"));
  EXPECT_THAT(names("passkey", {}), ElementsAre("passkey"));
  EXPECT_THAT(names("ruler", {}),
              ElementsAre("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1",
                          "niah_multikey_2", "niah_multikey_3", "niah_multivalue",
                          "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2"));
  EXPECT_THAT(names("niah", {"uuid", "number", "uuid"}), ElementsAre("number", "uuid"));
  EXPECT_EQ(all_tasks().size(), 22u);
  EXPECT_EQ(custom_task().suite, "niah");
}

TEST(NeedleTasks, ThatAreNotThereAreRefusedWithThoseThatAre) {
  EXPECT_EQ(refusal([] { tasks_of("nia", {}); }),
            "suite 'nia', allowed: niah, niah-multi, passkey, ruler");
  EXPECT_EQ(refusal([] {
              tasks_of("niah-multi", {"values4", "vt"});
            }),
            "task 'vt' of suite niah-multi, allowed: queries4, values4, dense_uuid");
}

TEST(NeedleTasks, LeaveRulersRoomForAnswers) {
  std::map<std::string_view, std::int64_t> room;
  for (const TaskSpec& task : all_tasks()) room[task.name] = task.answer_tokens;
  for (const std::string_view name :
       {"niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2",
        "niah_multikey_3", "niah_multivalue", "niah_multiquery"}) {
    EXPECT_EQ(room.at(name), 128) << name;
  }
  EXPECT_EQ(room.at("vt"), 30);
  EXPECT_EQ(room.at("cwe"), 120);
  EXPECT_EQ(room.at("fwe"), 50);
  EXPECT_EQ(room.at("qa_1"), 32);
  EXPECT_EQ(room.at("qa_2"), 32);
  EXPECT_EQ(room.at("number"), 64);
  EXPECT_EQ(room.at("values4"), 128);
}

// ---- all tasks

std::string all_described() {
  std::string text;
  for (const TaskSpec& task : all_tasks()) {
    for (const Wording wording : {Wording::kRuler, Wording::kPlain}) {
      CellKey key = cell_of(task, 7, 37.5);
      key.length = 1024;
      key.sample = 2;
      text += fmt::format("== {} {}, {}\n{}\n", task.suite, task.name,
                          wording == Wording::kPlain ? "plain" : "RULER's",
                          described(draft_of(task, key, wording)));
    }
  }
  return text;
}

/// A change here makes old results another test's: they must not be resumed.
TEST(NeedleTasks, HaveTheTextsOfTheGoldenFile) {
  std::ifstream file(HEDDLE_SOURCE_DIR "/tests/tools/needle_tasks_golden.txt");
  std::stringstream golden;
  golden << file.rdbuf();
  const std::string text = all_described();
  if (golden.str() == text) return;
  const std::string path = ::testing::TempDir() + "needle_tasks_golden.txt";
  std::ofstream(path) << text;
  FAIL() << "the texts are now those of " << path;
}

void expect_sound(const TaskSpec& task, const CellKey& key, Wording wording) {
  SCOPED_TRACE(fmt::format("{}, depth {}, seed {}", task.name, key.depth.value_or(-1), key.seed));
  const Draft draft = draft_of(task, key, wording);
  ASSERT_FALSE(draft.expected.empty());
  ASSERT_EQ(draft.wrong.size(), draft.expected.size());
  for (const std::string& expected : draft.expected) {
    for (const std::string& wrong : draft.wrong) {
      EXPECT_THAT(expected, Not(HasSubstr(wrong)));
      EXPECT_THAT(wrong, Not(HasSubstr(expected)));
    }
    EXPECT_THAT(draft.preamble, Not(HasSubstr(expected)));
    EXPECT_THAT(draft.question, Not(HasSubstr(expected)));
    EXPECT_THAT(draft.answer_prefix, Not(HasSubstr(expected)));
    // Variables of a chain are handed on to the next one.
    std::size_t n_needles = 0;
    for (const Needle& needle : draft.needles) n_needles += count_of(needle.text, expected) > 0;
    const bool passed_on = task.name == "vt" && expected != draft.expected.back();
    const std::size_t n_wanted = draft.hay == Hay::kBody ? 0 : passed_on ? 2 : 1;
    EXPECT_EQ(n_needles, n_wanted) << expected;
  }
  const std::set<std::string> different(draft.expected.begin(), draft.expected.end());
  EXPECT_EQ(different.size(), draft.expected.size());
  for (const Needle& needle : draft.needles) {
    EXPECT_GE(needle.depth, 0.0);
    EXPECT_LE(needle.depth, 100.0);
  }
  if (key.depth) {
    ASSERT_FALSE(draft.needles.empty());
    EXPECT_EQ(draft.needles[0].depth, *key.depth);
    EXPECT_THAT(draft.needles[0].text, HasSubstr(draft.expected[0]));
  }
  if (task.name != "san_francisco") {
    EXPECT_NE(draft.preamble, "");
    EXPECT_NE(draft.answer_prefix, "");
  }
  EXPECT_EQ(static_cast<bool>(draft.line), draft.hay == Hay::kLines);
  EXPECT_EQ(static_cast<bool>(draft.body), draft.hay == Hay::kBody);
  if (wording == Wording::kPlain) {
    for (const std::string* part : {&draft.preamble, &draft.question, &draft.outer, &draft.inner}) {
      EXPECT_THAT(*part, Not(HasSubstr("\n")));
    }
  }
}

TEST(NeedleTasks, AreSoundForAnySeed) {
  for (const TaskSpec& task : all_tasks()) {
    for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
      const double depth = static_cast<double>(seed % 11) * 10.0;
      for (const Wording wording : {Wording::kRuler, Wording::kPlain}) {
        expect_sound(task, cell_of(task, seed, depth), wording);
      }
    }
  }
}

TEST(NeedleTasks, AreTheSameForTheSameCellAndNewForAnother) {
  for (const TaskSpec& task : all_tasks()) {
    const CellKey key = cell_of(task);
    const std::string text = described(draft_of(task, key));
    EXPECT_EQ(text, described(draft_of(task, key))) << task.name;
    if (task.name == "san_francisco") continue;
    CellKey sample = key;
    sample.sample = 1;
    CellKey longer = key;
    longer.length = 8192;
    for (const CellKey& other : {cell_of(task, 2), sample, longer}) {
      const Draft draft = draft_of(task, other);
      EXPECT_NE(described(draft), text) << task.name;
      EXPECT_NE(draft.expected, draft_of(task, key).expected) << task.name;
    }
  }
}

TEST(NeedleTasks, ShareAllButTheAskedNeedleWithOtherDepths) {
  for (const TaskSpec& task : all_tasks()) {
    if (!task.has_depth || task.name == "san_francisco") continue;
    const Draft one = draft_of(task, cell_of(task, 1, 20.0));
    const Draft other = draft_of(task, cell_of(task, 1, 80.0));
    EXPECT_EQ(one.preamble, other.preamble);
    EXPECT_NE(one.needles[0].text, other.needles[0].text);
    EXPECT_NE(one.expected[0], other.expected[0]);
    ASSERT_EQ(one.needles.size(), other.needles.size());
    for (std::size_t i = 1; i < one.needles.size(); ++i) {
      if (task.name == "values4") {  // nothing stands before the depth
        EXPECT_GE(other.needles[i].depth, 80.0);
      } else {
        EXPECT_EQ(one.needles[i].text, other.needles[i].text);
        EXPECT_EQ(one.needles[i].depth, other.needles[i].depth);
      }
    }
    for (std::int64_t i = 0; one.line && i < 50; ++i) EXPECT_EQ(one.line(i), other.line(i));
  }
}

// ---- needles

TEST(NeedleTasks, HaveAsManyNeedlesKeysAndValuesAsTheySay) {
  struct Counts {
    const char* suite;
    const char* task;
    std::size_t needles, keys, answers;
    Hay hay;
  };
  const std::vector<Counts> all = {
      {"niah", "number", 1, 1, 1, Hay::kProse},
      {"niah", "word", 1, 1, 1, Hay::kProse},
      {"niah", "uuid", 1, 1, 1, Hay::kProse},
      {"niah", "multikey8", 8, 8, 1, Hay::kProse},
      {"niah-multi", "queries4", 4, 4, 4, Hay::kProse},
      {"niah-multi", "values4", 4, 1, 4, Hay::kProse},
      {"niah-multi", "dense_uuid", 1, 1, 1, Hay::kLines},
      {"ruler", "niah_single_1", 1, 1, 1, Hay::kNoise},
      {"ruler", "niah_single_2", 1, 1, 1, Hay::kProse},
      {"ruler", "niah_single_3", 1, 1, 1, Hay::kProse},
      {"ruler", "niah_multikey_1", 4, 4, 1, Hay::kProse},
      {"ruler", "niah_multikey_2", 1, 1, 1, Hay::kLines},
      {"ruler", "niah_multikey_3", 1, 1, 1, Hay::kLines},
      {"ruler", "niah_multivalue", 4, 1, 4, Hay::kProse},
      {"ruler", "niah_multiquery", 4, 4, 4, Hay::kProse},
  };
  for (const Counts& wanted : all) {
    for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
      const Draft draft = draft_of(wanted.suite, wanted.task, seed);
      ASSERT_EQ(draft.needles.size(), wanted.needles) << wanted.task;
      ASSERT_EQ(draft.expected.size(), wanted.answers) << wanted.task;
      EXPECT_EQ(draft.hay, wanted.hay) << wanted.task;
      std::set<std::string> keys;
      for (const Needle& needle : draft.needles) keys.insert(key_of(needle.text));
      EXPECT_EQ(keys.size(), wanted.keys) << wanted.task;
      // Asked for is what the first needles tell, in their order.
      for (std::size_t i = 0; i < wanted.answers; ++i) {
        const Needle& needle = draft.needles[i];
        EXPECT_THAT(needle.text, testing::EndsWith(" is: " + draft.expected[i] + "."));
        EXPECT_THAT(draft.question, HasSubstr(key_of(needle.text)));
        EXPECT_THAT(draft.answer_prefix, HasSubstr(key_of(needle.text)));
      }
      for (std::size_t i = wanted.answers; i < wanted.needles; ++i) {
        EXPECT_THAT(draft.question, Not(HasSubstr(key_of(draft.needles[i].text))));
      }
    }
  }
}

TEST(NeedleTasks, ExpectTheValuesOfOneKeyInTheOrderOfTheText) {
  for (const char* name : {"values4", "niah_multivalue"}) {
    const std::string suite = std::string(name) == "values4" ? "niah-multi" : "ruler";
    for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
      const std::vector<Needle> needles = draft_of(suite, name, seed).needles;
      EXPECT_TRUE(std::is_sorted(needles.begin(), needles.end(),
                                 [](auto& a, auto& b) { return a.depth < b.depth; }));
    }
  }
}

TEST(NeedleTasks, PutRulersNeedlesInProseAtDifferentPointsOfForty) {
  std::set<double> seen;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::set<double> depths;
    for (const Needle& needle : draft_of("ruler", "niah_multiquery", seed).needles) {
      depths.insert(needle.depth);
    }
    EXPECT_EQ(depths.size(), 4u);
    seen.merge(depths);
  }
  EXPECT_EQ(seen.size(), 40u);
  EXPECT_EQ(*seen.begin(), 0.0);
  EXPECT_EQ(*std::next(seen.begin()), 3.0);  // 100 / 39, rounded
  EXPECT_EQ(*seen.rbegin(), 100.0);
}

TEST(NeedleTasks, HaveHaystacksOfNeedlesWithoutTheAskedOneAndNoKeyTwice) {
  for (const auto& [suite, name] :
       std::vector<std::pair<std::string, std::string>>{{"niah-multi", "dense_uuid"},
                                                        {"ruler", "niah_multikey_2"},
                                                        {"ruler", "niah_multikey_3"}}) {
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      const Draft draft = draft_of(suite, name, seed);
      std::set<std::string> keys = {key_of(draft.needles[0].text)};
      for (std::int64_t i = 0; i < 5000; ++i) {
        const std::string line = draft.line(i);
        EXPECT_TRUE(keys.insert(key_of(line)).second) << line;
        EXPECT_EQ(line.find(draft.expected[0]), std::string::npos) << line;
      }
    }
  }
}

TEST(NeedleTasks, HaveTheSameLinesAtEveryLengthInAnyOrderOfAsking) {
  const TaskSpec task = task_named("ruler", "niah_multikey_2");
  CellKey longer = cell_of(task);
  longer.length = 65536;
  const Draft one = draft_of(task, cell_of(task));
  const Draft other = draft_of(task, longer);
  const std::string late = other.line(700);
  for (std::int64_t i = 0; i < 700; ++i) EXPECT_EQ(one.line(i), other.line(i));
  EXPECT_EQ(one.line(700), late);
}

TEST(NeedleTasks, RunOutOfKeysWithAnError) {
  const Draft draft = draft_of("ruler", "niah_multikey_2");
  EXPECT_THAT(refusal([&] { draft.line(80'000); }),
              HasSubstr("needles: the prompt is too long for this task"));
}

TEST(NeedleTasks, SpeakOfOneValueInTheSingularWhereRulerDoes) {
  const TaskSpec number = task_named("niah", "number");
  EXPECT_THAT(draft_of(number, cell_of(number)).preamble,
              StartsWith("A special magic number is hidden within the following text. "));
  EXPECT_THAT(draft_of(number, cell_of(number), Wording::kPlain).preamble,
              StartsWith("Some special magic numbers are hidden within the following text. "));
  EXPECT_THAT(draft_of("niah-multi", "values4").preamble,
              StartsWith("Some special magic numbers are hidden within the following text. "));
  EXPECT_EQ(joined({"a"}, Wording::kRuler), "a");
  EXPECT_EQ(joined({"a", "b"}, Wording::kRuler), "a, and b");
  EXPECT_EQ(joined({"a", "b"}, Wording::kPlain), "a and b");
  EXPECT_EQ(joined({"a", "b", "c"}, Wording::kRuler), "a, b, and c");
  EXPECT_EQ(joined({"a", "b", "c"}, Wording::kPlain), "a, b, and c");
}

/// configs/models/needle-hybrid/README.md, "Forms": a plain completer knows no other texts.
TEST(NeedleTasks, HaveTheFormsOfNeedleHybridsCardInPlainWording) {
  const auto asked = [](std::string_view suite, const std::string& name) {
    const TaskSpec task = task_named(suite, name);
    const Draft draft = draft_of(task, cell_of(task), Wording::kPlain);
    std::string text =
        fmt::format("{} {} {}", draft.needles[0].text, draft.question, draft.answer_prefix);
    const auto replace = [&](const std::string& what, const std::string& with) {
      for (auto at = text.find(what); at != std::string::npos; at = text.find(what)) {
        text.replace(at, what.size(), with);
      }
    };
    for (const std::string& value : draft.expected) replace(value, "V");
    if (draft.needles[0].text.starts_with("One of the ")) {
      for (std::size_t i = 0; i < draft.needles.size(); ++i) {
        replace(key_of(draft.needles[i].text), fmt::format("K{}", i + 1));
      }
    }
    return text;
  };
  EXPECT_EQ(
      asked("passkey", "passkey"),
      "The pass key is V. Remember it. V is the pass key. What is the pass key? The pass key is");
  EXPECT_EQ(
      asked("niah", "word"),
      "One of the special magic words for K1 is: V. What is the special magic word for K1 "
      "mentioned in the provided text? The special magic word for K1 mentioned in the provided "
      "text is");
  EXPECT_EQ(
      asked("niah-multi", "queries4"),
      "One of the special magic numbers for K1 is: V. What are all the special magic numbers for "
      "K1, K2, K3, and K4 mentioned in the provided text? The special magic numbers for K1, K2, "
      "K3, and K4 mentioned in the provided text are");
  EXPECT_EQ(
      asked("niah-multi", "values4"),
      "One of the special magic numbers for K1 is: V. What are all the special magic numbers for "
      "K1 mentioned in the provided text? The special magic numbers for K1 mentioned in the "
      "provided text are");
  EXPECT_EQ(asked("niah", "san_francisco"),
            "The best thing to do in San Francisco is V. What is the best thing to do in San "
            "Francisco? The best thing to do in San Francisco is");
}

TEST(NeedleTasks, HavePassKeysFromOneTo50000) {
  const TaskSpec task = task_named("passkey", "passkey");
  std::set<int> keys;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Draft draft = draft_of(task, cell_of(task, seed));
    EXPECT_EQ(draft.match, Match::kFirstInteger);
    EXPECT_EQ(count_of(draft.needles.at(0).text, draft.expected.at(0)), 2u);
    keys.insert(std::stoi(draft.expected[0]));
  }
  EXPECT_GE(*keys.begin(), 1);
  EXPECT_LE(*keys.rbegin(), 50'000);
  EXPECT_GT(keys.size(), kSeeds - 10);
}

TEST(NeedleTasks, TakeTheUsersOwnNeedle) {
  const TaskSpec task = custom_task();
  DraftOptions options{.own = {.needle = "The fee is 12 pounds.",
                               .question = "How high is the fee?",
                               .answer = "12 pounds"}};
  const Draft draft = task.draft(task, cell_of(task, 1, 40.0), options);
  EXPECT_EQ(described(draft),
            "prose, all, between parts lines, within spaces\npreamble: \n"
            "needle: at 40.00: The fee is 12 pounds.\nquestion: How high is the fee?\nanswer: \n"
            "expected: 12 pounds\nwrong: quiet-harbor\n");
  for (const char* answer : {"harbor", "QUIET", "in the quiet-harbor", "-"}) {
    options.own.answer = answer;
    EXPECT_THAT(task.draft(task, cell_of(task), options).wrong, ElementsAre("4830172")) << answer;
  }
  options.own.answer = "";
  EXPECT_EQ(refusal([&] { task.draft(task, cell_of(task), options); }),
            "task custom: needle, question and answer are needed, and none may be empty");
}

}  // namespace
}  // namespace heddle::needle
