// Packing keeps every value, whatever the layout, the row order and the remainder of rows.

#include "kernels/cpu/pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <utility>

#include "base/error.h"
#include "kernels/sizes.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "tests/support/weights.h"

namespace heddle {
namespace {

using test::Random;
using test::Weights;

constexpr WeightLayout kLayouts[] = {WeightLayout::kRows, WeightLayout::kRows16};

void expect_values(const Weights& w,
                   const PackedMatrix& packed,
                   const std::vector<std::int32_t>& order) {
  std::vector<float> row(static_cast<std::size_t>(w.n_cols));
  std::vector<double> row64(row.size());
  for (std::int64_t r = 0; r < w.n_rows; ++r) {
    cpu::dequantise_row(packed, r, row.data());
    cpu::dequantise_row(packed, r, row64.data());
    const std::int64_t source = order.empty() ? r : order[static_cast<std::size_t>(r)];
    for (std::int64_t k = 0; k < w.n_cols; ++k) {
      const double value = test::weight_at(w, source, k).value();
      ASSERT_EQ(row64[static_cast<std::size_t>(k)], value) << "row " << r << " k " << k;
      ASSERT_EQ(row[static_cast<std::size_t>(k)], static_cast<float>(value))
          << "row " << r << " k " << k;
    }
  }
}

std::vector<std::int32_t> shuffled(std::int64_t n, Random& rng) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1],
              order[static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(i) - 1))]);
  }
  return order;
}

TEST(Pack, EveryValueSurvivesInBothLayouts) {
  Random rng(1);
  ThreadPool pool(2);
  for (const DType dtype : cpu::weight_dtypes()) {
    const bool quantised = info(dtype).quantised();
    for (const std::int64_t n : {1, 7, 8, 9, 15, 16, 17, 31, 33}) {
      for (std::int64_t k : {1, 31, 32, 96}) {
        if (quantised && k % 32 != 0) continue;
        k *= info(dtype).block_elements == 256 ? 8 : 1;
        const Weights w = test::random_weights(dtype, n, k, rng);
        for (const WeightLayout layout : kLayouts) {
          SCOPED_TRACE(std::string(name(dtype)) + " n " + std::to_string(n));
          const PackedMatrix packed = cpu::pack(w.view(), layout, {}, nullptr, pool);
          EXPECT_EQ(packed.n_rows, n);
          EXPECT_EQ(packed.n_cols, k);
          EXPECT_EQ(packed.dtype, dtype);
          EXPECT_EQ(packed.layout, layout);
          if (layout == WeightLayout::kRows16) {
            EXPECT_EQ(packed.data.bytes(), packed_bytes(dtype, n, k));
          }
          EXPECT_LE(packed.data.bytes(), packed_bytes(dtype, n, k));
          expect_values(w, packed, {});
        }
      }
    }
  }
}

TEST(Pack, RowsTakeTheCheckpointsBytesAndGroupsAreFilledUpWithZeroRows) {
  Random rng(2);
  ThreadPool pool(1);
  const Weights w = test::random_weights(DType::kQ4_1, 17, 64, rng);
  const PackedMatrix rows = cpu::pack(w.view(), WeightLayout::kRows, {}, nullptr, pool);
  ASSERT_EQ(rows.data.bytes(), w.bytes.size());
  EXPECT_EQ(std::memcmp(rows.data.data(), w.bytes.data(), w.bytes.size()), 0);
  const PackedMatrix groups = cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, pool);
  EXPECT_EQ(groups.data.bytes(), static_cast<std::size_t>(32 * row_bytes(DType::kQ4_1, 64)));
  PackedMatrix all;  // the same bytes, pad rows included
  all.data = cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, pool).data;
  all.n_rows = 32;
  all.n_cols = 64;
  all.dtype = DType::kQ4_1;
  all.layout = WeightLayout::kRows16;
  std::vector<float> pad(64, 1.0F);
  for (std::int64_t r = 17; r < 32; ++r) {
    cpu::dequantise_row(all, r, pad.data());
    EXPECT_THAT(pad, testing::Each(0.0F)) << r;
  }
}

TEST(Pack, InterleavedNibblesAreInt16PairsByShiftAndMask) {
  // The map that the kernels rely on, spelled out for one block of row 3.
  Random rng(3);
  ThreadPool pool(1);
  const Weights w = test::random_weights(DType::kQ4_0, 16, 32, rng);
  const PackedMatrix packed = cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, pool);
  const auto* const words = reinterpret_cast<const std::uint32_t*>(packed.data.data() + 32);
  for (std::int64_t k = 0; k < 32; k += 2) {
    const std::uint32_t pair = words[k / 8 * 16 + 3] >> (k % 8 / 2 * 4) & 0x000F000FU;
    EXPECT_EQ(static_cast<int>(pair & 0xffffU) - 8, test::weight_at(w, 3, k).q) << k;
    EXPECT_EQ(static_cast<int>(pair >> 16) - 8, test::weight_at(w, 3, k + 1).q) << k;
  }
}

