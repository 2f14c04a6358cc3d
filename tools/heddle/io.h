#pragma once
// What a command reads and writes: whole inputs, checked writes to standard output, notes and
// progress on standard error.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/json.h"

namespace heddle::cli {

/// Opens /dev/null on standard streams that are closed, so that no file takes their numbers;
/// writing to a closed standard output stays an error.
void guard_standard_streams();

/// Writes all of `text`; throws kRuntime where that fails (closed pipe, full disk).
void write_stdout(std::string_view text);
/// One JSON value and a newline; bytes that are not UTF-8 become U+FFFD.
void write_json(const Json& value);
std::string json_line(const Json& value);

/// `text` on one line without what a terminal would obey: control characters as \xNN.
std::string printable(std::string_view text);

/// To standard error, which nobody has to read: failures are ignored.
void write_stderr(std::string_view text);
bool stderr_is_terminal();
/// A line on standard error for a terminal or with -v.
void note(std::string_view line);

/// All bytes of a file ("-": standard input). Throws kBadInput where it cannot be read.
std::string read_input(const std::string& path);

/// Resident memory at its highest, in bytes.
std::uint64_t peak_rss_bytes();

/// A line on standard error that replaces itself; silent unless that is a terminal.
class ProgressLine {
 public:
  ProgressLine() = default;
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void show(std::string_view text);
  /// "[#####-----]  50 %  label"
  void bar(double share, std::string_view label);
  void clear();

 private:
  std::string last_;
};

}  // namespace heddle::cli
