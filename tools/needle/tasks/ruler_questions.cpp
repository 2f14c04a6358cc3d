// Suite ruler: qa_1 and qa_2, questions about documents. RULER's are those of SQuAD and HotpotQA;
// these are made up, so that no model knows the answers.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "tools/needle/task.h"
#include "tools/needle/tasks/facts.h"
#include "tools/needle/tasks/parts.h"

namespace heddle::needle {
namespace {

/// So many documents have names of their own; they are about a million tokens.
constexpr std::int64_t kMostDocuments = 12'000;
/// None is shorter, in any vocabulary.
constexpr std::int64_t kLeastTokens = 20;

/// Documents that answer the question, and as many others as it takes.
class Documents {
 public:
  Documents(std::vector<std::string> gold, FactMaker facts, bool with_towns, Random order)
      : texts_(std::move(gold)), facts_(std::move(facts)), with_towns_(with_towns), order_(order) {}

  /// n of them in any order, numbered.
  std::string text(std::int64_t n, const std::string& separator) {
    while (std::cmp_less(texts_.size(), n)) add();
    std::vector<std::string> chosen(texts_.begin(), texts_.begin() + n);
    Random order = order_;
    order.shuffle(chosen);
    std::string text;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      text += fmt::format("{}Document {}: {}", i == 0 ? "" : separator, i + 1, chosen[i]);
    }
    return text;
  }

 private:
  void add() {
    if (with_towns_) {
      const Town town = facts_.town();
      texts_.push_back(facts_.document(facts_.person(town.name)));
      texts_.push_back(facts_.document(town));
    } else {
      texts_.push_back(facts_.document(facts_.person(facts_.town_name())));
    }
  }

  std::vector<std::string> texts_;
  FactMaker facts_;
  bool with_towns_;
  Random order_;
};

/// What is asked, and the documents that tell.
struct Quiz {
  std::string question;
  std::string answer;
  std::string wrong;
  std::vector<std::string> gold;
};

/// Where somebody was born, or what somebody made.
Quiz one_hop(FactMaker& facts, Random& random) {
  const Person person = facts.person(facts.town_name());
  Quiz quiz;
  quiz.gold = {facts.document(person)};
  if (random.below(2) == 0) {
    quiz.question = fmt::format("In which town was {} born?", person.name);
    quiz.answer = person.town;
    facts.keep_from(quiz.answer);
    quiz.wrong = facts.town_name();
  } else {
    quiz.question = fmt::format("What is {} best known for making?", person.name);
    quiz.answer = person.legacy;
    facts.keep_from(quiz.answer);
    quiz.wrong = facts.legacy();
  }
  return quiz;
}

/// The river of the town where somebody was born.
Quiz two_hops(FactMaker& facts) {
  const Town town = facts.town();
  const Person person = facts.person(town.name);
  Quiz quiz;
  quiz.gold = {facts.document(person), facts.document(town)};
  quiz.question = fmt::format("On which river is the town where {} was born?", person.name);
  quiz.answer = town.river;
  facts.keep_from(quiz.answer);
  quiz.wrong = facts.river();
  return quiz;
}

template <bool two>
Draft draft_quiz(const TaskSpec&, const CellKey& key, const DraftOptions& options) {
  Draft draft;
  draft.hay = Hay::kBody;
  lay_out(draft, options.wording);
  Random random = draw(key, "question", Same::kNone);
  FactMaker facts(draw(key, "facts", Same::kNone));
  Quiz quiz = two ? two_hops(facts) : one_hop(facts, random);
  draft.least_units = static_cast<std::int64_t>(quiz.gold.size());
  draft.most_units = std::clamp(key.length / kLeastTokens, draft.least_units, kMostDocuments);
  draft.preamble =
      "Answer the question from the documents below. Give the answer and nothing beside it.";
  draft.question = fmt::format(
      "Answer the question from the documents above. Give the answer and nothing beside it.{}"
      "Question: {}",
      draft.outer, quiz.question);
  draft.answer_prefix = "Answer:";
  draft.expected = {quiz.answer};
  draft.wrong = {quiz.wrong};
  draft.match = Match::kAny;
  const auto documents = std::make_shared<Documents>(std::move(quiz.gold), std::move(facts), two,
                                                     draw(key, "order", Same::kNone));
  draft.body = [documents, separator = draft.outer](std::int64_t n) {
    return documents->text(n, separator);
  };
  return draft;
}

constexpr TaskSpec kTasks[] = {
    {"ruler", "qa_1", "a question that one document answers", false, 32, draft_quiz<false>},
    {"ruler", "qa_2", "a question that two documents answer together", false, 32,
     draft_quiz<true>}};

}  // namespace

std::span<const TaskSpec> ruler_question_tasks() {
  return kTasks;
}

}  // namespace heddle::needle
