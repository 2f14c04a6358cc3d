#pragma once
// What the processor's multiply-add instructions can do at most: the ceilings of compute-bound
// kernels.

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/device_caps.h"

namespace heddle::cli {

/// What a kernel's inner loop multiplies: f32, or pairs of int16 into int32.
enum class Arithmetic : std::uint8_t { kF32, kInt16 };

struct Peak {
  std::string_view isa;  // the first word of the variants that use it: "avx2", "portable"
  Arithmetic arithmetic = Arithmetic::kF32;
  std::string_view instruction;
  double operations_s = 0.0;  // of all threads; a multiply-add is two
};

/// Every peak that this processor (within `caps`) has, the best of many passes of each thread of
/// the pool, all at once; a tenth of a second each. Throws kRuntime if a loop's sums are wrong.
std::vector<Peak> measure_peaks(ThreadPool& pool, const DeviceCaps& caps);

/// The ceiling of a variant: that of its own instruction set, else the highest of the machine (for
/// `portable` and `ref`, whose instructions the compiler picks).
const Peak& peak_of(const std::vector<Peak>& peaks,
                    std::string_view variant,
                    Arithmetic arithmetic);

}  // namespace heddle::cli
