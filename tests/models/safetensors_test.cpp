// The safetensors container: what a valid file gives, what each broken one is told.

#include "models/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>

#include "base/error.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/sanitizers.h"

namespace heddle {
namespace {

using test::SafetensorsDoc;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

SafetensorsDirectory parse(const std::string& file) {
  return SafetensorsDirectory::parse(std::as_bytes(std::span(file)), "x");
}

/// a: [2, 3] F32, b: [4] BF16, c: [2] I64.
SafetensorsDoc good() {
  SafetensorsDoc doc;
  doc.metadata = R"({"format":"pt"})";
  doc.add("a", "F32", {2, 3}, std::string(24, 'a'));
  doc.add("b", "BF16", {4}, std::string(8, 'b'));
  doc.add("c", "I64", {2}, std::string(16, 'c'));
  return doc;
}

std::string message(const std::string& file) {
  try {
    parse(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_THAT(error.what(), StartsWith("x: "));
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return std::string(error.what()).substr(3);
  }
  return "accepted";
}

std::string refusal_of(const std::function<void(SafetensorsDoc&)>& change) {
  SafetensorsDoc doc = good();
  change(doc);
  return message(doc.serialise());
}

TEST(Safetensors, GivesNamesTypesShapesAndRanges) {
  const std::string file = good().serialise();
  const SafetensorsDirectory directory = parse(file);
  ASSERT_EQ(directory.tensors().size(), 3U);
  const SafetensorsTensor& a = directory.tensors()[0];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, DType::kF32);
  EXPECT_EQ(a.dtype_name, "F32");
  EXPECT_EQ(a.rank, 2);
  EXPECT_EQ(a.dims[0], 2);
  EXPECT_EQ(a.dims[1], 3);
  EXPECT_EQ(a.bytes, 24U);
  EXPECT_EQ(file.substr(a.offset, a.bytes), std::string(24, 'a'));
  const SafetensorsTensor& c = directory.tensors()[2];
  EXPECT_EQ(c.dtype, std::nullopt);
  EXPECT_EQ(c.dtype_name, "I64");
  EXPECT_EQ(file.substr(c.offset, c.bytes), std::string(16, 'c'));
}

TEST(Safetensors, OrdersTensorsByTheirPlaceNotTheirHeader) {
  SafetensorsDoc doc = good();
  std::swap(doc.tensors[0], doc.tensors[2]);
  const SafetensorsDirectory directory = parse(doc.serialise());
  EXPECT_EQ(directory.tensors()[0].name, "a");
  EXPECT_EQ(directory.tensors()[2].name, "c");
}

TEST(Safetensors, TakesScalarsEmptyFilesAndPackedNumbersOfWholeBytes) {
  SafetensorsDoc doc;
  EXPECT_TRUE(parse(doc.serialise()).tensors().empty());
  doc.add("scalar", "F32", {}, std::string(4, 'x'));
  doc.add("nibbles", "F4", {3, 2}, std::string(3, 'x'));
  doc.add("sixes", "F6_E2M3", {4}, std::string(3, 'x'));
  const SafetensorsDirectory directory = parse(doc.serialise());
  EXPECT_EQ(directory.tensors()[0].rank, 0);
  EXPECT_EQ(directory.tensors()[1].bytes, 3U);
}

TEST(Safetensors, RefusesEveryPrefixOfAFile) {
  const std::string file = good().serialise();
  for (std::size_t n = 0; n < file.size(); ++n) {
    const std::string what = message(file.substr(0, n));
    EXPECT_THAT(what, HasSubstr("truncated at byte ")) << n;
    EXPECT_THAT(what, HasSubstr("the file has " + std::to_string(n))) << n;
  }
}

TEST(Safetensors, RefusesHeaderLengthsThatCannotBe) {
  for (const std::uint64_t n : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{100'000'001},
                                std::uint64_t{1} << 63U, ~std::uint64_t{0}}) {
    EXPECT_EQ(refusal_of([&](SafetensorsDoc& d) { d.header_bytes = n; }),
              fmt::format("header_length: bytes of the header, got {}, allowed 2 to 100000000", n));
  }
  const std::string file = good().serialise();
  EXPECT_EQ(refusal_of([&](SafetensorsDoc& d) { d.header_bytes = file.size() - 7; }),
            fmt::format("header_length: bytes of the header, got {}, allowed 2 to {} (truncated at "
                        "byte 8: needs {} bytes, the file has {})",
                        file.size() - 7, file.size() - 8, file.size() + 1, file.size()));
}

TEST(Safetensors, SaysWhatAFileOfAnotherKindIs) {
  EXPECT_EQ(
      message("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
      "header_length: got a Git LFS pointer (the model itself was not fetched: git lfs pull), "
      "allowed a safetensors file");
  EXPECT_EQ(message("<!DOCTYPE html><html><head></head></html>"),
            "header_length: got an HTML page (a download that went wrong), allowed a safetensors "
            "file");
  EXPECT_THAT(message(std::string("PK\x03\x04", 4) + std::string(60, 'x')),
              HasSubstr("got a zip archive or PyTorch checkpoint (a Python pickle, never read"));
  EXPECT_THAT(message("GGUF" + std::string(60, 'x')), HasSubstr("got a GGUF file"));
}

TEST(Safetensors, RefusesHeadersThatAreNoStrictJson) {
  const auto of = [](const std::string& header) {
    return refusal_of([&](SafetensorsDoc& d) { d.header = header; });
  };
  EXPECT_EQ(of("[1]"), "header_json: first byte, got '[', allowed '{'");
  EXPECT_EQ(of(" {}"), "header_json: first byte, got ' ', allowed '{'");
  EXPECT_EQ(of("{}x"), "header_json:1:3: not valid JSON near '{}x'");
  EXPECT_THAT(of("{\"\xff\":1}"), StartsWith("header_json:1:3: not valid JSON near "));
  EXPECT_THAT(of(std::string("{}\0\0", 4)), StartsWith("header_json:1:3: not valid JSON"));
  EXPECT_EQ(of(R"({"a":1,"a":2})"), "header_json:1:8: duplicate key 'a'");
  EXPECT_EQ(of(R"({"a":{"dtype":"F32","dtype":"F16"}})"),
            "header_json:1:21: duplicate key 'dtype'");
  EXPECT_EQ(of(R"({"__metadata__":{"x":"1","x":"2"}})"), "header_json:1:26: duplicate key 'x'");
  EXPECT_EQ(of("{\"a\":" + std::string(8, '[') + std::string(8, ']') + "}"),
            "header_json:1:13: JSON nested deeper than 8");
}

TEST(Safetensors, RefusesMetadataThatIsNoMapOfStrings) {
  EXPECT_EQ(refusal_of([](SafetensorsDoc& d) { d.metadata = "[]"; }),
            "header_json: __metadata__, got an array of 0, allowed an object of strings");
  EXPECT_EQ(refusal_of([](SafetensorsDoc& d) { d.metadata = R"({"n":1})"; }),
            "header_json: __metadata__ 'n', got 1, allowed a string");
}

TEST(Safetensors, RefusesEntriesOfAnotherForm) {
  const auto of = [](const std::string& header) {
    return refusal_of([&](SafetensorsDoc& d) { d.header = header; });
  };
  EXPECT_EQ(of(R"({"a":7})"),
            "header_json: tensor 'a', got 7, allowed an object of dtype, shape, data_offsets");
  EXPECT_EQ(of(R"({"a":{"dtype":"F32","shape":[]}})"),
            "header_json: tensor 'a', got no data_offsets, allowed an object of dtype, shape, "
            "data_offsets");
  EXPECT_EQ(refusal_of([](SafetensorsDoc& d) { d.tensor("b").more = ",\"strides\":[1]"; }),
            "header_json: tensor 'b', got a member 'strides', allowed an object of dtype, shape, "
            "data_offsets");
  EXPECT_EQ(refusal_of([](SafetensorsDoc& d) { d.tensor("b").name = "\"\""; }),
            "header_json: length of a tensor's name, got 0, allowed 1 to 1024");
}

TEST(Safetensors, RefusesDtypesThatTheFormatDoesNotHave) {
  for (const std::string dtype : {"\"Q4\"", "\"f32\"", "7", "null"}) {
    EXPECT_THAT(refusal_of([&](SafetensorsDoc& d) { d.tensor("b").dtype = dtype; }),
                StartsWith("dtype: of 'b', got "))
        << dtype;
  }
  EXPECT_EQ(refusal_of([](SafetensorsDoc& d) {
              d.tensor("c").dtype = "\"F4\"";
              d.tensor("c").shape = "[33]";
            }),
            "dtype: F4 of 'c', got 33 numbers of 4 bits, allowed whole bytes");
}

TEST(Safetensors, RefusesShapesThatCannotBe) {
  const auto of = [](const std::string& shape) {
    return refusal_of([&](SafetensorsDoc& d) { d.tensor("a").shape = shape; });
  };
  EXPECT_EQ(of("[-2,3]"), "shape: dimension 0 of 'a', got -2, allowed integers from 1");
  EXPECT_EQ(of("[2,0]"), "shape: dimension 1 of 'a', got 0, allowed integers from 1");
  EXPECT_EQ(of("[2,3.0]"), "shape: dimension 1 of 'a', got 3.0, allowed integers from 1");
  EXPECT_EQ(of("[1e3]"), "shape: dimension 0 of 'a', got 1000.0, allowed integers from 1");
  EXPECT_EQ(of("[\"2\"]"), "shape: dimension 0 of 'a', got '2', allowed integers from 1");
  EXPECT_EQ(of("[18446744073709551615]"),
            "shape: dimension 0 of 'a', got 18446744073709551615, allowed integers from 1");
  EXPECT_EQ(of("[6,1,1,1,1,1,1,1,1]"), "shape: rank of 'a', got 9, allowed 0 to 8");
  EXPECT_EQ(of("6"), "shape: of 'a', got 6, allowed an array");
  EXPECT_EQ(
      of("[4294967296,4294967296]"),
      fmt::format("size_overflow: bits of 'a', got more than 2^64, allowed up to the file's {} "
                  "bytes",
                  [] {
                    SafetensorsDoc d = good();
                    d.tensor("a").shape = "[4294967296,4294967296]";
                    return d.serialise().size();
                  }()));
}

TEST(Safetensors, RefusesRangesThatCannotBe) {
  const auto of = [](const std::string& name, const std::string& offsets) {
    return refusal_of([&](SafetensorsDoc& d) { d.tensor(name).offsets = offsets; });
  };
  EXPECT_EQ(of("b", "[32,24]"),
            "tensor_range: data_offsets of 'b', got 32 before 24, allowed ascending ones");
  EXPECT_EQ(of("b", "[20,28]"), "tensor_range: got 'a' and 'b' overlapping, allowed disjoint ones");
  EXPECT_EQ(of("b", "[26,34]"), "tensor_range: got 2 bytes between 'a' and 'b', allowed none");
  EXPECT_EQ(of("a", "[1,25]"),
            "tensor_range: got 1 bytes between the header and 'a', allowed none");
  EXPECT_EQ(of("b", "[24,30]"), "tensor_range: bytes of 'b', got 6, allowed 8 (its shape in BF16)");
  EXPECT_EQ(of("b", "[24]"),
            "tensor_range: data_offsets of 'b', got an array of 1, allowed two integers from 0");
  EXPECT_EQ(of("b", "[-8,0]"),
            "tensor_range: data_offsets of 'b', got [-8, 0], allowed two integers from 0");
  EXPECT_EQ(of("b", "[24.0,32]"),
            "tensor_range: data_offsets of 'b', got [24.0, 32], allowed two integers from 0");
  EXPECT_THAT(
      of("b", "[18446744073709551608,18446744073709551615]"),
      HasSubstr("tensor_range: data_offsets of 'b', got 18446744073709551615, allowed up to "
                "the file's "));
  EXPECT_THAT(of("c", "[48,64]"), HasSubstr("tensor_range: got 16 bytes between 'b' and 'c'"));
  EXPECT_EQ(refusal_of([](SafetensorsDoc& d) { d.data += "tail"; }),
            "tensor_range: got 4 bytes after 'c', the last tensor, allowed none");
}

TEST(Safetensors, ReadsALargeHostileHeaderInBoundedTime) {
  // As many tensors as fit the limit of values, all at the same place: sorted, not compared in
  // pairs.
  SafetensorsDoc doc;
  std::string header = "{";
  for (int i = 0; i < 120'000; ++i) {
    header += fmt::format("{}\"t{}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
                          i == 0 ? "" : ",", i);
  }
  doc.header = header + "}";
  doc.data = "x";
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(message(doc.serialise()), HasSubstr("overlapping"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin,
            std::chrono::seconds(test::kSanitized ? 60 : 10));
  doc.header = "{" + header.substr(1) + header.substr(1, 0);
  for (int i = 0; i < 20'000; ++i) *doc.header += fmt::format(",\"u{}\":7", i);
  *doc.header += "}";
  EXPECT_THAT(message(doc.serialise()),
              StartsWith("header_json: tensors, got 140000, allowed up to "));
}

}  // namespace
}  // namespace heddle
