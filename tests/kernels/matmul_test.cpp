// Matmul: the oracle against hand-computed cases; the fast variants against the oracle within a
// bound from the data, and against the arithmetic of kernels/api/matmul.h bit by bit; nothing but
// x's own row and the weights decides a row's bits.

#include "kernels/api/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

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

const std::vector<DType>& kAllTypes = cpu::weight_dtypes();
constexpr float kPoison = -12345.678F;

struct Case {
  const Weights* weights = nullptr;
  const std::vector<float>* x = nullptr;  // [n_tokens, k]
  const std::vector<float>* residual = nullptr;
  int segments = 1;
  WeightLayout layout = WeightLayout::kRows16;
  const std::vector<float>* bias = nullptr;
};

void run(std::string_view variant, const MatmulArgs& args, CpuContext& context) {
  cpu::matmul_table().pick(args, context.caps, variant).run(args, context);
}

std::vector<float> matmul(std::string_view variant, const Case& c, CpuContext& context) {
  const Weights& w = *c.weights;
  const PackedMatrix packed = cpu::pack(w.view(), c.layout, {}, nullptr, context.pool);
  const std::int64_t n_tokens = static_cast<std::int64_t>(c.x->size()) / w.n_cols;
  // Sixteen elements more than the result: a store of a whole group would show.
  std::vector<float> out(static_cast<std::size_t>(n_tokens * w.n_rows) + 16, kPoison);
  MatmulArgs args;
  args.x = TensorView(c.x->data(), DType::kF32, {n_tokens, w.n_cols});
  args.targets[0].weight = &packed;
  args.targets[0].out = TensorView(out.data(), DType::kF32, {n_tokens, w.n_rows});
  if (c.residual != nullptr) {
    args.targets[0].residual = TensorView(c.residual->data(), DType::kF32, {n_tokens, w.n_rows});
  }
  if (c.bias != nullptr) {
    args.targets[0].bias = TensorView(c.bias->data(), DType::kF32, {w.n_rows});
  }
  args.segments = c.segments;
  run(variant, args, context);
  for (std::size_t i = out.size() - 16; i < out.size(); ++i) EXPECT_EQ(out[i], kPoison);
  out.resize(out.size() - 16);
  return out;
}

// k of x that are rounded with one step.
std::int64_t step(DType dtype) {
  return std::max<std::int64_t>(32, info(dtype).block_elements);
}

float largest_of(const float* x, std::int64_t n) {
  float largest = 0;
  for (std::int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i]));
  return largest;
}

// How many times finer 32 values are rounded whose step's largest is that.
float finer(const float* x, float largest) {
  const float own = largest_of(x, 32);
  float times = 1;
  while (times < 64 && own * (2 * times) <= largest) times *= 2;
  return times;
}

// 32 k from b on, by the contract of kernels/api/matmul.h, with x rounded to q = x * inverse and
// integer sums multiplied by `unit` before the scales.
float add_block(const Weights& w,
                std::int64_t r,
                std::int64_t b,
                const float* x,
                float inverse,
                std::int64_t unit,
                float d,
                float acc) {
  const int part = test::scale_elements(w.dtype);
  std::int64_t dot[2] = {0, 0};
  std::int64_t sum[2] = {0, 0};
  for (int i = 0; i < 32; ++i) {
    const auto q = static_cast<std::int64_t>(std::nearbyint(x[b + i] * inverse));
    dot[i / part] += q * test::weight_at(w, r, b + i).q;
    sum[i / part] += q;
  }
  for (int i = 0; i < 32 / part; ++i) {
    acc =
        std::fma(static_cast<float>(dot[i] * unit), test::weight_at(w, r, b + i * part).d * d, acc);
  }
  for (int i = 0; i < 32 / part; ++i) {
    const test::WeightParts p = test::weight_at(w, r, b + i * part);
    if (p.has_min) acc = std::fma(p.m, d * static_cast<float>(sum[i] * unit), acc);
  }
  return acc;
}

