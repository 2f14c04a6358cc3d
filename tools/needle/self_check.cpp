#include "tools/needle/self_check.h"

#include <fmt/format.h>

#include <utility>

#include "tools/heddle/interrupt.h"
#include "tools/heddle/io.h"
#include "tools/needle/scripted_target.h"

namespace heddle::needle {
namespace {

constexpr std::size_t kMostTold = 5;

}  // namespace

int self_check(const std::vector<CellGroup>& groups,
               PromptSource& prompts,
               const Tokenizer& tokenizer,
               Scorer scorer,
               const std::function<bool()>& stop,
               const std::function<void(const std::string&)>& tell) {
  using Kind = ScriptedTarget::Kind;
  bool passed = true;
  for (const Kind kind : {Kind::kKnowing, Kind::kGuessing}) {
    const double wanted = kind == Kind::kKnowing ? 1.0 : 0.0;
    ScriptedTarget target(
        kind, [&](const EncodedPrompt& prompt) { return tokenizer.decode(prompt.tokens); });
    std::size_t n = 0;
    std::size_t n_wrong = 0;
    double sum = 0.0;
    RunOptions run{.model = "script", .attention = "none", .scorer = scorer};
    run.write = [&](const Row& row) {
      ++n;
      sum += row.score.value_or(0.0);
      if (row.score == wanted || ++n_wrong > kMostTold) return;
      tell(fmt::format("{}: {}\n", text_of(row.key),
                       cli::printable(row.error.empty() ? "it said " + row.answer : row.error)));
    };
    run.stop = stop;
    if (!run_grid(groups, prompts, target, run)) return cli::kExitInterrupted;
    tell(fmt::format(
        "an answerer that {} the needles: {:.1f} % of {} prompts, must be {:.0f} %: {}\n",
        kind == Kind::kKnowing ? "knows" : "does not know",
        n > 0 ? 100.0 * sum / static_cast<double>(n) : 0.0, n, 100.0 * wanted,
        n_wrong == 0 && n > 0 ? "ok" : fmt::format("{} prompts are not", n_wrong)));
    passed = passed && n_wrong == 0 && n > 0;
  }
  return passed ? 0 : 1;
}

}  // namespace heddle::needle
