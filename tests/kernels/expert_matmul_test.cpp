// expert_matmul on the CPU: each row has the bits that matmul gives for that row alone with its
// expert, for every weight type; experts that no row chose are not read.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

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

constexpr float kPoison = -12345.678F;

template <typename Args>
void run(const cpu::Table<Args>& table,
         std::string_view variant,
         const Args& args,
         CpuContext& context) {
  table.pick(args, context.caps, variant).run(args, context);
}

/// Random experts of one shape, with biases.
struct Experts {
  Experts(DType dtype, std::int64_t n_experts, std::int64_t rows, std::int64_t cols, Random& rng)
      : n(rows), k(cols), biases(rng.normals(n_experts * rows, 10.0F)) {
    ThreadPool pool(1);
    for (std::int64_t e = 0; e < n_experts; ++e) {
      const Weights w = test::random_weights(dtype, n, k, rng);
      packed.push_back(cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, pool));
    }
  }
  TensorView bias() const {
    return {biases.data(), DType::kF32, {static_cast<std::int64_t>(packed.size()), n}};
  }
  std::int64_t n;
  std::int64_t k;
  std::vector<PackedMatrix> packed;
  std::vector<float> biases;
};

struct Case {
  const Experts* experts = nullptr;
  std::vector<float> x;
  std::vector<std::int32_t> ids;
  std::int64_t rows_per_x = 1;
  int segments = 1;
  bool bias = false;
};

ExpertMatmulArgs args_of(const Case& c, std::vector<float>& out) {
  const auto n_rows = static_cast<std::int64_t>(c.ids.size());
  out.assign(static_cast<std::size_t>(n_rows * c.experts->n) + 16, kPoison);
  ExpertMatmulArgs args;
  args.x = TensorView(c.x.data(), DType::kF32, {n_rows / c.rows_per_x, c.experts->k});
  args.ids = TensorView(c.ids.data(), DType::kI32, {n_rows});
  args.rows_per_x = c.rows_per_x;
  args.targets[0].experts = c.experts->packed;
  if (c.bias) args.targets[0].bias = c.experts->bias();
  args.targets[0].out = TensorView(out.data(), DType::kF32, {n_rows, c.experts->n});
  args.segments = c.segments;
  return args;
}

std::vector<float> expert_matmul(std::string_view variant, const Case& c, CpuContext& context) {
  std::vector<float> out;
  run(cpu::expert_matmul_table(), variant, args_of(c, out), context);
  for (std::size_t i = out.size() - 16; i < out.size(); ++i) EXPECT_EQ(out[i], kPoison);
  out.resize(out.size() - 16);
  return out;
}

/// The same by matmul, a row at a time.
std::vector<float> by_matmul(std::string_view variant, const Case& c, CpuContext& context) {
  const std::int64_t n = c.experts->n;
  const std::int64_t k = c.experts->k;
  std::vector<float> out(c.ids.size() * static_cast<std::size_t>(n));
  for (std::size_t r = 0; r < c.ids.size(); ++r) {
    const auto e = static_cast<std::size_t>(c.ids[r]);
    MatmulArgs args;
    args.x = TensorView(c.x.data() + static_cast<std::int64_t>(r) / c.rows_per_x * k, DType::kF32,
                        {1, k});
    args.targets[0].weight = &c.experts->packed[e];
    args.targets[0].out =
        TensorView(out.data() + static_cast<std::int64_t>(r) * n, DType::kF32, {1, n});
    if (c.bias) {
      args.targets[0].bias =
          TensorView(c.experts->biases.data() + static_cast<std::int64_t>(e) * n, DType::kF32, {n});
    }
    args.segments = c.segments;
    run(cpu::matmul_table(), variant, args, context);
  }
  return out;
}

std::vector<std::int32_t> random_ids(std::int64_t n_rows, std::int64_t n_experts, Random& rng) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < n_rows; ++i) {
    ids.push_back(static_cast<std::int32_t>(rng.integer(0, n_experts - 1)));
  }
  return ids;
}

