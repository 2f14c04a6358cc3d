#include "tools/heddle/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>

namespace heddle::cli {
namespace {

// A signal handler reaches nothing but globals.
std::atomic<bool> g_polled{false};
std::atomic<bool> g_raised{false};
static_assert(std::atomic<bool>::is_always_lock_free);
std::array<int, 2> g_wake = {-1, -1};  // a pipe: written by the handler, on whatever thread

extern "C" void on_interrupt(int) {
  if (g_polled && !g_raised.exchange(true)) {
    [[maybe_unused]] const ssize_t n = ::write(g_wake[1], "", 1);
    return;
  }
  constexpr char kText[] = "\nerror: interrupted\n";
  [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, kText, sizeof kText - 1);
  ::_exit(kExitInterrupted);
}

}  // namespace

void install_interrupt_handler() {
  if (::pipe2(g_wake.data(), O_CLOEXEC | O_NONBLOCK) != 0) g_wake = {-1, -1};
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  // A parent that ignores SIGINT for us (nohup, a shell's background job) means it.
  struct sigaction old {};
  sigaction(SIGINT, nullptr, &old);
  if (old.sa_handler != SIG_IGN) sigaction(SIGINT, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes is an error of the write
}

PolledInterrupt::PolledInterrupt() {
  g_raised = false;
  char old = 0;
  while (::read(g_wake[0], &old, 1) > 0) {
  }
  g_polled = true;
}

PolledInterrupt::~PolledInterrupt() {
  g_polled = false;
}

bool PolledInterrupt::raised() const {
  return g_raised;
}

bool PolledInterrupt::wait_for_input(int descriptor) const {
  std::array<pollfd, 2> waiting = {pollfd{descriptor, POLLIN, 0}, pollfd{g_wake[0], POLLIN, 0}};
  while (!raised()) {
    waiting[0].revents = 0;
    // Interrupted by a signal: look again.
    if (::poll(waiting.data(), waiting.size(), -1) > 0 && waiting[0].revents != 0) break;
  }
  return !raised();
}

}  // namespace heddle::cli
