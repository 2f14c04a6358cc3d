#include <cmath>

#include "base/error.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

void check(const SoftCapArgs& args) {
  HEDDLE_CHECK(args.x.rank == 2 && args.x.dtype == DType::kF32);
  HEDDLE_CHECK(args.cap > 0 && std::isfinite(args.cap) && std::isfinite(1.0F / args.cap));
}

// Elementwise, so cut regardless of rows.
void fast(const SoftCapArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  constexpr std::int64_t kChunk = 2048;
  const std::int64_t n = args.x.elements();
  auto* const x = args.x.as<float>();
  // an element costs about ten of a plain copy
  for_rows(context, (n + kChunk - 1) / kChunk, 2 * kChunk, [&](std::int64_t chunk) {
    const std::int64_t begin = chunk * kChunk;
    kernels.soft_cap(x + begin, begin + kChunk < n ? kChunk : n - begin, args.cap);
  });
}

void ref(const SoftCapArgs& args, CpuContext&) {
  check(args);
  const double cap = args.cap;
  for (std::int64_t i = 0; i < args.x.elements(); ++i) {
    float& x = args.x.as<float>()[i];
    x = static_cast<float>(cap * std::tanh(x / cap));
  }
}

}  // namespace

const Table<SoftCapArgs>& soft_cap_table() {
  static constexpr Table<SoftCapArgs> kTable = {"soft_cap",
                                                RowVariants<SoftCapArgs, fast, ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
