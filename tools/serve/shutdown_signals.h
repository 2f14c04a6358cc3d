#pragma once

namespace heddle::serve {

/// SIGTERM and SIGINT: the first one is told by wait(), the second one ends the process at once
/// (exit code 130). Made once; it stays so until the process ends.
class ShutdownSignals {
 public:
  ShutdownSignals();
  ShutdownSignals(const ShutdownSignals&) = delete;
  ShutdownSignals& operator=(const ShutdownSignals&) = delete;
  /// True as soon as one has come; false after `seconds`.
  bool wait(double seconds) const;
};

}  // namespace heddle::serve
