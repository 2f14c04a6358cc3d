// embed and gather_rows on CUDA: the bits of the CPU's `ref`, NaN for rows that do not exist.

#include <algorithm>
#include <cmath>

#include "kernels/cpu/pack.h"
#include "kernels/cuda/weight_rows.h"
#include "tests/kernels/cuda_ops_support.h"
#include "tests/support/weights.h"

namespace heddle {
namespace {

using test::on_cuda;
using test::on_ref;
using test::Place;

/// The weights as kRows in the place's memory: on CUDA with every row on 16 bytes.
PackedMatrix table_of(Place& place, const test::Weights& w) {
  const std::int64_t bytes = row_bytes(w.dtype, w.n_cols);
  const std::int64_t stride = place.is_cuda() ? cuda::weight_row_stride(w.dtype, w.n_cols) : bytes;
  std::vector<std::byte> rows(static_cast<std::size_t>(w.n_rows * stride), std::byte{0xEE});
  for (std::int64_t r = 0; r < w.n_rows; ++r) {
    std::copy_n(w.row(r), bytes, rows.data() + r * stride);
  }
  PackedMatrix matrix;
  matrix.data = place.backend().allocate(rows.size());
  place.backend().copy_to_device(matrix.data.data(), rows.data(), rows.size());
  place.backend().synchronize();
  matrix.n_rows = w.n_rows;
  matrix.n_cols = w.n_cols;
  matrix.dtype = w.dtype;
  matrix.layout = WeightLayout::kRows;
  return matrix;
}

std::vector<float> embed(Place& place,
                         const test::Weights& w,
                         const std::vector<std::int32_t>& ids,
                         float scale) {
  const PackedMatrix table = table_of(place, w);
  const auto n = static_cast<std::int64_t>(ids.size());
  EmbedArgs args;
  args.ids = place.ints(ids, {n});
  args.table = &table;
  args.scale = scale;
  args.out = place.room(DType::kF32, {n, w.n_cols});
  place.ops().embed(args);
  return place.floats(args.out);
}

TEST(CudaEmbed, IsExactForEveryDtype) {
  HEDDLE_CUDA_OR_SKIP(backend);
  test::Random random(1);
  for (const DType dtype : cpu::weight_dtypes()) {
    for (const std::int64_t columns : {1, 33, 256, 1000}) {
      const test::Weights w =
          test::random_weights(dtype, 33, test::whole_blocks(dtype, columns), random);
      std::vector<std::int32_t> ids = {0, 32};
      for (int i = 0; i < 31; ++i) {
        ids.push_back(static_cast<std::int32_t>(random.integer(0, 32)));
      }
      for (const float scale : {1.0F, 0.3F}) {
        const auto run = [&](Place& place) { return embed(place, w, ids, scale); };
        EXPECT_TRUE(test::same_bits(on_cuda(*backend, run), on_ref("embed", run)))
            << name(dtype) << " " << columns << " " << scale;
      }
    }
  }
}

TEST(CudaEmbed, ForeignIdsGiveNan) {
  HEDDLE_CUDA_OR_SKIP(backend);
  test::Random random(2);
  const test::Weights w = test::random_weights(DType::kBF16, 5, 40, random);
  const auto run = [&](std::vector<std::int32_t> ids) {
    return on_cuda(*backend, [&](Place& place) { return embed(place, w, ids, 1.0F); });
  };
  const std::vector<float> out = run({-1, 4, 5});
  for (std::size_t i = 0; i < 40; ++i) {
    EXPECT_TRUE(std::isnan(out[i]) && !std::isnan(out[40 + i]) && std::isnan(out[80 + i])) << i;
  }
  EXPECT_TRUE(run({}).empty());
}

TEST(CudaGatherRows, CopyRows) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const std::int64_t width : {1, 7, 255, 256, 257, 1000}) {
    const std::vector<float> x = test::Random(3).normals(9 * width);
    for (const std::vector<std::int32_t>& rows :
         {std::vector<std::int32_t>{}, {8}, {0, 8, 8, 3, 1}}) {
      const auto run = [&](Place& place) {
        const auto n = static_cast<std::int64_t>(rows.size());
        GatherRowsArgs args;
        args.x = place.floats(x, {9, width});
        args.rows = place.ints(rows, {n});
        args.out = place.room(DType::kF32, {n, width});
        place.ops().gather_rows(args);
        return place.floats(args.out);
      };
      EXPECT_TRUE(test::same_bits(on_cuda(*backend, run), on_ref("gather_rows", run))) << width;
    }
  }
}

}  // namespace
}  // namespace heddle
