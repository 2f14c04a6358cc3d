#pragma once
// Logging for tools and engine (kernels, models and scheduler return text or throw). Lines go to
// stderr, kLogLineBytes of each; one that cannot be written is dropped and counted. Thin over
// spdlog so that its headers stay out of ours.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace heddle {

/// Such a write to a pipe is whole or not at all.
inline constexpr std::size_t kLogLineBytes = 4096;

enum class LogLevel { kTrace, kDebug, kInfo, kWarning, kError, kOff };

/// Initially kWarning.
void set_log_level(LogLevel level);
LogLevel log_level();
void log(LogLevel level, std::string_view text);
std::uint64_t dropped_log_lines();
inline void log_info(std::string_view text) {
  log(LogLevel::kInfo, text);
}
inline void log_warning(std::string_view text) {
  log(LogLevel::kWarning, text);
}
inline void log_debug(std::string_view text) {
  log(LogLevel::kDebug, text);
}

}  // namespace heddle
