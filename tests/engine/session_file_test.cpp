// Session files as hostile or broken as they come: what is no whole session is refused with the
// file's name, and the file stays as it is.

#include "engine/session_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/session_writer.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

using testing::HasSubstr;

using test::SessionDoc;

constexpr std::uint64_t kGroupBytes = 8;
constexpr std::uint64_t kStateBytes = 12;

/// 20 tokens, so two groups, with snapshots after 16 and 20.
SessionDoc small() {
  SessionDoc doc;
  std::ranges::copy("0123456789abcdef", doc.header.numerics_id.begin());
  doc.header.weights = {.low = 7, .high = 9};
  doc.header.group_bytes = kGroupBytes;
  doc.header.state_bytes = kStateBytes;
  for (int i = 0; i < 20; ++i) doc.tokens.push_back(i * 3);
  doc.positions = {16, 20};
  doc.parts[1].resize(2 * kGroupBytes, std::byte{7});
  doc.parts[2].resize(4, std::byte{9});
  doc.parts[4].resize(2 * kStateBytes, std::byte{5});
  doc.finish();
  return doc;
}

SessionFacts facts_of_small() {
  return {.numerics_id = "0123456789abcdef",
          .weights = {.low = 7, .high = 9},
          .vocab = 58,
          .group_bytes = kGroupBytes,
          .state_bytes = kStateBytes,
          .compressed_bytes = 4};
}

/// The error of parsing; "" if there is none.
std::string refusal(std::span<const std::byte> bytes) {
  try {
    parse_session(bytes, "x: session");
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
    const std::string text = e.what();
    EXPECT_TRUE(text.starts_with("x: session: ")) << text;
    return text;
  }
}

std::string refusal(const SessionView& view, const SessionFacts& facts) {
  try {
    check_session(view, facts, "x: session");
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
    return e.what();
  }
}

std::vector<std::byte> read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

void write(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

std::size_t files_in(const std::string& folder) {
  const std::filesystem::directory_iterator begin(folder);
  return static_cast<std::size_t>(std::distance(begin, {}));
}

TEST(SessionFile, AWholeOneIsRead) {
  const std::vector<std::byte> bytes = small().bytes();
  const SessionView view = parse_session(bytes, "x");
  EXPECT_EQ(view.numerics_id, "0123456789abcdef");
  EXPECT_EQ(view.tokens, small().tokens);
  EXPECT_EQ(view.positions, (std::vector<std::int64_t>{16, 20}));
  EXPECT_TRUE(std::ranges::equal(view.kv, small().parts[1]));
  EXPECT_TRUE(std::ranges::equal(view.compressed, small().parts[2]));
  EXPECT_TRUE(std::ranges::equal(view.state(1), std::vector(kStateBytes, std::byte{5})));
  EXPECT_EQ(refusal(view, facts_of_small()), "");
}

TEST(SessionFile, WhatIsWrittenIsReadAndIsTheSameFile) {
  const test::TempFolder folder;
  SessionDoc doc = small();
  SessionHeader header = doc.header;
  header.file_bytes = 0;
  header.sections = {};
  const std::string path = folder / "s";
  SessionWriter writer(path, header);
  EXPECT_FALSE(std::filesystem::exists(path));
  for (const SessionPart part : {SessionPart::kTokens, SessionPart::kKv, SessionPart::kCompressed,
                                 SessionPart::kPositions, SessionPart::kStates}) {
    const std::span<const std::byte> bytes = doc.part(part);
    writer.append(part, bytes.first(3));  // in pieces
    writer.append(part, bytes.subspan(3));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(writer.finish(), doc.header.file_bytes);
  EXPECT_EQ(read(path), doc.bytes());
  EXPECT_EQ(files_in(folder.path()), 1U);
  const auto file = SessionFile::open(path);
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->view().tokens, doc.tokens);
  EXPECT_EQ(files_in(folder.path()), 1U);
}

TEST(SessionFile, ChecksumsDependOnEveryByteAndNotOnPieces) {
  std::vector<std::byte> bytes((std::size_t{3} << 16U) + 5);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 31 >> 3U);
  const Hash128 want = session_checksum(bytes);
  SessionChecksum checksum;
  for (std::size_t at = 0, n = 1; at < bytes.size(); at += n, n = n * 2 + 1) {
    checksum.add(std::span(bytes).subspan(at, std::min(n, bytes.size() - at)));
  }
  EXPECT_EQ(checksum.finish(), want);
  for (const std::size_t at :
       {std::size_t{0}, std::size_t{65535}, std::size_t{65536}, bytes.size() - 1}) {
    bytes[at] ^= std::byte{1};
    EXPECT_NE(session_checksum(bytes), want) << at;
    bytes[at] ^= std::byte{1};
  }
  // Zeros at the end count, whole words of them too.
  bytes.resize(bytes.size() + 3);
  EXPECT_NE(session_checksum(bytes), want);
  EXPECT_NE(session_checksum(std::vector<std::byte>(8)),
            session_checksum(std::vector<std::byte>(16)));
}

