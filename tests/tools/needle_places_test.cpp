// Where needles stand in prompts, and how long these are: all tasks, with tokenizers of several
// kinds, with and without a template.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/tokenizer/chat_template.h"
#include "tests/support/needle_texts.h"
#include "tools/needle/prompt.h"
#include "tools/needle/run.h"

namespace heddle::needle {
namespace {

struct Form {
  const char* name;
  std::unique_ptr<const Tokenizer> (*make)();
  bool chat;
  Wording wording;
  std::vector<std::int64_t> lengths;  // of tasks but ruler's
  std::vector<std::int64_t> ruler;    // which have long examples
};

class NeedlePlaces : public ::testing::TestWithParam<Form> {
 protected:
  NeedlePlaces() {
    if (GetParam().chat) chat_.emplace(test::kChatMl);
    encoder_.emplace(*tokenizer_, chat_ ? &*chat_ : nullptr);
    builder_.emplace(*encoder_, haystack_, options());
    for (const std::string& sentence : haystack_.sentences()) {
      longest_ = std::max(longest_, encoder_->count_piece(" " + sentence));
    }
  }
  static PromptOptions options() {
    return {.draft = {.wording = GetParam().wording}, .task_prefix = !GetParam().chat};
  }
  const std::vector<std::int64_t>& lengths_of(const TaskSpec& task) const {
    return task.suite == "ruler" ? GetParam().ruler : GetParam().lengths;
  }
  static CellKey key_of(const TaskSpec& task,
                        std::int64_t length,
                        double depth,
                        std::int64_t sample = 0) {
    CellKey key{.suite = std::string(task.suite),
                .task = std::string(task.name),
                .length = length,
                .seed = 3,
                .sample = sample};
    if (task.has_depth) key.depth = depth;
    return key;
  }
  std::int64_t n_tokens(const std::string& text) {
    return static_cast<std::int64_t>(
        tokenizer_->encode(text, {.add_special = false, .parse_special = false}).size());
  }

  /// The needle of the cell's depth, once, at an end of a sentence that is near to the depth.
  void expect_place(const Draft& draft, const BuiltPrompt& built) {
    const std::string& text = built.prompt.text;
    const std::string& needle = draft.needles.at(0).text;
    const std::size_t at = text.find(needle);
    ASSERT_NE(at, std::string::npos);
    EXPECT_EQ(text.find(needle, at + 1), std::string::npos);
    EXPECT_NE(tokenizer_->decode(built.prompt.tokens).find(needle), std::string::npos);
    if (at > 0) {
      EXPECT_TRUE(text[at - 1] == ' ' || text[at - 1] == '\n') << text[at - 1];
      const std::size_t end = text.find_last_not_of(" \n\"')", at - 1);
      ASSERT_NE(end, std::string::npos);
      // Lines and assignments of ruler's wording have line breaks between them.
      const bool line = text[at - 1] == '\n' && draft.hay != Hay::kProse;
      EXPECT_TRUE(line || std::string_view(".?!").find(text[end]) != std::string::npos)
          << text.substr(end > 40 ? end - 40 : 0, 60);
    }
    if (!built.key.depth) return;
    const std::size_t begin = draft.preamble.empty() ? 0 : draft.preamble.size() + 1;
    ASSERT_LE(begin, at);
    const std::size_t end = text.size() - draft.question.size() - 1;
    ASSERT_LE(at + needle.size(), end);
    std::string before = text.substr(begin, at - begin);
    std::string after = text.substr(at + needle.size(), end - at - needle.size());
    for (std::size_t i = 1; i < draft.needles.size(); ++i) {  // they are no haystack
      for (std::string* part : {&before, &after}) {
        const std::size_t other = part->find(draft.needles[i].text);
        if (other != std::string::npos) part->erase(other, draft.needles[i].text.size());
      }
    }
    const auto n_before = static_cast<double>(n_tokens(before));
    const auto all = n_before + static_cast<double>(n_tokens(after));
    EXPECT_LE(std::abs(n_before - all * *built.key.depth / 100.0),
              static_cast<double>(longest_) / 2.0 + 8.0);
  }

