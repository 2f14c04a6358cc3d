#include "tools/heddle/peak_speed.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace heddle::cli {
namespace {

TEST(PeakSpeed, EveryInstructionSetOfThisMachineHasOne) {
  ThreadPool pool(1);
  const DeviceCaps caps = detect_cpu();
  std::set<std::string> names;
  for (const Peak& peak : measure_peaks(pool, caps)) {
    names.insert(std::string(peak.isa) + (peak.arithmetic == Arithmetic::kF32 ? " f32" : " int16"));
    EXPECT_GT(peak.operations_s, 0.05e9) << peak.instruction;
    EXPECT_LT(peak.operations_s, 5000e9) << peak.instruction;  // a dropped loop would be beyond
  }
  std::set<std::string> expected = {"portable f32"};
  if (caps.avx2) expected.insert({"avx2 f32", "avx2 int16"});
  if (caps.avx512) expected.insert("avx512 f32");
  if (caps.avx512_vnni) expected.insert("avx512 int16");
  EXPECT_EQ(names, expected);
}

TEST(PeakSpeed, AVariantHasItsOwnOrTheHighest) {
  const std::vector<Peak> peaks = {{"portable", Arithmetic::kF32, "a", 1.0},
                                   {"avx2", Arithmetic::kF32, "b", 3.0},
                                   {"avx512", Arithmetic::kF32, "c", 2.0},
                                   {"avx512", Arithmetic::kInt16, "d", 9.0}};
  EXPECT_EQ(peak_of(peaks, "avx512", Arithmetic::kF32).instruction, "c");
  EXPECT_EQ(peak_of(peaks, "avx512_vnni", Arithmetic::kF32).instruction, "c");
  EXPECT_EQ(peak_of(peaks, "avx512_vnni", Arithmetic::kInt16).instruction, "d");
  EXPECT_EQ(peak_of(peaks, "avx2", Arithmetic::kF32).instruction, "b");
  EXPECT_EQ(peak_of(peaks, "portable", Arithmetic::kF32).instruction, "b");
  EXPECT_EQ(peak_of(peaks, "ref", Arithmetic::kF32).instruction, "b");
  EXPECT_EQ(peak_of(peaks, "ref", Arithmetic::kInt16).instruction, "d");
  // no integer loop: f32 stands in
  EXPECT_EQ(peak_of({peaks[0]}, "portable", Arithmetic::kInt16).instruction, "a");
}

}  // namespace
}  // namespace heddle::cli
