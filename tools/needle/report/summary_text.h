#pragma once
// A summary as a file and on a terminal.

#include <string>

#include "tools/needle/report/summary.h"

namespace heddle::needle {

/// summary.csv: a head and a line for each cell: suite, task, length, depth, n, errors, score,
/// prompt_tokens, cached_tokens, prefill_s, decode_s, kv_bytes, state_bytes; from `score` on the
/// means of the n rows that have a score. What is not known is empty. Lines end with CRLF.
std::string summary_csv(const Summary& summary);

/// For each suite its tasks by lengths (one task: its depths by lengths) in percent, and the
/// effective length. No colours, nothing that a terminal would obey.
std::string summary_table(const Summary& summary);

/// "not finished: 3 prompts are not asked yet, --resume goes on with them"
std::string unasked_text(const Totals& totals);

/// "16k", "below 4k" (the shortest length fails), "not known" (no score).
std::string effective_text(std::optional<std::int64_t> effective,
                           const std::vector<LengthSummary>& lengths);

}  // namespace heddle::needle
