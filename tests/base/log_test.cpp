#include "base/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

namespace heddle {
namespace {

/// Restores the level that other tests see.
class Log : public testing::Test {
 protected:
  ~Log() override { set_log_level(before_); }

 private:
  LogLevel before_ = log_level();
};

std::string logged(LogLevel level, std::string_view text) {
  testing::internal::CaptureStderr();
  log(level, text);
  return testing::internal::GetCapturedStderr();
}

TEST_F(Log, StartsAtWarning) {
  EXPECT_EQ(log_level(), LogLevel::kWarning);
}

TEST_F(Log, WritesLinesOfItsLevelAndAboveToStderr) {
  set_log_level(LogLevel::kInfo);
  testing::internal::CaptureStdout();
  EXPECT_EQ(logged(LogLevel::kDebug, "hidden"), "");
  EXPECT_THAT(logged(LogLevel::kInfo, "shown"), testing::EndsWith(" info: shown\n"));
  EXPECT_THAT(logged(LogLevel::kError, "bad"), testing::EndsWith(" error: bad\n"));
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
}

TEST_F(Log, TakesTextLiterally) {
  EXPECT_THAT(logged(LogLevel::kWarning, "{} {0} %s %"),
              testing::EndsWith(" warning: {} {0} %s %\n"));
}

TEST_F(Log, IsSilentWhenOff) {
  set_log_level(LogLevel::kOff);
  EXPECT_EQ(logged(LogLevel::kError, "x"), "");
}

/// stderr is `fd` for a while.
class Redirected {
 public:
  explicit Redirected(int fd) : before_(::dup(STDERR_FILENO)) { ::dup2(fd, STDERR_FILENO); }
  ~Redirected() {
    ::dup2(before_, STDERR_FILENO);
    ::close(before_);
  }

 private:
  int before_;
};

TEST_F(Log, LongLinesAreCut) {
  const std::string line = logged(LogLevel::kError, std::string(9000, 'x'));
  EXPECT_EQ(line.size(), 4096U);
  EXPECT_EQ(line.back(), '\n');
}

TEST_F(Log, AFullDiskDropsAndCountsLines) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  const std::uint64_t before = dropped_log_lines();
  {
    const Redirected redirected(full);
    log(LogLevel::kError, "lost");
  }
  ::close(full);
  EXPECT_EQ(dropped_log_lines() - before, 1U);
  EXPECT_THAT(logged(LogLevel::kError, "shown"), testing::EndsWith(" error: shown\n"));
}

TEST_F(Log, AReaderThatDoesNotReadHoldsNobody) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const std::uint64_t before = dropped_log_lines();
  constexpr std::uint64_t kLines = 100;  // more than a pipe holds
  {
    const Redirected redirected(pipe[1]);
    for (std::uint64_t i = 0; i < kLines; ++i) log(LogLevel::kError, std::string(4000, 'x'));
  }
  ::close(pipe[1]);
  std::string read;
  std::array<char, 65536> bytes{};
  for (ssize_t n = 1; n > 0;) {
    n = ::read(pipe[0], bytes.data(), bytes.size());
    if (n > 0) read.append(bytes.data(), static_cast<std::size_t>(n));
  }
  ::close(pipe[0]);
  const std::uint64_t n_dropped = dropped_log_lines() - before;
  EXPECT_GT(n_dropped, 0U);
  EXPECT_EQ(static_cast<std::uint64_t>(std::ranges::count(read, '\n')) + n_dropped, kLines);
  EXPECT_TRUE(read.ends_with("x\n"));
}

TEST_F(Log, ReturnsTheLevelThatWasSet) {
  for (const LogLevel level : {LogLevel::kTrace, LogLevel::kDebug, LogLevel::kInfo,
                               LogLevel::kWarning, LogLevel::kError, LogLevel::kOff}) {
    set_log_level(level);
    EXPECT_EQ(log_level(), level);
  }
}

}  // namespace
}  // namespace heddle
