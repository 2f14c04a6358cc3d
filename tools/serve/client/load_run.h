#pragma once
// Requests against an OpenAI-compatible server, so many at a time or in a second, and what became
// of each.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "tools/serve/client/http_client.h"
#include "tools/serve/client/load_report.h"

namespace heddle::serve {

struct LoadPrompt {
  std::string text;
  std::int64_t n_output = 0;  // tokens that are asked for
};

struct LoadOptions {
  Url url = {};
  bool chat = false;                 // else /v1/completions
  std::string model = {};            // "": what /v1/models lists first
  std::string api_key = {};          // "": none
  bool ignore_eos = false;           // sent as a field
  double request_rate = 0.0;         // a second, the times between them random; 0: all at once
  std::int64_t max_concurrency = 0;  // 0: any
  std::uint64_t seed = 0;            // of the times
  double timeout_seconds = 0.0;      // of one request; 0: none
  std::function<void(std::size_t n_done)> progress = {};
  std::function<bool()> stop = {};  // looked at now and then: what runs then is left out
};

struct LoadResult {
  std::string model;
  std::vector<CallRecord> records;  // of what has ended
  double duration_s = 0.0;
};

/// Throws kBadInput for a host that there is not, kRuntime where the model's name is asked for and
/// not told.
LoadResult run_load(const LoadOptions& options, const std::vector<LoadPrompt>& prompts);

/// Words at random, a token each in most vocabularies; the same seed and salt give the same. A salt
/// before each keeps prefix caches from having it.
std::vector<LoadPrompt> random_prompts(std::int64_t n,
                                       std::int64_t n_words,
                                       std::int64_t n_output,
                                       std::uint64_t seed,
                                       const std::string& salt);
/// Lines of JSON objects with `prompt` and, if it is to be another than `n_output`, `max_tokens`.
/// `n` of them, 0: all; begun again at the end. Throws kBadInput naming the line.
std::vector<LoadPrompt> prompts_of_lines(const std::string& text,
                                         const std::string& source,
                                         std::int64_t n,
                                         std::int64_t n_output);

}  // namespace heddle::serve
