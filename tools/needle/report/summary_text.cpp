#include "tools/needle/report/summary_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "tools/heddle/io.h"
#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

using Line = std::vector<std::string>;

/// "63.6", "63.6*" (some errors), "err" (nothing else), "" (no rows).
std::string cell_text(std::optional<double> score, std::int64_t errors) {
  if (score) return percent(score) + (errors > 0 ? "*" : " ");
  return errors > 0 ? "err " : "";
}

std::vector<std::int64_t> lengths_of(const SuiteSummary& suite) {
  std::vector<std::int64_t> lengths;
  for (const LengthSummary& length : suite.lengths) lengths.push_back(length.length);
  return lengths;
}

/// A line of `lengths`, one column for each of `columns`.
Line length_line(std::string head,
                 const std::vector<LengthSummary>& lengths,
                 const std::vector<std::int64_t>& columns) {
  Line line = {std::move(head)};
  for (const std::int64_t column : columns) {
    const auto found =
        std::find_if(lengths.begin(), lengths.end(),
                     [&](const LengthSummary& length) { return length.length == column; });
    line.push_back(found == lengths.end() ? "" : cell_text(found->score, found->errors));
  }
  return line;
}

Line depth_line(const Summary& summary,
                const SuiteSummary& suite,
                double depth,
                const std::vector<std::int64_t>& columns) {
  Line line = {"depth " + depth_label(depth)};
  for (const std::int64_t column : columns) {
    const CellSummary* cell =
        find_cell(summary, suite.name, suite.tasks.front().name, column, depth);
    line.push_back(cell == nullptr ? "" : cell_text(cell->means.score.value(), cell->means.errors));
  }
  return line;
}

std::string suite_table(const Summary& summary, const SuiteSummary& suite) {
  const std::vector<std::int64_t> columns = lengths_of(suite);
  const bool one = suite.tasks.size() == 1;
  Line head = {cli::printable(one ? suite.name + " " + suite.tasks.front().name : suite.name)};
  for (const std::int64_t column : columns) head.push_back(length_label(column) + " ");
  if (!one) head.push_back("effective");
  std::vector<Line> lines = {head};
  if (one) {
    for (const double depth : suite.tasks.front().depths) {
      lines.push_back(depth_line(summary, suite, depth, columns));
    }
  } else {
    for (const TaskSummary& task : suite.tasks) {
      lines.push_back(length_line(cli::printable(task.name), task.lengths, columns));
      lines.back().push_back(effective_text(task.effective, task.lengths));
    }
  }
  if (!one || suite.tasks.front().depths.size() != 1) {
    lines.push_back(length_line("mean", suite.lengths, columns));
  }
  return aligned(lines);
}

std::string effective_lines(const SuiteSummary& suite) {
  std::string text =
      fmt::format("effective length {} (mean of at least {:.1f} %, and all shorter)\n",
                  effective_text(suite.effective, suite.lengths), kEffectivePercent);
  if (suite.lengths.size() > 1 && suite.mean) {
    text += fmt::format("mean {}, with weights that rise with length {}, that fall {}\n",
                        percent(suite.mean), percent(suite.mean_increasing),
                        percent(suite.mean_decreasing));
  }
  return text;
}

std::string number_or_empty(const Mean& mean) {
  const auto value = mean.value();
  return value ? fmt::format("{}", *value) : "";
}

}  // namespace

std::string summary_csv(const Summary& summary) {
  std::string text =
      "suite,task,length,depth,n,errors,score,prompt_tokens,cached_tokens,prefill_s,decode_s,"
      "kv_bytes,state_bytes\r\n";
  for (const CellSummary& cell : summary.cells) {
    const RowMeans& means = cell.means;
    fmt::format_to(std::back_inserter(text), "{},{},{},{},{},{}", csv_field(clean_text(cell.suite)),
                   csv_field(clean_text(cell.task)), cell.length,
                   cell.depth ? fmt::format("{}", *cell.depth) : "", means.n, means.errors);
    for (const Mean* mean :
         {&means.score, &means.prompt_tokens, &means.cached_tokens, &means.prefill_s,
          &means.decode_s, &means.kv_bytes, &means.state_bytes}) {
      text += "," + number_or_empty(*mean);
    }
    text += "\r\n";
  }
  return text;
}

std::string effective_text(std::optional<std::int64_t> effective,
                           const std::vector<LengthSummary>& lengths) {
  if (effective) return length_label(*effective);
  const auto first = std::find_if(lengths.begin(), lengths.end(), [](const LengthSummary& length) {
    return length.score && length.whole;
  });
  return first == lengths.end() ? "not known" : "below " + length_label(first->length);
}

std::string unasked_text(const Totals& totals) {
  return fmt::format("not finished: {} prompts are not asked yet, --resume goes on with them",
                     totals.unasked);
}

std::string summary_table(const Summary& summary) {
  if (summary.cells.empty()) {
    return summary.totals.unasked > 0 ? "no rows; " + unasked_text(summary.totals) + "\n"
                                      : "no rows\n";
  }
  std::string text;
  for (const SuiteSummary& suite : summary.suites) {
    text += suite_table(summary, suite) + effective_lines(suite) + "\n";
  }
  text.pop_back();
  if (summary.totals.unasked > 0) text += unasked_text(summary.totals) + "\n";
  if (summary.totals.errors > 0) {
    text += fmt::format("{} of {} rows are errors and no part of any mean{}\n",
                        summary.totals.errors, summary.totals.rows, " (*, err)");
  }
  return text;
}

}  // namespace heddle::needle
