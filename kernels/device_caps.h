#pragma once
#include <string>
#include <string_view>

namespace heddle {

/// What the processor can do; decides which kernel variants may run.
struct DeviceCaps {
  bool avx2 = false;         // with FMA and F16C
  bool avx512 = false;       // F, BW, DQ, VL
  bool avx512_vnni = false;  // implies avx512
  int cuda_sm = 0;           // 90 on Hopper; 0 without a CUDA device

  std::string describe() const;  // "AVX2 AVX-512 VNNI"
};

/// This machine's, lowered by HEDDLE_CPU_ISA=portable|avx2|avx512 (throws kBadInput on other
/// values).
DeviceCaps detect_cpu();

/// Whether a processor has what the CPU variants of this name are compiled for.
bool runs_on(std::string_view variant, const DeviceCaps& caps);

}  // namespace heddle