// The k of one step from b on.
float add_step(const Weights& w, std::int64_t r, std::int64_t b, const float* x, float acc) {
  const std::int64_t n = step(w.dtype);
  const float largest = largest_of(x + b, n);
  if (largest < 0x1p-100F) return acc;
  const float d = largest / 32767.0F;
  const float inverse = 32767.0F / largest;
  if (n == 32) return add_block(w, r, b, x, inverse, 1, d, acc);
  float sum = 0;
  for (std::int64_t i = b; i < b + n; i += 32) {
    const float times = finer(x + i, largest);
    sum = add_block(w, r, i, x, inverse * times, 64 / static_cast<std::int64_t>(times), 1.0F, sum);
  }
  return std::fma(sum, d / 64, acc);
}

// One result by the contract of kernels/api/matmul.h, one scalar operation after the other.
float contract(const Weights& w, std::int64_t r, const float* x, int segments) {
  const bool quantised = info(w.dtype).quantised();
  std::vector<float> parts;
  for (int s = 0; s < segments; ++s) {
    float acc = 0;
    const std::int64_t begin = w.n_cols / segments * s;
    const std::int64_t end = w.n_cols / segments * (s + 1);
    if (!quantised) {
      for (std::int64_t k = begin; k < end; ++k) {
        acc = std::fma(x[k], test::weight_at(w, r, k).d, acc);
      }
    } else {
      for (std::int64_t b = begin; b < end; b += step(w.dtype)) acc = add_step(w, r, b, x, acc);
    }
    parts.push_back(acc);
  }
  for (std::size_t step = 1; step < parts.size(); step *= 2) {
    for (std::size_t i = 0; i < parts.size(); i += 2 * step) parts[i] += parts[i + step];
  }
  return parts[0];
}

std::vector<float> contract(const Case& c) {
  const Weights& w = *c.weights;
  std::vector<float> out;
  const std::size_t n_tokens = c.x->size() / static_cast<std::size_t>(w.n_cols);
  for (std::size_t t = 0; t < n_tokens; ++t) {
    for (std::int64_t r = 0; r < w.n_rows; ++r) {
      float sum = contract(w, r, c.x->data() + t * static_cast<std::size_t>(w.n_cols), c.segments);
      if (c.bias != nullptr) sum += (*c.bias)[static_cast<std::size_t>(r)];
      out.push_back(c.residual == nullptr ? sum : sum + (*c.residual)[out.size()]);
    }
  }
  return out;
}

// The largest error the contract allows: rounding of x to int16 (half a step of each block), then
// one f32 rounding per operation on partial sums that never exceed sum |x| (|d q| + |m|).
std::vector<double> bounds(const Case& c) {
  const Weights& w = *c.weights;
  const bool quantised = info(w.dtype).quantised();
  const double operations =
      quantised ? 5.0 * static_cast<double>(w.n_cols / 32) + 8 : static_cast<double>(w.n_cols) + 4;
  std::vector<double> out;
  const std::size_t n_tokens = c.x->size() / static_cast<std::size_t>(w.n_cols);
  for (std::size_t t = 0; t < n_tokens; ++t) {
    const float* const x = c.x->data() + t * static_cast<std::size_t>(w.n_cols);
    for (std::int64_t r = 0; r < w.n_rows; ++r) {
      double rounding = 0;
      double magnitude = 0;
      float largest = 0;
      double own_step = 0;
      for (std::int64_t k = 0; k < w.n_cols; ++k) {
        const test::WeightParts p = test::weight_at(w, r, k);
        magnitude += std::abs(static_cast<double>(x[k])) *
                     (std::abs(static_cast<double>(p.d) * p.q) + std::abs(p.m));
        if (!quantised) continue;
        const std::int64_t n = step(w.dtype);
        if (k % n == 0) largest = largest_of(x + k, n);
        if (k % 32 == 0) own_step = static_cast<double>(largest) / 32767 / finer(x + k, largest);
        // Half a step, and two f32 roundings of 32767 of them.
        rounding += 0.504 * own_step * std::abs(p.value());
      }
      if (c.residual != nullptr) magnitude += std::abs((*c.residual)[out.size()]);
      if (c.bias != nullptr) magnitude += std::abs((*c.bias)[static_cast<std::size_t>(r)]);
      out.push_back(rounding + operations * test::kEpsF32 / 2 * magnitude);
    }
  }
  return out;
}

// ---- ref

