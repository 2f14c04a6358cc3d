// A grid with answerers of the test's own: what is asked, when, and which rows come of it.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tests/support/needle_texts.h"
#include "tools/needle/run.h"

namespace heddle::needle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string name_of(const CellKey& key) {
  return fmt::format("{} {} {} {}", key.task, key.length, key.depth.value_or(-1.0), key.sample);
}

/// Keeps what it is asked and answers when and in which order the test wants.
class FakeTarget final : public Target {
 public:
  struct Open {
    Question question;
    std::function<void()> prefilled;
    std::function<void(Reply)> done;
    bool is_prefilled = false;
  };

  void ask(Question question,
           std::function<void()> prefilled,
           std::function<void(Reply)> done) override {
    const std::string name = name_of(question.prompt->key);
    log.push_back("ask " + name);
    if (throws.contains(name)) throw runtime_failure("no room for " + name);
    asked.push_back(question);
    open.push_back({std::move(question), std::move(prefilled), std::move(done)});
    most_open = std::max(most_open, open.size());
    if (at_once) answer(open.size() - 1);
  }

  bool step() override {
    ++n_steps;
    if (open.empty()) return false;
    // First all prompts are computed, one a step, then answers come.
    for (Open& one : open) {
      if (one.is_prefilled || !prefills) continue;
      one.is_prefilled = true;
      log.push_back("prefilled " + name_of(one.question.prompt->key));
      one.prefilled();
      return true;
    }
    answer(last_first ? open.size() - 1 : 0);
    return true;
  }

  void answer(std::size_t i) {
    const Open one = std::move(open[i]);
    open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
    const BuiltPrompt& prompt = *one.question.prompt;
    Reply reply{.text = "It is " + prompt.expected.at(0) + ".",
                .prompt_tokens = prompt.prompt.n_tokens,
                .cached_tokens = cached};
    if (const auto it = errors.find(name_of(prompt.key)); it != errors.end()) {
      reply = {.error = it->second};
    }
    log.push_back("done " + name_of(prompt.key));
    if (!one.is_prefilled) one.prefilled();
    one.done(std::move(reply));
  }

  bool at_once = false;
  bool prefills = true;  // tells so before the answer
  bool last_first = false;
  std::int64_t cached = 0;
  std::set<std::string> throws;
  std::map<std::string, std::string> errors;
  std::deque<Open> open;
  std::vector<Question> asked;  // prompts are gone when the run is over
  std::vector<std::string> log;
  std::size_t most_open = 0;
  std::size_t n_steps = 0;
};

class NeedleRun : public ::testing::Test {
 protected:
  NeedleRun() {
    grid_.tasks = tasks_of("niah", {"number", "word"});
    grid_.lengths = {256, 512};
    grid_.depths = {0.0, 50.0, 100.0};
    options_.write = [this](const Row& row) { rows_.push_back(row); };
    options_.skipped = [this](const CellKey& key) { skipped_.push_back(name_of(key)); };
  }
  bool run() { return run_grid(groups_of(grid_), builder_, target_, options_); }
  std::vector<std::string> planned() const {
    std::vector<std::string> names;
    for (const CellGroup& group : groups_of(grid_)) {
      for (const CellKey& key : group.keys) names.push_back(name_of(key));
    }
    return names;
  }
  std::vector<std::string> written() const {
    std::vector<std::string> names;
    for (const Row& row : rows_) names.push_back(name_of(row.key));
    return names;
  }
  std::size_t at(const std::string& entry) const {
    return static_cast<std::size_t>(std::find(target_.log.begin(), target_.log.end(), entry) -
                                    target_.log.begin());
  }

  std::unique_ptr<const Tokenizer> tokenizer_ = test::needle_hybrid_tokenizer();
  LocalEncoder encoder_{*tokenizer_, nullptr};
  Haystack haystack_ = Haystack::of_essays();
  PromptBuilder builder_{encoder_, haystack_, {.draft = {.wording = Wording::kPlain}}};
  Grid grid_;
  FakeTarget target_;
  RunOptions options_{.model = "tiny", .attention = "trained"};
  std::vector<Row> rows_;
  std::vector<std::string> skipped_;
};

TEST_F(NeedleRun, PlansTasksSamplesLengthsAndDepthsFromTheDeepest) {
  grid_.tasks = {tasks_of("niah", {"number"}).at(0), tasks_of("ruler", {"vt"}).at(0)};
  grid_.samples = 2;
  EXPECT_THAT(planned(), ElementsAre("number 256 100 0", "number 256 50 0", "number 256 0 0",
                                     "number 512 100 0", "number 512 50 0", "number 512 0 0",
                                     "number 256 100 1", "number 256 50 1", "number 256 0 1",
                                     "number 512 100 1", "number 512 50 1", "number 512 0 1",
                                     "vt 256 -1 0", "vt 512 -1 0", "vt 256 -1 1", "vt 512 -1 1"));
}

