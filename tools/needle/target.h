#pragma once
// Who answers prompts: an engine in this process, a server, or a script.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tools/needle/prompt.h"

namespace heddle::needle {

struct Question {
  const BuiltPrompt* prompt = nullptr;  // lives until the reply
  /// Positions in its tokens where prompts that follow depart from it, ascending.
  std::vector<std::int64_t> departures = {};
  bool leave = true;  // prompts that follow begin with parts of it
};

struct Reply {
  std::string text = {};
  std::string error = {};          // "": the answer is whole
  std::int64_t prompt_tokens = 0;  // as the target counts them
  std::int64_t cached_tokens = 0;
  std::optional<double> prefill_s = {};
  std::optional<double> decode_s = {};
  std::optional<std::uint64_t> kv_bytes = {};
  std::optional<std::uint64_t> state_bytes = {};
};

class Target {
 public:
  virtual ~Target() = default;
  /// `prefilled` when the prompt is computed, as far as the target tells (else with `done`); `done`
  /// once, last. Both are called from step().
  virtual void ask(Question question,
                   std::function<void()> prefilled,
                   std::function<void(Reply)> done) = 0;
  /// Lets things happen for a while. False: nothing is asked.
  virtual bool step() = 0;
};

}  // namespace heddle::needle