TEST(MatmulRef, HandComputedPlainWeightsAndResidual) {
  Weights w{DType::kF32, 2, 3, std::vector<std::byte>(24)};
  const float values[] = {1, 0, -1, 2, 1, 0.5F};
  std::memcpy(w.bytes.data(), values, sizeof values);
  const std::vector<float> x = {1, 2, 3, -4, 0, 8};
  const std::vector<float> residual = {10, 20, 30, 40};
  CpuContext context(1, detect_cpu());
  for (const WeightLayout layout : {WeightLayout::kRows, WeightLayout::kRows16}) {
    EXPECT_EQ(matmul("ref", {&w, &x, nullptr, 1, layout}, context),
              (std::vector<float>{-2, 5.5F, -12, -4}));
    EXPECT_EQ(matmul("ref", {&w, &x, &residual, 1, layout}, context),
              (std::vector<float>{8, 25.5F, 18, 36}));
    const std::vector<float> bias = {100, -1};
    EXPECT_EQ(matmul("ref", {&w, &x, nullptr, 1, layout, &bias}, context),
              (std::vector<float>{98, 4.5F, 88, -5}));
    EXPECT_EQ(matmul("ref", {&w, &x, &residual, 1, layout, &bias}, context),
              (std::vector<float>{108, 24.5F, 118, 35}));
  }
}

TEST(MatmulRef, HandComputedQuantisedBlocks) {
  CpuContext context(1, detect_cpu());
  std::vector<float> x(32, 0.0F);
  x[0] = 1.0F;                     // low nibble of byte 0, or byte 0
  x[17] = 3.0F;                    // high nibble of byte 1, or byte 17
  const std::uint16_t d = 0x3800;  // 0.5
  const std::uint16_t m = 0xc000;  // -2
  Weights q40{DType::kQ4_0, 1, 32, std::vector<std::byte>(18)};
  std::memcpy(q40.bytes.data(), &d, 2);
  q40.bytes[2] = std::byte{0x0f};  // element 0: 0.5 * (15 - 8) = 3.5
  q40.bytes[3] = std::byte{0x20};  // element 17: 0.5 * (2 - 8) = -3
  Weights q41{DType::kQ4_1, 1, 32, std::vector<std::byte>(20)};
  std::memcpy(q41.bytes.data(), &d, 2);
  std::memcpy(q41.bytes.data() + 2, &m, 2);
  q41.bytes[4] = std::byte{0x0f};  // 0.5 * 15 - 2 = 5.5
  q41.bytes[5] = std::byte{0x20};  // 0.5 * 2 - 2 = -1
  Weights q80{DType::kQ8_0, 1, 32, std::vector<std::byte>(34)};
  std::memcpy(q80.bytes.data(), &d, 2);
  q80.bytes[2] = std::byte{0x80};       // 0.5 * -128 = -64
  q80.bytes[2 + 17] = std::byte{0x7f};  // 0.5 * 127 = 63.5
  for (const WeightLayout layout : {WeightLayout::kRows, WeightLayout::kRows16}) {
    EXPECT_EQ(matmul("ref", {&q40, &x, nullptr, 1, layout}, context)[0], 3.5F - 9.0F);
    EXPECT_EQ(matmul("ref", {&q41, &x, nullptr, 1, layout}, context)[0], 5.5F - 3.0F);
    EXPECT_EQ(matmul("ref", {&q80, &x, nullptr, 1, layout}, context)[0], -64.0F + 190.5F);
  }
}

TEST(MatmulRef, SumsInDoublePrecisionWhateverTheSegments) {
  Weights w{DType::kF32, 1, 256, std::vector<std::byte>(1024)};
  std::vector<float> ones(256, 1.0F);
  std::memcpy(w.bytes.data(), ones.data(), 1024);
  std::vector<float> x(256, 1.0F);
  x[0] = 0x1p25F;  // an f32 sum would lose every 1 that follows
  x[255] = -0x1p25F;
  CpuContext context(1, detect_cpu());
  for (const int segments : {1, 2, 4, 8}) {
    EXPECT_EQ(matmul("ref", {&w, &x, nullptr, segments}, context)[0], 254.0F);
  }
}

// ---- the fast variants

class MatmulFast : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const DeviceCaps caps = detect_cpu();
    PackedMatrix any;
    any.layout = WeightLayout::kRows16;
    MatmulArgs args;
    args.targets[0].weight = &any;
    for (const auto& v : cpu::matmul_table().variants) {
      if (v.name == GetParam() && !v.accepts(args, caps)) {
        GTEST_SKIP() << "this processor (" << caps.describe() << ") does not run " << v.name;
      }
    }
  }
  CpuContext one_{1, detect_cpu()};
  CpuContext two_{2, detect_cpu()};
};

