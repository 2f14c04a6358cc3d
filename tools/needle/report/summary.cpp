#include "tools/needle/report/summary.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

namespace heddle::needle {
namespace {

/// Names in the order in which they first came.
class NameOrder {
 public:
  std::size_t of(const std::string& name) {
    return places_.try_emplace(name, places_.size()).first->second;
  }

 private:
  std::map<std::string, std::size_t> places_;
};

/// Cells in order: the n-th suite, its n-th task, length, depth.
using CellPlace = std::tuple<std::size_t, std::size_t, std::int64_t, std::optional<double>>;

std::vector<CellSummary> cells_of(std::span<const Row> rows) {
  std::map<CellPlace, CellSummary> cells;
  NameOrder suites;
  std::map<std::size_t, NameOrder> tasks;
  for (const Row& row : rows) {
    const std::size_t suite = suites.of(row.key.suite);
    const std::size_t task = tasks[suite].of(row.key.task);
    CellSummary& cell = cells[{suite, task, row.key.length, row.key.depth}];
    if (cell.means.n + cell.means.errors == 0) {
      cell.suite = row.key.suite;
      cell.task = row.key.task;
      cell.length = row.key.length;
      cell.depth = row.key.depth;
    }
    cell.means.add(row);
  }
  std::vector<CellSummary> result;
  result.reserve(cells.size());
  for (auto& [place, cell] : cells) result.push_back(std::move(cell));
  return result;
}

/// A length of a task.
using Place = std::tuple<std::string, std::string, std::int64_t>;

/// What was to be asked, and what of it has no row.
struct Plan {
  std::set<Place> asked = {};
  std::map<Place, std::int64_t> missing = {};
};

Plan plan_of(std::span<const Row> rows, std::span<const CellKey> keys) {
  std::set<CellKey> done;
  for (const Row& row : rows) done.insert(row.key);
  Plan plan;
  for (const CellKey& key : keys) {
    const Place place{key.suite, key.task, key.length};
    plan.asked.insert(place);
    if (!done.contains(key)) ++plan.missing[place];
  }
  return plan;
}

/// `cells` are those of one task.
TaskSummary task_of(std::span<const CellSummary> cells, const Plan& plan) {
  TaskSummary task;
  task.name = cells.front().task;
  Mean score;
  for (const CellSummary& cell : cells) {
    if (task.lengths.empty() || task.lengths.back().length != cell.length) {
      task.lengths.push_back({.length = cell.length});
      score = {};
    }
    LengthSummary& length = task.lengths.back();
    score.add(cell.means.score);
    length.n += cell.means.n;
    length.errors += cell.means.errors;
    length.score = score.value();
    if (cell.depth) task.depths.push_back(*cell.depth);
  }
  // A run that was stopped has the deepest needles of its last length, which are the easiest.
  const auto place = [&](const LengthSummary& length) {
    return Place{cells.front().suite, task.name, length.length};
  };
  std::int64_t most = 0;
  for (const LengthSummary& length : task.lengths) {
    if (!plan.asked.contains(place(length))) most = std::max(most, length.n + length.errors);
  }
  for (LengthSummary& length : task.lengths) {
    length.whole = plan.asked.contains(place(length))
                       ? length.errors == 0 && !plan.missing.contains(place(length))
                       : length.n == most;
  }
  std::sort(task.depths.begin(), task.depths.end());
  task.depths.erase(std::unique(task.depths.begin(), task.depths.end()), task.depths.end());
  task.mean = mean_of(task.lengths);
  task.effective = effective_length(task.lengths);
  return task;
}

void fill_lengths(SuiteSummary& suite, const Plan& plan) {
  struct Sum {
    LengthSummary of = {};
    Mean score = {};
  };
  std::map<std::int64_t, Sum> sums;
  for (const TaskSummary& task : suite.tasks) {
    for (const LengthSummary& length : task.lengths) {
      Sum& sum = sums[length.length];
      sum.score.add(length.score);
      sum.of.n += length.n;
      sum.of.errors += length.errors;
      sum.of.whole = sum.of.whole && length.whole;
    }
  }
  // Of tasks that are not begun too.
  for (const auto& [place, n] : plan.missing) {
    const auto sum = sums.find(std::get<2>(place));
    if (std::get<0>(place) == suite.name && sum != sums.end()) sum->second.of.whole = false;
  }
  for (auto& [length, sum] : sums) {
    sum.of.length = length;
    sum.of.score = sum.score.value();
    suite.lengths.push_back(sum.of);
  }
}

std::vector<SuiteSummary> suites_of(std::span<const CellSummary> cells, const Plan& plan) {
  std::vector<SuiteSummary> suites;
  for (std::size_t begin = 0; begin < cells.size();) {
    std::size_t end = begin;
    while (end < cells.size() && cells[end].suite == cells[begin].suite &&
           cells[end].task == cells[begin].task) {
      ++end;
    }
    if (suites.empty() || suites.back().name != cells[begin].suite) {
      suites.push_back({.name = cells[begin].suite});
    }
    suites.back().tasks.push_back(task_of(cells.subspan(begin, end - begin), plan));
    begin = end;
  }
  for (SuiteSummary& suite : suites) {
    fill_lengths(suite, plan);
    suite.mean = mean_of(suite.lengths);
    suite.mean_increasing = mean_increasing(suite.lengths);
    suite.mean_decreasing = mean_decreasing(suite.lengths);
    suite.effective = effective_length(suite.lengths);
  }
  return suites;
}

template <typename T>
void add_to(std::optional<T>& sum, const std::optional<T>& value) {
  if (value) sum = sum.value_or(T{}) + *value;
}

template <typename T>
void raise(std::optional<T>& most, const std::optional<T>& value) {
  if (value) most = std::max(most.value_or(T{}), *value);
}

Totals totals_of(std::span<const Row> rows) {
  Totals totals;
  for (const Row& row : rows) {
    ++totals.rows;
    totals.errors += row.score ? 0 : 1;
    totals.misses += row.score && *row.score < 1.0 ? 1 : 0;
    totals.prompt_tokens += row.prompt_tokens;
    totals.cached_tokens += row.cached_tokens;
    add_to(totals.prefill_s, row.prefill_s);
    add_to(totals.decode_s, row.decode_s);
    raise(totals.most_kv_bytes, row.kv_bytes);
    raise(totals.most_state_bytes, row.state_bytes);
  }
  return totals;
}

/// `weight` of the i-th of n lengths that have a score.
std::optional<double> weighted(std::span<const LengthSummary> lengths,
                               const std::function<double(std::size_t, std::size_t)>& weight) {
  std::vector<double> scores;
  for (const LengthSummary& length : lengths) {
    if (length.score) scores.push_back(*length.score);
  }
  if (scores.empty()) return {};
  double sum = 0.0;
  double weights = 0.0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    sum += weight(i, scores.size()) * scores[i];
    weights += weight(i, scores.size());
  }
  return sum / weights;
}

}  // namespace

