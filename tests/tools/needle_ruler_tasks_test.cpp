// RULER's tasks that are not about needles: chains of variables, counted words, documents.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tools/needle/task.h"

namespace heddle::needle {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr std::uint64_t kSeeds = 200;

Draft draft_of(const std::string& name, std::uint64_t seed = 1, std::int64_t length = 4096) {
  const TaskSpec task = tasks_of("ruler", {name}).at(0);
  return task.draft(task, {.suite = "ruler", .task = name, .length = length, .seed = seed}, {});
}

std::vector<std::string> split(const std::string& text, char separator = ' ') {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

std::map<std::string, std::size_t> counted(const std::vector<std::string>& words) {
  std::map<std::string, std::size_t> counts;
  for (const std::string& word : words) ++counts[word];
  return counts;
}

/// Words of "1. w 2. w", which must be numbered from 1.
std::vector<std::string> listed(const std::string& text) {
  std::vector<std::string> words;
  const std::vector<std::string> parts = split(text);
  for (std::size_t i = 0; i + 1 < parts.size(); i += 2) {
    EXPECT_EQ(parts[i], fmt::format("{}.", i / 2 + 1));
    words.push_back(parts[i + 1]);
  }
  return words;
}

// ---- vt

TEST(NeedleRulerTasks, TraceOneChainOfFourHopsInTheOrderOfTheText) {
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Draft draft = draft_of("vt", seed);
    EXPECT_EQ(draft.hay, Hay::kNoise);
    ASSERT_EQ(draft.needles.size(), 5u);
    ASSERT_EQ(draft.expected.size(), 5u);
    const std::string value = split(draft.needles[0].text)[3];
    EXPECT_EQ(value.size(), 5u);
    EXPECT_THAT(draft.question, HasSubstr(value));
    EXPECT_THAT(draft.answer_prefix, HasSubstr("5 variables that hold the value " + value));
    EXPECT_THAT(draft.preamble, Not(HasSubstr(value)));
    std::string source = value;
    for (std::size_t i = 0; i < 5; ++i) {
      const std::string& name = draft.expected[i];
      EXPECT_EQ(name.size(), 5u);
      EXPECT_EQ(draft.needles[i].text, fmt::format("VAR {} = {}", name, source));
      if (i > 0) {
        EXPECT_LE(draft.needles[i - 1].depth, draft.needles[i].depth);
      }
      source = "VAR " + name;
    }
  }
}

TEST(NeedleRulerTasks, SolveAChainOfShorterNamesFirst) {
  const std::vector<std::string> lines = split(draft_of("vt").preamble, '\n');
  std::vector<std::string> names;
  std::string value;
  for (const std::string& line : lines) {
    if (!line.starts_with("VAR ")) continue;
    if (value.empty()) value = line.substr(line.size() - 5);
    names.push_back(split(line)[1]);
    EXPECT_EQ(names.back().size(), 3u);
  }
  ASSERT_EQ(names.size(), 5u);
  EXPECT_EQ(
      lines[lines.size() - 2],
      fmt::format("Answer: The 5 variables that hold the value {} in the text above are: {} {} "
                  "{} {} {}",
                  value, names[0], names[1], names[2], names[3], names[4]));
  EXPECT_EQ(lines.front(), lines.back());  // the task, once more
  EXPECT_EQ(draft_of("vt", 1).preamble, draft_of("vt", 1, 65536).preamble);
  EXPECT_LT(draft_of("vt", 1, 1024).preamble.size(), draft_of("vt", 1).preamble.size() * 2 / 3);
}

// ---- cwe

void expect_list(const Draft& draft, std::int64_t n, std::size_t n_common, std::size_t n_others) {
  const std::map<std::string, std::size_t> counts = counted(listed(draft.body(n)));
  EXPECT_EQ(counts.size(), static_cast<std::size_t>(n));
  for (const auto& [word, count] : counts) {
    const auto at = std::find(draft.expected.begin(), draft.expected.end(), word);
    EXPECT_EQ(count, at == draft.expected.end() ? n_others : n_common) << word;
    if (at != draft.expected.end()) continue;
    for (const std::string& common : draft.expected) {
      EXPECT_EQ(word.find(common), std::string::npos) << word;
      EXPECT_EQ(common.find(word), std::string::npos) << word;
    }
  }
}

TEST(NeedleRulerTasks, RepeatTenWordsOfAListMoreOftenThanTheOthers) {
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Draft draft = draft_of("cwe", seed);
    EXPECT_EQ(draft.expected.size(), 10u);
    expect_list(draft, draft.least_units, 30, 3);
    expect_list(draft, 100, 30, 3);
    const Draft small = draft_of("cwe", seed, 4095);
    expect_list(small, small.least_units, 6, 1);
    expect_list(small, 60, 6, 1);
  }
}

