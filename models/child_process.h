#pragma once
#include <string>
#include <utility>
#include <vector>

namespace heddle {

/// What to run: the program (looked up in PATH) and its arguments, never through a shell.
struct ChildCommand {
  std::vector<std::string> arguments;
  std::string directory;  // working directory
  std::string log;        // file for its standard error, and for its standard output unless piped
  std::vector<std::pair<std::string, std::string>> environment = {};  // besides ours
  bool pipe_output = false;
};

/// A program that runs beside us with empty standard input. Ends (kills and reaps) with the object.
class ChildProcess {
 public:
  /// Throws kRuntime if it cannot be started.
  explicit ChildProcess(const ChildCommand& command);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();

  int output() const { return output_; }  // to read from; -1 unless piped
  /// True once it has ended; waits at most that long.
  bool wait_ms(int milliseconds);
  bool succeeded() const { return ended_ && status_ == 0; }

 private:
  int pid_ = -1;
  int output_ = -1;
  int status_ = -1;  // as of waitpid
  bool ended_ = false;
};

}  // namespace heddle
