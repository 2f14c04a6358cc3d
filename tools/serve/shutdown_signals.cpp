#include "tools/serve/shutdown_signals.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>

namespace heddle::serve {
namespace {

// A signal handler reaches nothing but globals.
std::atomic<int> g_n_signals{0};
static_assert(std::atomic<int>::is_always_lock_free);
std::array<int, 2> g_wake = {-1, -1};

extern "C" void on_shutdown_signal(int signal) {
  if (g_n_signals.fetch_add(1) > 0) ::_exit(128 + signal);  // as a shell tells of it
  [[maybe_unused]] const ssize_t n = ::write(g_wake[1], "", 1);
}

}  // namespace

ShutdownSignals::ShutdownSignals() {
  if (::pipe2(g_wake.data(), O_CLOEXEC | O_NONBLOCK) != 0) g_wake = {-1, -1};
  g_n_signals = 0;
  struct sigaction action {};
  action.sa_handler = on_shutdown_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
}

bool ShutdownSignals::wait(double seconds) const {
  pollfd waiting{g_wake[0], POLLIN, 0};
  if (g_n_signals == 0) ::poll(&waiting, 1, static_cast<int>(seconds * 1000.0));
  return g_n_signals > 0;
}

}  // namespace heddle::serve
