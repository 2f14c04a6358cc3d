// rope_angles, rope, lrpe and kv_write on CUDA against the CPU's `ref`.

#include <cmath>

#include "tests/kernels/cuda_ops_support.h"

namespace heddle {
namespace {

using test::on_cuda;
using test::on_ref;
using test::Place;

constexpr double kU = 0x1p-24;

std::vector<std::int32_t> some_positions(std::int64_t n) {
  std::vector<std::int32_t> positions = {0, 1, 7, 63, 4095, 131071, 1048575, 2000000000};
  while (static_cast<std::int64_t>(positions.size()) < n) {
    positions.push_back(static_cast<std::int32_t>(17 * positions.size()));
  }
  positions.resize(static_cast<std::size_t>(n));
  return positions;
}

std::vector<float> frequencies(std::int64_t half) {
  std::vector<float> f;
  for (std::int64_t i = 0; i < half; ++i) {
    f.push_back(
        static_cast<float>(std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half))));
  }
  return f;
}

// Both round f64 results once: one unit in the last place at most, and as a rule none. Next to a
// zero of the function f64 itself errs by 2^-50.
TEST(CudaRopeAngles, MatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const std::int64_t n : {1, 7, 31, 33, 300}) {
    for (const std::int64_t half : {1, 32, 33, 64}) {
      const auto run = [&](Place& place) {
        RopeAnglesArgs args;
        args.positions = place.ints(some_positions(n), {n});
        args.inv_freq = place.floats(frequencies(half), {half});
        args.scale = 1.19F;
        args.cos_sin = place.room(DType::kF32, {n, 2, half});
        place.ops().rope_angles(args);
        return place.floats(args.cos_sin);
      };
      const std::vector<float> expected = on_ref("rope_angles", run);
      const std::vector<float> actual = on_cuda(*backend, run);
      EXPECT_TRUE(test::within_bound(actual, expected,
                                     [&](std::size_t i) {
                                       return 2 * kU * std::abs(static_cast<double>(expected[i])) +
                                              0x1p-49;
                                     }))
          << n << " " << half;
      std::size_t n_different = 0;
      for (std::size_t i = 0; i < actual.size(); ++i) n_different += actual[i] != expected[i];
      EXPECT_LE(n_different, actual.size() / 1000 + 1);
    }
  }
}

class CudaRope : public testing::TestWithParam<const char*> {};

// Two products and a sum: 2 u (|a cos| + |b sin|).
TEST_P(CudaRope, MatchesTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, {{"rope", GetParam()}});
  struct Shape {
    std::int64_t n, q_heads, k_heads, head_dim, half;
  };
  for (const Shape s : {Shape{1, 1, 1, 8, 4}, Shape{7, 32, 2, 128, 64}, Shape{33, 3, 3, 64, 16},
                        Shape{5, 5, 1, 100, 20}, Shape{3, 2, 1, 31, 15}, Shape{31, 2, 2, 6, 3}}) {
    if (std::string(GetParam()) == "packs" && (s.half % 4 != 0 || s.head_dim % 4 != 0)) continue;
    test::Random random(1);
    const std::vector<float> q = random.normals(s.n * s.q_heads * s.head_dim);
    const std::vector<float> k = random.normals(s.n * s.k_heads * s.head_dim);
    const std::vector<float> cos_sin = random.uniforms(s.n * 2 * s.half, -1.0F, 1.0F);
    for (const bool keys : {false, true}) {
      const auto run = [&](Place& place) {
        RopeArgs args;
        args.cos_sin = place.floats(cos_sin, {s.n, 2, s.half});
        args.q = place.floats(q, {s.n, s.q_heads, s.head_dim});
        args.k = place.floats(k, {s.n, s.k_heads, s.head_dim});
        place.ops().rope(args);
        return place.floats(keys ? args.k : args.q);
      };
      EXPECT_TRUE(test::within(on_cuda(*backend, run), on_ref("rope", run), 2 * kU * 12))
          << s.head_dim << " " << keys;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaRope, testing::Values("packs", "plain"));

// The cosine and the product are rounded.
TEST(CudaLrpe, MatchesTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const std::int64_t n : {0, 1, 7, 33}) {
    for (const std::int64_t head_dim : {1, 31, 64}) {
      test::Random random(2);
      const std::vector<float> x = random.normals(n * 3 * head_dim);
      const std::vector<float> theta = random.uniforms(3 * head_dim, 0.0F, 1.0F);
      const auto run = [&](Place& place) {
        LrpeArgs args;
        args.x = place.floats(x, {n, 3, head_dim});
        args.theta = place.floats(theta, {3, head_dim});
        args.positions = place.ints(some_positions(n), {n});
        args.out = place.room(DType::kF32, {n, 3, 2 * head_dim});
        place.ops().lrpe(args);
        return place.floats(args.out);
      };
      const std::vector<float> expected = on_ref("lrpe", run);
      EXPECT_TRUE(test::within_bound(on_cuda(*backend, run), expected,
                                     [&](std::size_t i) {
                                       return 3 * kU * std::abs(static_cast<double>(expected[i])) +
                                              0x1p-44;
                                     }))
          << n << " " << head_dim;
    }
  }
}