void RowMeans::add(const Row& row) {
  if (!row.score) {
    ++errors;
    return;
  }
  ++n;
  score.add(*row.score);
  prompt_tokens.add(static_cast<double>(row.prompt_tokens));
  cached_tokens.add(static_cast<double>(row.cached_tokens));
  prefill_s.add(row.prefill_s);
  decode_s.add(row.decode_s);
  kv_bytes.add(row.kv_bytes);
  state_bytes.add(row.state_bytes);
}

Summary summarize(std::span<const Row> rows, std::span<const CellKey> keys) {
  const Plan plan = plan_of(rows, keys);
  Summary summary;
  summary.cells = cells_of(rows);
  summary.suites = suites_of(summary.cells, plan);
  summary.totals = totals_of(rows);
  for (const auto& [place, n] : plan.missing) summary.totals.unasked += n;
  return summary;
}

std::optional<std::int64_t> effective_length(std::span<const LengthSummary> lengths) {
  constexpr double kRounding = 1e-9;  // of sums of scores
  std::optional<std::int64_t> longest;
  for (const LengthSummary& length : lengths) {
    if (!length.score || !length.whole) break;  // not known, so nothing longer is
    if (*length.score * 100.0 < kEffectivePercent - kRounding) break;
    longest = length.length;
  }
  return longest;
}

std::optional<double> mean_of(std::span<const LengthSummary> lengths) {
  return weighted(lengths, [](std::size_t, std::size_t) { return 1.0; });
}

std::optional<double> mean_increasing(std::span<const LengthSummary> lengths) {
  return weighted(lengths, [](std::size_t i, std::size_t) { return static_cast<double>(i + 1); });
}

std::optional<double> mean_decreasing(std::span<const LengthSummary> lengths) {
  return weighted(lengths, [](std::size_t i, std::size_t n) { return static_cast<double>(n - i); });
}

const CellSummary* find_cell(const Summary& summary,
                             std::string_view suite,
                             std::string_view task,
                             std::int64_t length,
                             std::optional<double> depth) {
  for (const CellSummary& cell : summary.cells) {
    if (cell.suite == suite && cell.task == task && cell.length == length && cell.depth == depth) {
      return &cell;
    }
  }
  return nullptr;
}

}  // namespace heddle::needle
