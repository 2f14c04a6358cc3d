#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/checked_size.h"
#include "base/error.h"
#include "base/tensor_view.h"
#include "tests/support/sanitizers.h"

namespace heddle {
namespace {

std::uintptr_t address(const Buffer& buffer) {
  return reinterpret_cast<std::uintptr_t>(buffer.data());
}

TEST(HostBuffer, IsZeroedAlignedAndWritableToItsLastByte) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{63}, std::size_t{64},
                                  std::size_t{65}, (std::size_t{2} << 20) - 1, std::size_t{2} << 20,
                                  (std::size_t{2} << 20) + 1, std::size_t{5} << 20}) {
    const Buffer buffer = host_buffer(bytes);
    ASSERT_NE(buffer.data(), nullptr);
    EXPECT_EQ(buffer.bytes(), bytes);
    EXPECT_EQ(address(buffer) % 64, 0U) << bytes;
    if (bytes >= std::size_t{2} << 20) {
      EXPECT_EQ(address(buffer) % (std::size_t{2} << 20), 0U) << bytes;
    }
    std::size_t sum = 0;
    for (std::size_t i = 0; i < bytes; ++i) sum += static_cast<std::size_t>(buffer.data()[i]);
    EXPECT_EQ(sum, 0U) << bytes;
    if (bytes > 0) std::memset(buffer.data(), 0xff, bytes);
  }
}

TEST(HostBuffer, IsZeroedEvenWhereMemoryIsReused) {
  for (int round = 0; round < 20; ++round) {
    const Buffer buffer = host_buffer(4096);
    for (std::size_t i = 0; i < 4096; ++i) ASSERT_EQ(buffer.data()[i], std::byte{0});
    std::memset(buffer.data(), 0xaa, 4096);
  }
}

/// A "VmRSS:  123 kB" line of this process, in bytes.
std::size_t resident() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmRSS:")) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

TEST(HostBuffer, TakesNoHugePageForItsEnd) {
  if (test::kSanitized) GTEST_SKIP() << "a sanitizer's own memory grows with the program's";
  constexpr std::size_t kBytes = (std::size_t{2} << 20) + 1000;
  constexpr std::size_t kBuffers = 32;
  const std::size_t before = resident();
  std::vector<Buffer> buffers;
  for (std::size_t i = 0; i < kBuffers; ++i) {
    buffers.push_back(host_buffer(kBytes));
    std::memset(buffers.back().data(), 1, kBytes);
  }
  EXPECT_GT(resident() - before, kBuffers * kBytes * 9 / 10);
  EXPECT_LT(resident() - before, kBuffers * kBytes * 11 / 10);
}

TEST(HostBuffer, RefusesWhatCannotBeAllocated) {
  for (const std::size_t bytes :
       {(std::size_t{1} << 47) + 1, std::numeric_limits<std::size_t>::max()}) {
    try {
      host_buffer(bytes);
      ADD_FAILURE() << bytes;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kMemory);
      EXPECT_EQ(e.what(), "cannot allocate " + std::to_string(bytes) + " bytes of host memory");
    }
  }
}

int freed = 0;
void count_free(void*, std::size_t bytes) noexcept {
  freed += static_cast<int>(bytes);
}

TEST(Buffer, FreesOnceWhateverIsMoved) {
  freed = 0;
  int storage = 0;
  {
    Buffer a(&storage, 1, count_free);
    Buffer b(std::move(a));
    EXPECT_EQ(a.data(), nullptr);  // NOLINT: a moved-from buffer is empty
    EXPECT_EQ(b.as<int>(), &storage);
    Buffer c;
    c = std::move(b);
    EXPECT_EQ(c.bytes(), 1U);
    EXPECT_EQ(freed, 0);
    int other = 0;
    c = Buffer(&other, 100, count_free);
    EXPECT_EQ(freed, 1);
    Buffer& self = c;
    c = std::move(self);
    EXPECT_EQ(c.as<int>(), &other);
    EXPECT_EQ(freed, 1);
  }
  EXPECT_EQ(freed, 101);
}

