// Suite ruler: cwe, the most common words of a list, and fwe, the most frequent of coded words.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numbers>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "tools/needle/task.h"
#include "tools/needle/tasks/parts.h"
#include "tools/needle/words.h"

namespace heddle::needle {
namespace {

using Words = std::vector<std::string>;

bool overlap(std::string_view a, std::string_view b) {
  return a.find(b) != std::string_view::npos || b.find(a) != std::string_view::npos;
}

std::string numbered(const Words& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    text += fmt::format("{}{}. {}", i == 0 ? "" : " ", i + 1, words[i]);
  }
  return text;
}

// ---- cwe

constexpr std::size_t kCommon = 10;
/// Words of a list, at most: there are 60000 pairs, but a list of so many is a million tokens.
constexpr std::int64_t kMostWords = 40'000;

struct Repeats {
  std::size_t common = 0;
  std::size_t others = 0;
};

constexpr std::string_view kCountTask =
    "The numbered list below has some words much more often than others. Keep in mind which "
    "words come up most.";
constexpr std::string_view kCountQuestion =
    "Question: Which 10 words come up most often in the list above?";
constexpr std::string_view kCountPrefix =
    "Answer: The 10 words that come up most often in the list above are:";

/// Words none of which is part of another, and none of what an answer might say beside its words:
/// "numbered" has "red".
const Words& single_words() {
  constexpr std::size_t kFewestLetters = 4;
  static const Words words = [] {
    Words found;
    const auto fits = [&](std::string_view word) {
      for (const std::string_view text : {kCountTask, kCountQuestion, kCountPrefix}) {
        if (text.find(word) != std::string_view::npos) return false;
      }
      return word.size() >= kFewestLetters &&
             std::none_of(found.begin(), found.end(),
                          [&](const std::string& other) { return overlap(other, word); });
    };
    for (const auto& list : {adjectives(), nouns()}) {
      for (const std::string_view word : list) {
        if (fits(word)) found.emplace_back(word);
      }
    }
    return found;
  }();
  return words;
}

/// The words of one list: first the common ones, then single words, then pairs without a common
/// one.
class WordPool {
 public:
  WordPool(Words words, Random random) : words_(std::move(words)), random_(random) {
    random_.shuffle(words_);
  }

  Words common() const { return Words(words_.begin(), words_.begin() + kCommon); }

  const std::string& word(std::size_t i) {
    if (i >= words_.size()) add_pairs();
    HEDDLE_CHECK(i < words_.size());
    return words_[i];
  }

 private:
  bool has_common(const std::string& pair) const {
    return std::any_of(words_.begin(), words_.begin() + kCommon, [&](const std::string& word) {
      return pair.find(word) != std::string::npos;
    });
  }

  void add_pairs() {
    Words pairs;
    for (const std::string_view first : adjectives()) {
      for (const std::string_view second : nouns()) {
        std::string pair = fmt::format("{}-{}", first, second);
        if (!has_common(pair)) pairs.push_back(std::move(pair));
      }
    }
    random_.shuffle(pairs);
    words_.insert(words_.end(), pairs.begin(), pairs.end());
  }

