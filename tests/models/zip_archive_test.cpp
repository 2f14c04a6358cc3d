// The zip container of PyTorch's .bin files: the forms that writers use, what each broken one is
// told.

#include "models/zip_archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/error.h"
#include "tests/support/zip_writer.h"

namespace heddle {
namespace {

using test::append_number;
using test::ZipDoc;
using ::testing::HasSubstr;
using ::testing::StartsWith;

ZipArchive parse(const std::string& file) {
  return ZipArchive::parse(std::as_bytes(std::span(file)), "x");
}

ZipDoc good() {
  ZipDoc doc;
  doc.parts.push_back({"a/data.pkl", std::string(33, 'p')});
  doc.parts.push_back({"a/data/0", std::string(100, '0')});
  doc.parts.push_back({"a/data/1", ""});
  doc.parts.push_back({"a/version", "3\n"});
  return doc;
}

std::string message(const std::string& file) {
  try {
    parse(file);
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_THAT(text, StartsWith("x: zip_archive: "));
    EXPECT_EQ(text.find('\n'), std::string::npos);
    return text.substr(16);
  }
  return "accepted";
}

std::string refusal_of(const std::function<void(ZipDoc&)>& change) {
  ZipDoc doc = good();
  change(doc);
  return message(doc.serialise());
}

TEST(ZipArchive, FindsTheBytesOfEveryEntryInEveryForm) {
  for (const bool zip64 : {false, true}) {
    for (const bool all64 : {false, true}) {
      for (const bool sizes_behind : {false, true}) {
        ZipDoc doc = good();
        doc.zip64 = zip64 || all64;
        doc.all64 = all64;
        doc.sizes_behind = sizes_behind;
        const std::string file = doc.serialise();
        const ZipArchive archive = parse(file);
        ASSERT_EQ(archive.entries().size(), 4U);
        for (const test::ZipPart& part : doc.parts) {
          const ZipEntry* const entry = archive.find(part.name);
          ASSERT_NE(entry, nullptr);
          EXPECT_EQ(file.substr(entry->offset, entry->bytes), part.data);
          EXPECT_EQ(entry->offset % 64, 0U);
        }
        EXPECT_EQ(archive.find("a/data/2"), nullptr);
      }
    }
  }
}

TEST(ZipArchive, OrdersEntriesByTheirPlace) {
  ZipDoc doc = good();
  doc.alignment = 0;
  doc.sizes_behind = false;
  // The last entry's header is told to be the first one's, and the other way round.
  doc.parts = {{"b", "22"}, {"a", "11"}};
  doc.parts[0].offset = 33;
  doc.parts[1].offset = 0;
  doc.parts[0].own_name = "a";
  doc.parts[1].own_name = "b";
  const ZipArchive archive = parse(doc.serialise());
  EXPECT_EQ(archive.entries()[0].name, "a");
  EXPECT_EQ(archive.find("b"), &archive.entries()[1]);
}

TEST(ZipArchive, RefusesEveryPrefixOfAFile) {
  const std::string file = good().serialise();
  for (std::size_t n = 0; n < file.size(); ++n) {
    EXPECT_THAT(message(file.substr(0, n)), HasSubstr(", allowed ")) << n;
  }
  EXPECT_EQ(message(file.substr(0, 100)),
            "end record, got none in the last bytes of 100, allowed one (22 bytes; is the file "
            "truncated?)");
}

TEST(ZipArchive, SaysWhatAFileOfAnotherKindIs) {
  const std::string allowed = ", allowed a zip archive as torch.save writes it";
  EXPECT_EQ(message("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
            "got a Git LFS pointer (the model itself was not fetched: git lfs pull)" + allowed);
  EXPECT_EQ(message("\x80\x02}q" + std::string(40, 'x')),
            "got a Python pickle (never read: it can run code)" + allowed);
  EXPECT_EQ(message(""), "got an empty file" + allowed);
}

TEST(ZipArchive, RefusesWhatItCannotUseWhereItLies) {
  EXPECT_EQ(refusal_of([](ZipDoc& d) { d.parts[1].method = 8; }),
            "method of 'a/data/0', got 8, allowed 0 (stored)");
  EXPECT_EQ(refusal_of([](ZipDoc& d) { d.parts[1].own_method = 8; }),
            "method in the header of 'a/data/0', got 8, allowed 0 (stored)");
  EXPECT_EQ(refusal_of([](ZipDoc& d) { d.parts[1].flags = 1; }),
            "flags of 'a/data/0', got 2057, allowed 3 and 11 (no encryption)");
  EXPECT_EQ(refusal_of([](ZipDoc& d) { d.parts[1].own_flags = 1; }),
            "flags in the header of 'a/data/0', got 2057, allowed 2056");
  EXPECT_EQ(refusal_of([](ZipDoc& d) { d.parts[1].packed = 99; }),
            "stored bytes of 'a/data/0', got 99, allowed 100");
  EXPECT_EQ(refusal_of([](ZipDoc& d) {
              d.zip64 = false;
              d.disk = 1;
            }),
            "number of the disk, got 1, allowed 0");
  EXPECT_EQ(refusal_of([](ZipDoc& d) { d.comment = "c"; }),
            "end record, got none in the last bytes of " +
                std::to_string(good().serialise().size() + 1) +
                ", allowed one (22 bytes; is the file truncated?)");
}

TEST(ZipArchive, RefusesEntriesThatSayTwoThings) {
  EXPECT_EQ(refusal_of([](ZipDoc& d) { d.parts[1].own_name = "a/data/9"; }),
            "name in the header of 'a/data/0', got 'a/data/9', allowed the same");
  EXPECT_EQ(refusal_of([](ZipDoc& d) { d.parts[1].own_bytes = 99; }),
            "bytes in the header of 'a/data/0', got 99, allowed 100");
  EXPECT_EQ(refusal_of([](ZipDoc& d) {
              d.parts[2].name = "a/data/0";
              d.parts[2].data = "x";
            }),
            "entry 'a/data/0', got it twice, allowed once");
  const std::string overlap = refusal_of([](ZipDoc& d) {
    d.parts[3].name = "a/data/7";
    d.parts[1].data = good().serialise().substr(0, 100);  // a header in another one's bytes
    d.parts[1].data.replace(30, 10, "a/data/777");
    d.parts[3].own_name = "a/data/777";
    d.parts[3].name = "a/data/777";
    const std::string file = d.serialise();
    d.parts[3].offset = file.find("a/data/777") - 30;
    d.parts[3].bytes = d.parts[3].packed = 33;
  });
  EXPECT_EQ(overlap, "got 'a/data/0' and 'a/data/777' overlapping, allowed disjoint ones");
}

TEST(ZipArchive, RefusesPlacesOutsideTheFile) {
  EXPECT_THAT(refusal_of([](ZipDoc& d) { d.parts[1].bytes = d.parts[1].packed = 4000; }),
              StartsWith("bytes of 'a/data/0', got 4000, allowed up to "));
  EXPECT_THAT(refusal_of([](ZipDoc& d) { d.parts[1].offset = 1 << 20; }),
              StartsWith("offset of 'a/data/0', got 1048576, allowed up to the directory at "));
  EXPECT_THAT(refusal_of([](ZipDoc& d) { d.parts[1].offset = 7; }),
              StartsWith("header of 'a/data/0', got none at byte 7"));
  for (const std::uint64_t n : {~std::uint64_t{0}, std::uint64_t{1} << 63U}) {
    EXPECT_THAT(refusal_of([&](ZipDoc& d) {
                  d.all64 = true;
                  d.parts[1].bytes = d.parts[1].packed = n;
                }),
                StartsWith("bytes of 'a/data/0', got " + std::to_string(n)));
    EXPECT_THAT(refusal_of([&](ZipDoc& d) {
                  d.all64 = true;
                  d.parts[1].offset = n;
                }),
                StartsWith("offset of 'a/data/0', got " + std::to_string(n)));
    EXPECT_THAT(refusal_of([&](ZipDoc& d) {
                  d.all64 = true;
                  d.directory = n;
                }),
                StartsWith("directory, got "));
  }
}

TEST(ZipArchive, RefusesDirectoriesThatDoNotCount) {
  EXPECT_THAT(refusal_of([](ZipDoc& d) { d.zip64 = false, d.entries32 = 9; }),
              StartsWith("directory entry 4, got none at byte "));
  const auto of64 = [](std::uint64_t n) {
    return refusal_of([&](ZipDoc& d) {
      d.all64 = true;
      d.entries = n;
    });
  };
  EXPECT_THAT(of64(0), StartsWith("entries, got 0, 0 of them here, allowed 1 to 200000"));
  EXPECT_THAT(of64(200'001), StartsWith("entries, got 200001"));
  EXPECT_THAT(of64(~std::uint64_t{0}), StartsWith("entries, got 18446744073709551615"));
  EXPECT_THAT(of64(5), StartsWith("directory entry 4, got none at byte "));
  EXPECT_THAT(of64(3), StartsWith("directory of 3 entries, got "));
  EXPECT_THAT(refusal_of([](ZipDoc& d) { d.directory_bytes = 10; }), StartsWith("directory, got "));
}

TEST(ZipArchive, RefusesZip64ThatLies) {
  EXPECT_THAT(refusal_of([](ZipDoc& d) { d.end64 = 5; }),
              StartsWith("zip64 end record, got byte 5, allowed 56 bytes before byte "));
  EXPECT_THAT(refusal_of([](ZipDoc& d) { d.end64 = ~std::uint64_t{0}; }),
              StartsWith("zip64 end record, got byte 18446744073709551615"));
  EXPECT_EQ(refusal_of([](ZipDoc& d) { d.entries32 = 3; }),
            "entries on this disk, got 3 and 4 (zip64), allowed one value");
  EXPECT_EQ(refusal_of([](ZipDoc& d) {
              d.all64 = true;
              d.parts[0].extra = "";
            }),
            "bytes left in the zip64 field of 'a/data.pkl', got 0, allowed 8 or more");
  std::string cut;
  append_number<std::uint16_t>(cut, 1);
  append_number<std::uint16_t>(cut, 24);
  append_number<std::uint64_t>(cut, 33);
  EXPECT_EQ(refusal_of([&](ZipDoc& d) {
              d.all64 = true;
              d.parts[0].extra = cut;
            }),
            "bytes of an extra field of 'a/data.pkl', got 24, allowed 8");
  EXPECT_EQ(refusal_of([&](ZipDoc& d) {
              d.all64 = true;
              d.sizes_behind = false;
              d.parts[0].own_extra = "";
            }),
            "bytes of the zip64 field in the header of 'a/data.pkl', got 0, allowed 16 or more");
  EXPECT_EQ(refusal_of([&](ZipDoc& d) {
              d.all64 = true;
              d.sizes_behind = false;
              d.parts[0].own_bytes = 34;
            }),
            "bytes in the header of 'a/data.pkl', got 34, allowed 33");
}

}  // namespace
}  // namespace heddle
