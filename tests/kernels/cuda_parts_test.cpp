// rms_norm's groups, segments and absent weight, and glu's limit and up_add, on CUDA against the
// CPU's `ref`. Bounds as in cuda_rms_norm_test.cpp and cuda_glu_test.cpp.

#include <cmath>
#include <limits>

#include "tests/kernels/cuda_ops_support.h"

namespace heddle {
namespace {

using test::on_cuda;
using test::on_ref;
using test::Place;

struct Parts {
  std::int64_t rows, width;
  int groups, segments;
};
constexpr Parts kParts[] = {{1, 8, 1, 8},     {3, 64, 4, 1},   {7, 63, 9, 1},    {31, 96, 3, 4},
                            {2, 2048, 16, 1}, {5, 4096, 1, 8}, {3, 4096, 32, 1}, {4, 576, 9, 2},
                            {1, 33, 1, 1},    {2, 8192, 2, 8}, {33, 248, 31, 8}, {2, 20480, 1, 4}};

class CudaNormParts : public testing::TestWithParam<const char*> {};

TEST_P(CudaNormParts, MatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, {{"rms_norm", GetParam()}});
  for (const Parts& p : kParts) {
    if (std::string(GetParam()) == "packs" && p.segments > 1) continue;
    test::Random random(1);
    const std::vector<float> x = random.normals(p.rows * p.width, 3.0F);
    const std::vector<float> weight = random.uniforms(p.width, -2.0F, 2.0F);
    const std::vector<float> residual = random.normals(p.rows * p.width);
    for (int form = 0; form < 4; ++form) {
      const auto run = [&](Place& place) {
        RmsNormArgs args;
        args.x = place.floats(x, {p.rows, p.width});
        if (form % 2 == 1) args.weight = place.floats(weight, {p.width});
        if (form >= 2) args.residual = place.floats(residual, {p.rows, p.width});
        args.out = place.room(DType::kF32, {p.rows, p.width});
        args.eps = 1e-5F;
        args.groups = p.groups;
        args.segments = p.segments;
        place.ops().rms_norm(args);
        return place.floats(args.out);
      };
      const std::vector<float> expected = on_ref("rms_norm", run);
      const double chain = static_cast<double>(p.width) / p.groups / p.segments / 32 + 9;
      EXPECT_TRUE(test::within_bound(on_cuda(*backend, run), expected,
                                     [&](std::size_t i) {
                                       const double added = form >= 2 ? std::abs(residual[i]) : 0;
                                       return (chain / 2 + 7) * 0x1p-24 *
                                              (std::abs(expected[i]) + 2 * added);
                                     }))
          << p.rows << " x " << p.width << ", " << p.groups << " groups, " << p.segments
          << " segments, form " << form;
    }
  }
}

TEST_P(CudaNormParts, GroupsHaveTheBitsOfRows) {
  HEDDLE_CUDA_OR_SKIP(backend, {{"rms_norm", GetParam()}});
  const std::vector<float> x = test::Random(2).normals(6 * 512);
  const auto run = [&](std::int64_t rows, int groups) {
    return on_cuda(*backend, [&](Place& place) {
      RmsNormArgs args;
      args.x = place.floats(x, {rows, 6 * 512 / rows});
      args.out = args.x;
      args.groups = groups;
      place.ops().rms_norm(args);
      return place.floats(args.out);
    });
  };
  EXPECT_TRUE(test::same_bits(run(2, 3), run(6, 1)));
}

INSTANTIATE_TEST_SUITE_P(All, CudaNormParts, testing::Values("packs", "plain"));

class CudaGluLimits : public testing::TestWithParam<std::tuple<const char*, DType>> {};

TEST_P(CudaGluLimits, MatchTheOracle) {
  const DType dtype = std::get<1>(GetParam());
  HEDDLE_CUDA_OR_SKIP(backend, {{"glu", std::get<0>(GetParam())}});
  for (const std::int64_t width : {1, 7, 33, 255, 4096}) {
    test::Random random(3);
    std::vector<float> gate = test::rounded(random.normals(5 * width, 8.0F), dtype);
    std::vector<float> up = test::rounded(random.normals(5 * width, 8.0F), dtype);
    gate[0] = std::nanf("");
    up[1] = std::nanf("");
    up[2] = -std::numeric_limits<float>::infinity();
    gate[3] = std::numeric_limits<float>::infinity();
    for (const float limit : {0.0F, 7.0F}) {
      for (const float up_add : {0.0F, 1.0F}) {
        const auto run = [&](Place& place) {
          const DType type = place.is_cuda() ? dtype : DType::kF32;
          GluArgs args;
          args.gate = place.floats(gate, {5, width}, type);
          args.up = place.floats(up, {5, width}, type);
          args.out = place.room(type, {5, width});
          args.activation = Activation::kQuickGelu;
          args.limit = limit;
          args.up_add = up_add;
          place.ops().glu(args);
          return place.floats(args.out);
        };
        const std::vector<float> expected = on_ref("glu", run);
        EXPECT_TRUE(test::within_bound(
            on_cuda(*backend, run), expected,
            [&](std::size_t i) {
              return 10 * 0x1p-24 * std::abs(static_cast<double>(gate[i])) * (std::abs(up[i]) + 1) +
                     test::unit_roundoff(dtype) * std::abs(static_cast<double>(expected[i])) +
                     test::tiniest(dtype);
            }))
            << width << " limit " << limit << " up_add " << up_add;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All,
                         CudaGluLimits,
                         testing::Combine(testing::Values("packs", "plain"),
                                          testing::Values(DType::kF32, DType::kF16, DType::kBF16)));

}  // namespace
}  // namespace heddle
