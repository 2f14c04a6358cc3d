#pragma once
// What rows say together. A row without a score is an error: it is counted apart and is part of no
// mean, neither of scores nor of costs.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tools/needle/row.h"

namespace heddle::needle {

/// The mean of the values that are there.
class Mean {
 public:
  void add(double value) {
    sum_ += value;
    ++n_;
  }
  template <typename T>
  void add(const std::optional<T>& value) {
    if (value) add(static_cast<double>(*value));
  }
  void add(const Mean& other) {
    sum_ += other.sum_;
    n_ += other.n_;
  }
  std::int64_t n() const { return n_; }
  double sum() const { return sum_; }
  std::optional<double> value() const {
    return n_ == 0 ? std::nullopt : std::optional(sum_ / static_cast<double>(n_));
  }

 private:
  double sum_ = 0.0;
  std::int64_t n_ = 0;
};

/// Means over some rows.
struct RowMeans {
  std::int64_t n = 0;       // rows with a score
  std::int64_t errors = 0;  // rows without one
  Mean score = {};
  Mean prompt_tokens = {};
  Mean cached_tokens = {};
  Mean prefill_s = {};
  Mean decode_s = {};
  Mean kv_bytes = {};
  Mean state_bytes = {};
  void add(const Row& row);
};

struct CellSummary {
  std::string suite = {};
  std::string task = {};
  std::int64_t length = 0;
  std::optional<double> depth = {};
  RowMeans means = {};
};

/// One length of a task, or of a suite: the mean over its tasks that have a score there.
struct LengthSummary {
  std::int64_t length = 0;
  std::optional<double> score = {};
  std::int64_t n = 0;
  std::int64_t errors = 0;
  bool whole =
      true;  // false: prompts have an error or are not asked yet, the effective length ends
};

struct TaskSummary {
  std::string name = {};
  std::vector<LengthSummary> lengths = {};  // ascending
  std::vector<double> depths = {};          // ascending; empty: the task has none
  std::optional<double> mean = {};          // over the lengths that have a score
  std::optional<std::int64_t> effective = {};
};

struct SuiteSummary {
  std::string name = {};
  std::vector<TaskSummary> tasks = {};      // in the order of their first rows
  std::vector<LengthSummary> lengths = {};  // ascending
  std::optional<double> mean = {};
  /// RULER's wAvg: weights 1, 2, 3 .. over the lengths in ascending order, and descending.
  std::optional<double> mean_increasing = {};
  std::optional<double> mean_decreasing = {};
  std::optional<std::int64_t> effective = {};
};

/// Sums over all rows, errors too.
struct Totals {
  std::int64_t rows = 0;
  std::int64_t errors = 0;
  std::int64_t misses = 0;   // a score below 1
  std::int64_t unasked = 0;  // of the plan
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;
  std::optional<double> prefill_s = {};  // absent: no row tells
  std::optional<double> decode_s = {};
  std::optional<std::uint64_t> most_kv_bytes = {};  // of one sequence
  std::optional<std::uint64_t> most_state_bytes = {};
};

struct Summary {
  std::vector<SuiteSummary> suites = {};  // in the order of their first rows
  std::vector<CellSummary> cells = {};    // suite, task; length and depth ascending
  Totals totals = {};
};
/// `plan`: all that is asked, answered or not. What it has no row of makes its lengths not whole.
/// Lengths without a plan are whole with as many rows as the fullest of them has.
Summary summarize(std::span<const Row> rows, std::span<const CellKey> plan = {});

/// RULER's threshold: what Llama-2-7B reaches at 4k, in percent.
inline constexpr double kEffectivePercent = 85.6;
/// The longest length whose score reaches it, as do those of all shorter lengths; absent: the
/// shortest one does not, or nothing has a score. Lengths without a score, or not whole, are as if
/// they were not measured.
std::optional<std::int64_t> effective_length(std::span<const LengthSummary> lengths);

/// Weighted means over those lengths that have a score.
std::optional<double> mean_of(std::span<const LengthSummary> lengths);
std::optional<double> mean_increasing(std::span<const LengthSummary> lengths);
std::optional<double> mean_decreasing(std::span<const LengthSummary> lengths);

/// The cell, or null.
const CellSummary* find_cell(const Summary& summary,
                             std::string_view suite,
                             std::string_view task,
                             std::int64_t length,
                             std::optional<double> depth);

}  // namespace heddle::needle