TEST_F(NeedleRun, EveryCellIsAskedOnceAndWrittenInOrderHoweverAnswersCome) {
  for (const std::size_t concurrency : {1U, 2U, 3U, 7U, 100U}) {
    for (int form = 0; form < 8; ++form) {
      SCOPED_TRACE(fmt::format("{} at a time, form {}", concurrency, form));
      target_ = {};
      target_.at_once = form % 2 == 1;
      target_.prefills = form / 2 % 2 == 1;
      target_.last_first = form / 4 == 1;
      options_.concurrency = concurrency;
      rows_.clear();
      ASSERT_TRUE(run());
      EXPECT_EQ(written(), planned());
      EXPECT_LE(target_.most_open, concurrency);
      EXPECT_EQ(target_.asked.size(), 12U);
      for (const Row& row : rows_) {
        EXPECT_EQ(row.score, 1.0);
        EXPECT_EQ(row.error, "");
        EXPECT_EQ(row.model + row.attention, "tinytrained");
        EXPECT_EQ(row.prompt_tokens, row.key.length - 64);
      }
    }
  }
}

TEST_F(NeedleRun, AsManyAreAskedAtATimeAsMayBe) {
  options_.concurrency = 4;
  target_.last_first = true;
  ASSERT_TRUE(run());
  EXPECT_EQ(target_.most_open, 4U);
}

TEST_F(NeedleRun, TheDeepestPromptOfALengthIsComputedBeforeTheOthersAreAsked) {
  options_.concurrency = 3;
  for (const bool prefills : {true, false}) {
    target_ = {};
    target_.prefills = prefills;
    ASSERT_TRUE(run());
    const std::string what = prefills ? "prefilled " : "done ";
    for (const std::string task : {"number", "word"}) {
      for (const int length : {256, 512}) {
        const std::string cell = fmt::format("{} {} ", task, length);
        for (const std::string other : {"50 0", "0 0"}) {
          EXPECT_LT(at("ask " + cell + "100 0"), at(what + cell + "100 0"));
          EXPECT_LT(at(what + cell + "100 0"), at("ask " + cell + other)) << cell;
        }
      }
    }
  }
}

TEST_F(NeedleRun, DeparturesAreWhereTheOthersLeaveThePrompt) {
  std::map<std::string, std::vector<TokenId>> tokens;
  for (const CellGroup& group : groups_of(grid_)) {
    for (const CellKey& key : group.keys) {
      tokens[name_of(key)] = builder_.build(group.task, key).prompt.tokens;
    }
  }
  target_.at_once = true;
  ASSERT_TRUE(run());
  const std::vector<std::string> names = planned();
  for (std::size_t i = 0; i < names.size(); ++i) {
    SCOPED_TRACE(names[i]);
    const Question& question = target_.asked.at(i);
    const bool leads = i % 3 == 0;
    EXPECT_EQ(question.leave, leads);
    if (!leads) {
      EXPECT_THAT(question.departures, IsEmpty());
      continue;
    }
    std::set<std::int64_t> wanted;
    const auto& lead = tokens[names[i]];
    for (const std::size_t k : {i + 1, i + 2, i + 3}) {
      if (k == i + 3 && i % 6 == 3) continue;  // of another task
      wanted.insert(static_cast<std::int64_t>(common_prefix(lead, tokens[names[k]])));
    }
    EXPECT_EQ(std::vector<std::int64_t>(wanted.begin(), wanted.end()), question.departures);
    EXPECT_GE(question.departures.size(), 2U);
    EXPECT_GT(question.departures.front(), 0);
    EXPECT_LT(question.departures.back(), static_cast<std::int64_t>(lead.size()));
  }
}

TEST_F(NeedleRun, ErrorsAreRowsAndTheOthersGoOn) {
  target_.throws = {"number 256 100 0", "word 512 0 0"};  // a lead, and the last of all
  target_.errors = {{"number 512 100 0", "HTTP 503: busy"}, {"word 256 50 0", "timeout"}};
  for (const std::size_t concurrency : {1U, 3U}) {
    rows_.clear();
    options_.concurrency = concurrency;
    ASSERT_TRUE(run());
    EXPECT_EQ(written(), planned());
    for (const Row& row : rows_) {
      const std::string name = name_of(row.key);
      const std::string error = target_.throws.contains(name)   ? "no room for " + name
                                : target_.errors.contains(name) ? target_.errors[name]
                                                                : "";
      EXPECT_EQ(row.error, error) << name;
      EXPECT_EQ(row.score, error.empty() ? std::optional<double>(1.0) : std::nullopt) << name;
      EXPECT_EQ(read_row(json_of(row).dump(), "row").error, error);
    }
  }
}

