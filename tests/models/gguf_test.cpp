// What a broken GGUF file is told, and what a valid one gives.

#include "models/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "base/error.h"
#include "models/gguf_keys.h"
#include "models/gguf_weights.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/sanitizers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_llama.h"

namespace heddle {
namespace {

using test::GgufDoc;
using test::tiny_llama;
using ::testing::HasSubstr;

GgufDirectory parse(const std::string& file) {
  return GgufDirectory::parse(std::as_bytes(std::span(file)), "x.gguf");
}

/// The error's text, or "" if the bytes are accepted.
std::string refusal(const std::string& file) {
  try {
    parse(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "";
}

std::string refusal_of(const std::function<void(GgufDoc&)>& change) {
  GgufDoc doc = tiny_llama();
  change(doc);
  return refusal(doc.serialise());
}

/// A file with one key of the test's making and nothing else.
std::string one_key(GgufKind kind, const std::string& value) {
  GgufDoc doc;
  doc.set_raw("k", kind, value);
  return doc.serialise();
}

std::string array_value(std::uint32_t element, std::uint64_t count) {
  std::string bytes;
  test::append_value(bytes, element);
  test::append_value(bytes, count);
  return bytes;
}

TEST(Gguf, ReadsEveryKindOfValue) {
  GgufDoc doc;
  doc.set<std::uint8_t>("a.u8", 200);
  doc.set<std::int8_t>("a.i8", -3);
  doc.set<std::uint16_t>("a.u16", 60000);
  doc.set<std::int16_t>("a.i16", -300);
  doc.set<std::uint32_t>("a.u32", 4000000000U);
  doc.set<std::int32_t>("a.i32", -70000);
  doc.set<std::uint64_t>("a.u64", 1ULL << 40);
  doc.set<std::int64_t>("a.i64", -(1LL << 40));
  doc.set<float>("a.f32", 0.5F);
  doc.set<double>("a.f64", 0.25);
  doc.set<bool>("a.bool", true);
  doc.set_text("a.text", std::string("caf\xc3\xa9\0!", 7));
  doc.set_texts("a.texts", {"x", "", "yz"});
  doc.set_array<std::uint16_t>("a.array", {1, 2, 65535});
  const std::string file = doc.serialise();
  const GgufDirectory directory = parse(file);
  const GgufKeys keys(directory, "config");
  const IntegerRange any = {INT64_MIN, INT64_MAX};
  EXPECT_EQ(keys.integer("a.u8", any), 200);
  EXPECT_EQ(keys.integer("a.i8", any), -3);
  EXPECT_EQ(keys.integer("a.u16", any), 60000);
  EXPECT_EQ(keys.integer("a.i16", any), -300);
  EXPECT_EQ(keys.integer("a.u32", any), 4000000000LL);
  EXPECT_EQ(keys.integer("a.i32", any), -70000);
  EXPECT_EQ(keys.integer("a.u64", any), 1LL << 40);
  EXPECT_EQ(keys.integer("a.i64", any), -(1LL << 40));
  EXPECT_EQ(keys.real("a.f32"), 0.5);
  EXPECT_EQ(keys.real("a.f64"), 0.25);
  EXPECT_EQ(keys.boolean("a.bool"), true);
  EXPECT_EQ(keys.text("a.text"), std::string_view("caf\xc3\xa9\0!", 7));
  EXPECT_EQ(keys.texts("a.texts"), (std::vector<std::string>{"x", "", "yz"}));
  EXPECT_EQ(keys.integers("a.array"), (std::vector<std::int32_t>{1, 2, 65535}));
  EXPECT_EQ(keys.integer("absent", any), std::nullopt);
}

TEST(Gguf, Versions2And3AreRead) {
  for (const std::uint32_t version : {2U, 3U}) {
    EXPECT_EQ(refusal_of([&](GgufDoc& d) { d.version = version; }), "") << version;
  }
}

TEST(Gguf, TensorsAreViewsWithOutermostDimensionFirst) {
  const std::string file = tiny_llama().serialise();
  const GgufDirectory directory = parse(file);
  ASSERT_EQ(directory.tensors().size(), 20U);
  const GgufTensor* tensor = directory.find_tensor("blk.1.ffn_down.weight");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->rank, 2);
  EXPECT_EQ(tensor->dims[0], 8);
  EXPECT_EQ(tensor->dims[1], 12);
  EXPECT_EQ(tensor->bytes, 8U * 12U * 4U);
  EXPECT_EQ(tensor->offset % 32, 0U);
  EXPECT_EQ(directory.find_tensor("blk.2.ffn_down.weight"), nullptr);
}

TEST(Gguf, AnotherAlignmentMovesTheTensors) {
  GgufDoc doc;
  doc.alignment = 256;
  doc.set<std::uint32_t>("general.alignment", 256);
  doc.add_f32("a", {3}, {1, 2, 3});
  doc.add_f32("b", {2}, {4, 5});
  const std::string file = doc.serialise();
  const auto weights = GgufWeights::over(std::as_bytes(std::span(file)), "x.gguf");
  EXPECT_EQ(weights->require("b", {2}).as<float>()[1], 5.0F);
  EXPECT_EQ(weights->directory().find_tensor("b")->offset % 256, 0U);
}

TEST(Gguf, QuantisedTensorsCountTheirBlocks) {
  GgufDoc doc;
  doc.add_tensor("q", {64, 3}, DType::kQ4_1, std::string(3 * 2 * 20, '\1'));
  const std::string file = doc.serialise();
  EXPECT_EQ(parse(file).tensors()[0].bytes, 120U);
  EXPECT_EQ(parse(file).tensors()[0].dtype, DType::kQ4_1);
}

// --- cut files

TEST(GgufCut, AnEmptyFileIsTruncated) {
  EXPECT_EQ(refusal(""), "x.gguf: truncated at byte 0: needs 24 bytes, the file has 0");
}

TEST(GgufCut, SevenBytesAreTruncated) {
  EXPECT_EQ(refusal(std::string("GGUF\3\0\0", 7)),
            "x.gguf: truncated at byte 0: needs 24 bytes, the file has 7");
}

TEST(GgufCut, EveryLengthIsCalledTruncatedWithItsNumbers) {
  const std::string file = tiny_llama().serialise();
  for (std::size_t n = 0; n < file.size(); ++n) {
    const std::string text = refusal(file.substr(0, n));
    ASSERT_EQ(text.substr(0, 26), "x.gguf: truncated at byte ") << n << ": " << text;
    unsigned long long at = 0, needed = 0, had = 0;
    ASSERT_EQ(std::sscanf(text.c_str() + 26, "%llu: needs %llu bytes, the file has %llu", &at,
                          &needed, &had),
              3)
        << text;
    EXPECT_EQ(had, n);
    EXPECT_LE(at, n + 31);  // the gap before a tensor may be what is cut
    EXPECT_GT(needed, had);
    EXPECT_LE(needed, file.size());
  }
  EXPECT_EQ(refusal(file), "");
}

TEST(GgufCut, ACutFileOnDiskIsTruncatedAtEach64th) {
  const test::TempFolder folder;
  const std::string file = tiny_llama().serialise();
  for (std::size_t i = 0; i < 64; ++i) {
    const std::string path =
        folder.write("cut.gguf", std::string_view(file).substr(0, file.size() * i / 64));
    try {
      GgufWeights::open(path);
      ADD_FAILURE() << "accepted " << i << "/64";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(path + ": truncated at byte ")) << i;
    }
  }
}

// --- the header

TEST(GgufHeader, VersionsThatAreNotReadAreNamed) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.version = 0; }),
            "x.gguf: gguf_header: version, got 0, allowed 2 or 3");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.version = 1; }),
            "x.gguf: gguf_header: version, got 1, allowed 2 or 3");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.version = 99; }),
            "x.gguf: gguf_header: version, got 99, allowed 2 or 3");
}