  Words words_;
  Random random_;
};

/// A list of n different words, so of some times as many.
std::string word_list(WordPool& pool, std::size_t n, Repeats repeats, Random random) {
  Words list;
  for (std::size_t i = 0; i < n; ++i) {
    list.insert(list.end(), i < kCommon ? repeats.common : repeats.others, pool.word(i));
  }
  random.shuffle(list);
  return numbered(list);
}

Draft count_common(const TaskSpec&, const CellKey& key, const DraftOptions& options) {
  const bool is_short = key.length < 4096;
  const Repeats repeats = is_short ? Repeats{6, 1} : Repeats{30, 3};
  const Repeats example_repeats = is_short ? Repeats{3, 1} : Repeats{10, 3};
  const std::size_t n_example = is_short ? 20 : 40;
  Draft draft;
  draft.dotted = true;
  draft.hay = Hay::kBody;
  lay_out(draft, options.wording);

  // The example has words of its own and is the same for all samples: its answers are wrong ones.
  Random random = draw(key, "example", Same::kSamples);
  Words words = single_words();
  random.shuffle(words);
  const auto border = words.begin() + static_cast<std::ptrdiff_t>(n_example);
  WordPool example(Words(words.begin(), border), random);
  draft.wrong = example.common();
  draft.preamble = fmt::format("{1}{0}{2}{0}{3}{0}{4} {5}{0}{1}", draft.outer, kCountTask,
                               word_list(example, n_example, example_repeats, random),
                               kCountQuestion, kCountPrefix, numbered(draft.wrong));

  const auto pool =
      std::make_shared<WordPool>(Words(border, words.end()), draw(key, "words", Same::kNone));
  draft.expected = pool->common();
  const Random order = draw(key, "order", Same::kNone);
  draft.body = [pool, repeats, order](std::int64_t n) {
    return word_list(*pool, static_cast<std::size_t>(n), repeats, order);
  };
  // Each word takes two tokens or more, with its number: so many are enough.
  const std::int64_t enough = key.length / static_cast<std::int64_t>(2 * repeats.others);
  draft.least_units = kCommon + 1;
  draft.most_units = std::clamp(enough, draft.least_units, kMostWords);
  draft.question = kCountQuestion;
  draft.answer_prefix = kCountPrefix;
  return draft;
}

// ---- fwe

constexpr std::size_t kAsked = 3;
constexpr std::size_t kCodeLetters = 6;
/// From here on each of the ranks 2, 3, 4 and 5 has more words than the next: by Zipf's law rank 4
/// has n (1/16 - 1/25) / zeta(2) more than rank 5, which is to be one or more.
constexpr std::int64_t kLeastCoded = 74;

/// Ranks from 1: dots, then words of six letters, no two alike.
Words coded_words(std::size_t n, Random& random) {
  Words words = {"..."};
  std::unordered_set<std::string> used;
  while (words.size() < n) {
    std::string word;
    for (std::size_t i = 0; i < kCodeLetters; ++i)
      word += static_cast<char>('a' + random.below(26));
    if (used.insert(word).second) words.push_back(word);
  }
  return words;
}

/// Of each rank n / zeta(2) / rank^2 words, rounded down, in any order.
std::string coded_text(const Words& words, std::int64_t n, Random random) {
  constexpr double kZeta2 = std::numbers::pi * std::numbers::pi / 6.0;
  std::vector<std::size_t> ranks;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto rank = static_cast<double>(i + 1);
    const double share = static_cast<double>(n) / kZeta2 / (rank * rank);
    ranks.insert(ranks.end(), static_cast<std::size_t>(share), i);
  }
  random.shuffle(ranks);
  std::string text;
  for (const std::size_t rank : ranks) text += (text.empty() ? "" : " ") + words[rank];
  return text;
}

Draft count_frequent(const TaskSpec&, const CellKey& key, const DraftOptions& options) {
  Draft draft;
  draft.hay = Hay::kBody;
  lay_out(draft, options.wording);
  Random random = draw(key, "words", Same::kNone);
  constexpr std::size_t kFewest = 1 + 2 * kAsked;  // dots, answers, wrong answers
  const Words words =
      coded_words(std::max(static_cast<std::size_t>(key.length) / 50, kFewest), random);
  draft.expected = Words(words.begin() + 1, words.begin() + 1 + kAsked);
  draft.wrong = Words(words.begin() + 1 + kAsked, words.begin() + kFewest);
  draft.preamble =
      "The text below is made of coded words. Keep count of how often each of them comes up.";
  draft.body = [words, random](std::int64_t n) { return coded_text(words, n, random); };
  draft.least_units = kLeastCoded;
  draft.most_units = std::max(key.length, kLeastCoded);
  draft.question =
      "Question: Which three coded words come up most often in the text above? Dots are no word. "
      "Name the three words without any explanation.";
  draft.answer_prefix =
      "Answer: The three coded words that come up most often in the text above are:";
  return draft;
}

constexpr TaskSpec kTasks[] = {
    {"ruler", "cwe", "the 10 most common words of a list", false, 120, count_common},
    {"ruler", "fwe", "the 3 most frequent of coded words", false, 50, count_frequent}};

}  // namespace

std::span<const TaskSpec> ruler_counting_tasks() {
  return kTasks;
}

}  // namespace heddle::needle