TEST(SessionFile, EveryTruncationIsRefused) {
  const std::vector<std::byte> bytes = small().bytes();
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    // A copy of that size: the sanitizer sees a read past it.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_NE(refusal(cut), "") << n;
  }
  std::vector<std::byte> longer = bytes;
  longer.push_back({});
  EXPECT_THAT(refusal(longer), HasSubstr("the header says"));
}

TEST(SessionFile, EveryFlippedBitIsRefused) {
  std::vector<std::byte> bytes = small().bytes();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[i] ^= std::byte{1} << bit;
      EXPECT_NE(refusal(bytes), "") << i << ": " << bit;
      bytes[i] ^= std::byte{1} << bit;
    }
  }
  EXPECT_EQ(refusal(bytes), "");
}

/// One lie, with checksums that fit, and part of the message.
struct Lie {
  const char* name;
  std::function<void(SessionDoc&)> tell;
  const char* message;
};

constexpr std::uint64_t kHuge = ~std::uint64_t{0};
constexpr std::uint64_t kHalf = std::uint64_t{1} << 62U;

std::vector<Lie> lies() {
  return {
      {"magic", [](SessionDoc& d) { d.header.magic[1] = 'h'; }, "is not a session file"},
      {"version", [](SessionDoc& d) { d.header.version = 7; }, "has version 7, allowed: 2"},
      {"order", [](SessionDoc& d) { d.header.byte_order = 0x04030201; }, "order of bytes"},
      {"id", [](SessionDoc& d) { d.header.numerics_id[3] = '\n'; }, "numerics id"},
      {"file longer", [](SessionDoc& d) { d.header.file_bytes += 1; }, "the header says"},
      {"file huge", [](SessionDoc& d) { d.header.file_bytes = kHuge; }, "the header says"},
      {"no tokens", [](SessionDoc& d) { d.header.n_tokens = 0; }, "no tokens"},
      {"tokens + 1", [](SessionDoc& d) { d.header.n_tokens += 1; }, "tokens: 80 bytes"},
      {"tokens huge", [](SessionDoc& d) { d.header.n_tokens = kHuge; }, "counts are too large"},
      // 4 * (2^62 + 20) is 80 without the carry.
      {"tokens wrap", [](SessionDoc& d) { d.header.n_tokens += kHalf; }, "counts are too large"},
      {"groups wrap", [](SessionDoc& d) { d.header.group_bytes = kHuge / 2 + 1 + kGroupBytes; },
       "keys and values: 16 bytes, allowed: none, the counts are too large"},
      {"snapshots wrap", [](SessionDoc& d) { d.header.n_snapshots = std::uint64_t{1} << 61U; },
       "counts are too large"},
      {"snapshots huge", [](SessionDoc& d) { d.header.n_snapshots = kHuge; },
       "counts are too large"},
      {"a snapshot more", [](SessionDoc& d) { d.header.n_snapshots = 3; },
       "snapshot positions: 16"},
      {"states of 0 bytes", [](SessionDoc& d) { d.header.state_bytes = 0; }, "states: 24 bytes"},
      {"states wrap", [](SessionDoc& d) { d.header.state_bytes = kHuge / 2 + 1 + kStateBytes; },
       "states: 24 bytes, allowed: none"},
      {"section huge", [](SessionDoc& d) { d.header.sections[1].bytes = kHuge; },
       "the header says"},
      {"sections wrap",
       [](SessionDoc& d) {
         d.header.sections[1].bytes += kHuge / 2 + 1;
         d.header.sections[2].bytes += kHuge / 2 + 1;
       },
       "the header says"},
      {"sections moved",
       [](SessionDoc& d) {
         d.header.sections[1].bytes += 4;
         d.header.sections[2].bytes -= 4;
       },
       "keys and values: 20 bytes, allowed: 16"},
      {"negative token",
       [](SessionDoc& d) {
         d.tokens[4] = -2;
         d.finish();
       },
       "token 4 is -2"},
      {"position 0",
       [](SessionDoc& d) {
         d.positions[0] = 0;
         d.finish();
       },
       "snapshot 0 is at position 0, allowed: 1 .. 20"},
      {"position twice",
       [](SessionDoc& d) {
         d.positions[0] = 20;
         d.finish();
       },
       "snapshot 1 is at position 20, allowed: 21 .. 20"},
      {"position past the end",
       [](SessionDoc& d) {
         d.positions[1] = 21;
         d.finish();
       },
       "position 21, allowed: 17 .. 20"},
      {"position huge",
       [](SessionDoc& d) {
         d.positions[1] = kHuge;
         d.finish();
       },
       "position 18446744073709551615"},
      {"snapshots without states",
       [](SessionDoc& d) {
         d.header.state_bytes = 0;
         d.parts[4].clear();
         d.finish();
       },
       "snapshots without states"},
  };
}

