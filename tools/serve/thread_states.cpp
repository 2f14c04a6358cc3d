#include "tools/serve/thread_states.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace heddle::serve {
namespace fs = std::filesystem;
namespace {

/// "" where it has ended meanwhile. /proc/PID/task/TID/stat: tid (name) state, then numbers, of
/// which the 14th and 15th of all are its CPU time.
std::string state_of(const fs::path& task) {
  std::ifstream file(task / "stat");
  std::string line;
  if (!std::getline(file, line)) return "";
  const std::size_t open = line.find('(');
  const std::size_t close = line.rfind(')');
  if (open == std::string::npos || close == std::string::npos) return "";
  std::istringstream rest(line.substr(close + 1));
  std::string state;
  rest >> state;
  std::string skipped;
  for (int field = 4; field < 14; ++field) rest >> skipped;
  double user = 0.0;
  double system = 0.0;
  rest >> user >> system;
  return fmt::format("thread {} {}: {}, {:.2f} s of CPU", task.filename().string(),
                     line.substr(open + 1, close - open - 1), state,
                     (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK)));
}

}  // namespace

std::vector<std::string> thread_states() {
  std::vector<std::string> states;
  std::error_code error;
  for (fs::directory_iterator it("/proc/self/task", error), end; !error && it != end;
       it.increment(error)) {
    if (std::string state = state_of(it->path()); !state.empty()) states.push_back(state);
  }
  return states;
}

}  // namespace heddle::serve
