#include <fmt/format.h>

#include <algorithm>

#include "tools/heddle/io.h"
#include "tools/needle/report/live_table.h"
#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

/// Which `fit` of `n` are shown, so that `focus` is among them.
struct Window {
  std::size_t begin = 0;
  std::size_t end = 0;
};
Window window(std::size_t n, std::size_t fit, std::size_t focus) {
  if (fit >= n) return {0, n};
  const std::size_t begin = focus < fit ? 0 : std::min(focus + 1 - fit, n - fit);
  return {begin, begin + fit};
}

std::string counted(std::int64_t n, std::string_view what) {
  return fmt::format("{} {}{}", grouped(n), what, n == 1 ? "" : "s");
}

/// 0: the first one, or none is it.
template <typename T>
std::size_t index_of(const std::vector<T>& items, const T& item) {
  const auto found = std::find(items.begin(), items.end(), item);
  return found == items.end() ? 0 : static_cast<std::size_t>(found - items.begin());
}

/// ASCII of one line: what a terminal shows in as many columns.
std::string plain(std::string_view text) {
  std::string result = cli::printable(text);
  for (char& c : result) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  return result;
}

}  // namespace

LiveProgress::LiveProgress(std::span<const PlannedRow> plan) {
  std::set<std::pair<std::string, std::string>> tasks;
  std::set<std::int64_t> lengths;
  for (const PlannedRow& row : plan) tasks.emplace(row.key.suite, row.key.task);
  one_task_ = tasks.size() == 1;
  std::set<Place> seen;
  for (const PlannedRow& row : plan) {
    if (!open_.emplace(row.key, row.cost).second) continue;
    const Place place = place_of(row.key);
    if (seen.insert(place).second) places_.push_back(place);
    lengths.insert(row.key.length);
    ++cells_[{place, row.key.length}].planned;
    ++per_length_[{row.key.suite, row.key.length}].planned;
    cost_left_ += row.cost;
  }
  if (one_task_) std::sort(places_.begin(), places_.end());
  lengths_.assign(lengths.begin(), lengths.end());
  n_planned_ = open_.size();
}

LiveProgress::Place LiveProgress::place_of(const CellKey& key) const {
  Place place = {key.suite, key.task, {}};
  if (one_task_) place.depth = key.depth;
  return place;
}

bool LiveProgress::count(const Row& row, double* cost) {
  const auto found = open_.find(row.key);
  if (found == open_.end()) return false;
  *cost = found->second;
  open_.erase(found);
  ++n_done_;
  cost_left_ -= *cost;
  errors_ += row.score ? 0 : 1;
  newest_place_ = place_of(row.key);
  newest_length_ = row.key.length;
  for (Cell* cell :
       {&cells_[{newest_place_, row.key.length}], &per_length_[{row.key.suite, row.key.length}]}) {
    ++cell->done;
    cell->errors += row.score ? 0 : 1;
    cell->score.add(row.score);
  }
  return true;
}

std::vector<std::string> LiveProgress::add(const Row& row) {
  double cost = 0.0;
  if (!count(row, &cost)) return {};
  cost_done_ += cost;
  computed_tokens_ += std::max<std::int64_t>(0, row.prompt_tokens - row.cached_tokens);
  const Cell& length = per_length_[{row.key.suite, row.key.length}];
  if (length.done < length.planned) return {};
  std::string line =
      fmt::format("{} {}: {} % of {}", plain(row.key.suite), length_label(row.key.length),
                  percent(length.score.value()), counted(length.done - length.errors, "row"));
  if (length.errors > 0) line += ", " + counted(length.errors, "error");
  return {line};
}

void LiveProgress::add_known(const Row& row) {
  double cost = 0.0;
  if (count(row, &cost)) cost_known_ += cost;
}

std::optional<double> LiveProgress::seconds_left(double elapsed_s) const {
  if (finished()) return 0.0;
  if (cost_done_ <= 0.0) return {};
  return elapsed_s / cost_done_ * std::max(0.0, cost_left_);
}

std::string LiveProgress::status_line(double elapsed_s) const {
  constexpr std::size_t kCells = 20;
  const double all = cost_known_ + cost_done_ + cost_left_;
  // Of the cost where there is any: long prompts are more of the way than short ones.
  double share =
      n_planned_ == 0 ? 1.0 : static_cast<double>(n_done_) / static_cast<double>(n_planned_);
  if (all > 0.0 && !finished()) share = std::clamp((cost_known_ + cost_done_) / all, 0.0, 1.0);
  const auto full = static_cast<std::size_t>(share * kCells);
  std::string line = fmt::format("[{}{}] {:.0f} %", std::string(full, '#'),
                                 std::string(kCells - full, '-'), share * 100.0);
  const auto left = seconds_left(elapsed_s);
  if (left && !finished()) line += ", " + duration_text(*left) + " left";
  line += fmt::format(", {} of {}", n_done_, counted(static_cast<std::int64_t>(n_planned_), "row"));
  if (errors_ > 0) line += ", " + counted(errors_, "error");
  if (elapsed_s > 0.0 && computed_tokens_ > 0) {
    const double speed = static_cast<double>(computed_tokens_) / elapsed_s;
    line += fmt::format(", {} tokens/s", grouped(static_cast<std::int64_t>(speed)));
  }
  return line;
}

/// "." nothing yet, "66.7~" more to come, "err" errors alone, "100.0" done.
std::string LiveProgress::cell_text(const Cell& cell) const {
  if (cell.planned == 0) return "";
  if (cell.done == 0) return ". ";
  const std::string text = cell.score.n() == 0 ? "err" : percent(cell.score.value());
  return text + (cell.done < cell.planned                ? "~"
                 : cell.errors > 0 && cell.score.n() > 0 ? "*"
                                                         : " ");
}

std::string LiveProgress::label_of(const Place& place) const {
  if (place.depth) return "depth " + depth_label(*place.depth);
  return plain(place.suite + " " + place.task);
}

std::string LiveProgress::block(double elapsed_s, TerminalSize size) const {
  const std::size_t columns = std::max<std::size_t>(size.columns, 2) - 1;
  const std::size_t room = std::max<std::size_t>(size.lines, 2) - 1;
  std::vector<std::string> lines = {status_line(elapsed_s)};
  if (room > 2 && !places_.empty()) {
    constexpr std::size_t kColumn = 9;  // two spaces, "100.0", its mark, and one for a long length
    std::size_t label = 0;
    for (const Place& place : places_) label = std::max(label, label_of(place).size());
    label = std::min(label, columns / 2);
    const std::size_t fit = std::max<std::size_t>(1, (columns - label) / kColumn);
    const Window across = window(lengths_.size(), fit, index_of(lengths_, newest_length_));
    const Window down = window(places_.size(), room - 2, index_of(places_, newest_place_));
    std::string head(label, ' ');
    for (std::size_t i = across.begin; i < across.end; ++i) {
      head += fmt::format("{:>{}} ", length_label(lengths_[i]), kColumn - 1);
    }
    lines.push_back(head);
    for (std::size_t row = down.begin; row < down.end; ++row) {
      std::string line = fmt::format("{:<{}}", label_of(places_[row]).substr(0, label), label);
      for (std::size_t i = across.begin; i < across.end; ++i) {
        const auto found = cells_.find({places_[row], lengths_[i]});
        line +=
            fmt::format("{:>{}}", found == cells_.end() ? "" : cell_text(found->second), kColumn);
      }
      lines.push_back(line);
    }
  }
  std::string text;
  for (std::string& line : lines) {
    line = line.substr(0, columns);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace heddle::needle