TEST(SessionFile, LiesWithFittingChecksumsAreRefused) {
  for (const Lie& lie : lies()) {
    SessionDoc doc = small();
    lie.tell(doc);
    EXPECT_THAT(refusal(doc.bytes()), HasSubstr(lie.message)) << lie.name;
  }
}

TEST(SessionFile, AnotherModelsSessionIsRefused) {
  const std::vector<std::byte> bytes = small().bytes();
  const SessionView view = parse_session(bytes, "x");
  const auto refused = [&](const std::function<void(SessionFacts&)>& change) {
    SessionFacts facts = facts_of_small();
    change(facts);
    return refusal(view, facts);
  };
  const std::string other = refused([](auto& f) { f.numerics_id = "fedcba9876543210"; });
  EXPECT_THAT(other, HasSubstr("0123456789abcdef"));
  EXPECT_THAT(other, HasSubstr("fedcba9876543210"));
  EXPECT_THAT(
      refused([](auto& f) { f.weights.low = 8; }),
      HasSubstr("x: session: made with other weights: hash 00000000000000090000000000000007, "
                "this model's is 00000000000000090000000000000008"));
  EXPECT_THAT(refused([](auto& f) { f.weights.high = 0; }), HasSubstr("other weights"));
  EXPECT_THAT(refused([](auto& f) { f.vocab = 57; }),
              HasSubstr("token 19 is 57, allowed: 0 .. 56"));
  EXPECT_THAT(refused([](auto& f) { f.group_bytes = 9; }), HasSubstr("8 bytes, allowed: 9"));
  EXPECT_THAT(refused([](auto& f) { f.state_bytes = 0; }), HasSubstr("a snapshot: 12 bytes"));
  EXPECT_THAT(refused([](auto& f) { f.compressed_bytes = 8; }), HasSubstr("compressed keys: 4"));
}

/// The error of opening, which names the file and changes nothing in its folder.
std::string refusal(const std::string& path) {
  try {
    SessionFile::open(path);
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
    EXPECT_THAT(e.what(), HasSubstr(path));
    EXPECT_THAT(e.what(), HasSubstr("session"));
    return e.what();
  }
}

