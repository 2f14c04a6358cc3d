// activate, add_scaled, scale_heads, soft_cap, log_scale and expert_sum on CUDA against the CPU's
// `ref`. u = 2^-24 is the rounding of f32; bounds count roundings of what was computed.

#include <cmath>
#include <limits>

#include "tests/kernels/cuda_ops_support.h"

namespace heddle {
namespace {

using test::on_cuda;
using test::on_ref;
using test::Place;

constexpr double kU = 0x1p-24;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr std::int64_t kWidths[] = {1, 7, 31, 32, 33, 255, 256, 257, 1024, 1028, 4096};

class CudaElementwise : public testing::TestWithParam<const char*> {
 protected:
  ForcedVariants forced(const std::string& op) const { return {{op, GetParam()}}; }
  bool takes(std::int64_t width) const {
    return std::string(GetParam()) == "plain" || width % 4 == 0;
  }
};

// An activation has at most the size of its argument, or 1 (sigmoid, elu1); see cuda_glu_test.cpp.
TEST_P(CudaElementwise, ActivationsMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced("activate"));
  for (const Activation activation : kAllActivations) {
    for (const std::int64_t width : kWidths) {
      std::vector<float> x = test::Random(1).normals(3 * width, 4.0F);
      x[0] = std::nanf("");
      if (width > 7) x[5] = -kInf;
      if (width > 7) x[6] = kInf;
      const auto run = [&](Place& place) {
        ActivateArgs args;
        args.x = place.floats(x, {3, width});
        args.out = place.room(DType::kF32, {3, width});
        args.activation = activation;
        place.ops().activate(args);
        return place.floats(args.out);
      };
      EXPECT_TRUE(test::within_bound(
          on_cuda(*backend, run), on_ref("activate", run),
          [&](std::size_t i) { return 12 * kU * (1 + std::abs(static_cast<double>(x[i]))); }))
          << name(activation) << " " << width;
    }
  }
}

// a x, b c and the fused sum are rounded: 3 u (|a x| + |b c y|).
TEST_P(CudaElementwise, ScaledSumsMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced("add_scaled"));
  for (const std::int64_t width : kWidths) {
    if (!takes(width)) continue;
    test::Random random(2);
    const std::vector<float> x = random.normals(5 * width);
    const std::vector<float> y = random.normals(5 * width);
    const std::vector<float> c = random.normals(5);
    for (int form = 0; form < 3; ++form) {
      const auto run = [&](Place& place) {
        AddScaledArgs args;
        args.x = place.floats(x, {5, width});
        if (form > 0) args.y = place.floats(y, {5, width});
        if (form > 1) args.c = place.floats(c, {5});
        args.out = args.x;
        args.a = 1.25F;
        args.b = form == 0 ? 1.0F : -0.3F;
        place.ops().add_scaled(args);
        return place.floats(args.out);
      };
      EXPECT_TRUE(test::within_bound(
          on_cuda(*backend, run), on_ref("add_scaled", run),
          [&](std::size_t i) {
            const double factor = 0.3 * (1 + std::abs(c[i / static_cast<std::size_t>(width)]));
            return 3 * kU * (1.25 * std::abs(x[i]) + factor * std::abs(y[i]));
          }))
          << form << " " << width;
    }
  }
}

TEST_P(CudaElementwise, HeadsAreScaledAsByTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced("scale_heads"));
  for (const std::int64_t width : kWidths) {
    if (!takes(width)) continue;
    test::Random random(3);
    const std::vector<float> x = random.normals(6 * width);
    const std::vector<float> gates = random.normals(6);
    const auto run = [&](Place& place) {
      ScaleHeadsArgs args;
      args.x = place.floats(x, {2, 3, width});
      args.gates = place.floats(gates, {2, 3});
      args.out = args.x;
      place.ops().scale_heads(args);
      return place.floats(args.out);
    };
    EXPECT_TRUE(test::same_bits(on_cuda(*backend, run), on_ref("scale_heads", run))) << width;
  }
}

