// --self-check: what its two answerers say of good prompts, and that they notice broken ones.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/needle_texts.h"
#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"
#include "tools/needle/scripted_target.h"
#include "tools/needle/self_check.h"

namespace heddle::needle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

struct Told {
  int code = -1;
  std::vector<std::string> lines;
};

Told check(const std::vector<TaskSpec>& tasks,
           std::int64_t length,
           const std::function<bool()>& stop = {},
           Scorer scorer = Scorer::kTask) {
  const auto tokenizer = test::needle_hybrid_tokenizer();
  LocalEncoder encoder(*tokenizer, nullptr);
  const Haystack haystack = Haystack::of_essays();
  PromptBuilder builder(encoder, haystack, {.draft = {.wording = Wording::kPlain}});
  Told told;
  told.code = self_check(groups_of({.tasks = tasks, .lengths = {length}, .depths = {0, 50, 100}}),
                         builder, *tokenizer, scorer, stop,
                         [&](const std::string& line) { told.lines.push_back(line); });
  return told;
}

Draft number(const CellKey& key, const DraftOptions& options) {
  const TaskSpec task = tasks_of("niah", {"number"}).at(0);
  return task.draft(task, key, options);
}

TaskSpec task_with(Draft (*draft)(const TaskSpec&, const CellKey&, const DraftOptions&)) {
  return {"niah", "broken", "", true, 64, draft};
}

TEST(NeedleSelfCheck, PassesForAllTasks) {
  const Told told = check(all_tasks(), 2048);
  EXPECT_EQ(told.code, 0);
  EXPECT_THAT(
      told.lines,
      ElementsAre("an answerer that knows the needles: 100.0 % of 40 prompts, must be 100 %: ok\n",
                  "an answerer that does not know the needles: 0.0 % of 40 prompts, must be 0 %: "
                  "ok\n"));
}

TEST(NeedleSelfCheck, NoticesAPromptWithoutItsNeedle) {
  const Told told =
      check({task_with([](const TaskSpec&, const CellKey& key, const DraftOptions& options) {
              Draft draft = number(key, options);
              if (key.depth == 50.0) draft.needles.clear();
              return draft;
            })},
            512);
  EXPECT_EQ(told.code, 1);
  ASSERT_THAT(told.lines, SizeIs(3));
  EXPECT_EQ(told.lines[0], "niah broken, 512 tokens, depth 50, sample 0: it said .\n");
  EXPECT_THAT(told.lines[1], HasSubstr("66.7 % of 3 prompts, must be 100 %: 1 prompts are not"));
  EXPECT_THAT(told.lines[2], HasSubstr(": ok"));
}

TEST(NeedleSelfCheck, NoticesAScoreThatIsAlwaysOne) {
  // What a wrong answer says is found, too.
  const Told told =
      check({task_with([](const TaskSpec&, const CellKey& key, const DraftOptions& options) {
              Draft draft = number(key, options);
              draft.wrong = {"not " + draft.expected[0]};
              return draft;
            })},
            512);
  EXPECT_EQ(told.code, 1);
  EXPECT_THAT(told.lines.back(), HasSubstr("100.0 % of 3 prompts, must be 0 %: 3 prompts are not"));
}

TEST(NeedleSelfCheck, NoticesOneOfSeveralNeedlesThatIsMissing) {
  const Told told =
      check({task_with([](const TaskSpec&, const CellKey& key, const DraftOptions& options) {
              const TaskSpec task = tasks_of("niah-multi", {"queries4"}).at(0);
              Draft draft = task.draft(task, key, options);
              draft.needles.pop_back();
              return draft;
            })},
            512);
  EXPECT_EQ(told.code, 1);
  EXPECT_THAT(told.lines.at(3), HasSubstr("75.0 % of 3 prompts, must be 100 %"));
}

TEST(NeedleSelfCheck, PromptsThatCannotBeAreFaultsAndFiveAreTold) {
  const Told told = check(tasks_of("niah", {}), 80);
  EXPECT_EQ(told.code, 1);
  ASSERT_THAT(told.lines, SizeIs(12));
  EXPECT_THAT(told.lines[0], HasSubstr("the text without haystack"));
  EXPECT_THAT(told.lines[5], HasSubstr("0.0 % of 15 prompts, must be 100 %: 15 prompts are not"));
}

TEST(NeedleSelfCheck, NoPromptsAreNoProof) {
  EXPECT_EQ(check({}, 512).code, 1);
}

TEST(NeedleSelfCheck, CanBeStopped) {
  EXPECT_EQ(check(all_tasks(), 2048, [] { return true; }).code, cli::kExitInterrupted);
}

TEST(NeedleSelfCheck, PassesWithEveryScorer) {
  for (const Scorer scorer : {Scorer::kContain, Scorer::kRouge1, Scorer::kExact}) {
    EXPECT_EQ(check(tasks_of("niah", {"number", "word", "uuid"}), 512, {}, scorer).code, 0)
        << static_cast<int>(scorer);
  }
}

// ---- The script itself

std::string answer(ScriptedTarget::Kind kind, const BuiltPrompt& prompt, const std::string& text) {
  ScriptedTarget target(kind, [&](const EncodedPrompt&) { return text; });
  std::string said;
  bool prefilled = false;
  target.ask(
      {.prompt = &prompt}, [&] { prefilled = true; },
      [&](const Reply& reply) {
        EXPECT_TRUE(prefilled);
        EXPECT_EQ(reply.prompt_tokens, 7);
        EXPECT_EQ(reply.error, "");
        said = reply.text;
      });
  EXPECT_EQ(said, "");  // nothing before a step
  EXPECT_TRUE(target.step());
  EXPECT_FALSE(target.step());
  return said;
}

TEST(NeedleScript, SaysWhatItFindsOrWhatIsWrong) {
  using Kind = ScriptedTarget::Kind;
  BuiltPrompt prompt{.prompt = {.text = "", .prefix = "", .n_tokens = 7},
                     .expected = {"one", "two", "three"},
                     .wrong = {"four", "five", "six"}};
  EXPECT_EQ(answer(Kind::kKnowing, prompt, "one and two"), "one, two.");
  EXPECT_EQ(answer(Kind::kKnowing, prompt, "One"), ".");
  EXPECT_EQ(answer(Kind::kGuessing, prompt, "one and two"), "four, five, six.");
  prompt.match = Match::kAny;
  EXPECT_EQ(answer(Kind::kKnowing, prompt, "two three"), "two.");
  EXPECT_EQ(answer(Kind::kGuessing, prompt, ""), "four.");
}

}  // namespace
}  // namespace heddle::needle
