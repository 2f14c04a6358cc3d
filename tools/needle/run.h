#pragma once
// A grid of cells, asked in an order in which prompts share what they have in common.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tools/needle/prompt.h"
#include "tools/needle/row.h"
#include "tools/needle/scorer.h"
#include "tools/needle/target.h"

namespace heddle::needle {

struct Grid {
  std::vector<TaskSpec> tasks;
  std::vector<std::int64_t> lengths;  // rising
  std::vector<double> depths;         // rising; of tasks that have depths
  std::int64_t samples = 1;
  std::uint64_t seed = 0;
};

/// Cells of one task, sample and length, the deepest needle first: its prompt holds the haystack
/// that the others begin with.
struct CellGroup {
  TaskSpec task;
  std::vector<CellKey> keys;
};
/// Tasks, samples, then lengths from the shortest: a shorter haystack is the begin of a longer one.
std::vector<CellGroup> groups_of(const Grid& grid);

/// What to compute for a cell, in tokens, where what it shares with the cells before it is reused.
double expected_cost(const CellGroup& group, const CellGroup* before, std::size_t i, bool reuse);

struct RunOptions {
  std::string model;
  std::string attention;  // Row::attention
  Scorer scorer = Scorer::kTask;
  std::size_t concurrency = 1;
  bool skip_thoughts = true;
  /// In place of the scorer: 0 to 1; throws Error where there is no judgement, which is the row's.
  std::function<double(const BuiltPrompt&, const std::string& answer)> judge = {};
  std::function<bool(const CellKey&)> is_done = {};  // not asked again
  std::function<void(Row)> write = {};               // in run order
  std::function<void(const CellKey&)> skipped = {};  // instead of write: it is done already
  std::function<bool()> stop = {};                   // looked at between steps
};

/// Asks all cells and writes a row for each. What one cell's prompt cannot be is its row's error.
/// False: stopped before the end; what had been asked and is not written yet is lost.
bool run_grid(const std::vector<CellGroup>& groups,
              PromptSource& prompts,
              Target& target,
              const RunOptions& options);

/// Tokens that two prompts begin with.
std::size_t common_prefix(const std::vector<TokenId>& a, const std::vector<TokenId>& b);

}  // namespace heddle::needle