TEST(GgufHeader, BigEndianFilesAreNamed) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.version = 3U << 24; }),
            "x.gguf: gguf_header: byte order, got big-endian, allowed little-endian");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.magic = "FUGG"; }),
            "x.gguf: gguf_header: magic, got big-endian GGUF, allowed 'GGUF'");
}

TEST(GgufHeader, OtherFormatsAreCalledWhatTheyAre) {
  const auto magic = [](std::string_view got) {
    return "x.gguf: gguf_header: magic, got " + std::string(got) + ", allowed 'GGUF'";
  };
  EXPECT_EQ(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 7\n"),
            magic("a Git LFS pointer (the model itself was not fetched: git lfs pull)"));
  EXPECT_EQ(refusal("\n <!DOCTYPE html><html></html>"),
            magic("an HTML page (a download that went wrong)"));
  EXPECT_EQ(
      refusal("PK\x03\x04 and the rest of it"),
      magic("a zip archive or PyTorch checkpoint (a Python pickle, never read: it can run code)"));
  EXPECT_EQ(refusal("\x80\x02}q\1. and the rest of it"),
            magic("a Python pickle (never read: it can run code)"));
  EXPECT_EQ(refusal(std::string("\x40\0\0\0\0\0\0\0{\"a\":{}}", 16)), magic("a safetensors file"));
  EXPECT_EQ(refusal("\x7f"
                    "ELF and the rest of it"),
            magic("'\\x7fELF'"));
}

