// rms_norm on CUDA against the CPU's `ref`.
//
// Bound: |gpu - ref| <= (c 2^-24 + u) |ref| + tiniest, u being the element type's rounding. All
// squares are positive, so the relative error of their sum is at most the length of the longest
// chain of additions, and the square root halves it: c = chain / 2 + 6, where the 6 are the
// division, the root, its reciprocal and the two products. The chain of `packs` is ceil(width /
// (P T)) + log2(P T) + 1, at most 18 up to 16387 columns (c = 16); that of `plain` is width / 32
// + 6.

#include <cmath>

#include "tests/kernels/cuda_support.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace heddle {
namespace {

using test::decode;
using test::DeviceArray;
using test::encode;

constexpr float kEps = 1e-5F;
constexpr std::int64_t kWidths[] = {1, 7, 31, 32, 33, 576, 1536, 4096, 8192, 16384 + 3};
constexpr std::int64_t kLargest = 5'000'000;  // elements of one case

struct Types {
  DType x;
  DType weight;
};

struct Problem {
  Types types;
  std::int64_t rows;
  std::int64_t width;
  std::vector<float> x;  // as the element type holds it
  std::vector<float> weight;
  std::vector<float> residual;  // empty: none

  Problem(Types t, std::int64_t n_rows, std::int64_t n_columns, std::uint64_t seed)
      : types(t), rows(n_rows), width(n_columns) {
    test::Random random(seed);
    x = test::rounded(random.normals(rows * width, 3.0F), types.x);
    weight = test::rounded(random.uniforms(width, -2.0F, 2.0F), types.weight);
  }

  std::vector<float> expected() const {
    std::vector<float> out(x.size());
    BackendOptions options;
    options.threads = 2;
    options.forced = {{"rms_norm", "ref"}};
    RmsNormArgs args;
    args.x = TensorView(x.data(), DType::kF32, {rows, width});
    args.weight = TensorView(weight.data(), DType::kF32, {width});
    args.out = TensorView(out.data(), DType::kF32, {rows, width});
    args.eps = kEps;
    if (!residual.empty()) {
      args.residual = TensorView(residual.data(), DType::kF32, {rows, width});
    }
    make_backend(options)->ops().rms_norm(args);
    // Not rounded to the element type (that would double its error), but infinite where it would
    // be.
    const std::vector<float> stored = test::rounded(out, types.x);
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (std::isinf(stored[i])) out[i] = stored[i];
    }
    return out;
  }
};

RmsNormArgs args_of(const Problem& p, void* x, void* weight, void* out) {
  RmsNormArgs args;
  args.x = TensorView(x, p.types.x, {p.rows, p.width}, DeviceKind::kCuda);
  args.weight = TensorView(weight, p.types.weight, {p.width}, DeviceKind::kCuda);
  args.out = TensorView(out, p.types.x, {p.rows, p.width}, DeviceKind::kCuda);
  args.eps = kEps;
  return args;
}

/// The bytes of `out`, computed into poisoned memory whose surroundings are watched.
std::vector<std::byte> run(Backend& backend, const Problem& p, std::size_t offset_bytes = 0) {
  DeviceArray x(backend, encode(p.x, p.types.x), offset_bytes);
  DeviceArray weight(backend, encode(p.weight, p.types.weight));
  DeviceArray out(backend, encode(p.x, p.types.x).size(), offset_bytes);
  backend.ops().rms_norm(args_of(p, x.data(), weight.data(), out.data()));
  return out.read();
}

double relative_bound(const std::string& variant, const Problem& p) {
  const double c = variant == "plain" ? static_cast<double>(p.width) / 64 + 9 : 16;
  return c * 0x1p-24 + test::unit_roundoff(p.types.x);
}

void expect_like_oracle(Backend& backend, const std::string& variant, const Problem& p) {
  const std::vector<float> expected = p.expected();
  const std::vector<float> actual = decode(run(backend, p), p.types.x);
  const double relative = relative_bound(variant, p);
  const double least = test::tiniest(p.types.x);
  EXPECT_TRUE(test::within_bound(
      actual, expected,
      [&](std::size_t i) { return relative * std::abs(static_cast<double>(expected[i])) + least; }))
      << p.rows << " x " << p.width;
}

class CudaRmsNorm : public testing::TestWithParam<std::tuple<const char*, Types>> {
 protected:
  std::string variant() const { return std::get<0>(GetParam()); }
  Types types() const { return std::get<1>(GetParam()); }
  ForcedVariants forced() const { return {{"rms_norm", variant()}}; }
};

TEST_P(CudaRmsNorm, SmallShapesMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  for (const std::int64_t width : kWidths) {
    for (const std::int64_t rows : {1, 3}) {
      expect_like_oracle(*backend, variant(), Problem(types(), rows, width, 1));
    }
  }
}

TEST_P(CudaRmsNorm, LargeShapesMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  for (const std::int64_t width : kWidths) {
    for (const std::int64_t rows : {64, 1000}) {
      if (rows * width > kLargest) continue;
      expect_like_oracle(*backend, variant(), Problem(types(), rows, width, 2));
    }
  }
}