class CudaKvWrite : public testing::TestWithParam<std::tuple<const char*, DType>> {
 protected:
  DType dtype() const { return std::get<1>(GetParam()); }
};

struct Pages {
  std::vector<std::byte> k;
  std::vector<std::byte> v;
};

Pages write(Place& place,
            DType dtype,
            const std::vector<float>& k,
            const std::vector<float>& v,
            const std::vector<std::int32_t>& slots,
            std::int64_t head_dim,
            std::int64_t tokens) {
  const auto n = static_cast<std::int64_t>(slots.size());
  KvWriteArgs args;
  args.k = place.floats(k, {n, 3, head_dim});
  args.v = place.floats(v, {n, 3, head_dim});
  args.slots = place.ints(slots, {n});
  args.pages.k = place.room(dtype, {9, 3, head_dim, tokens});
  args.pages.v = place.room(dtype, {9, 3, tokens, head_dim});
  place.ops().kv_write(args);
  return {place.bytes(args.pages.k), place.bytes(args.pages.v)};
}

TEST_P(CudaKvWrite, WritesTheBytesOfTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend, {{"kv_write", std::get<0>(GetParam())}});
  for (const std::int64_t n : {8, 31, 32, 33, 100}) {
    for (const std::int64_t head_dim : {1, 31, 64, 128}) {
      for (const std::int64_t tokens : {16, 64}) {
        test::Random random(3);
        const std::vector<float> k = random.normals(n * 3 * head_dim, 100.0F);
        const std::vector<float> v = random.normals(n * 3 * head_dim);
        std::vector<std::int32_t> slots;  // a run of neighbours, then scattered ones
        for (std::int64_t t = 0; t < n; ++t) {
          const std::int64_t slot = t < n / 2 ? 5 + t : (5 + t * 37 + n / 2) % (9 * tokens);
          slots.push_back(static_cast<std::int32_t>(slot));
        }
        std::vector<bool> used(static_cast<std::size_t>(9 * tokens));
        for (std::int32_t& s : slots) {
          while (used[static_cast<std::size_t>(s)]) s = (s + 1) % static_cast<int>(9 * tokens);
          used[static_cast<std::size_t>(s)] = true;
        }
        const auto run = [&](Place& place) {
          return write(place, dtype(), k, v, slots, head_dim, tokens);
        };
        const Pages expected = on_ref("kv_write", run);
        const Pages actual = on_cuda(*backend, run);
        EXPECT_TRUE(actual.k == expected.k) << n << " " << head_dim << " " << tokens;
        EXPECT_TRUE(actual.v == expected.v) << n << " " << head_dim << " " << tokens;
      }
    }
  }
}

TEST_P(CudaKvWrite, SlotsThatDoNotExistAreSkipped) {
  HEDDLE_CUDA_OR_SKIP(backend, {{"kv_write", std::get<0>(GetParam())}});
  const std::vector<float> x = test::Random(4).normals(9 * 3 * 32);
  const auto run = [&](std::vector<std::int32_t> slots) {
    return on_cuda(*backend, [&](Place& place) {
      const auto n = static_cast<std::ptrdiff_t>(slots.size()) * 3 * 32;
      const std::vector<float> part(x.begin(), x.begin() + n);
      return write(place, dtype(), part, part, slots, 32, 16);
    });
  };
  const Pages expected = run({0, 1, 2, 3, 4, 5, 6, 40});
  const Pages actual = run({0, 1, 2, 3, 4, 5, 6, 40, -1});
  EXPECT_TRUE(actual.k == expected.k && actual.v == expected.v);
  const Pages beyond = run({0, 1, 2, 3, 4, 5, 6, 40, 9 * 16});
  EXPECT_TRUE(beyond.k == expected.k && beyond.v == expected.v);
}

INSTANTIATE_TEST_SUITE_P(All,
                         CudaKvWrite,
                         testing::Combine(testing::Values("tiles", "plain"),
                                          testing::Values(DType::kF32, DType::kF16, DType::kBF16)));

}  // namespace
}  // namespace heddle