TEST(CheckedSize, AddsMultipliesAndAlignsUpToTheLimit) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(checked_add(kMax - 1, 1), kMax);
  EXPECT_EQ(checked_add(kMax, 1), std::nullopt);
  EXPECT_EQ(checked_mul(std::uint64_t{1} << 32, (std::uint64_t{1} << 32) - 1), kMax - 0xffffffffU);
  EXPECT_EQ(checked_mul(std::uint64_t{1} << 32, std::uint64_t{1} << 32), std::nullopt);
  EXPECT_EQ(checked_mul(kMax, 0), 0U);
  EXPECT_EQ(checked_align_up(0, 32), 0U);
  EXPECT_EQ(checked_align_up(1, 32), 32U);
  EXPECT_EQ(checked_align_up(32, 32), 32U);
  EXPECT_EQ(checked_align_up(kMax - 31, 32), kMax - 31);
  EXPECT_EQ(checked_align_up(kMax - 30, 32), std::nullopt);
  EXPECT_EQ(checked_align_up(5, 1), 5U);
}

TEST(CheckedSize, RefusesAlignmentsThatAreNotPowersOfTwo) {
  for (const std::uint64_t alignment : {0, 3, 6, 33}) {
    EXPECT_EQ(checked_align_up(8, alignment), std::nullopt) << alignment;
  }
}

TEST(CheckedSize, CarriesAFailureThroughAChain) {
  const CheckedSize failed = checked_mul(std::numeric_limits<std::uint64_t>::max(), 2);
  EXPECT_EQ(checked_add(failed, 1), std::nullopt);
  EXPECT_EQ(checked_add(1, failed), std::nullopt);
  EXPECT_EQ(checked_mul(failed, 0), std::nullopt);
  EXPECT_EQ(checked_mul(0, failed), std::nullopt);
  EXPECT_EQ(checked_align_up(failed, 8), std::nullopt);
}

TEST(TensorView, KnowsItsShapeSizeAndText) {
  const std::vector<float> data(24);
  const TensorView view(data.data(), DType::kF32, {2, 3, 4});
  EXPECT_EQ(view.rank, 3);
  EXPECT_EQ(view.elements(), 24);
  EXPECT_EQ(view.bytes(), 96);
  EXPECT_EQ(view.as<float>(), data.data());
  EXPECT_EQ(shape_text(view), "[2, 3, 4] F32");
  EXPECT_EQ(shape_text(TensorView(data.data(), DType::kQ4_1, {576, 64})), "[576, 64] Q4_1");
  EXPECT_EQ(TensorView(data.data(), DType::kQ4_1, {576, 64}).bytes(), 576 * 40);
}

TEST(TensorView, IsAbsentByDefault) {
  EXPECT_TRUE(TensorView().absent());
  EXPECT_EQ(shape_text(TensorView()), "[] F32");
}

TEST(TensorView, FirstCutsTheOutermostDimension) {
  const int data = 0;
  const TensorView view(&data, DType::kI32, {5, 7});
  EXPECT_EQ(shape_text(view.first(2)), "[2, 7] I32");
  EXPECT_EQ(view.first(0).elements(), 0);
  EXPECT_EQ(view.first(5).elements(), 35);
  EXPECT_THROW(view.first(6), Error);
  EXPECT_THROW(view.first(-1), Error);
  EXPECT_THROW(TensorView().first(0), Error);
}

TEST(TensorView, RefusesMoreThanFourDimensions) {
  const int data = 0;
  EXPECT_NO_THROW(TensorView(&data, DType::kI32, {1, 1, 1, 1}));
  EXPECT_THROW(TensorView(&data, DType::kI32, {1, 1, 1, 1, 1}), Error);
}

}  // namespace
}  // namespace heddle