class ExpertMatmul : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!runs_on(GetParam(), detect_cpu())) {
      GTEST_SKIP() << "this processor does not run " << GetParam();
    }
  }
  void expect_bits_of_matmul(const Case& c, const std::string& what) {
    const std::vector<float> expected = by_matmul(GetParam(), c, one_);
    ASSERT_TRUE(test::same_bits(expert_matmul(GetParam(), c, one_), expected)) << what;
    ASSERT_TRUE(test::same_bits(expert_matmul(GetParam(), c, two_), expected)) << what;
  }
  CpuContext one_{1, detect_cpu()};
  CpuContext two_{2, detect_cpu()};
};

INSTANTIATE_TEST_SUITE_P(Variant,
                         ExpertMatmul,
                         testing::Values("avx512_vnni", "avx2", "portable", "ref"),
                         [](const auto& variant) { return std::string(variant.param); });

TEST_P(ExpertMatmul, HandComputed) {
  Random rng(1);
  Experts experts(DType::kF32, 3, 2, 3, rng);
  const float values[3][6] = {{1, 0, -1, 2, 1, 0.5F}, {0, 1, 0, 1, 1, 1}, {3, 0, 0, 0, 0, -2}};
  for (std::size_t e = 0; e < 3; ++e) {
    const Weights w = [&] {
      Weights v{DType::kF32, 2, 3, std::vector<std::byte>(24)};
      std::memcpy(v.bytes.data(), values[e], 24);
      return v;
    }();
    experts.packed[e] = cpu::pack(w.view(), WeightLayout::kRows16, {}, nullptr, one_.pool);
  }
  Case c{&experts, {1, 2, 3, -4, 0, 8}, {2, 0, 1, 0}, 2};
  EXPECT_EQ(expert_matmul(GetParam(), c, two_),
            (std::vector<float>{3, -6, -2, 5.5F, 0, 4, -12, -4}));
  experts.biases = {100, 200, 300, 400, 500, 600};
  c.bias = true;
  EXPECT_EQ(expert_matmul(GetParam(), c, two_),
            (std::vector<float>{503, 594, 98, 205.5F, 300, 404, 88, 196}));
}

TEST_P(ExpertMatmul, RowsHaveTheBitsOfMatmulForEveryType) {
  Random rng(2);
  for (const DType dtype : cpu::weight_dtypes()) {
    const std::int64_t k = 512;
    const Experts experts(dtype, 5, 33, k, rng);
    for (const std::int64_t n_tokens : {1, 2, 5, 40}) {
      for (const int segments : {1, row_parallel_segments(k, dtype)}) {
        Case c{&experts, rng.normals(n_tokens * k), random_ids(n_tokens * 2, 5, rng), 2, segments};
        c.bias = segments > 1;
        expect_bits_of_matmul(c, std::string(name(dtype)) + " tokens " + std::to_string(n_tokens));
      }
    }
    // A row of x for each row of ids, as after the first matmul of an expert.
    const Case c{&experts, rng.normals(27 * k), random_ids(27, 5, rng)};
    expect_bits_of_matmul(c, std::string(name(dtype)));
  }
}

// Widths of tiles from 1 to a few, with weight rows that do not fill a group.
TEST_P(ExpertMatmul, EveryCountOfRowsPerExpert) {
  Random rng(3);
  for (const DType dtype : {DType::kF16, DType::kQ4_0, DType::kQ5_1, DType::kQ6_K}) {
    for (const std::int64_t n : {1, 16, 47}) {
      const Experts experts(dtype, 3, n, 256, rng);
      for (const std::int64_t n_rows : {1, 2, 3, 4, 5, 11, 12, 13, 24, 25, 26}) {
        Case c{&experts, rng.normals((n_rows + 2) * 256), {}};
        c.ids.assign(static_cast<std::size_t>(n_rows + 2), 1);
        c.ids.front() = 2;  // one row each before and after
        c.ids.back() = 0;
        expect_bits_of_matmul(c, std::string(name(dtype)) + " rows " + std::to_string(n_rows));
      }
    }
  }
}