INSTANTIATE_TEST_SUITE_P(Variant,
                         MatmulFast,
                         testing::Values("avx512_vnni", "avx2", "portable"),
                         [](const auto& variant) { return std::string(variant.param); });

TEST_P(MatmulFast, HasTheBitsOfTheContractForEveryRemainder) {
  Random rng(21);
  for (const DType dtype : kAllTypes) {
    const bool quantised = info(dtype).quantised();
    for (const std::int64_t n : {1, 7, 8, 9, 15, 16, 17, 31, 33}) {
      const bool long_blocks = info(dtype).block_elements == 256;
      for (const std::int64_t k : long_blocks ? std::vector<std::int64_t>{256, 768}
                                  : quantised ? std::vector<std::int64_t>{32, 96, 224}
                                              : std::vector<std::int64_t>{1, 7, 16, 33}) {
        const Weights w = test::random_weights(dtype, n, k, rng);
        for (const std::int64_t n_tokens : {1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 25}) {
          const std::vector<float> x = rng.normals(n_tokens * k);
          const Case c{&w, &x};
          ASSERT_TRUE(test::same_bits(matmul(GetParam(), c, one_), contract(c)))
              << name(dtype) << " n " << n << " k " << k << " tokens " << n_tokens;
        }
      }
    }
  }
}

TEST_P(MatmulFast, AddsSegmentsAsATreeThenTheResidual) {
  Random rng(22);
  for (const DType dtype : kAllTypes) {
    const std::int64_t k = info(dtype).block_elements == 256 ? 2048 : 768;
    const Weights w = test::random_weights(dtype, 23, k, rng);
    for (const std::int64_t n_tokens : {1, 4, 6, 14}) {
      const std::vector<float> x = rng.normals(n_tokens * k);
      const std::vector<float> residual = rng.normals(n_tokens * 23);
      for (const int segments : {1, 2, 4, 8}) {
        const Case c{&w, &x, &residual, segments};
        ASSERT_TRUE(test::same_bits(matmul(GetParam(), c, two_), contract(c)))
            << name(dtype) << " tokens " << n_tokens << " segments " << segments;
      }
    }
  }
}

TEST_P(MatmulFast, AddsTheBiasBeforeTheResidualForEveryRemainder) {
  Random rng(33);
  for (const DType dtype : kAllTypes) {
    for (const std::int64_t n : {1, 15, 16, 17, 33}) {
      const Weights w = test::random_weights(dtype, n, 256, rng);
      const std::vector<float> bias = rng.normals(n, 100.0F);
      for (const std::int64_t n_tokens : {1, 3, 9, 25}) {
        const std::vector<float> x = rng.normals(n_tokens * 256);
        const std::vector<float> residual = rng.normals(n_tokens * n, 30.0F);
        for (const int segments : {1, row_parallel_segments(256, dtype)}) {
          Case c{&w, &x, nullptr, segments, WeightLayout::kRows16, &bias};
          ASSERT_TRUE(test::same_bits(matmul(GetParam(), c, two_), contract(c)))
              << name(dtype) << " n " << n << " tokens " << n_tokens;
          ASSERT_TRUE(test::within(matmul(GetParam(), c, two_), matmul("ref", c, two_), bounds(c)))
              << name(dtype) << " n " << n << " tokens " << n_tokens;
          c.residual = &residual;
          ASSERT_TRUE(test::same_bits(matmul(GetParam(), c, two_), contract(c)))
              << name(dtype) << " n " << n << " tokens " << n_tokens;
        }
      }
    }
  }
}