TEST_P(CudaRmsNorm, NoRowsIsNoWork) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  Problem p(types(), 1, 33, 3);
  p.rows = 0;
  p.x.clear();
  DeviceArray weight(*backend, encode(p.weight, p.types.weight));
  DeviceArray out(*backend, 64);
  backend->ops().rms_norm(args_of(p, nullptr, weight.data(), nullptr));
  backend->ops().rms_norm(args_of(p, out.data(), weight.data(), out.data()));
  EXPECT_EQ(out.read(), std::vector<std::byte>(64, std::byte{0xFF}));
}

TEST_P(CudaRmsNorm, RowHasTheSameBitsAloneAndInABatch) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  for (const std::int64_t width : {577, 1536, 4096, 40000}) {
    const Problem batch(types(), 9, width, 4);
    const std::vector<std::byte> together = run(*backend, batch);
    const std::size_t row_size = together.size() / 9;
    for (std::size_t r = 0; r < 9; ++r) {
      Problem alone = batch;
      alone.rows = 1;
      alone.x.assign(batch.x.begin() + static_cast<std::ptrdiff_t>(r) * width,
                     batch.x.begin() + static_cast<std::ptrdiff_t>(r + 1) * width);
      const std::vector<std::byte> bytes = run(*backend, alone);
      EXPECT_EQ(std::memcmp(bytes.data(), &together[r * row_size], row_size), 0)
          << "row " << r << ", width " << width;
    }
  }
}

TEST_P(CudaRmsNorm, AlignmentAndAliasingChangeNoBit) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  const auto element = static_cast<std::size_t>(info(types().x).block_bytes);
  for (const std::int64_t width : {7, 32, 576, 4096, 40000}) {
    const Problem p(types(), 3, width, 5);
    const std::vector<std::byte> aligned = run(*backend, p);
    EXPECT_EQ(run(*backend, p, element), aligned) << "one element off, width " << width;
    DeviceArray x(*backend, encode(p.x, p.types.x));
    DeviceArray weight(*backend, encode(p.weight, p.types.weight));
    backend->ops().rms_norm(args_of(p, x.data(), weight.data(), x.data()));
    EXPECT_EQ(x.read(), aligned) << "in place, width " << width;
  }
}

/// The bytes of `out` = residual + norm; in place: out is the residual.
std::vector<std::byte> run_residual(Backend& backend,
                                    const Problem& p,
                                    bool in_place,
                                    std::size_t offset_bytes = 0) {
  DeviceArray x(backend, encode(p.x, p.types.x), offset_bytes);
  DeviceArray weight(backend, encode(p.weight, p.types.weight));
  DeviceArray residual(backend, encode(p.residual, p.types.x), offset_bytes);
  DeviceArray out(backend, encode(p.x, p.types.x).size(), offset_bytes);
  RmsNormArgs args = args_of(p, x.data(), weight.data(), in_place ? residual.data() : out.data());
  args.residual = TensorView(residual.data(), p.types.x, {p.rows, p.width}, DeviceKind::kCuda);
  backend.ops().rms_norm(args);
  return in_place ? residual.read() : out.read();
}

// The sum is rounded twice in f32, then to the element type: relative to the norm and to the
// result.
TEST_P(CudaRmsNorm, ResidualIsAddedBeforeTheOnlyRounding) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  const auto element = static_cast<std::size_t>(info(types().x).block_bytes);
  for (const std::int64_t width : {1, 7, 33, 576, 4096, 16384 + 3, 40000}) {
    Problem p(types(), 5, width, 11);
    const std::vector<float> norm = p.expected();
    p.residual = test::rounded(test::Random(12).normals(p.rows * p.width, 2.0F), types().x);
    const std::vector<float> expected = p.expected();
    const double c = variant() == "plain" ? static_cast<double>(width) / 64 + 9 : 25;
    const std::vector<std::byte> bytes = run_residual(*backend, p, false);
    EXPECT_TRUE(test::within_bound(decode(bytes, types().x), expected, [&](std::size_t i) {
      return c * 0x1p-24 * std::abs(static_cast<double>(norm[i])) +
             (0x1p-24 + test::unit_roundoff(types().x)) *
                 std::abs(static_cast<double>(expected[i])) * 1.01 +
             test::tiniest(types().x);
    })) << width;
    EXPECT_EQ(run_residual(*backend, p, true), bytes) << "in place, width " << width;
    EXPECT_EQ(run_residual(*backend, p, false, element), bytes) << "one element off, " << width;
  }
}

TEST_P(CudaRmsNorm, SameInputGivesSameBitsEveryTime) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  const Problem p(types(), 64, 4096 + 8, 6);
  const std::vector<std::byte> first = run(*backend, p);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(run(*backend, p), first);
}

