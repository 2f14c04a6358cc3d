#pragma once
// One sample of one cell, as a line of results.jsonl tells it.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/json.h"

namespace heddle::needle {

/// Which prompt: the same one always has the same text, whatever else runs.
struct CellKey {
  std::string suite;                 // "niah"
  std::string task;                  // "number"
  std::int64_t length = 0;           // tokens of the prompt and of the room for the answer
  std::optional<double> depth = {};  // percent of the haystack before the needle; absent: the task
                                     // has no one needle
  std::uint64_t seed = 0;
  std::int64_t sample = 0;  // from 0
  auto operator<=>(const CellKey&) const = default;
};
/// "niah number, 4096 tokens, depth 50, sample 0"
std::string text_of(const CellKey& key);

struct Row {
  CellKey key = {};
  std::string model;
  std::string attention;  // the mode of --attention; "trained": none
  /// Share of the expected answers that were found, 0 to 1; absent: there is no answer (`error`).
  std::optional<double> score = {};
  std::string answer = {};                 // the model's text
  std::vector<std::string> expected = {};  // what the scorer looked for
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;        // of them, not computed for this prompt
  std::optional<double> prefill_s = {};  // absent: the server does not tell
  std::optional<double> decode_s = {};
  std::optional<std::uint64_t> kv_bytes = {};     // of the sequence at its end; absent: not known
  std::optional<std::uint64_t> state_bytes = {};  // its recurrent states
  std::string error = {};                         // "": none
};

/// The keys and their order are the file's: suite, task, model, attention, length, depth, seed,
/// sample, score, answer, expected, prompt_tokens, cached_tokens, prefill_s, decode_s, kv_bytes,
/// state_bytes, error. What is absent, and an empty error, is null.
Json json_of(const Row& row);
/// Throws kBadInput that begins with `where` and names the key.
Row read_row(std::string_view line, std::string_view where);

}  // namespace heddle::needle