TEST(GgufHeader, CountsAreBoundedBeforeAnythingIsAllocated) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.n_keys = 1ULL << 63; }),
            "x.gguf: gguf_header: number of keys, got 9223372036854775808, allowed up to 16384");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.n_tensors = 1ULL << 63; }),
            "x.gguf: gguf_header: number of tensors, got 9223372036854775808, allowed up to 65536");
  EXPECT_THAT(refusal_of([](GgufDoc& d) { d.n_keys = 16384; }),
              HasSubstr("x.gguf: truncated at byte 24: needs 213676 bytes"));
}

TEST(GgufHeader, KeyLengthsAreBounded) {
  const auto with_length = [](std::uint64_t length) {
    std::string file = tiny_llama().serialise();
    std::memcpy(file.data() + 24, &length, sizeof(length));
    return refusal(file);
  };
  EXPECT_EQ(with_length(1ULL << 63),
            "x.gguf: gguf_header: length of a key, got 9223372036854775808, allowed 1 to 256");
  EXPECT_EQ(with_length(0), "x.gguf: gguf_header: length of a key, got 0, allowed 1 to 256");
  EXPECT_EQ(with_length(257), "x.gguf: gguf_header: length of a key, got 257, allowed 1 to 256");
}

TEST(GgufHeader, KeysArePrintable) {
  GgufDoc doc;
  doc.set<bool>("a\nb", true);
  EXPECT_EQ(refusal(doc.serialise()),
            "x.gguf: gguf_header: a key, got 'a\\x0ab', allowed printable ASCII");
}

TEST(GgufHeader, AStringOfATerabyteIsRefused) {
  std::string length;
  test::append_value(length, std::uint64_t{1} << 40);
  EXPECT_EQ(
      refusal(one_key(GgufKind::kString, length)),
      "x.gguf: gguf_header: string length in 'k', got 1099511627776, allowed up to 134217728");
  length.clear();
  test::append_value(length, ~std::uint64_t{0});
  EXPECT_EQ(refusal(one_key(GgufKind::kString, length)),
            "x.gguf: gguf_header: string length in 'k', got 18446744073709551615, allowed up to "
            "134217728");
}

TEST(GgufHeader, ArraysOfArraysAreRefusedAtTheFirst) {
  std::string nested;
  for (int depth = 0; depth < 1000; ++depth) nested += array_value(9, 1);
  EXPECT_EQ(refusal(one_key(GgufKind::kArray, nested)),
            "x.gguf: gguf_header: element kind of 'k', got array, allowed numbers and strings");
}

TEST(GgufHeader, ArrayBytesCannotOverflow) {
  EXPECT_EQ(refusal(one_key(GgufKind::kArray, array_value(12, 1ULL << 61))),
            "x.gguf: gguf_header: array length of 'k', got 2305843009213693952, allowed up to "
            "16777216");
  EXPECT_EQ(refusal(one_key(GgufKind::kArray, array_value(0, ~0ULL))),
            "x.gguf: gguf_header: array length of 'k', got 18446744073709551615, allowed up to "
            "134217728");
  EXPECT_EQ(refusal(one_key(GgufKind::kArray, array_value(8, 1ULL << 62))),
            "x.gguf: gguf_header: array length of 'k', got 4611686018427387904, allowed up to "
            "4194304");
}

TEST(GgufHeader, KindsThatDoNotExistAreRefused) {
  GgufDoc doc;
  doc.keys.push_back({"k", 13, std::string(8, '\0')});
  EXPECT_EQ(refusal(doc.serialise()), "x.gguf: gguf_header: kind of 'k', got 13, allowed 0 to 12");
  EXPECT_EQ(refusal(one_key(GgufKind::kArray, array_value(77, 1))),
            "x.gguf: gguf_header: element kind of 'k', got 77, allowed 0 to 12");
}