TEST_P(CudaRmsNorm, RowsBeyondTheRegistersMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  for (const std::int64_t width : {100'000, 100'001}) {
    const Problem p(types(), 2, width, 7);
    const std::vector<float> expected = p.expected();
    const std::vector<float> actual = decode(run(*backend, p), p.types.x);
    // packs: 25 additions in a thread and 13 across; plain: 3125 and 5.
    const double c = variant() == "plain" ? 3130.0 / 2 + 6 : 38.0 / 2 + 6;
    const double relative = c * 0x1p-24 + test::unit_roundoff(p.types.x);
    EXPECT_TRUE(test::within_bound(actual, expected, [&](std::size_t i) {
      return relative * std::abs(static_cast<double>(expected[i])) + test::tiniest(p.types.x);
    }));
  }
}

TEST_P(CudaRmsNorm, NanAndInfinityStayInTheirRow) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  for (const std::int64_t width : {33, 576, 4096}) {
    Problem p(types(), 6, width, 8);
    const auto at = [&](std::int64_t row, std::int64_t i) -> float& {
      return p.x[static_cast<std::size_t>(row * width + i)];
    };
    at(1, width / 2) = std::numeric_limits<float>::quiet_NaN();
    at(2, 0) = std::numeric_limits<float>::infinity();
    at(3, width - 1) = -std::numeric_limits<float>::infinity();
    for (std::int64_t i = 0; i < width; ++i) at(4, i) = 0.0F;
    expect_like_oracle(*backend, variant(), p);
    p.weight[static_cast<std::size_t>(width - 1)] = std::numeric_limits<float>::quiet_NaN();
    p.weight[0] = std::numeric_limits<float>::infinity();
    expect_like_oracle(*backend, variant(), p);
  }
}

TEST_P(CudaRmsNorm, ExtremesOfTheElementTypeMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  // Large: the squares still have room in f32; small: squares that f32 keeps, subnormal f16.
  const float large = types().x == DType::kF16 ? 60000.0F : 1e15F;
  const float small = types().x == DType::kF16 ? 1e-6F : 1e-15F;
  Problem p(types(), 2, 1536, 9);
  for (std::size_t i = 0; i < p.x.size(); ++i) p.x[i] *= (i < 1536 ? large / 20 : small);
  p.x = test::rounded(p.x, types().x);
  expect_like_oracle(*backend, variant(), p);
}

std::string case_name(const testing::TestParamInfo<std::tuple<const char*, Types>>& i) {
  const Types types = std::get<1>(i.param);
  return std::string(std::get<0>(i.param)) + "_" + std::string(name(types.x)) + "_" +
         std::string(name(types.weight));
}

INSTANTIATE_TEST_SUITE_P(All,
                         CudaRmsNorm,
                         testing::Combine(testing::Values("packs", "plain"),
                                          testing::Values(Types{DType::kF32, DType::kF32},
                                                          Types{DType::kF16, DType::kF16},
                                                          Types{DType::kF16, DType::kF32},
                                                          Types{DType::kBF16, DType::kBF16},
                                                          Types{DType::kBF16, DType::kF32})),
                         case_name);

/// The kind of error that `args` gives; -1 where there is none.
int error_kind(Backend& backend, const RmsNormArgs& args) {
  try {
    backend.ops().rms_norm(args);
  } catch (const Error& e) {
    return static_cast<int>(e.kind());
  }
  return -1;
}

TEST(CudaRmsNormArguments, BrokenContractsAreRefusedBeforeTheLaunch) {
  HEDDLE_CUDA_OR_SKIP(backend);
  const Problem p({DType::kBF16, DType::kBF16}, 4, 64, 10);
  DeviceArray x(*backend, encode(p.x, p.types.x));
  DeviceArray weight(*backend, encode(p.weight, p.types.weight));
  DeviceArray out(*backend, p.x.size() * 2);
  const RmsNormArgs good = args_of(p, x.data(), weight.data(), out.data());
  ASSERT_EQ(error_kind(*backend, good), -1);
  const std::vector<std::byte> before = out.read();

  const auto refused = [&](const auto& spoil) {
    RmsNormArgs args = good;
    spoil(args);
    return error_kind(*backend, args) == static_cast<int>(ErrorKind::kRuntime);
  };
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.weight.dims[0] = 63; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.weight.dtype = DType::kF16; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.x.device = DeviceKind::kCpu; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.x.data = nullptr; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.x.rank = 1; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.x.dtype = a.out.dtype = DType::kI32; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.out.dtype = DType::kF16; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.out.dims[0] = 3; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.out.data = a.x.as<std::uint16_t>() + 64; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.x.data = a.x.as<std::byte>() + 1; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) {
    a.residual = a.x;
    a.residual.dims[0] = 3;
  }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) {
    a.residual = a.x;
    a.residual.dtype = DType::kF32;
  }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) {
    a.residual = a.x;
    a.residual.device = DeviceKind::kCpu;
  }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) {
    a.residual = a.out;
    a.residual.data = a.out.as<std::uint16_t>() + 64;
  }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.eps = -1.0F; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.eps = std::nanf(""); }));

  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.groups = 3; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.groups = 0; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.segments = 3; }));
  EXPECT_EQ(out.read(), before);
}

}  // namespace
}  // namespace heddle
