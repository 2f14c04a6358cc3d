// glu on CUDA against the CPU's `ref`.
//
// Bound: |gpu - ref| <= 8 * 2^-24 |gate up| + u |ref| + tiniest, u being the element type's
// rounding; for sigmoid and elu1, which reach 1 whatever the argument, |gate| + 1 instead of
// |gate|. An activation has at most that size, and each of the few roundings on the way to it moves
// it by no more than 2^-24 of that size: x e^-x and x^3 e^(-x^2/2) stay below 1.4, so the
// exponentials' arguments add a small multiple.

#include <cmath>

#include "tests/kernels/cuda_support.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace heddle {
namespace {

using test::decode;
using test::DeviceArray;
using test::encode;

constexpr std::int64_t kWidths[] = {1, 7, 31, 32, 33, 576, 1536, 4096, 8192, 16384 + 3};
constexpr std::int64_t kLargest = 5'000'000;  // elements of one case

struct Problem {
  DType dtype;
  Activation activation;
  std::int64_t rows;
  std::int64_t width;
  std::vector<float> gate;  // as the element type holds it
  std::vector<float> up;

  Problem(
      DType type, Activation act, std::int64_t n_rows, std::int64_t n_columns, std::uint64_t seed)
      : dtype(type), activation(act), rows(n_rows), width(n_columns) {
    test::Random random(seed);
    gate = test::rounded(random.normals(rows * width, 3.0F), dtype);
    up = test::rounded(random.normals(rows * width, 2.0F), dtype);
  }

  std::vector<float> expected() const {
    std::vector<float> out(gate.size());
    BackendOptions options;
    options.threads = 2;
    options.forced = {{"glu", "ref"}};
    GluArgs args;
    args.gate = TensorView(gate.data(), DType::kF32, {rows, width});
    args.up = TensorView(up.data(), DType::kF32, {rows, width});
    args.out = TensorView(out.data(), DType::kF32, {rows, width});
    args.activation = activation;
    make_backend(options)->ops().glu(args);
    // Not rounded to the element type (that would double its error), but infinite where it would
    // be.
    const std::vector<float> stored = test::rounded(out, dtype);
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (std::isinf(stored[i])) out[i] = stored[i];
    }
    return out;
  }
};

GluArgs args_of(const Problem& p, void* gate, void* up, void* out) {
  GluArgs args;
  args.gate = TensorView(gate, p.dtype, {p.rows, p.width}, DeviceKind::kCuda);
  args.up = TensorView(up, p.dtype, {p.rows, p.width}, DeviceKind::kCuda);
  args.out = TensorView(out, p.dtype, {p.rows, p.width}, DeviceKind::kCuda);
  args.activation = p.activation;
  return args;
}

/// The bytes of `out`, computed into poisoned memory whose surroundings are watched.
std::vector<std::byte> run(Backend& backend, const Problem& p, std::size_t offset_bytes = 0) {
  DeviceArray gate(backend, encode(p.gate, p.dtype), offset_bytes);
  DeviceArray up(backend, encode(p.up, p.dtype), offset_bytes);
  DeviceArray out(backend, encode(p.up, p.dtype).size(), offset_bytes);
  backend.ops().glu(args_of(p, gate.data(), up.data(), out.data()));
  return out.read();
}

void expect_like_oracle(Backend& backend, const Problem& p) {
  const std::vector<float> expected = p.expected();
  const std::vector<float> actual = decode(run(backend, p), p.dtype);
  EXPECT_TRUE(test::within_bound(
      actual, expected,
      [&](std::size_t i) {
        const bool to_one =
            p.activation == Activation::kSigmoid || p.activation == Activation::kElu1;
        double size = std::abs(static_cast<double>(p.gate[i])) + (to_one ? 1 : 0);
        if (std::isinf(size)) size = 0;  // the activation is 0, 1 or infinite, without error
        return 8 * 0x1p-24 * size * std::abs(static_cast<double>(p.up[i])) +
               test::unit_roundoff(p.dtype) * std::abs(static_cast<double>(expected[i])) +
               test::tiniest(p.dtype);
      }))
      << p.rows << " x " << p.width;
}

class CudaGlu : public testing::TestWithParam<std::tuple<const char*, DType, Activation>> {
 protected:
  DType dtype() const { return std::get<1>(GetParam()); }
  Activation activation() const { return std::get<2>(GetParam()); }
  ForcedVariants forced() const { return {{"glu", std::get<0>(GetParam())}}; }
};

TEST_P(CudaGlu, SmallShapesMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  for (const std::int64_t width : kWidths) {
    for (const std::int64_t rows : {1, 3}) {
      expect_like_oracle(*backend, Problem(dtype(), activation(), rows, width, 1));
    }
  }
}

TEST_P(CudaGlu, LargeShapesMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  for (const std::int64_t width : kWidths) {
    for (const std::int64_t rows : {64, 1000}) {
      if (rows * width > kLargest) continue;
      expect_like_oracle(*backend, Problem(dtype(), activation(), rows, width, 2));
    }
  }
}

TEST_P(CudaGlu, NoRowsIsNoWork) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  Problem p(dtype(), activation(), 1, 33, 3);
  p.rows = 0;
  DeviceArray out(*backend, 64);
  backend->ops().glu(args_of(p, nullptr, nullptr, nullptr));
  backend->ops().glu(args_of(p, out.data(), out.data(), out.data()));
  EXPECT_EQ(out.read(), std::vector<std::byte>(64, std::byte{0xFF}));
}

