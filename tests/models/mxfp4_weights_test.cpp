// MXFP4 matrices that are stored as blocks and scales become one tensor in GGUF's layout.

#include "models/mxfp4_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "kernels/cpu/pack.h"
#include "models/folder_weights.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

using test::SafetensorsDoc;
using ::testing::HasSubstr;

/// The code of value i of row r: neighbours differ, and so do i and i + 16.
unsigned code(int r, int i) {
  return static_cast<unsigned>(5 * i + i / 16 + 3 * r) % 16;
}

/// Two rows of 64 values: two neighbours in a byte.
std::string blocks_of_two_rows() {
  std::string bytes;
  for (int r = 0; r < 2; ++r) {
    for (int i = 0; i < 64; i += 2) bytes += static_cast<char>(code(r, i) | code(r, i + 1) << 4);
  }
  return bytes;
}

const std::string kScales = "\x7f\x80\x7e\x81";  // 1, 2, 0.5, 4

SafetensorsDoc pair_of(const std::vector<std::int64_t>& blocks = {2, 2, 16},
                       const std::vector<std::int64_t>& scales = {2, 2}) {
  SafetensorsDoc doc;
  doc.add("w_blocks", "U8", blocks, blocks_of_two_rows());
  doc.add("w_scales", "U8", scales, kScales);
  doc.add_f32("norm", {2}, {1.0F, 2.0F});
  return doc;
}

std::unique_ptr<Mxfp4Weights> open(const test::TempFolder& folder, const SafetensorsDoc& doc) {
  folder.write("model.safetensors", doc.serialise());
  return std::make_unique<Mxfp4Weights>(FolderWeights::open(Folder(folder.path())));
}

std::string refusal(const SafetensorsDoc& doc) {
  const test::TempFolder folder;
  try {
    open(folder, doc);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "accepted";
}

TEST(Mxfp4Weights, APairBecomesBlocksOfGguf) {
  const test::TempFolder folder;
  const auto weights = open(folder, pair_of());
  const TensorView view = weights->require("w", {2, 64}, {});
  ASSERT_EQ(view.dtype, DType::kMXFP4);
  ASSERT_EQ(view.bytes(), 4 * 17);
  const auto* const bytes = view.as<const unsigned char>();
  for (int b = 0; b < 4; ++b) {
    const unsigned char* const block = bytes + b * 17;
    EXPECT_EQ(block[0], static_cast<unsigned char>(kScales[static_cast<std::size_t>(b)]));
    const int first = b % 2 * 32;
    for (int i = 0; i < 16; ++i) {
      const unsigned want = code(b / 2, first + i) | code(b / 2, first + i + 16) << 4;
      EXPECT_EQ(block[1 + i], want) << "block " << b << " byte " << i;
    }
  }
}

TEST(Mxfp4Weights, ItsValuesAreThoseOfTheFormat) {
  const float numbers[] = {0.0F,  0.5F,  1.0F,  1.5F,  2.0F,  3.0F,  4.0F,  6.0F,
                           -0.0F, -0.5F, -1.0F, -1.5F, -2.0F, -3.0F, -4.0F, -6.0F};
  const float scales[] = {1.0F, 2.0F, 0.5F, 4.0F};
  const test::TempFolder folder;
  const auto weights = open(folder, pair_of());
  ThreadPool pool(1);
  const PackedMatrix packed =
      cpu::pack(weights->require("w", {2, 64}, {}), WeightLayout::kRows, {}, nullptr, pool);
  for (int r = 0; r < 2; ++r) {
    std::vector<float> row(64);
    cpu::dequantise_row(packed, r, row.data());
    for (int i = 0; i < 64; ++i) {
      EXPECT_EQ(row[static_cast<std::size_t>(i)], scales[2 * r + i / 32] * numbers[code(r, i)])
          << r << ", " << i;
    }
  }
}

TEST(Mxfp4Weights, TheListHasOneTensorForTheTwo) {
  const test::TempFolder folder;
  const auto weights = open(folder, pair_of());
  ASSERT_EQ(weights->tensors().size(), 2U);
  EXPECT_TRUE(weights->has("w"));
  EXPECT_EQ(shape_text(weights->find("w")), "[2, 64] MXFP4");
  EXPECT_EQ(weights->find("norm").dtype, DType::kF32);
  EXPECT_TRUE(weights->find("v").absent());
}

TEST(Mxfp4Weights, ExpertsHaveARankMore) {
  const test::TempFolder folder;
  const auto weights = open(folder, pair_of({1, 2, 2, 16}, {1, 2, 2}));
  EXPECT_EQ(shape_text(weights->require("w", {1, 2, 64}, {})), "[1, 2, 64] MXFP4");
}

TEST(Mxfp4Weights, EachIsMadeWhenItIsRequired) {
  SafetensorsDoc doc = pair_of();
  doc.add("v_blocks", "U8", {1, 1, 16}, std::string(16, '\x21'));
  doc.add("v_scales", "U8", {1, 1}, "\x70");
  const test::TempFolder folder;
  const auto weights = open(folder, doc);
  EXPECT_EQ(weights->require("v", {1, 32}, {}).as<const unsigned char>()[0], 0x70);
  EXPECT_EQ(weights->require("w", {2, 64}, {}).as<const unsigned char>()[0], 0x7f);
  EXPECT_EQ(weights->require("v", {1, 32}, {}).as<const unsigned char>()[1], 0x11);
  EXPECT_EQ(weights->require("v", {1, 32}, {}).as<const unsigned char>()[16], 0x22);
  EXPECT_THROW(weights->check_all_bound(), Error);  // the norm is left
  weights->require("norm", {2}, {});
  weights->check_all_bound();
}

TEST(Mxfp4Weights, OtherShapesAreRefused) {
  const test::TempFolder folder;
  const auto weights = open(folder, pair_of());
  try {
    weights->require("w", {2, 32}, {});
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tensor 'w': shape, got [2, 64], allowed [2, 32]"));
  }
  EXPECT_THAT(refusal(pair_of({2, 4, 8})),
              HasSubstr("tensor 'w_blocks': shape, got [2, 4, 8], allowed [..., n, 16]"));
  EXPECT_THAT(refusal(pair_of({64})),
              HasSubstr("tensor 'w_blocks': shape, got [64], allowed [..., n, 16]"));
  EXPECT_THAT(refusal(pair_of({4, 1, 16})),
              HasSubstr("tensor 'w_scales': shape, got [2, 2], allowed [4, 1]"));
  EXPECT_THAT(refusal(pair_of({2, 2, 16}, {4})),
              HasSubstr("tensor 'w_scales': shape, got [4], allowed [2, 2]"));
}

TEST(Mxfp4Weights, BlocksNeedScalesAndScalesBlocks) {
  SafetensorsDoc doc;
  doc.add("w_blocks", "U8", {2, 2, 16}, blocks_of_two_rows());
  EXPECT_THAT(refusal(doc), HasSubstr("tensor 'w_scales' is missing, allowed shape [2, 2]"));
  doc.add("w_scales", "I8", {2, 2}, kScales);  // of another type
  EXPECT_THAT(refusal(doc), HasSubstr("tensor 'w_scales' is missing, allowed shape [2, 2]"));
  SafetensorsDoc alone;
  alone.add("w_scales", "U8", {2, 2}, kScales);
  const test::TempFolder folder;
  const auto weights = open(folder, alone);
  ASSERT_EQ(weights->tensors().size(), 1U);  // left over: TensorCheck::finish() refuses it
  EXPECT_EQ(weights->tensors()[0].name, "w_scales");
}

}  // namespace
}  // namespace heddle
