#pragma once
// How a run stands, on a terminal: a block of lines that replaces itself.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "tools/needle/report/summary.h"

namespace heddle::needle {

/// A row to come.
struct PlannedRow {
  CellKey key = {};
  double cost = 1.0;  // expected, in any unit: tokens still to prefill
};

struct TerminalSize {
  std::size_t columns = 80;
  std::size_t lines = 24;
};

/// What has come of a plan. Texts hold nothing that a terminal would obey.
class LiveProgress {
 public:
  explicit LiveProgress(std::span<const PlannedRow> plan);

  /// A row of this run. Returns a line for each length that is whole now: "niah 4k: 98.2 % of 55
  /// rows, 2 errors". Rows that were not planned change nothing.
  std::vector<std::string> add(const Row& row);
  /// A row of an earlier run (--resume): done, but no measure of speed.
  void add_known(const Row& row);

  bool finished() const { return n_done_ == n_planned_; }
  /// Elapsed time by the cost of what was done in it, times the cost of what is left; absent while
  /// nothing is done.
  std::optional<double> seconds_left(double elapsed_s) const;
  /// "[####------] 40 %, 12 s left, 22 of 55 rows, 1 error, 1,234 tokens/s"
  std::string status_line(double elapsed_s) const;
  /// The status line, and tasks (or the depths of a lone task) by lengths; at most size.lines - 1
  /// lines, each of less than size.columns characters, the newest row's place among them.
  std::string block(double elapsed_s, TerminalSize size) const;

 private:
  struct Place {  // a line or a column of the table
    std::string suite = {};
    std::string task = {};
    std::optional<double> depth = {};
    auto operator<=>(const Place&) const = default;
  };
  struct Cell {
    Mean score = {};
    std::int64_t planned = 0;
    std::int64_t done = 0;
    std::int64_t errors = 0;
  };
  using LengthKey = std::pair<std::string, std::int64_t>;  // suite, length

  Place place_of(const CellKey& key) const;
  bool count(const Row& row, double* cost);
  std::string cell_text(const Cell& cell) const;
  std::string label_of(const Place& place) const;

  bool one_task_ = false;
  std::map<CellKey, double> open_;  // planned, not done
  std::vector<Place> places_;       // in the plan's order; depths ascending
  std::vector<std::int64_t> lengths_;
  std::map<std::pair<Place, std::int64_t>, Cell> cells_;
  std::map<LengthKey, Cell> per_length_;
  std::size_t n_planned_ = 0;
  std::size_t n_done_ = 0;
  std::int64_t errors_ = 0;
  std::int64_t computed_tokens_ = 0;  // of this run
  double cost_done_ = 0.0;            // of this run
  double cost_known_ = 0.0;           // of earlier runs
  double cost_left_ = 0.0;
  Place newest_place_ = {};
  std::int64_t newest_length_ = 0;
};

/// Where a LiveTable writes and what time it is.
struct LiveOutput {
  std::function<void(std::string_view)> write = {};
  std::function<double()> seconds = {};  // since any moment
  std::function<TerminalSize()> size = {};
  bool terminal = false;
};
/// Standard error and a steady clock.
LiveOutput live_standard_error();

/// Shows a LiveProgress: on a terminal as a block in place, drawn at most ten times a second; else
/// as a line for each length that is whole. Used by one thread.
class LiveTable {
 public:
  explicit LiveTable(std::span<const PlannedRow> plan, LiveOutput output = live_standard_error());
  ~LiveTable();
  LiveTable(const LiveTable&) = delete;
  LiveTable& operator=(const LiveTable&) = delete;

  void add_known(const Row& row);
  void add(const Row& row);
  /// Time goes on without a row.
  void refresh();
  /// Takes the block away: before other lines are written, and at the end.
  void clear();

 private:
  void draw();

  LiveProgress progress_;
  LiveOutput output_;
  double begun_s_ = 0.0;
  std::optional<double> drawn_s_ = {};
  std::size_t drawn_lines_ = 0;
};

}  // namespace heddle::needle
