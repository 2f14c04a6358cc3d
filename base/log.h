#pragma once
// Logging for tools and engine (kernels, models and scheduler return text or throw). Lines go to
// stderr, 4 KiB of each; one that cannot be written is dropped and counted. Thin over spdlog so
// that its headers stay out of ours.

#include <cstdint>
#include <string>
#include <string_view>

namespace heddle {

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
