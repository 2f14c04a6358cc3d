#include "tools/needle/scripted_target.h"

#include <algorithm>
#include <utility>

namespace heddle::needle {

std::string ScriptedTarget::answer(const BuiltPrompt& prompt) const {
  const std::string text = decode_(prompt.prompt);
  std::string answer;
  for (const std::string& part : kind_ == Kind::kKnowing ? prompt.expected : prompt.wrong) {
    if (kind_ == Kind::kKnowing && text.find(part) == std::string::npos) continue;
    answer += (answer.empty() ? "" : ", ") + part;
    if (prompt.match != Match::kAll) break;
  }
  answer += ".";
  for (const std::string& stop : prompt.stop)
    answer.resize(std::min(answer.size(), answer.find(stop)));
  return answer;
}

void ScriptedTarget::ask(Question question,
                         std::function<void()> prefilled,
                         std::function<void(Reply)> done) {
  waiting_.push_back(
      [this, prompt = question.prompt, prefilled = std::move(prefilled), done = std::move(done)] {
        prefilled();
        done({.text = answer(*prompt), .prompt_tokens = prompt->prompt.n_tokens});
      });
}

bool ScriptedTarget::step() {
  if (waiting_.empty()) return false;
  const auto task = std::move(waiting_.front());
  waiting_.pop_front();
  task();
  return true;
}

}  // namespace heddle::needle