TEST(SessionFile, ReportsCountInWords) {
  EXPECT_EQ((SessionReport{.tokens = 1, .snapshots = 1}.describe()), "1 token and 1 snapshot");
  EXPECT_EQ(
      (SessionReport{.tokens = 600, .left_out_tokens = 2, .left_out_snapshots = 1}.describe()),
      "600 tokens and 0 snapshots; the last 2 tokens found no room (--kv-tokens); 1 snapshot "
      "found no room");
}

TEST(SessionFile, PlacesWhereNoFileCanBeAreRefused) {
  const test::TempFolder folder;
  EXPECT_FALSE(SessionFile::open(folder / "new").has_value());
  EXPECT_EQ(files_in(folder.path()), 0U);
  EXPECT_THAT(refusal(folder / "no/s"), HasSubstr("there is no such folder"));
  std::filesystem::create_directory(folder / "d");
  EXPECT_THAT(refusal(folder / "d"), HasSubstr("is a directory"));
  EXPECT_THAT(refusal(folder / "d/"), HasSubstr("no file name"));
  folder.write("text", "not a session");
  EXPECT_THAT(refusal(folder / "text"), HasSubstr("is not a session file"));
  EXPECT_THAT(refusal(folder / "text/s"), HasSubstr("Not a directory"));
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(refusal(folder / "fifo"), HasSubstr("not a regular file"));
  EXPECT_THAT(refusal("/dev/full"), HasSubstr("not a regular file"));
  std::filesystem::create_symlink("nowhere", folder / "broken");
  EXPECT_THAT(refusal(folder / "broken"), HasSubstr("a link that leads to no file"));
  EXPECT_EQ(files_in(folder.path()), 4U);
}

/// Everything of `doc` into a file at `path`.
void save(SessionDoc& doc, const std::string& path) {
  SessionHeader header = doc.header;
  header.file_bytes = 0;
  header.sections = {};
  SessionWriter writer(path, header);
  for (std::size_t i = 0; i < kSessionParts; ++i) {
    writer.append(static_cast<SessionPart>(i), doc.parts[i]);
  }
  writer.finish();
}

TEST(SessionFile, ALinkStaysAndPermissionsToo) {
  const test::TempFolder folder;
  std::filesystem::create_directory(folder / "d");
  folder.write("d/s", "old");
  ASSERT_EQ(::chmod((folder / "d/s").c_str(), 0640), 0);
  std::filesystem::create_symlink("d/s", folder / "link");
  SessionDoc doc = small();
  save(doc, folder / "link");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read(folder / "d/s"), doc.bytes());
  struct stat status = {};
  ASSERT_EQ(::stat((folder / "d/s").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0640U);
  save(doc, folder / "fresh");
  ASSERT_EQ(::stat((folder / "fresh").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST(SessionFile, AFullDiskLeavesTheOldFile) {
  const test::TempFolder folder;
  const std::string path = folder.write("s", "the old one");
  const std::vector<std::byte> old = read(path);
  SessionDoc doc = small();
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{100}, rlim_t{doc.header.file_bytes - 1}}) {
    const rlimit small_limit = {limit, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small_limit), 0);
    std::string message;
    try {
      save(doc, path);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kRuntime);
      message = e.what();
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_THAT(message, HasSubstr(path + ": session: cannot be written")) << limit;
    EXPECT_EQ(read(path), old) << limit;
    EXPECT_EQ(files_in(folder.path()), 1U) << limit;
  }
  std::signal(SIGXFSZ, handler);
  save(doc, path);
  EXPECT_EQ(read(path), doc.bytes());
}

TEST(SessionFile, ADamagedFileIsNotTouched) {
  const test::TempFolder folder;
  std::vector<std::byte> bytes = small().bytes();
  bytes[bytes.size() / 2] ^= std::byte{255};
  write(folder / "s", bytes);
  EXPECT_THAT(refusal(folder / "s"), HasSubstr("damaged"));
  EXPECT_EQ(read(folder / "s"), bytes);
  EXPECT_EQ(files_in(folder.path()), 1U);
}

}  // namespace
}  // namespace heddle