TEST(GgufHeader, ABoolIsZeroOrOne) {
  EXPECT_EQ(refusal(one_key(GgufKind::kBool, "\x02")),
            "x.gguf: gguf_header: value of 'k', got 2, allowed 0 or 1");
}

TEST(GgufHeader, DuplicateKeysAreRefused) {
  GgufDoc doc = tiny_llama();
  doc.keys.push_back(doc.slot("llama.block_count"));
  EXPECT_EQ(refusal(doc.serialise()),
            "x.gguf: gguf_header: key 'llama.block_count', got it twice, allowed once");
}

TEST(GgufHeader, AlignmentIsAPowerOfTwoInRange) {
  for (const std::uint32_t alignment : {0U, 4U, 13U, 131072U, 1U << 31}) {
    EXPECT_EQ(refusal_of([&](GgufDoc& d) { d.set("general.alignment", alignment); }),
              "x.gguf: gguf_header: general.alignment, got " + std::to_string(alignment) +
                  ", allowed powers of two from 8 to 65536");
  }
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set<std::uint64_t>("general.alignment", 32); }),
            "x.gguf: gguf_header: kind of 'general.alignment', got u64, allowed u32");
}

// --- tensors

TEST(GgufTensors, RankAndDimensionsAreBounded) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.tensor("output_norm.weight").dims = {}; }),
            "x.gguf: gguf_tensor: rank of 'output_norm.weight', got 0, allowed 1 to 4");
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.tensor("output_norm.weight").dims = {2, 2, 2, 1, 1};
            }),
            "x.gguf: gguf_tensor: rank of 'output_norm.weight', got 5, allowed 1 to 4");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.tensor("output_norm.weight").dims = {0}; }),
            "x.gguf: gguf_tensor: dimension 0 of 'output_norm.weight', got 0, allowed 1 to "
            "2147483647");
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.tensor("output_norm.weight").dims = {8, 1ULL << 31};
            }),
            "x.gguf: gguf_tensor: dimension 1 of 'output_norm.weight', got 2147483648, allowed 1 "
            "to 2147483647");
}

TEST(GgufTensors, ByteSizesCannotWrap) {
  const std::string text = refusal_of([](GgufDoc& d) {
    d.tensor("output_norm.weight").dims = {0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff};
  });
  EXPECT_THAT(text,
              HasSubstr("gguf_tensor: size of 'output_norm.weight', got more than 2^62 bytes"));
}

TEST(GgufTensors, RowsAreWholeBlocks) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.tensor("output_norm.weight").type = *gguf_tensor_type(DType::kQ8_0);
            }),
            "x.gguf: gguf_tensor: row length of 'output_norm.weight', got 8, allowed multiples of "
            "32 (Q8_0)");
}

TEST(GgufTensors, EveryTypeIsReadUnderTheFormatsNumber) {
  const std::pair<std::uint32_t, DType> types[] = {
      {0, DType::kF32},   {1, DType::kF16},    {30, DType::kBF16},  {2, DType::kQ4_0},
      {3, DType::kQ4_1},  {6, DType::kQ5_0},   {7, DType::kQ5_1},   {8, DType::kQ8_0},
      {10, DType::kQ2_K}, {11, DType::kQ3_K},  {12, DType::kQ4_K},  {13, DType::kQ5_K},
      {14, DType::kQ6_K}, {39, DType::kMXFP4}, {20, DType::kIQ4_NL}};
  for (const auto& [number, dtype] : types) {
    EXPECT_EQ(gguf_tensor_type_name(number), name(dtype));
    EXPECT_EQ(gguf_dtype(number), dtype);
    EXPECT_EQ(gguf_tensor_type(dtype), number);
    GgufDoc doc;
    const auto bytes = static_cast<std::size_t>(3 * row_bytes(dtype, 512));
    doc.add_tensor("t", {512, 3}, dtype, std::string(bytes, '\1'));
    const std::string file = doc.serialise();
    const GgufDirectory directory = parse(file);
    EXPECT_EQ(directory.tensors()[0].dtype, dtype);
    EXPECT_EQ(directory.tensors()[0].bytes, bytes);
    // One byte less is a file that was cut off.
    EXPECT_NE(refusal(file.substr(0, file.size() - 1)), "") << name(dtype);
  }
}

