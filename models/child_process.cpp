#include "models/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <string_view>
#include <thread>

#include "base/error.h"

namespace heddle {
namespace {

/// Descriptors and signals of the child, freed on every way out.
class SpawnPlan {
 public:
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }

  void arrange(const ChildCommand& command, int write_end) {
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 2, command.log.c_str(),
                                       O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::posix_spawn_file_actions_adddup2(&actions, command.pipe_output ? write_end : 2, 1);
    ::posix_spawn_file_actions_addchdir_np(&actions, command.directory.c_str());
    // Whatever this program ignores or blocks, the child starts as from a shell.
    sigset_t signals;
    sigemptyset(&signals);
    ::posix_spawnattr_setsigmask(&attributes, &signals);
    for (const int s : {SIGINT, SIGTERM, SIGPIPE, SIGHUP}) sigaddset(&signals, s);
    ::posix_spawnattr_setsigdefault(&attributes, &signals);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

std::vector<std::string> environment_with(
    const std::vector<std::pair<std::string, std::string>>& more) {
  std::vector<std::string> all;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view entry = *at;
    bool replaced = false;
    for (const auto& [key, value] : more) {
      replaced = replaced || entry.substr(0, key.size() + 1) == key + "=";
    }
    if (!replaced) all.emplace_back(entry);
  }
  for (const auto& [key, value] : more) all.push_back(key + "=" + value);
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

ChildProcess::ChildProcess(const ChildCommand& command) {
  HEDDLE_CHECK(!command.arguments.empty());
  int ends[2] = {-1, -1};
  if (command.pipe_output && ::pipe2(ends, O_CLOEXEC) != 0) {
    throw runtime_failure(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  }
  SpawnPlan plan;
  plan.arrange(command, ends[1]);
  std::vector<std::string> arguments = command.arguments;
  std::vector<std::string> environment = environment_with(command.environment);
  const std::vector<char*> argv = pointers(arguments);
  const std::vector<char*> envp = pointers(environment);
  const int error =
      ::posix_spawnp(&pid_, argv[0], &plan.actions, &plan.attributes, argv.data(), envp.data());
  if (ends[1] >= 0) ::close(ends[1]);
  if (error != 0) {
    if (ends[0] >= 0) ::close(ends[0]);
    pid_ = -1;
    throw runtime_failure(
        fmt::format("cannot run {}: {}", command.arguments[0], std::strerror(error)));
  }
  output_ = ends[0];
}

ChildProcess::~ChildProcess() {
  if (output_ >= 0) ::close(output_);
  if (pid_ <= 0 || ended_) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
}

bool ChildProcess::wait_ms(int milliseconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  while (!ended_) {
    const int got = ::waitpid(pid_, &status_, WNOHANG);
    if (got == pid_) {
      ended_ = true;
    } else if (got < 0 && errno != EINTR) {
      throw runtime_failure(fmt::format("cannot wait for a child: {}", std::strerror(errno)));
    } else if (std::chrono::steady_clock::now() >= until) {
      break;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  return ended_;
}

}  // namespace heddle