TEST(Pack, LargestAndSmallestScalesAreExact) {
  // f16 at its ends with every quant and sub-scale at its ends, and e8m0 down to subnormal f32.
  Random rng(6);
  ThreadPool pool(1);
  for (const DType dtype : cpu::weight_dtypes()) {
    if (!info(dtype).quantised()) continue;
    const test::ScaleOffsets scale = test::scale_offsets(dtype);
    const auto block = static_cast<std::size_t>(info(dtype).block_bytes);
    int n = 0;
    for (const int fill : {0x00, 0xff, 0x80, 0x7f, 0x88}) {
      for (const std::uint16_t bits : {0x7bff, 0xfbff, 0x0001, 0x8001, 0x03ff, 0x0400}) {
        Weights w = test::random_weights(dtype, 17, test::whole_blocks(dtype, 64), rng);
        std::fill(w.bytes.begin(), w.bytes.end(), static_cast<std::byte>(fill));
        for (std::size_t b = 0; b < w.bytes.size(); b += block) {
          std::byte* const at = w.bytes.data() + b;
          if (scale.d >= 0) test::set_half(at + scale.d, bits);
          if (scale.m >= 0) test::set_half(at + scale.m, bits ^ 0x8000U);
          if (dtype == DType::kMXFP4) at[0] = static_cast<std::byte>(n++ % 4 * 83);  // 0 83 166 249
        }
        if (dtype == DType::kMXFP4 && n % 2 == 0) w.bytes[block] = std::byte{1};
        for (const WeightLayout layout : kLayouts) {
          SCOPED_TRACE(std::string(name(dtype)) + " bits " + std::to_string(bits));
          expect_values(w, cpu::pack(w.view(), layout, {}, nullptr, pool), {});
        }
      }
    }
  }
}

TEST(Pack, GroupsTakeLittleMoreThanTheCheckpointsBytes) {
  for (const DType dtype : cpu::weight_dtypes()) {
    const auto packed = static_cast<double>(cpu::group_bytes(dtype, 768));
    const auto rows = static_cast<double>(16 * row_bytes(dtype, 768));
    EXPECT_GE(packed, rows) << name(dtype);
    EXPECT_LE(packed, 1.04 * rows) << name(dtype);
    if (info(dtype).block_elements != 256) {
      EXPECT_EQ(packed, rows) << name(dtype);
    }
  }
}

TEST(Pack, PlanesOfSixBitQuantsAreInt16PairsByShiftAndMask) {
  // The same for a type with two planes and sub-scales: row 5 of one block of Q6_K.
  Random rng(7);
  ThreadPool pool(1);
  const Weights w = test::random_weights(DType::kQ6_K, 16, 256, rng);
  const PackedMatrix packed = cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, pool);
  const std::byte* const block = packed.data.data();
  std::uint16_t d = 0;
  std::memcpy(&d, block + 5 * 2, 2);
  for (std::int64_t k = 0; k < 256; k += 2) {
    const auto* const low = reinterpret_cast<const std::uint32_t*>(block + 32 + 256 + k / 32 * 384);
    const std::uint32_t* const high = low + 64;
    const std::uint32_t pair = (low[k % 32 / 8 * 16 + 5] >> (k % 8 / 2 * 4) & 0x000F000FU) |
                               (high[k % 32 / 16 * 16 + 5] >> (k % 16 / 2 * 2) & 0x00030003U) << 4;
    const auto s = static_cast<std::int8_t>(std::to_integer<int>(block[32 + k / 16 * 16 + 5]));
    EXPECT_EQ(static_cast<int>(pair & 0xffffU) - 32, test::weight_at(w, 5, k).q) << k;
    EXPECT_EQ(static_cast<int>(pair >> 16) - 32, test::weight_at(w, 5, k + 1).q) << k;
    EXPECT_EQ(f16_to_f32(d) * static_cast<float>(s), test::weight_at(w, 5, k).d) << k;
  }
}

TEST(Pack, RowOrderNamesTheSourceRow) {
  Random rng(4);
  ThreadPool pool(2);
  for (const DType dtype : {DType::kF32, DType::kQ8_0, DType::kQ4_K}) {
    const Weights w = test::random_weights(dtype, 37, 256, rng);
    const std::vector<std::int32_t> order = shuffled(37, rng);
    for (const WeightLayout layout : kLayouts) {
      expect_values(w, cpu::pack(w.view(), layout, order, nullptr, pool), order);
    }
  }
}