  Haystack haystack_ = Haystack::of_essays();
  std::unique_ptr<const Tokenizer> tokenizer_ = GetParam().make();
  std::optional<ChatTemplate> chat_;
  std::optional<LocalEncoder> encoder_;
  std::optional<PromptBuilder> builder_;
  std::int64_t longest_ = 0;
};

TEST_P(NeedlePlaces, EveryTaskHasItsLengthAndItsNeedlesAtTheirPlaces) {
  for (const TaskSpec& task : all_tasks()) {
    for (const std::int64_t length : lengths_of(task)) {
      for (const double depth : {0.0, 37.5, 100.0}) {
        if (!task.has_depth && depth > 0.0) continue;
        for (std::int64_t sample = 0; sample < 2; ++sample) {
          const CellKey key = key_of(task, length, depth, sample);
          SCOPED_TRACE(text_of(key));
          const BuiltPrompt built = builder_->build(task, key);
          EXPECT_EQ(built.answer_tokens, task.answer_tokens);
          EXPECT_EQ(built.prompt.n_tokens + built.answer_tokens, length);
          EXPECT_EQ(static_cast<std::int64_t>(built.prompt.tokens.size()), built.prompt.n_tokens);
          EXPECT_EQ(built.key, key);
          const Draft draft = task.draft(task, key, options().draft);
          EXPECT_EQ(built.expected, draft.expected);
          if (!draft.needles.empty()) expect_place(draft, built);
        }
      }
    }
  }
}

/// In prose and, with other tokens where lines meet, in lines.
TEST_P(NeedlePlaces, LengthsInARowAreAllExact) {
  const std::int64_t first = GetParam().lengths.back();
  for (const auto& task :
       {tasks_of("niah", {"number"}).at(0), tasks_of("niah-multi", {"dense_uuid"}).at(0)}) {
    for (std::int64_t length = first - 40; length < first; ++length) {
      const CellKey key = key_of(task, length, 50.0);
      SCOPED_TRACE(text_of(key));
      const BuiltPrompt built = builder_->build(task, key);
      ASSERT_EQ(static_cast<std::int64_t>(built.prompt.tokens.size()) + built.answer_tokens,
                length);
    }
  }
}

TEST_P(NeedlePlaces, DepthsShareWhatIsBeforeTheNeedle) {
  for (const std::string name : {"number", "uuid", "multikey8"}) {
    const TaskSpec task = tasks_of("niah", {name}).at(0);
    const std::int64_t length = GetParam().lengths.back();
    const auto deepest = builder_->build(task, key_of(task, length, 100.0)).prompt;
    for (const double depth : {0.0, 20.0, 50.0, 80.0}) {
      SCOPED_TRACE(fmt::format("{} at {}", name, depth));
      const auto prompt = builder_->build(task, key_of(task, length, depth)).prompt;
      const auto mismatch = std::mismatch(prompt.text.begin(), prompt.text.end(),
                                          deepest.text.begin(), deepest.text.end());
      const auto shared = static_cast<std::size_t>(mismatch.first - prompt.text.begin());
      if (name != "multikey8") {  // the others' places are drawn once, the first's needle moves
        const Draft draft = task.draft(task, key_of(task, length, depth), options().draft);
        EXPECT_GE(shared, prompt.text.find(draft.needles[0].text));
      }
      // A token or two may melt where the texts part.
      const std::int64_t n = n_tokens(prompt.text.substr(0, shared));
      EXPECT_GE(static_cast<std::int64_t>(common_prefix(prompt.tokens, deepest.tokens)), n - 4);
    }
  }
}

TEST_P(NeedlePlaces, AShorterHaystackIsTheBeginOfALongerOne) {
  const TaskSpec task = tasks_of("niah", {"number"}).at(0);
  const std::int64_t length = GetParam().lengths.front();
  const auto shorter = builder_->build(task, key_of(task, length, 100.0)).prompt;
  const auto longer = builder_->build(task, key_of(task, GetParam().lengths.back(), 100.0)).prompt;
  // The last three sentences, and what fits in their place, are its own; so is the question.
  const std::int64_t own = 5 * longest_ + 160;
  EXPECT_GE(static_cast<std::int64_t>(common_prefix(shorter.tokens, longer.tokens)),
            shorter.n_tokens - own);
}

INSTANTIATE_TEST_SUITE_P(
    Needle,
    NeedlePlaces,
    ::testing::Values(
        Form{"NeedleHybrid",
             test::needle_hybrid_tokenizer,
             false,
             Wording::kPlain,
             {512, 2048},
             {2048}},
        Form{"NeedleHybridRuler",
             test::needle_hybrid_tokenizer,
             false,
             Wording::kRuler,
             {777},
             {4096}},
        Form{"ByteLevel", test::byte_level_tokenizer, false, Wording::kRuler, {1024, 3000}, {6000}},
        Form{"ByteLevelChat",
             test::byte_level_tokenizer,
             true,
             Wording::kRuler,
             {1024, 3000},
             {6000}},
        Form{"Spm", test::spm_tokenizer, false, Wording::kRuler, {1024, 3000}, {6000}},
        Form{"SpmChat", test::spm_tokenizer, true, Wording::kPlain, {1024, 2000}, {6000}},
        Form{"Unigram", test::unigram_tokenizer, false, Wording::kRuler, {1024, 3000}, {6000}}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace heddle::needle
