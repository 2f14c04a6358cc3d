#pragma once
// The same prompts under several attention modes: scores and costs beside those of the first.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tools/needle/report/heatmap.h"
#include "tools/needle/report/reports.h"
#include "tools/needle/report/summary.h"

namespace heddle::needle {

struct ComparedMode {
  std::string label = {};  // "dense", "power:512:16"
  std::vector<Row> rows = {};
  std::vector<CellKey> plan = {};  // all that is asked, answered or not
  /// The caller's own columns: name, length, value: "bytes_read_per_token" at 8192. A name that
  /// holds "bytes" is told in KiB, MiB ..
  std::map<std::string, std::map<std::int64_t, double>> extra = {};
};

/// One suite, one length, one mode.
struct ComparedLength {
  std::string suite = {};
  std::int64_t length = 0;
  std::size_t mode = 0;              // its place in the list
  RowMeans means = {};               // over all rows: costs, n, errors
  std::optional<double> score = {};  // mean over the tasks, as in a summary
  /// Prompts that have a score here and in the first mode; what follows is of them alone.
  std::int64_t pairs = 0;
  std::optional<double> delta = {};  // score less that of the first, mean over the tasks
  std::optional<double> same = {};   // share of equal answers
};

/// Suites in the order of their first rows, lengths ascending, modes as given. What only later
/// modes have is told, without a delta.
std::vector<ComparedLength> compare(std::span<const ComparedMode> modes);

/// compare.csv: suite, length, attention, n, errors, score, pairs, delta, same_answers,
/// prompt_tokens, cached_tokens, prefill_s, decode_s, kv_bytes, state_bytes and the extra columns
/// of all modes; shares are 0 to 1, what is not known is empty, lines end with CRLF.
std::string comparison_csv(std::span<const ComparedMode> modes);
/// The same for people, shares in percent.
std::string comparison_table(std::span<const ComparedMode> modes);

/// A panel for each mode: depths by lengths, each cell the mean over the tasks that have a depth;
/// where no task has one, tasks by lengths. All panels have the same rows and columns.
Heatmap comparison_heatmap(const ReportFacts& facts, std::span<const ComparedMode> modes);
std::string comparison_html(const ReportFacts& facts, std::span<const ComparedMode> modes);

/// Writes compare.csv, compare.svg, compare.png and compare.html into `folder`, as write_reports()
/// does. `facts.attention` is not looked at.
void write_comparison(const std::filesystem::path& folder,
                      const ReportFacts& facts,
                      std::span<const ComparedMode> modes);

}  // namespace heddle::needle
