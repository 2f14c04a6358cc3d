#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "kernels/device_caps.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace heddle {
namespace {

DeviceCaps processor() {
  DeviceCaps caps;
#if defined(__x86_64__)
  // __builtin_cpu_supports also asks whether the system saves the registers; it has no name for
  // F16C in every compiler we build with, hence the bit of leaf 1.
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & (1U << 29)) != 0;
  caps.avx2 = f16c && __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  caps.avx512 = caps.avx2 && __builtin_cpu_supports("avx512f") != 0 &&
                __builtin_cpu_supports("avx512bw") != 0 &&
                __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  caps.avx512_vnni = caps.avx512 && __builtin_cpu_supports("avx512vnni") != 0;
#endif
  return caps;
}

}  // namespace

std::string DeviceCaps::describe() const {
  std::string text;
  const auto add = [&text](std::string_view word) {
    if (!text.empty()) text += ' ';
    text += word;
  };
  if (avx2) add("AVX2");
  if (avx512) add("AVX-512");
  if (avx512_vnni) add("VNNI");
  if (cuda_sm > 0) add("sm_" + std::to_string(cuda_sm));
  return text.empty() ? "no vector extensions used" : text;
}

DeviceCaps detect_cpu() {
  DeviceCaps caps = processor();
  const char* const isa = std::getenv("HEDDLE_CPU_ISA");
  if (isa == nullptr || *isa == '\0') return caps;
  const std::string_view limit = isa;
  if (limit != "portable" && limit != "avx2" && limit != "avx512") {
    throw bad_input("HEDDLE_CPU_ISA: '" + std::string(limit) +
                    "' is unknown; known: portable, avx2, avx512");
  }
  if (limit == "portable") caps.avx2 = false;
  if (limit != "avx512") caps.avx512 = caps.avx512_vnni = false;
  return caps;
}

bool runs_on(std::string_view variant, const DeviceCaps& caps) {
  if (variant.starts_with("avx512_vnni")) return caps.avx512_vnni;
  if (variant.starts_with("avx512")) return caps.avx512;
  if (variant.starts_with("avx2")) return caps.avx2;
  return true;
}

}  // namespace heddle
