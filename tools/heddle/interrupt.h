#pragma once

namespace heddle::cli {

/// SIGINT ends the process with exit code 130 at once, except while a Polled exists: then the first
/// one only raises a flag that the command looks at between steps, and the second one leaves.
/// Call once, before threads exist.
void install_interrupt_handler();

/// One at a time.
class PolledInterrupt {
 public:
  PolledInterrupt();
  ~PolledInterrupt();
  PolledInterrupt(const PolledInterrupt&) = delete;
  PolledInterrupt& operator=(const PolledInterrupt&) = delete;
  bool raised() const;
  /// Waits until `descriptor` can be read without blocking; false: raised first.
  bool wait_for_input(int descriptor) const;
};

constexpr int kExitInterrupted = 130;

}  // namespace heddle::cli
