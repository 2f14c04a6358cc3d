#pragma once
// How good an answer is.

#include <string>
#include <string_view>
#include <vector>

#include "tools/needle/task.h"

namespace heddle::needle {

enum class Scorer {
  kTask,     // what Draft::match says
  kContain,  // what it contains, even where the first integer counts
  kRouge1,   // words in common
  kExact,    // nothing else
};

/// 0 to 1. As RULER does, control characters become line breaks and white space around is cut off
/// first. Thoughts count like the rest: see without_thoughts().
///
/// - Containment (Match::kAll: the share of the expected texts; kAny: 1 if there is one of them) is
///   RULER's: anywhere, upper and lower case alike by Unicode's rules, and nothing more: "123" is
///   found in "51234", "oak" in "soaked". The tasks here expect texts that their prompts cannot be
///   mistaken for; expected texts from elsewhere should be long enough.
/// - The first integer is the first run of the digits 0 to 9, without sign, point or separators,
/// and
///   counts by its value: "007" is 7, "48,213" is 48.
/// - ROUGE-1 is the F1 of words, each counted as often as both have it. Words are runs of letters
/// and
///   digits of any script, in lower case, without stemming; the expected texts are one text, where
///   one of them would do, the nearest counts.
/// - Exact: the whole answer is the expected texts with ", " between them (kAny: one of them), but
/// for
///   case, white space around and a period at the end.
///
/// Nothing expected: 0.
double score(Scorer scorer,
             Match match,
             std::string_view answer,
             const std::vector<std::string>& expected);

/// A text without <think>...</think>. What is not closed goes to the end; what is closed and was
/// not opened began before the text, for some chat templates open it.
std::string without_thoughts(std::string_view text);

}  // namespace heddle::needle