TEST_F(NeedleRun, PromptsThatCannotBeAreRowsWithErrors) {
  grid_.tasks = tasks_of("niah", {"number"});
  grid_.lengths = {80, 256};
  options_.concurrency = 2;
  ASSERT_TRUE(run());
  EXPECT_EQ(written(), planned());
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    EXPECT_EQ(rows_[i].score.has_value(), i >= 3);
    EXPECT_EQ(rows_[i].error.find("the text without haystack") != std::string::npos, i < 3);
  }
}

TEST_F(NeedleRun, GoesOnWithWhatIsMissing) {
  const std::vector<std::string> all = planned();
  for (unsigned mask = 0; mask < 64; ++mask) {  // of the first six cells; the rest is missing
    target_ = {};
    rows_.clear();
    skipped_.clear();
    std::vector<std::string> missing;
    std::vector<std::string> done;
    for (std::size_t i = 0; i < all.size(); ++i) {
      (i < 6 && (mask >> i & 1U) != 0 ? done : missing).push_back(all[i]);
    }
    options_.concurrency = 1 + mask % 3;
    options_.is_done = [&](const CellKey& key) {
      return std::find(done.begin(), done.end(), name_of(key)) != done.end();
    };
    ASSERT_TRUE(run());
    ASSERT_EQ(written(), missing) << mask;
    ASSERT_EQ(skipped_, done) << mask;
    ASSERT_EQ(target_.asked.size(), missing.size());
  }
  options_.is_done = [](const CellKey&) { return true; };
  target_ = {};
  ASSERT_TRUE(run());
  EXPECT_THAT(target_.log, IsEmpty());
}

/// The next length's first prompt that is asked goes on from this one's, also where the deepest
/// is known already.
TEST_F(NeedleRun, DeparturesReachTheNextLengthWhereItsDeepestIsDone) {
  grid_.tasks = tasks_of("niah", {"number"});
  options_.is_done = [](const CellKey& key) { return key.length == 512 && key.depth == 100.0; };
  target_.at_once = true;
  ASSERT_TRUE(run());
  const auto groups = groups_of(grid_);
  const auto lead = builder_.build(groups[0].task, groups[0].keys[0]).prompt.tokens;
  const auto next = builder_.build(groups[1].task, groups[1].keys[1]).prompt.tokens;
  EXPECT_THAT(target_.asked.at(0).departures,
              ::testing::Contains(static_cast<std::int64_t>(common_prefix(lead, next))));
}

TEST_F(NeedleRun, StopsBetweenSteps) {
  for (const std::size_t most : {0U, 1U, 5U, 9U}) {
    target_ = {};
    rows_.clear();
    options_.concurrency = 2;
    options_.stop = [&] { return target_.n_steps >= most; };
    ASSERT_FALSE(run());
    EXPECT_EQ(target_.n_steps, most);
    const auto all = planned();
    EXPECT_EQ(written(), std::vector<std::string>(
                             all.begin(), all.begin() + static_cast<std::ptrdiff_t>(rows_.size())));
    EXPECT_EQ(target_.log.empty(), most == 0);
  }
}

/// A server that tells of more cached tokens than the prompt has.
TEST_F(NeedleRun, RowsCanBeReadBackWhateverATargetSays) {
  target_.cached = 1'000'000;
  ASSERT_TRUE(run());
  for (const Row& row : rows_) EXPECT_EQ(read_row(json_of(row).dump(), "row").key, row.key);
}

TEST_F(NeedleRun, ATargetThatForgetsAQuestionIsAFaultOfOurs) {
  struct Forgetful final : Target {
    void ask(Question, std::function<void()>, std::function<void(Reply)>) override {}
    bool step() override { return false; }
  } target;
  EXPECT_THROW(run_grid(groups_of(grid_), builder_, target, options_), Error);
}

TEST_F(NeedleRun, ThoughtsAreNoAnswer) {
  struct Thinking final : Target {
    void ask(Question question,
             std::function<void()> prefilled,
             std::function<void(Reply)> done) override {
      prefilled();
      done({.text = "<think>" + question.prompt->expected.at(0) + "</think>No.",
            .prompt_tokens = 5});
    }
    bool step() override { return false; }
  } target;
  for (const bool skip : {true, false}) {
    rows_.clear();
    options_.skip_thoughts = skip;
    ASSERT_TRUE(run_grid(groups_of(grid_), builder_, target, options_));
    ASSERT_EQ(rows_.size(), 12U);
    EXPECT_EQ(rows_[0].score, skip ? 0.0 : 1.0);
    EXPECT_THAT(rows_[0].answer, HasSubstr("<think>"));
  }
}

}  // namespace
}  // namespace heddle::needle