TEST_P(ExpertMatmul, OneExpertCanTakeAllAndAllCanTakeOne) {
  Random rng(4);
  const Experts experts(DType::kQ8_0, 16, 40, 96, rng);
  for (const std::int32_t e : {0, 7, 15}) {
    const Case c{&experts, rng.normals(50 * 96), std::vector<std::int32_t>(50, e)};
    expect_bits_of_matmul(c, "one expert");
  }
  Case c{&experts, rng.normals(96), std::vector<std::int32_t>(16), 16};
  std::iota(c.ids.rbegin(), c.ids.rend(), 0);
  expect_bits_of_matmul(c, "all experts of one token");
  c = {&experts, rng.normals(9 * 96), {}, 16};
  for (int t = 0; t < 9; ++t) {
    for (int j = 0; j < 16; ++j) c.ids.push_back((j * 5 + t) % 16);
  }
  expect_bits_of_matmul(c, "all experts of all tokens");
  // Twice the same expert for a token is twice the same row.
  expect_bits_of_matmul({&experts, rng.normals(2 * 96), {3, 3, 4, 3}, 2}, "twice");
}

TEST_P(ExpertMatmul, ManyTokensOverManyExperts) {
  Random rng(5);
  const Experts experts(DType::kQ4_K, 24, 64, 256, rng);
  const Case c{&experts, rng.normals(150 * 256), random_ids(600, 24, rng), 4};
  CpuContext many(7, detect_cpu());
  const std::vector<float> all = by_matmul(GetParam(), c, one_);
  for (CpuContext* context : {&one_, &two_, &many}) {
    EXPECT_TRUE(test::same_bits(expert_matmul(GetParam(), c, *context), all));
  }
  // A token alone, in a context that is warm with other work.
  const Case alone{&experts,
                   {c.x.begin() + 99 * 256, c.x.begin() + 100 * 256},
                   {c.ids.begin() + 99 * 4, c.ids.begin() + 100 * 4},
                   4};
  const std::span<const float> expected(all.data() + 99 * 4 * 64, 4 * 64);
  EXPECT_TRUE(test::same_bits(expert_matmul(GetParam(), alone, two_), expected));
}

TEST_P(ExpertMatmul, TargetsOfDifferentTypesAndWidthsShareOneCall) {
  Random rng(6);
  const Experts gate(DType::kQ4_1, 6, 70, 512, rng);
  const Experts up(DType::kQ3_K, 6, 33, 512, rng);
  const Experts plain(DType::kBF16, 6, 17, 512, rng);
  for (const Experts* second : {&up, &plain}) {
    for (const std::int64_t n_tokens : {1, 20}) {
      Case c{&gate, rng.normals(n_tokens * 512), random_ids(n_tokens * 2, 6, rng), 2};
      std::vector<float> out;
      std::vector<float> second_out;
      ExpertMatmulArgs args = args_of(c, out);
      const std::vector<float> expected = by_matmul(GetParam(), c, one_);
      c.experts = second;
      args.targets[1] = args_of(c, second_out).targets[0];
      args.n_targets = 2;
      run(cpu::expert_matmul_table(), GetParam(), args, two_);
      const std::size_t n_rows = c.ids.size();
      EXPECT_TRUE(test::same_bits({out.data(), n_rows * 70}, expected));
      EXPECT_TRUE(test::same_bits({second_out.data(), n_rows * static_cast<std::size_t>(second->n)},
                                  by_matmul(GetParam(), c, one_)));
    }
  }
}

// Their memory cannot be read, and their PackedMatrix is no matrix: 2 of 32 experts is 2/32 of the
// bytes.
TEST_P(ExpertMatmul, ExpertsThatNoRowChoseAreNotRead) {
  Random rng(7);
  for (const DType dtype : cpu::weight_dtypes()) {
    Experts experts(dtype, 32, 48, 256, rng);
    Case c{&experts, rng.normals(3 * 256), {17, 4, 4, 17, 17, 4}, 2};
    const std::vector<float> expected = by_matmul(GetParam(), c, one_);
    for (std::size_t e = 0; e < 32; ++e) {
      if (e == 4 || e == 17) continue;
      PackedMatrix& w = experts.packed[e];
      const std::size_t bytes = w.data.bytes();
      void* const wall =
          ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      ASSERT_NE(wall, MAP_FAILED);
      w.data = Buffer(wall, bytes, [](void* p, std::size_t n) noexcept { ::munmap(p, n); });
      w.n_rows = -1;
      w.n_cols = 3;
      w.layout = WeightLayout::kRows;
    }
    EXPECT_TRUE(test::same_bits(expert_matmul(GetParam(), c, two_), expected)) << name(dtype);
  }
}

