#include "tools/needle/report/panels.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

constexpr const char* kLengthAxis = "length, tokens";

void fill(HeatCell& cell, const RowMeans& means) {
  cell.value = means.score.value();
  cell.n = means.n;
  cell.errors = means.errors;
}

/// Panels begin with cells that were not run.
void name_columns(HeatPanel& panel, const std::vector<LengthSummary>& lengths) {
  panel.column_axis = kLengthAxis;
  for (const LengthSummary& length : lengths) panel.columns.push_back(length_label(length.length));
  panel.cells.resize(panel.rows.size() * panel.columns.size());
}

std::size_t place_of(std::int64_t length, const std::vector<LengthSummary>& lengths) {
  const auto found = std::find_if(lengths.begin(), lengths.end(),
                                  [&](const LengthSummary& l) { return l.length == length; });
  return static_cast<std::size_t>(found - lengths.begin());
}

HeatPanel depth_panel(const Summary& summary,
                      const SuiteSummary& suite,
                      const TaskSummary& task,
                      bool titled) {
  HeatPanel panel;
  if (titled) panel.title = suite.name + " " + task.name;
  panel.row_axis = "depth, %";
  for (const double depth : task.depths) panel.rows.push_back(depth_label(depth));
  name_columns(panel, suite.lengths);
  for (std::size_t row = 0; row < task.depths.size(); ++row) {
    for (std::size_t column = 0; column < suite.lengths.size(); ++column) {
      panel.cells[row * panel.columns.size() + column].about =
          fmt::format("{} {}, length {}, depth {}", suite.name, task.name,
                      suite.lengths[column].length, panel.rows[row]);
    }
  }
  for (const CellSummary& cell : summary.cells) {
    if (cell.suite != suite.name || cell.task != task.name || !cell.depth) continue;
    const auto row = static_cast<std::size_t>(
        std::lower_bound(task.depths.begin(), task.depths.end(), *cell.depth) -
        task.depths.begin());
    fill(panel.cells[row * panel.columns.size() + place_of(cell.length, suite.lengths)],
         cell.means);
  }
  return panel;
}

HeatPanel task_panel(const SuiteSummary& suite,
                     const std::vector<const TaskSummary*>& tasks,
                     bool titled) {
  HeatPanel panel;
  if (titled) panel.title = suite.name;
  panel.row_axis = tasks.size() == 1 ? "" : "task";
  panel.every_row = true;
  for (const TaskSummary* task : tasks) panel.rows.push_back(task->name);
  name_columns(panel, suite.lengths);
  for (std::size_t row = 0; row < tasks.size(); ++row) {
    for (std::size_t column = 0; column < suite.lengths.size(); ++column) {
      panel.cells[row * panel.columns.size() + column].about = fmt::format(
          "{} {}, length {}", suite.name, tasks[row]->name, suite.lengths[column].length);
    }
    for (const LengthSummary& length : tasks[row]->lengths) {
      HeatCell& cell =
          panel.cells[row * panel.columns.size() + place_of(length.length, suite.lengths)];
      cell.value = length.score;
      cell.n = length.n;
      cell.errors = length.errors;
    }
  }
  return panel;
}

}  // namespace

Heatmap heatmap_of(const Summary& summary, std::string title, std::string subtitle) {
  Heatmap heatmap;
  heatmap.title = std::move(title);
  heatmap.subtitle = std::move(subtitle);
  std::size_t n_panels = 0;
  for (const SuiteSummary& suite : summary.suites) {
    bool flat = false;
    for (const TaskSummary& task : suite.tasks) {
      n_panels += task.depths.empty() ? 0 : 1;
      flat |= task.depths.empty();
    }
    n_panels += flat ? 1 : 0;
  }
  for (const SuiteSummary& suite : summary.suites) {
    std::vector<const TaskSummary*> flat;
    for (const TaskSummary& task : suite.tasks) {
      if (task.depths.empty()) {
        flat.push_back(&task);
      } else {
        heatmap.panels.push_back(depth_panel(summary, suite, task, n_panels > 1));
      }
    }
    if (!flat.empty()) heatmap.panels.push_back(task_panel(suite, flat, n_panels > 1));
  }
  return heatmap;
}

}  // namespace heddle::needle