// tanhf errs by 2 ulp, the quotient's rounding moves tanh by no more than its own u; two products.
TEST_P(CudaElementwise, SoftCapsMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced("soft_cap"));
  for (const std::int64_t width : kWidths) {
    std::vector<float> x = test::Random(4).normals(3 * width, 40.0F);
    x[0] = std::nanf("");
    if (width > 7) x[4] = -kInf;
    if (width > 7) x[5] = kInf;
    const auto run = [&](Place& place) {
      SoftCapArgs args;
      args.x = place.floats(x, {3, width});
      args.cap = 30.0F;
      place.ops().soft_cap(args);
      return place.floats(args.x);
    };
    const std::vector<float> expected = on_ref("soft_cap", run);
    EXPECT_TRUE(test::within_bound(on_cuda(*backend, run), expected, [&](std::size_t i) {
      return 8 * kU * std::abs(static_cast<double>(expected[i]));
    })) << width;
  }
}

// The factor and the product are rounded.
TEST_P(CudaElementwise, LogScalesMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced("log_scale"));
  const std::vector<std::int32_t> positions = {0, 511, 512, 513, 100000, (1 << 30)};
  for (const std::int64_t width : kWidths) {
    if (!takes(width)) continue;
    const std::vector<float> x = test::Random(5).normals(6 * width);
    const auto run = [&](Place& place) {
      LogScaleArgs args;
      args.x = place.floats(x, {6, width, 1});
      args.positions = place.ints(positions, {6});
      args.n0 = 512;
      place.ops().log_scale(args);
      return place.floats(args.x);
    };
    const std::vector<float> expected = on_ref("log_scale", run);
    EXPECT_TRUE(test::within_bound(on_cuda(*backend, run), expected, [&](std::size_t i) {
      return 3 * kU * std::abs(static_cast<double>(expected[i]));
    })) << width;
  }
}

// top_k fused sums: top_k u times the sum of the terms' sizes.
TEST_P(CudaElementwise, ExpertSumsMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced("expert_sum"));
  for (const std::int64_t width : kWidths) {
    if (!takes(width)) continue;
    for (const std::int64_t top_k : {1, 2, 8}) {
      test::Random random(6);
      const std::vector<float> y = random.normals(3 * top_k * width);
      const std::vector<float> weights = random.normals(3 * top_k);
      const std::vector<float> residual = random.normals(3 * width);
      for (const bool with_residual : {false, true}) {
        const auto run = [&](Place& place) {
          ExpertSumArgs args;
          args.y = place.floats(y, {3, top_k, width});
          args.weights = place.floats(weights, {3, top_k});
          args.out = place.floats(residual, {3, width});
          if (with_residual) args.residual = args.out;
          place.ops().expert_sum(args);
          return place.floats(args.out);
        };
        EXPECT_TRUE(
            test::within(on_cuda(*backend, run), on_ref("expert_sum", run),
                         static_cast<double>(top_k + 1) * kU * 36 * static_cast<double>(top_k)))
            << width << " " << top_k;
      }
    }
  }
}

TEST_P(CudaElementwise, NoElementsAreNoWork) {
  HEDDLE_CUDA_OR_SKIP(backend);
  Place place(*backend);
  ActivateArgs activate;
  activate.x = activate.out = place.floats({}, {0, 64});
  place.ops().activate(activate);
  AddScaledArgs sum;
  sum.x = sum.out = activate.x;
  place.ops().add_scaled(sum);
  SoftCapArgs cap;
  cap.x = activate.x;
  cap.cap = 3.0F;
  place.ops().soft_cap(cap);
  backend->synchronize();
}

TEST_P(CudaElementwise, AlignmentChangesNoBit) {
  HEDDLE_CUDA_OR_SKIP(backend);
  const std::vector<float> x = test::Random(7).normals(3 * 64, 2.0F);
  const auto run = [&](Place& place) {
    SoftCapArgs args;
    args.x = place.floats(x, {3, 64});
    args.cap = 2.0F;
    place.ops().soft_cap(args);
    return place.floats(args.x);
  };
  EXPECT_TRUE(test::same_bits(on_cuda(*backend, run), on_cuda(*backend, run, 4)));
}

INSTANTIATE_TEST_SUITE_P(All, CudaElementwise, testing::Values("packs", "plain"));

}  // namespace
}  // namespace heddle