TEST_P(CudaGlu, BatchAlignmentAndAliasingChangeNoBit) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  const auto element = static_cast<std::size_t>(info(dtype()).block_bytes);
  for (const std::int64_t width : {33, 4096, 14336}) {
    const Problem p(dtype(), activation(), 5, width, 4);
    const std::vector<std::byte> expected = run(*backend, p);
    EXPECT_EQ(run(*backend, p, element), expected) << "one element off, width " << width;

    Problem last = p;
    last.rows = 1;
    last.gate.erase(last.gate.begin(), last.gate.end() - width);
    last.up.erase(last.up.begin(), last.up.end() - width);
    const std::vector<std::byte> alone = run(*backend, last);
    EXPECT_EQ(std::memcmp(alone.data(), &expected[expected.size() - alone.size()], alone.size()), 0)
        << "the last row alone, width " << width;

    DeviceArray gate(*backend, encode(p.gate, p.dtype));
    DeviceArray up(*backend, encode(p.up, p.dtype));
    backend->ops().glu(args_of(p, gate.data(), up.data(), gate.data()));
    EXPECT_EQ(gate.read(), expected) << "into gate, width " << width;
    gate.write(encode(p.gate, p.dtype));
    backend->ops().glu(args_of(p, gate.data(), up.data(), up.data()));
    EXPECT_EQ(up.read(), expected) << "into up, width " << width;
  }
}

TEST_P(CudaGlu, SpecialValuesMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, forced());
  constexpr float kInf = std::numeric_limits<float>::infinity();
  std::vector<float> values = {0.0F,  -0.0F,  1.0F,   -1.0F,   kInf,  -kInf,  std::nanf(""),
                               5.5F,  -5.5F,  20.0F,  -20.0F,  87.0F, -87.0F, -88.0F,
                               88.9F, -88.9F, 104.0F, -104.0F, 6e4F,  -6e4F,  1e-7F};
  if (dtype() != DType::kF16) {
    for (const float v : {1e30F, -1e30F, 3e38F, -3e38F, 1e-30F, -1e-30F}) values.push_back(v);
  }
  const auto n = static_cast<std::int64_t>(values.size());
  // Every value as gate against every value as up, in whole packs and in a tail. Not compared: an
  // infinite up where the activation vanishes in f32 (0 times infinity) but not in the oracle's
  // f64.
  Problem p(dtype(), activation(), n, n, 5);
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t i = 0; i < n; ++i) {
      p.gate[static_cast<std::size_t>(r * n + i)] = values[static_cast<std::size_t>(r)];
      const float g = values[static_cast<std::size_t>(r)];
      const float u = values[static_cast<std::size_t>(i)];
      const bool vanishing = g < -5.0F && std::isfinite(g);
      p.up[static_cast<std::size_t>(r * n + i)] = vanishing && std::isinf(u) ? 1.0F : u;
    }
  }
  p.gate = test::rounded(p.gate, dtype());
  p.up = test::rounded(p.up, dtype());
  expect_like_oracle(*backend, p);
}

std::string case_name(const testing::TestParamInfo<std::tuple<const char*, DType, Activation>>& i) {
  return std::string(std::get<0>(i.param)) + "_" + std::string(name(std::get<1>(i.param))) + "_" +
         std::string(name(std::get<2>(i.param)));
}

INSTANTIATE_TEST_SUITE_P(All,
                         CudaGlu,
                         testing::Combine(testing::Values("packs", "plain"),
                                          testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                                          testing::ValuesIn(kAllActivations)),
                         case_name);

TEST(CudaGluArguments, BrokenContractsAreRefusedBeforeTheLaunch) {
  HEDDLE_CUDA_OR_SKIP(backend);
  const Problem p(DType::kF32, Activation::kSilu, 4, 64, 6);
  DeviceArray gate(*backend, encode(p.gate, p.dtype));
  DeviceArray up(*backend, encode(p.up, p.dtype));
  DeviceArray out(*backend, p.gate.size() * 4);
  const GluArgs good = args_of(p, gate.data(), up.data(), out.data());
  const auto refused = [&](const auto& spoil) {
    GluArgs args = good;
    spoil(args);
    try {
      backend->ops().glu(args);
    } catch (const Error& e) {
      return e.kind() == ErrorKind::kRuntime;
    }
    return false;
  };
  EXPECT_TRUE(refused([](GluArgs& a) { a.up.dims[1] = 63; }));
  EXPECT_TRUE(refused([](GluArgs& a) { a.up.dtype = DType::kF16; }));
  EXPECT_TRUE(refused([](GluArgs& a) { a.gate.device = DeviceKind::kCpu; }));
  EXPECT_TRUE(refused([](GluArgs& a) { a.out.dims[0] = 5; }));
  EXPECT_TRUE(refused([](GluArgs& a) { a.out.data = a.up.as<float>() + 1; }));
  EXPECT_TRUE(refused([](GluArgs& a) { a.up.data = nullptr; }));
  EXPECT_TRUE(refused([](GluArgs& a) { a.limit = -1.0F; }));
  EXPECT_TRUE(refused([](GluArgs& a) { a.up_add = std::nanf(""); }));
  EXPECT_EQ(out.read(), std::vector<std::byte>(p.gate.size() * 4, std::byte{0xFF}));
}

}  // namespace
}  // namespace heddle
