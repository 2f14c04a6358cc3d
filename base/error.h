#pragma once
// Errors end a request or the process: a bad file, a bad option, a device failure, a broken
// invariant. "No room now" is not an error (std::optional or an enum says it).

#include <stdexcept>
#include <string>

namespace heddle {

/// What went wrong, as the caller's next step differs. The values are the program's exit codes.
enum class ErrorKind {
  kRuntime = 1,   // failed while running: numerics, a broken invariant, I/O after start
  kBadInput = 2,  // a file, flag, prompt or request that is not what it must be
  kMemory = 3,    // does not fit; the text names needed, free and the flag that lowers it
  kDevice = 4,    // the accelerator or its driver
};

/// The only exception type that Heddle throws. The text is one line without a final period and
/// says what, where, got and allowed: "model.gguf: tensor 'x': dtype is 77, allowed: F32, F16".
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& text) : std::runtime_error(text), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

inline Error bad_input(const std::string& text) {
  return {ErrorKind::kBadInput, text};
}
inline Error runtime_failure(const std::string& text) {
  return {ErrorKind::kRuntime, text};
}

/// Throws the kRuntime error of a broken invariant; see HEDDLE_CHECK.
[[noreturn]] void fail_check(const char* condition, const char* file, int line);

}  // namespace heddle

/// An invariant of ours (never of the input). Stays in release builds.
#define HEDDLE_CHECK(condition)                                             \
  do {                                                                      \
    if (!(condition)) ::heddle::fail_check(#condition, __FILE__, __LINE__); \
  } while (false)
