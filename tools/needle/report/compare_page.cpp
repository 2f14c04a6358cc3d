#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "tools/needle/report/compare.h"
#include "tools/needle/report/compare_parts.h"
#include "tools/needle/report/html.h"
#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

/// Rows and columns that all panels share.
struct Axes {
  std::vector<double> depths = {};  // empty: tasks
  std::vector<std::pair<std::string, std::string>> tasks = {};
  std::vector<std::int64_t> lengths = {};
};

Axes axes_of(std::span<const Row> rows) {
  const Summary summary = summarize(rows);
  std::set<double> depths;
  std::set<std::int64_t> lengths;
  for (const CellSummary& cell : summary.cells) {
    if (cell.depth) depths.insert(*cell.depth);
  }
  Axes axes;
  for (const CellSummary& cell : summary.cells) {
    if (depths.empty() || cell.depth) lengths.insert(cell.length);
  }
  axes.depths.assign(depths.begin(), depths.end());
  axes.lengths.assign(lengths.begin(), lengths.end());
  for (const SuiteSummary& suite : summary.suites) {
    for (const TaskSummary& task : suite.tasks) axes.tasks.emplace_back(suite.name, task.name);
  }
  return axes;
}

template <typename T>
std::size_t place(const std::vector<T>& items, const T& item) {
  return static_cast<std::size_t>(std::find(items.begin(), items.end(), item) - items.begin());
}

/// Rows and columns with names, and cells that say where they are.
HeatPanel empty_panel(const ComparedMode& mode, const Axes& axes) {
  HeatPanel panel;
  panel.title = clean_text(mode.label);
  panel.column_axis = "length, tokens";
  panel.row_axis = axes.depths.empty() ? "task" : "depth, %";
  panel.every_row = axes.depths.empty();
  for (const double depth : axes.depths) panel.rows.push_back(depth_label(depth));
  if (axes.depths.empty()) {
    for (const auto& [suite, task] : axes.tasks) panel.rows.push_back(clean_text(task));
  }
  for (const std::int64_t length : axes.lengths) panel.columns.push_back(length_label(length));
  for (const std::string& row : panel.rows) {
    for (const std::int64_t length : axes.lengths) {
      panel.cells.push_back({.about = fmt::format("{}, length {}, {} {}", panel.title, length,
                                                  axes.depths.empty() ? "task" : "depth", row)});
    }
  }
  return panel;
}

HeatPanel panel_of(const ComparedMode& mode, const Axes& axes) {
  HeatPanel panel = empty_panel(mode, axes);
  std::vector<Mean> scores(panel.cells.size());
  for (const CellSummary& cell : summarize(mode.rows).cells) {
    if (!axes.depths.empty() && !cell.depth) continue;
    const std::size_t row = axes.depths.empty()
                                ? place(axes.tasks, std::pair(cell.suite, cell.task))
                                : place(axes.depths, *cell.depth);
    const std::size_t i = row * axes.lengths.size() + place(axes.lengths, cell.length);
    scores[i].add(cell.means.score.value());
    panel.cells[i].n += cell.means.n;
    panel.cells[i].errors += cell.means.errors;
    panel.cells[i].value = scores[i].value();
  }
  return panel;
}

std::string names_of(const Axes& axes) {
  std::vector<std::string> suites;
  for (const auto& [suite, task] : axes.tasks) {
    if (suites.empty() || suites.back() != suite) suites.push_back(suite);
  }
  if (axes.tasks.size() == 1) return suites[0] + " " + axes.tasks[0].second;
  return suites.empty() ? "-" : joined(suites);
}

/// Prompts whose score is not that of the first mode.
std::string differences(std::span<const ComparedMode> modes) {
  std::map<CellKey, const Row*> first;
  for (const Row& row : modes.front().rows) first.emplace(row.key, &row);
  HtmlTable table = {.head = {"prompt", "attention", "expected", "answer", "answer of the first"},
                     .n_left = 5,
                     .texts = true};
  std::size_t n = 0;
  for (const ComparedMode& mode : modes.subspan(1)) {
    for (const Row& row : mode.rows) {
      const auto other = first.find(row.key);
      if (other == first.end() || !row.score || !other->second->score ||
          *row.score == *other->second->score || n++ >= kMostToldRows) {
        continue;
      }
      table.lines.push_back(
          {text_of(row.key), mode.label, cut(joined(row.expected), kMostToldCharacters),
           cut(row.answer, kMostToldCharacters), cut(other->second->answer, kMostToldCharacters)});
    }
  }
  if (n == 0) return html_paragraph("None.");
  std::string html = html_table(table);
  if (n > kMostToldRows) html += html_paragraph(fmt::format("And {} more.", n - kMostToldRows));
  return html;
}

}  // namespace

Heatmap comparison_heatmap(const ReportFacts& facts, std::span<const ComparedMode> modes) {
  const std::vector<Row> rows = all_rows(modes);
  const Axes axes = axes_of(rows);
  Heatmap heatmap;
  heatmap.title = clean_text("Attention modes: " + names_of(axes));
  const bool means = !axes.depths.empty() && axes.tasks.size() > 1;
  heatmap.subtitle = clean_text(
      fmt::format("{}, seed {}, {} a cell{}", facts.model, facts.seed,
                  facts.samples == 1 ? "1 sample" : fmt::format("{} samples", facts.samples),
                  means ? fmt::format(", mean over {} tasks", axes.tasks.size()) : ""));
  if (rows.empty()) return heatmap;
  for (const ComparedMode& mode : modes) heatmap.panels.push_back(panel_of(mode, axes));
  return heatmap;
}

std::string comparison_html(const ReportFacts& facts, std::span<const ComparedMode> modes) {
  const Heatmap heatmap = comparison_heatmap(facts, modes);
  std::vector<std::string> labels;
  for (const ComparedMode& mode : modes) labels.push_back(mode.label);
  std::string body =
      html_facts({{"model", facts.model},
                  {"attention", joined(labels)},
                  {"compared with", labels.empty() ? "-" : labels[0]},
                  {"seed, samples", fmt::format("{}, {} a cell", facts.seed, facts.samples)}});
  body += html_heading("Made by") + html_code(facts.command);
  body += "<figure>\n" + heatmap_svg(heatmap) + "</figure>\n";
  auto lines = comparison_lines(modes);
  HtmlTable table = {.head = lines[0], .n_left = 2};
  table.lines.assign(lines.begin() + 1, lines.end());
  body += html_heading("Scores and costs") + html_table(table);
  body += html_paragraph(
      "Scores, deltas and equal answers in percent; deltas and equal answers are over the prompts "
      "that have a score in both modes, seconds and bytes are means of those that have one.");
  if (!modes.empty()) body += html_heading("Prompts with other scores") + differences(modes);
  if (!facts.notes.empty()) body += html_heading("Notes");
  for (const std::string& note : facts.notes) body += html_paragraph(note);
  return html_page(heatmap.title, body);
}

}  // namespace heddle::needle
