#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST_F(Log, ReturnsTheLevelThatWasSet) {
  for (const LogLevel level : {LogLevel::kTrace, LogLevel::kDebug, LogLevel::kInfo,
                               LogLevel::kWarning, LogLevel::kError, LogLevel::kOff}) {
    set_log_level(level);
    EXPECT_EQ(log_level(), level);
  }
}

}  // namespace
}  // namespace heddle