TEST(Pack, ReadCallbackCoversTheSourceOnceInOrderAndNeverARowStillNeeded) {
  Random rng(5);
  ThreadPool pool(2);
  // Rows of 16 KiB: a panel is a few hundred rows, so there are several.
  const std::int64_t n = 1500;
  const std::int64_t k = 4096;
  Weights w;
  w.dtype = DType::kF32;
  w.n_rows = n;
  w.n_cols = k;
  w.bytes.resize(static_cast<std::size_t>(n * k * 4));
  const auto fill = [&] {
    for (std::int64_t r = 0; r < n; ++r) {
      auto* const row = reinterpret_cast<float*>(w.bytes.data() + r * k * 4);
      std::fill(row, row + k, static_cast<float>(r + 1));
    }
  };
  std::vector<std::int32_t> swapped(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < swapped.size(); ++i) swapped[i] = static_cast<std::int32_t>(i ^ 1U);
  const std::vector<std::int32_t> orders[] = {{}, swapped, shuffled(n, rng)};
  for (const auto& order : orders) {
    for (const WeightLayout layout : kLayouts) {
      fill();
      std::size_t done = 0;
      int calls = 0;
      const auto read = [&](std::size_t begin, std::size_t end) {
        EXPECT_EQ(begin, done);
        EXPECT_GT(end, begin);
        done = end;
        ++calls;
        std::memset(w.bytes.data() + begin, 0xff, end - begin);  // whoever reads it again sees NaN
      };
      const PackedMatrix packed = cpu::pack(w.view(), layout, order, read, pool);
      EXPECT_EQ(done, w.bytes.size());
      if (order.empty()) {
        EXPECT_GT(calls, 3);
      }
      std::vector<float> row(static_cast<std::size_t>(k));
      for (std::int64_t r = 0; r < n; ++r) {
        cpu::dequantise_row(packed, r, row.data());
        const std::int64_t source = order.empty() ? r : order[static_cast<std::size_t>(r)];
        ASSERT_EQ(row.front(), static_cast<float>(source + 1));
        ASSERT_EQ(row.back(), static_cast<float>(source + 1));
      }
    }
  }
}

TEST(Pack, RefusesWhatIsNoWeightOrNoOrder) {
  ThreadPool pool(1);
  const std::vector<std::int32_t> ids(64, 0);
  const TensorView integers(ids.data(), DType::kI32, {2, 32});
  try {
    cpu::pack(integers, WeightLayout::kRows16, {}, nullptr, pool);
    FAIL() << "I32 was taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
    EXPECT_THAT(e.what(), testing::HasSubstr("known: F32, F16, BF16, Q4_0, Q4_1, Q5_0"));
  }
  const TensorView floats(ids.data(), DType::kF32, {2, 32});
  EXPECT_THROW(cpu::pack(floats, WeightLayout::kRows16, {-1}, nullptr, pool), Error);
  EXPECT_THROW(cpu::pack(floats, WeightLayout::kRows16, {0, 0}, nullptr, pool), Error);
  EXPECT_THROW(cpu::pack(floats, WeightLayout::kRows16, {0, 2}, nullptr, pool), Error);
}

TEST(Pack, AnOrderMayTakeSomeOfTheRows) {
  ThreadPool pool(2);
  std::vector<float> rows(40 * 32);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i / 32);
  const TensorView all(rows.data(), DType::kF32, {40, 32});
  std::vector<std::int32_t> order;
  for (int r = 39; r > 0; r -= 2) order.push_back(r);
  for (const WeightLayout layout : kLayouts) {
    std::size_t read = 0;
    const PackedMatrix packed = cpu::pack(
        all, layout, order, [&](std::size_t begin, std::size_t end) { read += end - begin; }, pool);
    ASSERT_EQ(packed.n_rows, 20);
    std::vector<double> row(32);
    for (std::int64_t r = 0; r < packed.n_rows; ++r) {
      cpu::dequantise_row(packed, r, row.data());
      EXPECT_EQ(row[31], static_cast<double>(order[static_cast<std::size_t>(r)]));
    }
    EXPECT_EQ(read, rows.size() * sizeof(float) - 32 * sizeof(float));  // row 0 is not needed
  }
}

TEST(Pack, EmptyMatrixIsEmpty) {
  ThreadPool pool(2);
  const TensorView none(nullptr, DType::kQ4_0, {0, 64});
  for (const WeightLayout layout : kLayouts) {
    const PackedMatrix packed = cpu::pack(none, layout, {}, nullptr, pool);
    EXPECT_EQ(packed.n_rows, 0);
    EXPECT_EQ(packed.n_cols, 64);
  }
}

}  // namespace
}  // namespace heddle