TEST(GgufTensors, RowsOfSuperBlocksAreWholeToo) {
  EXPECT_EQ(
      refusal_of([](GgufDoc& d) {
        d.tensor("output_norm.weight").dims = {128};
        d.tensor("output_norm.weight").type = *gguf_tensor_type(DType::kQ4_K);
      }),
      "x.gguf: gguf_tensor: row length of 'output_norm.weight', got 128, allowed multiples of "
      "256 (Q4_K)");
}

TEST(GgufTensors, TypesThatAreNotReadAreNamed) {
  const std::string known =
      "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, MXFP4";
  EXPECT_EQ(
      refusal_of([](GgufDoc& d) { d.tensor("blk.0.attn_q.weight").type = 17; }),
      "x.gguf: gguf_tensor: type of 'blk.0.attn_q.weight', got IQ2_XS, which this version does "
      "not read, allowed " +
          known);
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.tensor("blk.0.attn_q.weight").type = 77; }),
            "x.gguf: gguf_tensor: type of 'blk.0.attn_q.weight', got unknown number 77, allowed " +
                known);
  for (const auto& [number, type] : {std::pair(15U, "Q8_K"), std::pair(23U, "IQ4_XS"),
                                     std::pair(26U, "I32"), std::pair(40U, "NVFP4")}) {
    EXPECT_EQ(gguf_tensor_type_name(number), type);
    EXPECT_EQ(gguf_dtype(number), std::nullopt);
  }
}

TEST(GgufTensors, OffsetsAreAligned) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.tensor("output_norm.weight").offset += 4; }),
            "x.gguf: gguf_tensor: offset of 'output_norm.weight', got 4164, allowed multiples of "
            "32");
}

TEST(GgufTensors, RangesDoNotOverlap) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.tensor("output_norm.weight").offset -= 32; }),
            "x.gguf: gguf_tensor: ranges, got 'blk.1.ffn_down.weight' and 'output_norm.weight' "
            "overlapping, allowed disjoint ones");
}

TEST(GgufTensors, RangesEndInsideTheFile) {
  const std::string text =
      refusal_of([](GgufDoc& d) { d.tensor("output_norm.weight").offset += 1 << 20; });
  EXPECT_THAT(text, HasSubstr("gguf_tensor: range of 'output_norm.weight', got bytes "));
  EXPECT_THAT(
      refusal_of([](GgufDoc& d) { d.tensor("output_norm.weight").offset = ~0ULL - 31; }),
      HasSubstr("gguf_tensor: offset of 'output_norm.weight', got 18446744073709551584, allowed"));
}

TEST(GgufTensors, NamesAreUniqueAndBounded) {
  EXPECT_EQ(
      refusal_of([](GgufDoc& d) { d.tensor("output_norm.weight").name = "token_embd.weight"; }),
      "x.gguf: gguf_tensor: tensor 'token_embd.weight', got it twice, allowed once");
  EXPECT_EQ(
      refusal_of([](GgufDoc& d) { d.tensor("output_norm.weight").name = std::string(129, 'a'); }),
      "x.gguf: gguf_tensor: length of a tensor's name, got 129, allowed 1 to 128");
}

TEST(GgufTensors, SplitKeysAreOfTheirKindsAndRanges) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set<std::uint16_t>("split.count", 1); }), "");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set<std::uint32_t>("split.count", 3); }),
            "x.gguf: gguf_header: kind of 'split.count', got u32, allowed u16");
  const auto of = [](std::uint16_t part, std::int32_t tensors) {
    return refusal_of([&](GgufDoc& d) {
      d.set<std::uint16_t>("split.count", 3);
      d.set<std::uint16_t>("split.no", part);
      d.set<std::int32_t>("split.tensors.count", tensors);
    });
  };
  EXPECT_EQ(of(2, 7), "");
  EXPECT_EQ(of(3, 7), "x.gguf: gguf_tensor: split.no, got 3, allowed 0 to 2");
  EXPECT_EQ(of(2, -1), "x.gguf: gguf_tensor: split.tensors.count, got -1, allowed 0 to 65536");
}

// --- cost of refusing

std::int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t pages = 0;
  statm >> pages >> pages;
  return pages * ::sysconf(_SC_PAGESIZE);
}

