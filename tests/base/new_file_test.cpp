#include "base/new_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "base/error.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::size_t files_in(const std::string& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(NewFile, TakesItsNameAtTheEnd) {
  const test::TempFolder folder;
  const std::string path = folder.write("f", "old");
  NewFile file(path, "f");
  file.append(bytes("abcd"));
  file.overwrite(1, bytes("XY"));
  file.append(bytes("ef"));
  EXPECT_EQ(content(path), "old");
  file.publish();
  EXPECT_EQ(content(path), "aXYdef");
  EXPECT_EQ(files_in(folder.path()), 1U);
}

TEST(NewFile, LeavesNothingWithoutThat) {
  const test::TempFolder folder;
  const std::string path = folder.write("f", "old");
  {
    NewFile file(path, "f");
    file.append(bytes("new"));
  }
  EXPECT_EQ(content(path), "old");
  EXPECT_EQ(files_in(folder.path()), 1U);
}

TEST(NewFile, ARelativeNameIsInTheFolderOfThatTime) {
  const test::TempFolder folder;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  NewFile file("f", "f");
  file.append(bytes("new"));
  file.publish();
  std::filesystem::current_path(before);
  EXPECT_EQ(content(folder / "f"), "new");
}

TEST(NewFile, TheLastOneThatIsWholeStays) {
  const test::TempFolder folder;
  NewFile one(folder / "f", "f");
  NewFile two(folder / "f", "f");
  one.append(bytes("one"));
  two.append(bytes("two"));
  two.publish();
  EXPECT_EQ(content(folder / "f"), "two");
  one.publish();
  EXPECT_EQ(content(folder / "f"), "one");
  EXPECT_EQ(files_in(folder.path()), 1U);
}

TEST(NewFile, IsReadByItsOwnerAloneUnlessTheUmaskDecides) {
  const test::TempFolder folder;
  const mode_t before = ::umask(022);
  NewFile(folder / "private", "f").publish();
  NewFile(folder / "shared", "f", NewFileReaders::kUmask).publish();
  ::umask(before);
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(folder / "private").permissions(),
            perms::owner_read | perms::owner_write);
  EXPECT_EQ(std::filesystem::status(folder / "shared").permissions(),
            perms::owner_read | perms::owner_write | perms::group_read | perms::others_read);
}

TEST(NewFile, WhatCannotBeIsNamed) {
  const test::TempFolder folder;
  for (const char* name : {"", "no/f", ".", "d/"}) {
    const std::string path = *name == '\0' ? "" : folder / name;
    try {
      NewFile file(path, "PATH: what");
      FAIL() << path;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
      EXPECT_THAT(e.what(), testing::StartsWith("PATH: what: ")) << path;
    }
  }
}

TEST(NewFile, WhatBecameAFolderMeanwhileStays) {
  const test::TempFolder folder;
  NewFile file(folder / "f", "f");
  file.append(bytes("new"));
  std::filesystem::create_directory(folder / "f");
  EXPECT_THROW(file.publish(), Error);
  EXPECT_TRUE(std::filesystem::is_directory(folder / "f"));
}

}  // namespace
}  // namespace heddle