TEST(NeedleRulerTasks, TakePairsWhereSingleWordsRunOut) {
  const Draft draft = draft_of("cwe", 3, 1 << 20);
  EXPECT_EQ(draft.most_units, 40'000);
  expect_list(draft, 3000, 30, 3);
  EXPECT_THAT(draft.body(3000), HasSubstr("-"));
  EXPECT_THAT(draft.body(300), Not(HasSubstr("-")));
  const auto counts = counted(listed(draft.body(draft.most_units)));
  EXPECT_EQ(counts.size(), 40'000u);
}

TEST(NeedleRulerTasks, SolveAListOfOtherWordsFirst) {
  for (const auto& [length, n_words, n_common, n_others] :
       std::vector<std::tuple<std::int64_t, std::size_t, std::size_t, std::size_t>>{
           {4096, 40, 10, 3}, {4095, 20, 3, 1}}) {
    const Draft draft = draft_of("cwe", 1, length);
    const std::vector<std::string> lines = split(draft.preamble, '\n');
    ASSERT_EQ(lines.size(), 5u);
    const auto counts = counted(listed(lines[1]));
    EXPECT_EQ(counts.size(), n_words);
    const std::string answers = lines[3].substr(lines[3].find(": 1. ") + 2);
    EXPECT_EQ(listed(answers), draft.wrong);
    for (const auto& [word, count] : counts) {
      const bool common = std::count(draft.wrong.begin(), draft.wrong.end(), word) > 0;
      EXPECT_EQ(count, common ? n_common : n_others);
      EXPECT_THAT(listed(draft.body(300)), Not(Contains(word)));
    }
  }
}

// ---- fwe

TEST(NeedleRulerTasks, CodeWordsThatGetRarerByZipfsLaw) {
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Draft draft = draft_of("fwe", seed);
    for (const std::int64_t n : {draft.least_units, draft.least_units + 1, std::int64_t{1000}}) {
      auto counts = counted(split(draft.body(n)));
      const std::size_t n_dots = counts["..."];
      counts.erase("...");
      std::vector<std::pair<std::size_t, std::string>> order;
      for (const auto& [word, count] : counts) {
        EXPECT_EQ(word.size(), 6u);
        EXPECT_EQ(word.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), std::string::npos);
        order.emplace_back(count, word);
      }
      std::sort(order.rbegin(), order.rend());
      ASSERT_GT(order.size(), 3u);
      EXPECT_GT(n_dots, order[0].first);
      for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(order[i].second, draft.expected[i]);
        EXPECT_GT(order[i].first, order[i + 1].first);
      }
    }
  }
  auto counts = counted(split(draft_of("fwe").body(1000)));
  const Draft draft = draft_of("fwe");
  EXPECT_EQ(counts["..."], 607u);              // 1000 / 1.644934
  EXPECT_EQ(counts[draft.expected[0]], 151u);  // / 4
  EXPECT_EQ(counts[draft.expected[1]], 67u);   // / 9
  EXPECT_EQ(counts[draft.expected[2]], 37u);   // / 16
}

TEST(NeedleRulerTasks, CodeAsManyWordsAsTheLengthHasFifties) {
  const Draft draft = draft_of("fwe", 1, 20'000);
  EXPECT_EQ(counted(split(draft.body(1'000'000))).size(), 400u);
  const Draft small = draft_of("fwe", 1, 64);
  EXPECT_EQ(counted(split(small.body(1'000'000))).size(), 7u);
}

// ---- qa

/// Texts of "Document 1: ...", which must be numbered from 1, a line each.
std::vector<std::string> documents(const Draft& draft, std::int64_t n) {
  std::vector<std::string> texts;
  for (const std::string& line : split(draft.body(n), '\n')) {
    const std::string begin = fmt::format("Document {}: ", texts.size() + 1);
    EXPECT_THAT(line, StartsWith(begin));
    texts.push_back(line.substr(begin.size()));
  }
  return texts;
}

std::string between(const std::string& text, const std::string& begin, const std::string& end) {
  const std::size_t at = text.find(begin);
  if (at == std::string::npos) return "";
  return text.substr(at + begin.size(), text.find(end, at + begin.size()) - at - begin.size());
}

TEST(NeedleRulerTasks, AnswerQuestionsInOneDocumentOfMany) {
  std::set<std::size_t> places;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Draft draft = draft_of("qa_1", seed);
    EXPECT_EQ(draft.match, Match::kAny);
    const bool about_town = draft.question.find("In which town was ") != std::string::npos;
    const std::string person = about_town ? between(draft.question, "town was ", " born?")
                                          : between(draft.question, "What is ", " best known");
    for (const std::int64_t n : {draft.least_units, std::int64_t{2}, std::int64_t{60}}) {
      const std::vector<std::string> texts = documents(draft, n);
      ASSERT_EQ(texts.size(), static_cast<std::size_t>(n));
      std::size_t n_gold = 0;
      for (std::size_t i = 0; i < texts.size(); ++i) {
        const bool gold = texts[i].find(draft.expected[0]) != std::string::npos;
        EXPECT_EQ(gold, texts[i].starts_with(person + " was a "));
        n_gold += gold ? 1 : 0;
        if (gold && n == 60) places.insert(i);
      }
      EXPECT_EQ(n_gold, 1u);
    }
  }
  EXPECT_GT(places.size(), 30u);
}

