#pragma once
// Rows of tests of the needle's outputs.

#include <cstdint>
#include <optional>
#include <string>

#include "tools/needle/row.h"

namespace heddle::needle {

/// A row of suite "niah" with an answer; without a score: an error.
inline Row test_row(const std::string& task,
                    std::int64_t length,
                    std::optional<double> depth,
                    std::optional<double> score,
                    std::int64_t sample = 0) {
  Row row;
  row.key = {.suite = "niah", .task = task, .length = length, .depth = depth, .sample = sample};
  row.model = "tiny";
  row.attention = "trained";
  row.score = score;
  row.answer = score ? "The number is 4830172." : "";
  row.expected = {"4830172"};
  row.prompt_tokens = length - 100;
  row.cached_tokens = length / 2;
  row.prefill_s = 0.5;
  row.decode_s = 0.25;
  row.kv_bytes = static_cast<std::uint64_t>(length) * 1000;
  row.state_bytes = 4096;
  if (!score) row.error = "HTTP 503: busy";
  return row;
}

}  // namespace heddle::needle
