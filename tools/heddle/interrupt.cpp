#include "tools/heddle/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace heddle::cli {
namespace {

// A signal handler reaches nothing but globals.
std::atomic<bool> g_polled{false};
std::atomic<bool> g_raised{false};
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void on_interrupt(int) {
  if (g_polled && !g_raised.exchange(true)) return;
  constexpr char kText[] = "\nerror: interrupted\n";
  [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, kText, sizeof kText - 1);
  ::_exit(kExitInterrupted);
}

}  // namespace

void install_interrupt_handler() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  // A parent that ignores SIGINT for us (nohup, a shell's background job) means it.
  struct sigaction old {};
  sigaction(SIGINT, nullptr, &old);
  if (old.sa_handler != SIG_IGN) sigaction(SIGINT, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

PolledInterrupt::PolledInterrupt() {
  g_raised = false;
  g_polled = true;
}

PolledInterrupt::~PolledInterrupt() {
  g_polled = false;
}

bool PolledInterrupt::raised() const {
  return g_raised;
}

}  // namespace heddle::cli