TEST(NeedleRulerTasks, AnswerQuestionsByWayOfASecondDocument) {
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Draft draft = draft_of("qa_2", seed);
    const std::string person = between(draft.question, "town where ", " was born?");
    ASSERT_NE(person, "");
    for (const std::int64_t n : {draft.least_units, std::int64_t{3}, std::int64_t{61}}) {
      const std::vector<std::string> texts = documents(draft, n);
      ASSERT_EQ(texts.size(), static_cast<std::size_t>(n));
      std::string town;
      for (const std::string& text : texts) {
        if (text.starts_with(person + " was a ")) town = between(text, "born in ", " in ");
      }
      ASSERT_NE(town, "");
      std::size_t n_rivers = 0;
      for (const std::string& text : texts) {
        const bool gold = text.starts_with(town + " is a town on the river ");
        if (gold) {
          EXPECT_EQ(between(text, "on the river ", "."), draft.expected[0]);
        }
        EXPECT_EQ(text.find(draft.expected[0]) != std::string::npos, gold);
        n_rivers += gold ? 1 : 0;
      }
      EXPECT_EQ(n_rivers, 1u);
    }
  }
}

TEST(NeedleRulerTasks, HaveDocumentsOfTheirOwnForAMillionTokens) {
  for (const char* name : {"qa_1", "qa_2"}) {
    const Draft draft = draft_of(name, 1, 1 << 20);
    EXPECT_EQ(draft.most_units, 12'000);
    std::set<std::string> people_and_towns;
    for (const std::string& text : documents(draft, draft.most_units)) {
      people_and_towns.insert(text.substr(0, text.find(" is a ") == std::string::npos
                                                 ? text.find(" was a ")
                                                 : text.find(" is a ")));
    }
    EXPECT_EQ(people_and_towns.size(), 12'000u);
  }
}

// ---- bodies

TEST(NeedleRulerTasks, GrowWithTheirUnitsAndAreTheSameForTheSame) {
  for (const char* name : {"cwe", "fwe", "qa_1", "qa_2"}) {
    const Draft draft = draft_of(name);
    const std::string least = draft.body(draft.least_units);
    std::size_t size = least.size();
    for (std::int64_t n = draft.least_units + 1; n <= std::min<std::int64_t>(draft.most_units, 250);
         ++n) {
      const std::size_t larger = draft.body(n).size();
      if (std::string(name) == "fwe") {
        EXPECT_GE(larger, size);  // shares are rounded down
      } else {
        EXPECT_GT(larger, size);
      }
      size = larger;
    }
    EXPECT_EQ(draft.body(draft.least_units), least) << name;
  }
}

TEST(NeedleRulerTasks, HaveUnitsEnoughForTheLengthButNotManyTimesSo) {
  for (const char* name : {"cwe", "fwe", "qa_1", "qa_2"}) {
    for (const std::int64_t length : {64, 1024, 4095, 4096, 65536, 131072}) {
      const Draft draft = draft_of(name, 1, length);
      ASSERT_LE(1, draft.least_units);
      ASSERT_LE(draft.least_units, draft.most_units);
      if (length < 1024) continue;  // the least may be too much
      // A token has one byte to about six; numbers, marks and words are tokens of their own.
      const std::string text = draft.body(draft.most_units);
      EXPECT_GT(text.size(), static_cast<std::size_t>(4 * length)) << name << " " << length;
      EXPECT_LT(text.size(), static_cast<std::size_t>(40 * length)) << name << " " << length;
    }
  }
}

}  // namespace
}  // namespace heddle::needle
