#include "base/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/mapping_guard.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

/// A folder of its own for each test.
class MappedFileTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_ / name; }
  std::string write(const std::string& name, const std::string& text) const {
    return folder_.write(name, text);
  }
  static std::string text(const MappedFile& file) {
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  }

 private:
  test::TempFolder folder_;
};
using ReadFileTest = MappedFileTest;

template <typename F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
    return e.what();
  }
  return "";
}
std::string map_refusal(const std::string& path) {
  return refusal([&] { MappedFile file(path); });
}

TEST_F(MappedFileTest, HoldsTheFilesBytes) {
  const std::string content = std::string(10'000, 'x') + std::string("\0y", 2);
  const MappedFile file(write("a", content));
  EXPECT_EQ(text(file), content);
  EXPECT_EQ(file.path(), path("a"));
}

TEST_F(MappedFileTest, MapsAnEmptyFile) {
  const MappedFile file(write("empty", ""));
  EXPECT_TRUE(file.bytes().empty());
  file.release(0, 100);
}

TEST_F(MappedFileTest, OutlivesItsName) {
  const MappedFile file(write("a", "text"));
  std::filesystem::rename(path("a"), path("b"));
  std::filesystem::remove(path("b"));
  EXPECT_EQ(text(file), "text");
}

TEST_F(MappedFileTest, MovesWithItsMapping) {
  MappedFile a(write("a", "first"));
  MappedFile b(std::move(a));
  EXPECT_EQ(text(b), "first");
  EXPECT_TRUE(a.bytes().empty());  // NOLINT: a moved-from file is empty
  MappedFile c(write("c", "second"));
  c = std::move(b);
  EXPECT_EQ(text(c), "first");
  EXPECT_EQ(c.path(), path("a"));
  MappedFile& self = c;
  c = std::move(self);
  EXPECT_EQ(text(c), "first");
}

TEST_F(MappedFileTest, ReadsReleasedPagesAgain) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::string content;
  for (std::size_t i = 0; i < 4 * page + 100; ++i) content += static_cast<char>('a' + i % 23);
  const MappedFile file(write("a", content));
  EXPECT_EQ(text(file), content);
  file.release(0, content.size());
  file.release(10, page);          // holds no whole page
  file.release(page, 100 * page);  // ends past the file
  file.release(content.size() * 2, page);
  EXPECT_EQ(text(file), content);
}

TEST_F(MappedFileTest, RefusesWhatIsNoRegularFile) {
  EXPECT_EQ(map_refusal(path("absent")), path("absent") + ": no such file");
  EXPECT_EQ(map_refusal(path("")), path("") + ": is a directory");
  EXPECT_EQ(map_refusal(""), ": no such file");
  EXPECT_EQ(map_refusal("/dev/zero"), "/dev/zero: not a regular file");
  EXPECT_EQ(map_refusal(std::string("a\0b", 3)), "a file name contains a NUL byte");
  const std::string file = write("a", "x");
  EXPECT_EQ(map_refusal(file + "/b"), file + "/b: cannot open: Not a directory");
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_EQ(map_refusal(path("fifo")), path("fifo") + ": not a regular file");
}

TEST_F(MappedFileTest, RefusesAFileWithoutPermission) {
  const std::string file = write("secret", "x");
  ASSERT_EQ(::chmod(file.c_str(), 0), 0);
  const bool root = ::geteuid() == 0;  // reads every file: be somebody else
  ASSERT_EQ(::seteuid(root ? 65534 : ::geteuid()), 0);
  EXPECT_EQ(map_refusal(file), file + ": cannot open: Permission denied");
  ASSERT_EQ(::seteuid(root ? 0 : ::geteuid()), 0);
}

TEST_F(ReadFileTest, ReadsUpToItsLimit) {
  const std::string content(100'000, 'z');
  const std::string file = write("a", content);
  EXPECT_EQ(read_file(file), content);
  EXPECT_EQ(read_file(file, content.size()), content);
  EXPECT_EQ(refusal([&] { read_file(file, content.size() - 1); }),
            file + ": larger than 99999 bytes, the most that is read");
  EXPECT_EQ(read_file(write("empty", ""), 0), "");
}

TEST_F(ReadFileTest, StopsAtItsLimitOnEndlessInput) {
  EXPECT_EQ(refusal([] { read_file("/dev/zero", 1000); }),
            "/dev/zero: larger than 1000 bytes, the most that is read");
}

TEST_F(ReadFileTest, WaitsForTheWriterOfAPipe) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const std::string name = "/proc/self/fd/" + std::to_string(ends[0]);  // what <(command) gives
  std::thread writer([&] {
    for (const char* part : {"slow ", "but ", "whole"}) {
      std::this_thread::yield();
      EXPECT_GT(::write(ends[1], part, std::strlen(part)), 0);
    }
    ::close(ends[1]);
  });
  EXPECT_EQ(read_file(name), "slow but whole");
  writer.join();
  ::close(ends[0]);
}

TEST_F(ReadFileTest, DoesNotHangOnAPipeWithoutAWriter) {
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_EQ(read_file(path("fifo")), "");
}

TEST_F(ReadFileTest, RefusesWhatCannotBeRead) {
  EXPECT_EQ(refusal([&] { read_file(path("absent")); }), path("absent") + ": no such file");
  EXPECT_EQ(refusal([&] { read_file(path("")); }), path("") + ": cannot be read: Is a directory");
}

using MappedFileDeathTest = MappedFileTest;

/// Reads the last byte of a mapped file that was shortened meanwhile.
void read_shortened(MappedFile& file) {
  install_mapping_guard();
  std::filesystem::resize_file(file.path(), 1);
  const volatile std::byte last = file.bytes()[file.bytes().size() - 1];
  (void)last;
}

TEST_F(MappedFileDeathTest, ShortenedFilesEndTheProgramWithOneErrorLine) {
  const std::string before = write("before", std::string(10'000, 'x'));
  const std::string name = write("model\nname", std::string(100'000, 'x'));
  const MappedFile other(before);
  MappedFile file(name);
  MappedFile moved(std::move(file));
  EXPECT_EXIT(read_shortened(moved), testing::ExitedWithCode(1),
              "^error: .*/model\\?name: was shortened or replaced while it was being read\n$");
}

TEST_F(MappedFileDeathTest, OtherBusErrorsKeepTheirMeaning) {
  const auto raise_elsewhere = [] {
    install_mapping_guard();
    ::raise(SIGBUS);
    ::raise(SIGBUS);
  };
  EXPECT_EXIT(raise_elsewhere(), testing::KilledBySignal(SIGBUS), "^$");
}

TEST_F(MappedFileDeathTest, AMappingThatIsGoneIsNotNamed) {
  const std::string name = write("gone", std::string(100'000, 'x'));
  const auto read_gone = [&] {
    install_mapping_guard();
    MappedFile file(name);
    MappedFile second(write("second", std::string(100'000, 'y')));
    file = std::move(second);
    { const MappedFile dropped(std::move(second)); }
    read_shortened(file);
  };
  EXPECT_EXIT(read_gone(), testing::ExitedWithCode(1), "^error: .*/second: was shortened");
}

}  // namespace
}  // namespace heddle
