// Row look-ups are exact for every weight dtype and layout.

#include "kernels/api/embed.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/cpu/cpu_tables.h"
#include "kernels/cpu/pack.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "tests/support/weights.h"

namespace heddle {
namespace {

using test::Random;
using test::Weights;

template <typename Args>
void run(const cpu::Table<Args>& table,
         std::string_view variant,
         const Args& args,
         CpuContext& context) {
  table.pick(args, context.caps, variant).run(args, context);
}

std::vector<float> embed(std::string_view variant,
                         const PackedMatrix& table,
                         const std::vector<std::int32_t>& ids,
                         float scale,
                         CpuContext& context) {
  const auto n = static_cast<std::int64_t>(ids.size());
  std::vector<float> out(static_cast<std::size_t>(n * table.n_cols), -77.0F);
  EmbedArgs args;
  args.ids = TensorView(ids.data(), DType::kI32, {n});
  args.table = &table;
  args.scale = scale;
  args.out = TensorView(out.data(), DType::kF32, {n, table.n_cols});
  run(cpu::embed_table(), variant, args, context);
  return out;
}

TEST(Embed, EveryVariantIsExactForEveryDtypeAndLayout) {
  Random rng(11);
  CpuContext context(2, detect_cpu());
  for (const DType dtype : cpu::weight_dtypes()) {
    for (const std::int64_t n_rows : {1, 15, 16, 17, 33}) {
      const std::int64_t n_cols = test::whole_blocks(dtype, 96);
      const Weights w = test::random_weights(dtype, n_rows, n_cols, rng);
      std::vector<std::int32_t> ids;
      for (int i = 0; i < 33; ++i) {
        ids.push_back(static_cast<std::int32_t>(rng.integer(0, n_rows - 1)));
      }
      for (const float scale : {1.0F, 0.3F}) {
        std::vector<float> expected;
        for (const std::int32_t id : ids) {
          for (std::int64_t k = 0; k < n_cols; ++k) {
            const auto value = static_cast<float>(test::weight_at(w, id, k).value());
            expected.push_back(scale == 1.0F ? value : value * scale);
          }
        }
        for (const WeightLayout layout : {WeightLayout::kRows, WeightLayout::kRows16}) {
          const PackedMatrix table = cpu::pack(w.view(), layout, {}, nullptr, context.pool);
          for (const auto& v : cpu::embed_table().variants) {
            EXPECT_TRUE(test::same_bits(embed(v.name, table, ids, scale, context), expected))
                << v.name << " " << name(dtype) << " rows " << n_rows << " scale " << scale;
          }
        }
      }
    }
  }
}

TEST(Embed, HandComputedBlock) {
  // Q4_1: d = 0.5, m = -1; element j is nibble j, element j + 16 is nibble 15 - j.
  Weights w{DType::kQ4_1, 1, 32, std::vector<std::byte>(20)};
  const std::uint16_t d = 0x3800;
  const std::uint16_t m = 0xbc00;
  std::memcpy(w.bytes.data(), &d, 2);
  std::memcpy(w.bytes.data() + 2, &m, 2);
  for (int j = 0; j < 16; ++j) {
    w.bytes[static_cast<std::size_t>(4 + j)] = static_cast<std::byte>(j | (15 - j) << 4);
  }
  CpuContext context(1, detect_cpu());
  const PackedMatrix table = cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, context.pool);
  const std::vector<float> out = embed("", table, {0}, 2.0F, context);
  for (int j = 0; j < 16; ++j) {
    EXPECT_EQ(out[static_cast<std::size_t>(j)], static_cast<float>(j) - 2.0F);
    EXPECT_EQ(out[static_cast<std::size_t>(j + 16)], static_cast<float>(15 - j) - 2.0F);
  }
}

TEST(Embed, ManyTokensOnManyThreadsAreTheSameRows) {
  Random rng(12);
  const Weights w = test::random_weights(DType::kQ8_0, 50, 576, rng);
  CpuContext one(1, detect_cpu());
  CpuContext many(3, detect_cpu());
  const PackedMatrix table = cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, one.pool);
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 101; ++i) ids.push_back(static_cast<std::int32_t>(rng.integer(0, 49)));
  EXPECT_TRUE(test::same_bits(embed("", table, ids, 1.0F, many), embed("", table, ids, 1.0F, one)));
}

TEST(Embed, NoTokensIsNoWorkAndForeignIdsAreRefused) {
  Random rng(13);
  const Weights w = test::random_weights(DType::kF16, 5, 32, rng);
  CpuContext context(1, detect_cpu());
  const PackedMatrix table = cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, context.pool);
  for (const auto& v : cpu::embed_table().variants) {
    EXPECT_TRUE(embed(v.name, table, {}, 1.0F, context).empty());
    EXPECT_THROW(embed(v.name, table, {5}, 1.0F, context), Error);  // a pad row of the layout
    EXPECT_THROW(embed(v.name, table, {-1}, 1.0F, context), Error);
  }
}

TEST(GatherRows, CopiesTheNamedRows) {
  Random rng(14);
  CpuContext context(2, detect_cpu());
  for (const std::int64_t width : {1, 7, 16, 33}) {
    const std::vector<float> x = rng.normals(9 * width);
    const std::vector<std::int32_t> rows = {8, 0, 0, 3};
    std::vector<float> out(static_cast<std::size_t>(4 * width));
    std::vector<float> expected;
    for (const std::int32_t r : rows) {
      expected.insert(expected.end(), x.begin() + r * width, x.begin() + (r + 1) * width);
    }
    GatherRowsArgs args;
    args.x = TensorView(x.data(), DType::kF32, {9, width});
    args.rows = TensorView(rows.data(), DType::kI32, {4});
    args.out = TensorView(out.data(), DType::kF32, {4, width});
    for (const auto& v : cpu::gather_rows_table().variants) {
      std::fill(out.begin(), out.end(), -77.0F);
      run(cpu::gather_rows_table(), v.name, args, context);
      EXPECT_TRUE(test::same_bits(out, expected)) << v.name << " width " << width;
    }
    const std::vector<std::int32_t> foreign = {0, 1, 2, 9};
    args.rows = TensorView(foreign.data(), DType::kI32, {4});
    EXPECT_THROW(run(cpu::gather_rows_table(), "", args, context), Error);
  }
}

}  // namespace
}  // namespace heddle