TEST_P(MatmulFast, RefusesABiasOfAnotherShape) {
  Random rng(34);
  const Weights w = test::random_weights(DType::kQ8_0, 16, 64, rng);
  const std::vector<float> x = rng.normals(64);
  const std::vector<float> bias = rng.normals(17);
  const PackedMatrix packed = cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, one_.pool);
  std::vector<float> out(17);
  MatmulArgs args;
  args.x = TensorView(x.data(), DType::kF32, {1, 64});
  args.targets[0].weight = &packed;
  args.targets[0].out = TensorView(out.data(), DType::kF32, {1, 16});
  for (const std::string_view variant : {std::string_view(GetParam()), std::string_view("ref")}) {
    args.targets[0].bias = TensorView(bias.data(), DType::kF32, {16});
    EXPECT_NO_THROW(run(variant, args, one_));
    args.targets[0].bias = TensorView(bias.data(), DType::kF32, {17});
    EXPECT_THROW(run(variant, args, one_), Error);
    args.targets[0].bias = TensorView(bias.data(), DType::kF16, {16});
    EXPECT_THROW(run(variant, args, one_), Error);
    args.targets[0].bias = TensorView(out.data(), DType::kF32, {16});
    EXPECT_THROW(run(variant, args, one_), Error);
  }
}

TEST_P(MatmulFast, IsWithinItsBoundOfRef) {
  Random rng(23);
  for (const DType dtype : kAllTypes) {
    const std::int64_t k = test::whole_blocks(dtype, 576);
    const Weights w = test::random_weights(dtype, 33, k, rng);
    for (const std::int64_t n_tokens : {1, 9}) {
      // Outliers in nearly every block of 32, or in one of eight.
      for (const auto& [apart, size] : {std::pair(41, 100.0F), std::pair(300, 1e4F)}) {
        std::vector<float> x = rng.normals(n_tokens * k);
        for (std::size_t i = 0; i < x.size(); i += static_cast<std::size_t>(apart)) x[i] *= size;
        const std::vector<float> residual = rng.normals(n_tokens * 33);
        const Case c{&w, &x, &residual};
        EXPECT_TRUE(test::within(matmul(GetParam(), c, two_), matmul("ref", c, two_), bounds(c)))
            << name(dtype) << " tokens " << n_tokens << " outliers " << size;
      }
    }
  }
}

TEST_P(MatmulFast, LargestQuantsAndScalesDoNotOverflow) {
  // Every product at its largest, both signs: the sums must fit their integers. Scales at the ends
  // of f16 and of e8m0.
  for (const DType dtype : kAllTypes) {
    if (!info(dtype).quantised()) continue;
    const test::ScaleOffsets scale = test::scale_offsets(dtype);
    const std::int64_t k = test::whole_blocks(dtype, 64);
    const auto block = static_cast<std::size_t>(info(dtype).block_bytes);
    for (const float sign : {1.0F, -1.0F}) {
      for (const std::byte fill :
           {std::byte{0x80}, std::byte{0x7f}, std::byte{0xff}, std::byte{0}}) {
        for (const std::uint16_t bits : {0x7bff, 0x8001, 0x2000}) {
          Random rng(24);
          Weights w = test::random_weights(dtype, 16, k, rng);
          std::fill(w.bytes.begin(), w.bytes.end(), fill);
          for (std::size_t b = 0; b < w.bytes.size(); b += block) {
            std::byte* const at = w.bytes.data() + b;
            if (scale.d >= 0) test::set_half(at + scale.d, bits);
            if (scale.m >= 0) test::set_half(at + scale.m, bits);
            if (dtype == DType::kMXFP4) at[0] = static_cast<std::byte>(b / block % 3 * 110);
          }
          for (const std::int64_t n_tokens : {1, 6}) {
            const std::vector<float> x(static_cast<std::size_t>(n_tokens * k), sign);
            const Case c{&w, &x};
            ASSERT_TRUE(test::same_bits(matmul(GetParam(), c, one_), contract(c)))
                << name(dtype) << " bits " << bits;
          }
        }
      }
    }
  }
}

TEST_P(MatmulFast, ARowDoesNotSeeTheRowsBesideIt) {
  Random rng(25);
  constexpr std::int64_t kTokens = 67;
  for (const DType dtype : kAllTypes) {
    const std::int64_t k = 512;
    const Weights w = test::random_weights(dtype, 50, k, rng);
    const std::vector<float> x = rng.normals(kTokens * k);
    const std::vector<float> all = matmul(GetParam(), {&w, &x, nullptr, 2}, two_);
    for (const std::int64_t chunk : {1, 3, 4, 5, 16, 30}) {
      std::vector<float> together;
      for (std::int64_t t = 0; t < kTokens; t += chunk) {
        const std::int64_t end = std::min(kTokens, t + chunk);
        const std::vector<float> rows(x.begin() + t * k, x.begin() + end * k);
        const std::vector<float> part = matmul(GetParam(), {&w, &rows, nullptr, 2}, two_);
        together.insert(together.end(), part.begin(), part.end());
      }
      EXPECT_TRUE(test::same_bits(together, all)) << name(dtype) << " chunk " << chunk;
    }
  }
}

