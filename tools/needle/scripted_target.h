#pragma once
#include <deque>
#include <functional>

#include "tools/needle/target.h"

namespace heddle::needle {

/// Answers by script (--self-check): one that knows the needles says those of the expected answers
/// that it finds in the prompt's tokens, so that a prompt without its needle is noticed; one that
/// does not know them says wrong answers of the same kind.
class ScriptedTarget final : public Target {
 public:
  enum class Kind { kKnowing, kGuessing };
  /// `decode`: the text of a prompt's tokens.
  ScriptedTarget(Kind kind, std::function<std::string(const EncodedPrompt&)> decode)
      : kind_(kind), decode_(std::move(decode)) {}
  void ask(Question question,
           std::function<void()> prefilled,
           std::function<void(Reply)> done) override;
  bool step() override;

 private:
  std::string answer(const BuiltPrompt& prompt) const;

  Kind kind_;
  std::function<std::string(const EncodedPrompt&)> decode_;
  std::deque<std::function<void()>> waiting_;
};

}  // namespace heddle::needle
