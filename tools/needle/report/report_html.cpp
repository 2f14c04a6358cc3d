#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tools/needle/report/html.h"
#include "tools/needle/report/reports.h"
#include "tools/needle/report/summary_text.h"
#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

using Facts = std::vector<std::pair<std::string, std::string>>;

std::string told(std::string_view text) {
  return cut(text, kMostToldCharacters);
}

std::string seconds_text(std::optional<double> seconds) {
  return seconds ? duration_text(*seconds) : "not told";
}

std::string bytes_or_unknown(std::optional<std::uint64_t> bytes) {
  return bytes ? bytes_text(static_cast<double>(*bytes)) : "not known";
}

std::string head(const ReportFacts& facts, const Summary& summary) {
  const Totals& totals = summary.totals;
  Facts lines = {{"model", facts.model}, {"attention", facts.attention}};
  for (const SuiteSummary& suite : summary.suites) {
    lines.emplace_back(
        "effective length, " + suite.name,
        fmt::format("{} (mean of at least {:.1f} %, and all shorter)",
                    effective_text(suite.effective, suite.lengths), kEffectivePercent));
    if (!suite.mean) continue;
    lines.emplace_back("mean, " + suite.name,
                       fmt::format("{} %; with weights that rise with length {} %, that fall {} %",
                                   percent(suite.mean), percent(suite.mean_increasing),
                                   percent(suite.mean_decreasing)));
  }
  lines.emplace_back("rows", fmt::format("{}, of them {} misses and {} errors, which are no misses",
                                         totals.rows, totals.misses, totals.errors));
  if (summary.totals.unasked > 0) {
    lines.emplace_back("this run is", unasked_text(summary.totals));
  }
  lines.emplace_back("seed, samples", fmt::format("{}, {} a cell", facts.seed, facts.samples));
  lines.emplace_back("prompt tokens",
                     fmt::format("{}, of them {} not computed again", grouped(totals.prompt_tokens),
                                 grouped(totals.cached_tokens)));
  lines.emplace_back("prefill, decode",
                     seconds_text(totals.prefill_s) + ", " + seconds_text(totals.decode_s));
  if (totals.most_kv_bytes || totals.most_state_bytes) {
    lines.emplace_back(
        "keys and values, states",
        fmt::format("at most {}, {} of one sequence", bytes_or_unknown(totals.most_kv_bytes),
                    bytes_or_unknown(totals.most_state_bytes)));
  }
  return html_facts(lines) + html_heading("Made by") + html_code(facts.command);
}

std::string score_text(const LengthSummary& length) {
  if (length.score) return percent(length.score) + (length.errors > 0 ? " *" : "");
  return length.errors > 0 ? "err" : "";
}

std::vector<std::string> score_line(const std::string& name,
                                    const std::vector<LengthSummary>& lengths,
                                    const SuiteSummary& suite) {
  std::vector<std::string> line = {name};
  for (const LengthSummary& column : suite.lengths) {
    const auto found =
        std::find_if(lengths.begin(), lengths.end(),
                     [&](const LengthSummary& length) { return length.length == column.length; });
    line.push_back(found == lengths.end() ? "" : score_text(*found));
  }
  return line;
}

std::string suite_table(const SuiteSummary& suite) {
  HtmlTable table;
  table.head = {"task"};
  for (const LengthSummary& length : suite.lengths)
    table.head.push_back(length_label(length.length));
  table.head.insert(table.head.end(), {"mean", "effective length"});
  for (const TaskSummary& task : suite.tasks) {
    table.lines.push_back(score_line(task.name, task.lengths, suite));
    table.lines.back().push_back(percent(task.mean));
    table.lines.back().push_back(effective_text(task.effective, task.lengths));
  }
  if (suite.tasks.size() > 1) {
    table.lines.push_back(score_line("mean", suite.lengths, suite));
    table.lines.back().push_back(percent(suite.mean));
    table.lines.back().push_back(effective_text(suite.effective, suite.lengths));
  }
  return html_heading("Scores of " + suite.name + ", percent") + html_table(table);
}

std::string mean_text(const Mean& mean, int digits) {
  const auto value = mean.value();
  return value ? fmt::format("{:.{}f}", *value, digits) : "";
}

std::string mean_bytes(const Mean& mean) {
  const auto value = mean.value();
  return value ? bytes_text(*value) : "";
}

std::string cell_table(const Summary& summary) {
  HtmlTable table;
  table.head = {"suite",  "task",   "length",    "depth",    "n",  "errors", "score",
                "prompt", "cached", "prefill s", "decode s", "KV", "states"};
  table.n_left = 2;
  for (const CellSummary& cell : summary.cells) {
    const RowMeans& means = cell.means;
    table.lines.push_back({cell.suite, cell.task, length_label(cell.length),
                           cell.depth ? depth_label(*cell.depth) : "", fmt::format("{}", means.n),
                           fmt::format("{}", means.errors), percent(means.score.value()),
                           mean_text(means.prompt_tokens, 0), mean_text(means.cached_tokens, 0),
                           mean_text(means.prefill_s, 2), mean_text(means.decode_s, 2),
                           mean_bytes(means.kv_bytes), mean_bytes(means.state_bytes)});
  }
  return html_details("All cells", html_table(table));
}

/// At most kMostToldRows of them, and how many there are beside.
template <typename Pick, typename Tell>
std::string told_rows(std::span<const Row> rows, HtmlTable table, Pick pick, Tell tell) {
  std::size_t n = 0;
  for (const Row& row : rows) {
    if (pick(row) && n++ < kMostToldRows) table.lines.push_back(tell(row));
  }
  if (n == 0) return html_paragraph("None.");
  std::string html = html_table(table);
  if (n > kMostToldRows) html += html_paragraph(fmt::format("And {} more.", n - kMostToldRows));
  return html;
}

std::string misses(std::span<const Row> rows) {
  HtmlTable table = {.head = {"prompt", "score", "expected", "answer"}, .n_left = 4, .texts = true};
  return html_heading("Misses") +
         told_rows(
             rows, std::move(table), [](const Row& row) { return row.score && *row.score < 1.0; },
             [](const Row& row) {
               return std::vector<std::string>{text_of(row.key), percent(row.score),
                                               told(joined(row.expected)), told(row.answer)};
             });
}

std::string errors(std::span<const Row> rows) {
  HtmlTable table = {.head = {"prompt", "error"}, .n_left = 2, .texts = true};
  return html_heading("Errors") +
         told_rows(
             rows, std::move(table), [](const Row& row) { return !row.score; },
             [](const Row& row) {
               return std::vector<std::string>{text_of(row.key), told(row.error)};
             });
}

}  // namespace

std::string report_html(const ReportFacts& facts,
                        const Summary& summary,
                        std::span<const Row> rows) {
  const Heatmap heatmap = report_heatmap(facts, summary);
  std::string body = head(facts, summary);
  body += "<figure>\n" + heatmap_svg(heatmap) + "</figure>\n";
  for (const SuiteSummary& suite : summary.suites) body += suite_table(suite);
  if (summary.totals.errors > 0) {
    body += html_paragraph("* some samples are errors, err: all are; errors are part of no mean.");
  }
  body += misses(rows) + errors(rows) + cell_table(summary);
  if (!facts.notes.empty()) body += html_heading("Notes");
  for (const std::string& note : facts.notes) body += html_paragraph(note);
  return html_page(heatmap.title, body);
}

}  // namespace heddle::needle
