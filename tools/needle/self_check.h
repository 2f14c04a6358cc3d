#pragma once
#include <functional>
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "tools/needle/prompt.h"
#include "tools/needle/run.h"
#include "tools/needle/scorer.h"

namespace heddle::needle {

/// Asks all cells of two scripted answerers (scripted_target.h) and scores them as a model's
/// answers are scored: every prompt of the one that knows must score 1, every one of the other 0.
/// `tell` gets lines with what is not so, and a line for each answerer. Returns an exit code: 0, 1,
/// or kExitInterrupted where `stop` said so.
int self_check(const std::vector<CellGroup>& groups,
               PromptSource& prompts,
               const Tokenizer& tokenizer,
               Scorer scorer,
               const std::function<bool()>& stop,
               const std::function<void(const std::string&)>& tell);

}  // namespace heddle::needle