TEST_P(MatmulFast, ThreadsDoNotChangeBits) {
  Random rng(26);
  CpuContext many(7, detect_cpu());
  for (const DType dtype : {DType::kF16, DType::kQ4_1, DType::kQ6_K}) {
    const std::int64_t k = test::whole_blocks(dtype, 576);
    const Weights w = test::random_weights(dtype, 200, k, rng);
    for (const std::int64_t n_tokens : {1, 4, 5, 200}) {
      const std::vector<float> x = rng.normals(n_tokens * k);
      const Case c{&w, &x};
      const std::vector<float> expected = matmul(GetParam(), c, one_);
      EXPECT_TRUE(test::same_bits(matmul(GetParam(), c, two_), expected)) << n_tokens;
      EXPECT_TRUE(test::same_bits(matmul(GetParam(), c, many), expected)) << n_tokens;
    }
  }
}

TEST_P(MatmulFast, TargetsOfDifferentTypesShareOneCall) {
  Random rng(27);
  const Weights w[3] = {test::random_weights(DType::kQ4_1, 40, 1024, rng),
                        test::random_weights(DType::kF32, 7, 1024, rng),
                        test::random_weights(DType::kQ3_K, 129, 1024, rng)};
  for (const std::int64_t n_tokens : {1, 3, 11}) {
    const std::vector<float> x = rng.normals(n_tokens * 1024);
    std::vector<PackedMatrix> packed;
    std::vector<std::vector<float>> out;
    MatmulArgs args;
    args.x = TensorView(x.data(), DType::kF32, {n_tokens, 1024});
    args.n_targets = 3;
    args.segments = 4;
    packed.reserve(3);
    out.reserve(3);
    for (std::size_t i = 0; i < 3; ++i) {
      packed.push_back(cpu::pack(w[i].view(), WeightLayout::kRows16, {}, nullptr, two_.pool));
      out.push_back(std::vector<float>(static_cast<std::size_t>(n_tokens * w[i].n_rows), kPoison));
      args.targets[i].weight = &packed[i];
      args.targets[i].out = TensorView(out[i].data(), DType::kF32, {n_tokens, w[i].n_rows});
    }
    run(GetParam(), args, two_);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(test::same_bits(out[i], matmul(GetParam(), {&w[i], &x, nullptr, 4}, one_)))
          << "target " << i << " tokens " << n_tokens;
    }
  }
}

TEST_P(MatmulFast, ResidualMayBeTheOutput) {
  Random rng(28);
  const Weights w = test::random_weights(DType::kQ4_0, 37, 64, rng);
  for (const std::int64_t n_tokens : {1, 9}) {
    const std::vector<float> x = rng.normals(n_tokens * 64);
    const std::vector<float> residual = rng.normals(n_tokens * 37);
    std::vector<float> out = residual;
    const PackedMatrix packed = cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, two_.pool);
    MatmulArgs args;
    args.x = TensorView(x.data(), DType::kF32, {n_tokens, 64});
    args.targets[0].weight = &packed;
    args.targets[0].out = TensorView(out.data(), DType::kF32, {n_tokens, 37});
    args.targets[0].residual = args.targets[0].out;
    run(GetParam(), args, two_);
    EXPECT_TRUE(test::same_bits(out, matmul(GetParam(), {&w, &x, &residual}, one_)));
  }
}

TEST_P(MatmulFast, ZeroTinyAndHugeInputs) {
  Random rng(29);
  for (const DType dtype : kAllTypes) {
    const std::int64_t k = test::whole_blocks(dtype, 64);
    const Weights w = test::random_weights(dtype, 17, k, rng);
    for (const float size : {0.0F, 1e-38F, 0x1p-101F, 0x1p-100F, 1e-20F, 1e20F, 1e30F}) {
      std::vector<float> x = rng.normals(6 * k, size);
      for (std::size_t i = 0; i < 32; ++i) x[i] = size;  // exactly at the edges
      const Case c{&w, &x};
      ASSERT_TRUE(test::same_bits(matmul(GetParam(), c, one_), contract(c)))
          << name(dtype) << " size " << size;
    }
  }
}