TEST_P(ExpertMatmul, AValueThatIsNotFiniteStaysInItsRows) {
  Random rng(8);
  for (const DType dtype : {DType::kF32, DType::kQ4_0, DType::kQ4_K}) {
    const Experts experts(dtype, 4, 20, 256, rng);
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      Case c{&experts, rng.normals(9 * 256), random_ids(18, 4, rng), 2};
      c.x[4 * 256 + 100] = bad;
      const std::vector<float> out = expert_matmul(GetParam(), c, two_);
      EXPECT_TRUE(test::within(out, by_matmul(GetParam(), c, one_), 0));
      for (std::size_t i = 0; i < out.size(); ++i) {
        const std::size_t token = i / 20 / 2;
        EXPECT_EQ(std::isfinite(out[i]), token != 4) << i;
      }
    }
  }
}

TEST_P(ExpertMatmul, NoRowsIsNoWork) {
  Random rng(9);
  const Experts experts(DType::kQ4_0, 2, 16, 32, rng);
  float one = 5.0F;
  std::int32_t id = 99;
  ExpertMatmulArgs args;
  args.x = TensorView(&one, DType::kF32, {0, 32});
  args.ids = TensorView(&id, DType::kI32, {0});
  args.rows_per_x = 2;
  args.targets[0].experts = experts.packed;
  args.targets[0].out = TensorView(&one, DType::kF32, {0, 16});
  run(cpu::expert_matmul_table(), GetParam(), args, two_);
  EXPECT_EQ(one, 5.0F);
}

TEST_P(ExpertMatmul, RefusesWhatCannotBe) {
  Random rng(10);
  const Experts experts(DType::kQ4_0, 3, 16, 64, rng);
  const Case c{&experts, rng.normals(2 * 64), {0, 1, 2, 1}, 2};
  std::vector<float> out;
  const ExpertMatmulArgs good = args_of(c, out);
  const auto refused = [&](const auto& change) {
    ExpertMatmulArgs args = good;
    change(args);
    EXPECT_THROW(run(cpu::expert_matmul_table(), "", args, one_), Error);
    args = good;
    change(args);
    try {
      run(cpu::expert_matmul_table(), GetParam(), args, one_);
      ADD_FAILURE() << "not refused";
    } catch (const Error&) {
    }
  };
  EXPECT_NO_THROW(run(cpu::expert_matmul_table(), GetParam(), good, one_));
  const std::vector<std::int32_t> above = {0, 1, 3, 1};
  const std::vector<std::int32_t> below = {0, 1, -1, 1};
  refused([&](auto& a) { a.ids = TensorView(above.data(), DType::kI32, {4}); });
  refused([&](auto& a) { a.ids = TensorView(below.data(), DType::kI32, {4}); });
  refused([](auto& a) { a.rows_per_x = 1; });
  refused([](auto& a) { a.rows_per_x = 0; });
  refused([](auto& a) { a.segments = 3; });
  refused([](auto& a) { a.segments = 4; });
  refused([](auto& a) { a.n_targets = 0; });
  refused([](auto& a) { a.targets[0].experts = {}; });
  refused([](auto& a) { a.targets[0].out.dims[1] = 15; });
  refused([](auto& a) { a.targets[0].out.dims[0] = 3; });
  refused([](auto& a) { a.targets[0].out.data = a.x.data; });
  refused([](auto& a) { a.x.dims[1] = 32; });
  refused([&](auto& a) { a.targets[0].bias = TensorView(c.x.data(), DType::kF32, {3, 15}); });
  refused([&](auto& a) { a.targets[0].bias = TensorView(c.x.data(), DType::kF32, {2, 16}); });
  // Experts of two types, both in use.
  Experts mixed(DType::kQ4_0, 3, 16, 64, rng);
  mixed.packed[1] = std::move(Experts(DType::kQ8_0, 1, 16, 64, rng).packed[0]);
  refused([&](auto& a) { a.targets[0].experts = mixed.packed; });
}

}  // namespace
}  // namespace heddle
