#include "base/log.h"

#include <poll.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>

namespace heddle {
namespace {

constexpr int kPatienceMs = 200;

std::atomic<std::uint64_t> g_dropped{0};

/// Lines go to stderr or are counted: a full disk, a reader that has gone and one that does not
/// read stop nobody. Who does not read is waited for once, then only when it has read again.
class StderrSink : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (line.size() > kLogLineBytes) {
      line.resize(kLogLineBytes);
      line[kLogLineBytes - 1] = '\n';
    }
    if (!write({line.data(), line.size()})) ++g_dropped;
  }
  void flush_() override {}

 private:
  bool write(std::string_view line) {
    pollfd ready{STDERR_FILENO, POLLOUT, 0};
    stuck_ = ::poll(&ready, 1, stuck_ ? 0 : kPatienceMs) == 0;
    if (stuck_) return false;
    while (!line.empty()) {
      const ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
      if (n >= 0) {
        line.remove_prefix(static_cast<std::size_t>(n));
      } else if (errno != EINTR) {
        return false;
      }
    }
    return true;
  }

  bool stuck_ = false;
};

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto l = std::make_shared<spdlog::logger>("heddle", std::make_shared<StderrSink>());
    l->set_pattern("%H:%M:%S.%e %l: %v");
    l->set_level(spdlog::level::warn);
    return l;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return spdlog::level::trace;
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

}  // namespace

void set_log_level(LogLevel level) {
  logger().set_level(to_spdlog(level));
}

LogLevel log_level() {
  const spdlog::level::level_enum level = logger().level();
  for (const LogLevel l : {LogLevel::kTrace, LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning,
                           LogLevel::kError}) {
    if (to_spdlog(l) == level) return l;
  }
  return LogLevel::kOff;
}

void log(LogLevel level, std::string_view text) {
  logger().log(to_spdlog(level), text);
}

std::uint64_t dropped_log_lines() {
  return g_dropped;
}

}  // namespace heddle
