#pragma once
// What a load run against a server says: the definitions and JSON keys are those of vLLM's
// `bench serve`.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace heddle::serve {

/// One request, as its client saw it. Times are seconds from its sending.
struct CallRecord {
  std::string error = {};           // "": it succeeded
  double first_s = 0.0;             // to the first piece of text
  double last_s = 0.0;              // to the last
  std::vector<double> gaps_s = {};  // between two pieces
  std::int64_t n_prompt = 0;
  std::int64_t n_output = 0;
  std::int64_t n_cached = 0;  // of the prompt
};

/// Upper bounds in ms of what counts as good; absent: any.
struct GoodputBounds {
  std::optional<double> ttft_ms = {};
  std::optional<double> tpot_ms = {};
  std::optional<double> e2el_ms = {};
  bool any() const { return ttft_ms || tpot_ms || e2el_ms; }
};
/// "ttft:500,tpot:50,e2el:2000". Throws kBadInput.
GoodputBounds read_goodput(const std::string& text);

struct Spread {
  double mean = 0.0;
  double median = 0.0;
  double std = 0.0;  // of all, not of a sample
  double p99 = 0.0;  // between two values linearly
};
Spread spread_of(std::vector<double> values);

/// All in milliseconds, tokens and seconds.
struct LoadReport {
  std::int64_t completed = 0;
  std::int64_t failed = 0;
  double duration_s = 0.0;
  std::int64_t n_prompt = 0;  // of what completed
  std::int64_t n_output = 0;
  std::int64_t n_cached = 0;
  std::int64_t n_good = 0;
  bool has_goodput = false;
  Spread ttft = {};
  Spread tpot = {};  // (end to end - first) / (tokens - 1), of answers of two tokens and more
  Spread itl = {};   // of all pieces of all answers
  Spread e2el = {};

  double per_second(std::int64_t n) const;
};
LoadReport report_of(const std::vector<CallRecord>& records,
                     double duration_s,
                     const GoodputBounds& bounds);

/// The block for people.
std::string text_of(const LoadReport& report);
Json json_of(const LoadReport& report);

}  // namespace heddle::serve