double cpu_seconds() {
  rusage usage = {};
  ::getrusage(RUSAGE_THREAD, &usage);
  const auto s = [](timeval t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return s(usage.ru_utime) + s(usage.ru_stime);
}

/// Opens `header` followed by a hole up to `size` bytes; checks time and memory.
void expect_cheap_refusal(const std::string& header, std::uint64_t size, const std::string& text) {
  const test::TempFolder folder;  // its own: these tests run beside each other
  const std::string path = folder.write("hole.gguf", header);
  std::error_code error;
  std::filesystem::resize_file(path, size, error);
  if (error) GTEST_SKIP() << "this file system has no files of " << size << " bytes with holes";
  const std::int64_t resident = resident_bytes();
  const double start = cpu_seconds();
  try {
    GgufWeights::open(path);
    ADD_FAILURE() << "accepted";
  } catch (const Error& refused) {
    EXPECT_THAT(refused.what(), HasSubstr(text));
  }
  if (!test::kSanitized) {
    EXPECT_LT(cpu_seconds() - start, 0.1);
    EXPECT_LT(resident_bytes() - resident, 16 << 20);
  }
}

TEST(GgufCost, HugeCountsInAHugeFileAreCheap) {
  GgufDoc doc;
  doc.n_keys = 1ULL << 63;
  expect_cheap_refusal(doc.header(), 1ULL << 40, "number of keys");
}

TEST(GgufCost, TheLargestTablesInAHugeFileAreCheap) {
  GgufDoc doc;
  doc.n_tensors = GgufLimits::kTensors;
  doc.n_keys = GgufLimits::kKeys;
  expect_cheap_refusal(doc.header(), 1ULL << 40, "length of a key, got 0");
}

TEST(GgufCost, MillionsOfEmptyStringsAreCheap) {
  GgufDoc doc;
  doc.set_raw("k", GgufKind::kArray, array_value(8, GgufLimits::kStrings));
  doc.n_keys = 2;
  expect_cheap_refusal(doc.header(), 1ULL << 36, "length of a key, got 0");
}

TEST(GgufCost, ManyTensorNamesAreCheap) {
  GgufDoc doc;
  for (std::uint64_t i = 0; i < GgufLimits::kTensors; ++i) {
    doc.tensors.push_back({std::to_string(i) + std::string(120, 'x'), {1}, 0, 0});
  }
  expect_cheap_refusal(doc.header(), 1ULL << 36, "overlapping");
}

// --- typed getters

TEST(GgufKeys, AKindThatIsNotTheOneAskedForIsNamed) {
  GgufDoc doc;
  doc.set_text("text", "7");
  doc.set<float>("nan", std::numeric_limits<float>::quiet_NaN());
  doc.set<std::uint32_t>("number", 7);
  doc.set<std::uint64_t>("big", ~0ULL);
  doc.set_array<std::uint8_t>("bytes", {1, 2});
  doc.set_array<std::uint32_t>("wide", {1, 4000000000U});
  doc.set_array<std::int32_t>("layers", {3, 4});
  const std::string file = doc.serialise();
  const GgufDirectory directory = parse(file);
  const GgufKeys keys(directory, "config");
  const auto message = [](const std::function<void()>& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const IntegerRange range = {1, 5};
  EXPECT_EQ(message([&] { keys.integer("text", range); }),
            "x.gguf: config: text, got a value of kind string, allowed an integer");
  EXPECT_EQ(message([&] { keys.integer("number", range); }),
            "x.gguf: config: number, got 7, allowed 1 to 5");
  EXPECT_EQ(message([&] { keys.integer("big", range); }),
            "x.gguf: config: big, got 18446744073709551615, allowed 1 to 5");
  EXPECT_EQ(message([&] { keys.require_integer("none", range); }),
            "x.gguf: config: none is missing, allowed 1 to 5");
  EXPECT_EQ(message([&] { keys.uniform_integer("layers", range); }),
            "x.gguf: config: layers, got 3 and 4 in different layers, allowed one value for all "
            "layers");
  EXPECT_EQ(message([&] { keys.real("nan"); }),
            "x.gguf: config: nan, got nan, allowed finite numbers");
  EXPECT_EQ(message([&] { keys.real("number"); }),
            "x.gguf: config: number, got a value of kind u32, allowed a number of kind f32 or f64");
  EXPECT_EQ(message([&] { keys.boolean("number"); }),
            "x.gguf: config: number, got a value of kind u32, allowed a bool");
  EXPECT_EQ(message([&] { keys.text("number"); }),
            "x.gguf: config: number, got a value of kind u32, allowed a string");
  EXPECT_EQ(message([&] { keys.texts("bytes"); }),
            "x.gguf: config: bytes, got an array of u8, allowed an array of string");
  EXPECT_EQ(message([&] { keys.integers("wide"); }),
            "x.gguf: config: wide, got a number beyond 32 bits at index 1, allowed numbers from "
            "-2147483648 to 2147483647");
  EXPECT_EQ(message([&] { keys.array_length("bytes", GgufKind::kF32); }),
            "x.gguf: config: bytes, got an array of u8, allowed an array of f32");
}

// --- weight store

class GgufStore : public ::testing::Test {
 protected:
  std::string file_ = tiny_llama().serialise();
  std::unique_ptr<GgufWeights> weights_ =
      GgufWeights::over(std::as_bytes(std::span(file_)), "x.gguf");

  std::string message(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

TEST_F(GgufStore, GivesTheStoredNumbers) {
  const TensorView view = weights_->require("token_embd.weight", {6, 8}, {DType::kF32});
  EXPECT_EQ(view.as<float>()[0], -3.0F);
  EXPECT_EQ(view.as<float>()[47], -3.0F + 47.0F / 64.0F);
}

TEST_F(GgufStore, NamesWantedAndFoundShapes) {
  EXPECT_EQ(message([&] {
              weights_->require("blk.0.attn_q.weight", {8, 4});
            }),
            "x.gguf: tensor 'blk.0.attn_q.weight': shape, got [8, 8], allowed [8, 4]");
  EXPECT_EQ(message([&] { weights_->require("blk.0.attn_q.weight", {8}); }),
            "x.gguf: tensor 'blk.0.attn_q.weight': shape, got [8, 8], allowed [8]");
  EXPECT_EQ(message([&] {
              weights_->require("nope", {8, 4});
            }),
            "x.gguf: tensor 'nope' is missing, allowed shape [8, 4]");
  EXPECT_EQ(message([&] {
              weights_->require("output_norm.weight", {8}, {DType::kF16, DType::kQ8_0});
            }),
            "x.gguf: tensor 'output_norm.weight': dtype, got F32, allowed F16, Q8_0");
}

TEST_F(GgufStore, ListsWhatNobodyAskedFor) {
  EXPECT_EQ(message([&] { weights_->check_all_bound(); }),
            "x.gguf: tensors that no part of the model uses: 'token_embd.weight', "
            "'blk.0.attn_norm.weight', 'blk.0.attn_q.weight', 'blk.0.attn_k.weight' and 16 more");
  for (const StoredTensor& tensor : weights_->tensors()) weights_->ignore(tensor.name);
  EXPECT_EQ(message([&] { weights_->check_all_bound(); }), "");
}

TEST_F(GgufStore, FindingDoesNotBind) {
  EXPECT_FALSE(weights_->find("output_norm.weight").absent());
  EXPECT_TRUE(weights_->find("nope").absent());
  for (const StoredTensor& tensor : weights_->tensors()) {
    if (tensor.name != "output_norm.weight") weights_->ignore(tensor.name);
  }
  EXPECT_EQ(message([&] { weights_->check_all_bound(); }),
            "x.gguf: tensors that no part of the model uses: 'output_norm.weight'");
}

TEST(GgufFileStore, ReleasedPagesLeaveMemoryAndCanBeReadAgain) {
  const test::TempFolder folder;
  constexpr std::uint64_t kRows = 4096;
  GgufDoc doc;
  doc.add_f32("w", {1024, kRows}, test::counting(1024 * kRows, 0.0F));
  const auto weights = GgufWeights::open(folder.write("release.gguf", doc.serialise()));
  const TensorView view = weights->require("w", {static_cast<std::int64_t>(kRows), 1024});
  double sum = 0.0;
  for (std::int64_t i = 0; i < view.elements(); ++i) sum += view.as<float>()[i];
  const std::int64_t before = resident_bytes();
  const std::size_t panel = 5000;  // not a multiple of a page: neighbours share pages
  const auto bytes = static_cast<std::size_t>(view.bytes());
  for (std::size_t at = 0; at < bytes; at += panel) {
    weights->release(view, at, std::min(at + panel, bytes));
  }
  if (!test::kSanitized) {
    EXPECT_GT(before - resident_bytes(), 15 << 20);
  }
  double again = 0.0;
  for (std::int64_t i = 0; i < view.elements(); ++i) again += view.as<float>()[i];
  EXPECT_EQ(sum, again);
}

}  // namespace
}  // namespace heddle
