#include "tools/needle/report/live_table.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "tools/heddle/io.h"
#include "tools/needle/report/text.h"

namespace heddle::needle {
namespace {

TerminalSize terminal_size() {
  winsize size = {};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    return {};
  }
  return {.columns = size.ws_col, .lines = size.ws_row};
}

double steady_seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace

LiveOutput live_standard_error() {
  return {.write = cli::write_stderr,
          .seconds = steady_seconds,
          .size = terminal_size,
          .terminal = cli::stderr_is_terminal()};
}

LiveTable::LiveTable(std::span<const PlannedRow> plan, LiveOutput output)
    : progress_(plan), output_(std::move(output)), begun_s_(output_.seconds()) {}

LiveTable::~LiveTable() {
  try {
    clear();
  } catch (...) {  // no memory for a line that only tidies up
  }
}

void LiveTable::add_known(const Row& row) {
  progress_.add_known(row);
}

void LiveTable::add(const Row& row) {
  const std::vector<std::string> whole = progress_.add(row);
  if (!output_.terminal) {
    const std::string after = duration_text(output_.seconds() - begun_s_);
    for (const std::string& line : whole) {
      output_.write(fmt::format("{}, after {}\n", line, after));
    }
    return;
  }
  if (!whole.empty() || progress_.finished()) drawn_s_.reset();
  refresh();
}

void LiveTable::refresh() {
  constexpr double kLeastPause = 0.1;
  if (!output_.terminal) return;
  if (drawn_s_ && output_.seconds() - *drawn_s_ < kLeastPause) return;
  draw();
}

void LiveTable::clear() {
  if (drawn_lines_ > 0) output_.write(fmt::format("\r\x1b[{}A\x1b[J", drawn_lines_));
  drawn_lines_ = 0;
  drawn_s_.reset();
}

void LiveTable::draw() {
  const double now = output_.seconds();
  const std::string block = progress_.block(now - begun_s_, output_.size());
  std::string text;
  if (drawn_lines_ > 0) text = fmt::format("\r\x1b[{}A\x1b[J", drawn_lines_);
  output_.write(text + block);
  drawn_lines_ = static_cast<std::size_t>(std::count(block.begin(), block.end(), '\n'));
  drawn_s_ = now;
}

}  // namespace heddle::needle
