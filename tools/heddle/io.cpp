#include "tools/heddle/io.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"

namespace heddle::cli {
namespace {

constexpr std::size_t kMaxInputBytes = std::size_t{1} << 30;

/// 0, or the error number.
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n >= 0) {
      text.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd wait{.fd = fd, .events = POLLOUT, .revents = 0};
      ::poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

/// Closes on every way out.
struct Descriptor {
  int fd;
  bool owned;
  ~Descriptor() {
    if (owned) ::close(fd);
  }
};

}  // namespace

void guard_standard_streams() {
  // Standard output gets a descriptor that cannot be written to: the loss must show.
  constexpr int kModes[] = {O_RDONLY, O_RDONLY, O_WRONLY};
  for (int fd = 0; fd < 3; ++fd) {
    if (::fcntl(fd, F_GETFD) == -1 && errno == EBADF) {
      const int opened = ::open("/dev/null", kModes[fd]);  // takes the lowest free number: fd
      if (opened != fd && opened >= 0) ::close(opened);
    }
  }
}

void write_stdout(std::string_view text) {
  if (const int error = write_all(STDOUT_FILENO, text)) {
    throw runtime_failure(fmt::format("cannot write to standard output: {}", std::strerror(error)));
  }
}

std::string json_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void write_json(const Json& value) {
  write_stdout(json_line(value));
}

std::string printable(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (byte < 0x20 || byte == 0x7f) {
      fmt::format_to(std::back_inserter(result), "\\x{:02x}", byte);
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // U+0080 to U+009F
      fmt::format_to(std::back_inserter(result), "\\xc2\\x{:02x}", next);
      ++i;
    } else {
      result += text[i];
    }
  }
  return result;
}

void write_stderr(std::string_view text) {
  write_all(STDERR_FILENO, text);
}

bool stderr_is_terminal() {
  return ::isatty(STDERR_FILENO) == 1;
}

void note(std::string_view line) {
  if (stderr_is_terminal() || log_level() <= LogLevel::kInfo) {
    write_stderr(std::string(line) + "\n");
  }
}

std::string read_input(const std::string& path) {
  const bool standard = path == "-";
  const std::string shown = standard ? "standard input" : path;
  const int fd = standard ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw bad_input(fmt::format("{}: cannot open: {}", shown, std::strerror(errno)));
  const Descriptor descriptor{fd, !standard};
  const auto check = [&](std::size_t n_bytes) {
    if (n_bytes <= kMaxInputBytes) return;
    throw bad_input(fmt::format("{}: more than {} bytes", shown, kMaxInputBytes));
  };
  struct stat status = {};
  if (::fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
    check(static_cast<std::size_t>(status.st_size));  // before a byte of it takes memory
  }
  std::string text;
  std::string buffer(std::size_t{1} << 16, '\0');
  for (;;) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw bad_input(fmt::format("{}: cannot read: {}", shown, std::strerror(errno)));
    if (n == 0) return text;
    text.append(buffer, 0, static_cast<std::size_t>(n));
    check(text.size());
  }
}

std::uint64_t peak_rss_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

void ProgressLine::show(std::string_view text) {
  if (!stderr_is_terminal() || text == last_) return;
  write_stderr(fmt::format("\r\x1b[K{}", text));
  last_ = text;
}

void ProgressLine::bar(double share, std::string_view label) {
  constexpr int kCells = 30;
  const double bounded = std::clamp(share, 0.0, 1.0);
  const int full = static_cast<int>(bounded * kCells);
  show(fmt::format("[{:#>{}}{:->{}}] {:3.0f} % {}", "", full, "", kCells - full, bounded * 100,
                   label));
}

void ProgressLine::clear() {
  if (!last_.empty()) write_stderr("\r\x1b[K");
  last_.clear();
}

}  // namespace heddle::cli
