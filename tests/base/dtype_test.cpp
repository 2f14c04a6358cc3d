#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cctype>
#include <string>
#include <string_view>

#include "base/error.h"

namespace heddle {
namespace {

constexpr DType kAll[] = {DType::kF32,    DType::kF16,  DType::kBF16, DType::kI32,  DType::kU8,
                          DType::kQ4_0,   DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                          DType::kQ2_K,   DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K,
                          DType::kIQ4_NL, DType::kMXFP4};

TEST(DType, NamesAreReadBackInBothCases) {
  for (const DType dtype : kAll) {
    std::string text(name(dtype));
    EXPECT_EQ(parse_dtype(text), dtype) << text;
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    EXPECT_EQ(parse_dtype(text), dtype) << text;
  }
}

TEST(DType, UnknownNamesAreNone) {
  for (const char* text : {"", "F", "F3", "F321", "F 32", "Q4", "Q4_", "Q4_2", "float", "f32 "}) {
    EXPECT_EQ(parse_dtype(text), std::nullopt) << text;
  }
  EXPECT_EQ(parse_dtype(std::string_view("F32\0", 4)), std::nullopt);
}

TEST(DType, RowsHaveTheBytesOfTheirBlocks) {
  EXPECT_EQ(row_bytes(DType::kF32, 5), 20);
  EXPECT_EQ(row_bytes(DType::kF16, 5), 10);
  EXPECT_EQ(row_bytes(DType::kBF16, 5), 10);
  EXPECT_EQ(row_bytes(DType::kI32, 5), 20);
  EXPECT_EQ(row_bytes(DType::kU8, 5), 5);
  EXPECT_EQ(row_bytes(DType::kQ4_0, 576), 18 * 18);
  EXPECT_EQ(row_bytes(DType::kQ4_1, 576), 18 * 20);
  EXPECT_EQ(row_bytes(DType::kQ5_0, 576), 18 * 22);
  EXPECT_EQ(row_bytes(DType::kQ5_1, 576), 18 * 24);
  EXPECT_EQ(row_bytes(DType::kQ8_0, 576), 18 * 34);
  EXPECT_EQ(row_bytes(DType::kQ2_K, 768), 3 * 84);
  EXPECT_EQ(row_bytes(DType::kQ3_K, 768), 3 * 110);
  EXPECT_EQ(row_bytes(DType::kQ4_K, 768), 3 * 144);
  EXPECT_EQ(row_bytes(DType::kQ5_K, 768), 3 * 176);
  EXPECT_EQ(row_bytes(DType::kQ6_K, 768), 3 * 210);
  EXPECT_EQ(row_bytes(DType::kIQ4_NL, 576), 18 * 18);
  EXPECT_EQ(row_bytes(DType::kMXFP4, 576), 18 * 17);
  for (const DType dtype : kAll) EXPECT_EQ(row_bytes(dtype, 0), 0);
}

TEST(DType, RowsOfPartialBlocksAndNegativeLengthsAreRefused) {
  EXPECT_THROW(row_bytes(DType::kQ4_0, 33), Error);
  EXPECT_THROW(row_bytes(DType::kQ8_0, 1), Error);
  EXPECT_THROW(row_bytes(DType::kQ4_K, 288), Error);
  EXPECT_THROW(row_bytes(DType::kF32, -1), Error);
}

TEST(DType, OnlyBlockTypesAreQuantised) {
  for (const DType dtype : kAll) {
    const std::string_view text = name(dtype);
    EXPECT_EQ(info(dtype).quantised(), text.find_first_of("QX") != text.npos) << text;
  }
}

TEST(Error, CheckNamesConditionFileAndLine) {
  try {
    HEDDLE_CHECK(1 + 1 == 3);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kRuntime);
    const std::string line = std::to_string(__LINE__ - 4);
    EXPECT_EQ(e.what(), "internal: 1 + 1 == 3 does not hold (dtype_test.cpp:" + line + ")");
  }
}

TEST(Error, CheckEvaluatesItsConditionOnce) {
  int n = 0;
  HEDDLE_CHECK(++n == 1);
  EXPECT_EQ(n, 1);
}

TEST(Error, KindsAreTheExitCodes) {
  EXPECT_EQ(static_cast<int>(runtime_failure("x").kind()), 1);
  EXPECT_EQ(static_cast<int>(bad_input("x").kind()), 2);
  EXPECT_EQ(static_cast<int>(ErrorKind::kMemory), 3);
  EXPECT_EQ(static_cast<int>(ErrorKind::kDevice), 4);
}

}  // namespace
}  // namespace heddle