TEST_P(MatmulFast, AValueThatIsNotFiniteSpoilsItsOwnRowOnly) {
  Random rng(30);
  for (const DType dtype : kAllTypes) {
    const std::int64_t k = test::whole_blocks(dtype, 64);
    const Weights w = test::random_weights(dtype, 20, k, rng);
    for (const float bad :
         {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
          std::numeric_limits<float>::quiet_NaN()}) {
      for (const std::int64_t n_tokens : {3, 9}) {
        std::vector<float> x = rng.normals(n_tokens * k);
        const std::vector<float> clean = matmul(GetParam(), {&w, &x}, one_);
        x[static_cast<std::size_t>(k) + 40] = bad;
        const std::vector<float> out = matmul(GetParam(), {&w, &x}, one_);
        for (std::size_t i = 0; i < out.size(); ++i) {
          if (i / 20 == 1) {
            ASSERT_FALSE(std::isfinite(out[i])) << name(dtype) << " row 1, column " << i % 20;
          } else {
            ASSERT_EQ(out[i], clean[i]);
          }
        }
      }
    }
  }
}

TEST_P(MatmulFast, NoTokensAndNoRowsAreNoWork) {
  Random rng(31);
  const Weights w = test::random_weights(DType::kQ4_1, 20, 64, rng);
  const Weights none = test::random_weights(DType::kQ4_1, 0, 64, rng);
  const std::vector<float> nothing;
  const std::vector<float> x = rng.normals(64);
  EXPECT_TRUE(matmul(GetParam(), {&w, &nothing}, two_).empty());
  EXPECT_TRUE(matmul(GetParam(), {&none, &x}, two_).empty());
  EXPECT_TRUE(matmul("ref", {&w, &nothing}, two_).empty());
}

TEST_P(MatmulFast, RefusesTheLayoutOfRefAndWrongShapes) {
  Random rng(32);
  const Weights w = test::random_weights(DType::kQ8_0, 16, 64, rng);
  const std::vector<float> x = rng.normals(64);
  EXPECT_THROW(matmul(GetParam(), {&w, &x, nullptr, 1, WeightLayout::kRows}, one_), Error);
  EXPECT_THROW(matmul(GetParam(), {&w, &x, nullptr, 4}, one_), Error);  // 64 is not 4 * 32
  EXPECT_THROW(matmul(GetParam(), {&w, &x, nullptr, 3}, one_), Error);
  EXPECT_THROW(matmul("ref", {&w, &x, nullptr, 3}, one_), Error);
}

TEST(Matmul, PicksTheFastestVariantForPackedWeightsAndRefForRows) {
  PackedMatrix w;
  MatmulArgs args;
  args.targets[0].weight = &w;
  DeviceCaps caps;
  const auto picked = [&] { return cpu::matmul_table().pick(args, caps, "").name; };
  w.layout = WeightLayout::kRows;
  EXPECT_EQ(picked(), "ref");
  w.layout = WeightLayout::kRows16;
  EXPECT_EQ(picked(), "portable");
#if defined(__x86_64__)
  caps.avx2 = true;
  EXPECT_EQ(picked(), "avx2");
  caps.avx512 = true;
  EXPECT_EQ(picked(), "avx2");  // without VNNI nothing is gained
  caps.avx512_vnni = true;
  EXPECT_EQ(picked(), "avx512_vnni");
#endif
}

TEST(Matmul, RowParallelSegmentsAreTheLargestThatDivide) {
  EXPECT_EQ(row_parallel_segments(576, DType::kQ4_1), 2);
  EXPECT_EQ(row_parallel_segments(1536, DType::kQ4_1), 8);
  EXPECT_EQ(row_parallel_segments(4096, DType::kF32), 8);
  EXPECT_EQ(row_parallel_segments(96, DType::kF16), 1);
  EXPECT_EQ(row_parallel_segments(33, DType::kF32), 1);
  EXPECT_EQ(row_parallel_segments(1536, DType::kQ4_K), 2);
  EXPECT_EQ(row_parallel_segments(9216, DType::kQ6_K), 4);
  EXPECT_EQ(row_parallel_segments(14336, DType::kQ4_K), 8);
}

}  // namespace
}  // namespace heddle
