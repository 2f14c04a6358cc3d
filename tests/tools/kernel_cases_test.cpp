#include "tools/heddle/kernel_cases.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "base/half.h"
#include "kernels/backend.h"
#include "kernels/cpu/pack.h"

namespace heddle::cli {
namespace {

constexpr std::size_t kArena = std::size_t{2} << 20;

// An op that has only `ref` need not be timed; its first fast variant brings its case.
TEST(KernelCases, AreAllVariantsOfAllOpsThatRunHere) {
  const DeviceCaps caps = detect_cpu();
  std::set<std::string> expected;
  for (const auto& [op, variants] : list_variants(DeviceKind::kCpu)) {
    if (variants == std::vector<std::string>{"ref"}) continue;
    for (const std::string& variant : variants) {
      if (runs_on(variant, caps)) expected.insert(op + "/" + variant);
    }
  }
  std::set<std::string> found;
  for (const KernelCase& c : kernel_cases(caps, kArena)) {
    if (c.op != "gather_rows")
      found.insert(c.op + "/" + c.variant);  // ref only, timed all the same
  }
  EXPECT_EQ(found, expected);
}

TEST(KernelCases, LeaveOutWhatTheProcessorLacks) {
  for (const KernelCase& c : kernel_cases({}, kArena)) {
    EXPECT_FALSE(c.variant.starts_with("avx")) << c.name();
  }
}

TEST(KernelCases, MatmulAndEmbedHaveEveryWeightType) {
  std::multiset<std::string> names;
  for (const KernelCase& c : kernel_cases(detect_cpu(), kArena)) names.insert(c.name());
  for (const DType dtype : cpu::weight_dtypes()) {
    const std::string type(name(dtype));
    EXPECT_EQ(names.count("matmul/ref/" + type), 2U) << type;  // decode and prefill
    EXPECT_EQ(names.count("matmul/portable/" + type), 2U) << type;
    EXPECT_EQ(names.count("embed/portable/" + type), 1U) << type;
  }
}

TEST(KernelCases, EachRunsAtItsSmallestSizes) {
  Workbench bench(2, kArena);
  for (const KernelCase& c : kernel_cases(detect_cpu(), kArena)) {
    const bool slow = c.variant == "portable" || c.variant == "ref";
    for (const std::int64_t size :
         {std::int64_t{1}, slow ? 1 : std::min<std::int64_t>(17, c.max_size)}) {
      SCOPED_TRACE(c.name() + " " + std::to_string(size));
      const PreparedKernel kernel = c.prepare(bench, size);
      EXPECT_FALSE(kernel.shape.empty());
      EXPECT_GT(kernel.bytes, 0.0);
      const bool counted = c.op == "matmul" || c.op == "expert_matmul" || c.op == "attention" ||
                           c.op == "linear_attention";
      EXPECT_EQ(kernel.operations > 0.0, counted);
      for (std::int64_t repetition = 0; repetition < (slow ? 1 : 3); ++repetition)
        kernel.run(repetition);
    }
  }
}

TEST(KernelCases, LargestSizesStayWithinTheArena) {
  Workbench bench(2, kArena);
  for (const KernelCase& c : kernel_cases(detect_cpu(), kArena)) {
    if (c.variant != "avx2" && c.op != "gather_rows" && c.op != "rope_angles") continue;
    SCOPED_TRACE(c.name() + " " + std::to_string(c.max_size));
    const PreparedKernel kernel = c.prepare(bench, c.max_size);
    for (std::int64_t repetition = 0; repetition < 2; ++repetition) kernel.run(repetition);
  }
}

// A NaN or a subnormal number in it would make another arithmetic of what is timed.
TEST(KernelCases, TheSourceIsSaneHoweverItIsRead) {
  const Workbench bench(1, kArena);
  ASSERT_EQ(bench.source_bytes(), static_cast<std::int64_t>(kArena));
  for (std::int64_t i = 0; i + 4 <= bench.source_bytes(); ++i) {
    std::uint16_t half = 0;
    float word = 0.0F;
    std::memcpy(&half, bench.source() + i, sizeof half);
    std::memcpy(&word, bench.source() + i, sizeof word);
    ASSERT_TRUE(std::isnormal(word)) << i;
    ASSERT_TRUE(std::isnormal(bf16_to_f32(half))) << i;
    ASSERT_GE(f16_to_f32(half), 0x1p-14F) << i;
    ASSERT_LT(f16_to_f32(half), 1.0F) << i;
  }
}

}  // namespace
}  // namespace heddle::cli
