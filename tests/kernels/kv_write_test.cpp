// kv_write on the CPU: where each element goes, rounding, and that nothing else is touched.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/half.h"
#include "kernels/cpu/cpu_tables.h"
#include "tests/support/cpu_variants.h"
#include "tests/support/random.h"

namespace heddle {
namespace {

struct Write {
  std::int64_t n_blocks = 4;
  std::int64_t n_heads = 2;
  std::int64_t dim = 16;
  std::int64_t tokens = 16;
  DType dtype = DType::kF16;
  std::vector<float> k;
  std::vector<float> v;
  std::vector<std::int32_t> slots;

  std::size_t page_bytes() const {
    return static_cast<std::size_t>(row_bytes(dtype, n_blocks * n_heads * dim * tokens));
  }
};

struct Pages {
  std::vector<std::uint8_t> k;
  std::vector<std::uint8_t> v;
  bool operator==(const Pages&) const = default;
};

Pages write(const std::string& variant, const Write& w, int n_threads = 2) {
  Pages pages = {std::vector<std::uint8_t>(w.page_bytes(), 0xA5),
                 std::vector<std::uint8_t>(w.page_bytes(), 0xA5)};
  const auto n = static_cast<std::int64_t>(w.slots.size());
  KvWriteArgs args;
  args.k = TensorView(w.k.data(), DType::kF32, {n, w.n_heads, w.dim});
  args.v = TensorView(w.v.data(), DType::kF32, {n, w.n_heads, w.dim});
  args.slots = TensorView(w.slots.data(), DType::kI32, {n});
  args.pages.k = TensorView(pages.k.data(), w.dtype, {w.n_blocks, w.n_heads, w.dim, w.tokens});
  args.pages.v = TensorView(pages.v.data(), w.dtype, {w.n_blocks, w.n_heads, w.tokens, w.dim});
  test::run_variant(cpu::kv_write_table(), variant, args, n_threads);
  return pages;
}

Write random_write(DType dtype, std::int64_t dim, std::int64_t tokens, std::int64_t n) {
  Write w;
  w.dtype = dtype;
  w.dim = dim;
  w.tokens = tokens;
  w.n_blocks = n / tokens + 2;
  test::Random random(static_cast<std::uint64_t>(dim * 100 + n));
  w.k = random.normals(n * w.n_heads * dim);
  w.v = random.normals(n * w.n_heads * dim);
  for (std::int64_t t = 0; t < n; ++t) {  // distinct, out of order
    w.slots.push_back(static_cast<std::int32_t>((t * 7 + 3) % (w.n_blocks * tokens)));
  }
  return w;
}

class KvWrite : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
};

TEST_P(KvWrite, PutsKWithTheTokenInnermostAndVWithTheDimensionInnermost) {
  Write w;
  w.dtype = DType::kF32;
  w.slots = {2 * 16 + 5};  // block 2, offset 5
  for (int i = 0; i < 32; ++i) {
    w.k.push_back(static_cast<float>(i));
    w.v.push_back(static_cast<float>(100 + i));
  }
  const Pages pages = write(GetParam(), w);
  const auto at = [](const std::vector<std::uint8_t>& bytes, std::int64_t i) {
    float f = 0;
    std::memcpy(&f, bytes.data() + i * 4, 4);
    return f;
  };
  std::int64_t touched = 0;
  for (std::int64_t i = 0; i < 4 * 2 * 16 * 16; ++i) {
    touched += at(pages.k, i) >= 0 ? 1 : 0;  // 0xA5A5A5A5 is negative
    touched += at(pages.v, i) >= 0 ? 1 : 0;
  }
  EXPECT_EQ(touched, 64);
  for (std::int64_t head = 0; head < 2; ++head) {
    for (std::int64_t d = 0; d < 16; ++d) {
      const auto value = static_cast<float>(head * 16 + d);
      EXPECT_EQ(at(pages.k, ((2 * 2 + head) * 16 + d) * 16 + 5), value);
      EXPECT_EQ(at(pages.v, ((2 * 2 + head) * 16 + 5) * 16 + d), 100 + value);
    }
  }
}

TEST_P(KvWrite, BytesAreThoseOfRef) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int64_t dim : {1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 128}) {
      for (const std::int64_t tokens : {16, 64}) {
        const Write w = random_write(dtype, dim, tokens, 33);
        EXPECT_TRUE(write(GetParam(), w) == write("ref", w)) << name(dtype) << " " << dim;
      }
    }
  }
}

TEST_P(KvWrite, RoundsSpecialValuesAsRef) {
  Write w;
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {kInf,
                                     -kInf,
                                     65504.0F,
                                     65520.0F,
                                     -65519.0F,
                                     1e-8F,
                                     -1e-30F,
                                     -0.0F,
                                     3e38F,
                                     6e-8F,
                                     1e-40F,
                                     0.1F,
                                     1.0F + 0x1p-11F,
                                     1.0F + 0x1.8p-10F,
                                     2049.0F,
                                     std::numeric_limits<float>::quiet_NaN()};
  w.slots = {0};
  for (int head = 0; head < 2; ++head) {
    w.k.insert(w.k.end(), values.begin(), values.end());
    w.v.insert(w.v.end(), values.begin(), values.end());
  }
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    w.dtype = dtype;
    EXPECT_TRUE(write(GetParam(), w) == write("ref", w)) << name(dtype);
  }
}

TEST_P(KvWrite, DoesNotDependOnThreads) {
  const Write w = random_write(DType::kF16, 64, 16, 300);
  EXPECT_TRUE(write(GetParam(), w, 1) == write(GetParam(), w, 3));
}

TEST_P(KvWrite, NoRowsIsNoWork) {
  Write w;
  const Pages pages = write(GetParam(), w);
  EXPECT_EQ(pages.k, std::vector<std::uint8_t>(w.page_bytes(), 0xA5));
}

TEST_P(KvWrite, RefusesSlotsOutsideThePages) {
  for (const std::int32_t slot : {-1, 64}) {
    Write w = random_write(DType::kF16, 16, 16, 1);
    w.n_blocks = 4;
    w.slots = {slot};
    EXPECT_THROW(write(GetParam(), w), Error) << slot;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, KvWrite, test::all_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
