#pragma once
// The variant list of an op whose fast forms differ only in the RowKernels they use.

#include <array>

#include "kernels/cpu/cpu_tables.h"
#include "kernels/cpu/simd16_kernels.h"

namespace heddle::cpu {

/// Below this many elements a parallel region costs more than it saves.
inline constexpr std::int64_t kInlineElements = 16384;

/// Calls f(i, worker) for i in [0, n), in parallel if the work is worth it.
template <typename F>
void for_rows_by_worker(CpuContext& context,
                        std::int64_t n,
                        std::int64_t row_elements,
                        const F& f) {
  if (n * row_elements <= kInlineElements) {
    for (std::int64_t i = 0; i < n; ++i) f(i, 0);
    return;
  }
  // Several rows per claim, so that short rows do not fight over the counter.
  const std::int64_t share = row_elements >= 4096 ? 1 : 4096 / (row_elements + 1) + 1;
  context.pool.run((n + share - 1) / share, [&](std::int64_t task, int worker) {
    const std::int64_t end = (task + 1) * share < n ? (task + 1) * share : n;
    for (std::int64_t i = task * share; i < end; ++i) f(i, worker);
  });
}

/// The same for an f(i) that needs no memory of its own.
template <typename F>
void for_rows(CpuContext& context, std::int64_t n, std::int64_t row_elements, const F& f) {
  for_rows_by_worker(context, n, row_elements, [&](std::int64_t i, int) { f(i); });
}

template <typename Args,
          void (*kFast)(const Args&, CpuContext&, const RowKernels&),
          void (*kRef)(const Args&, CpuContext&)>
struct RowVariants {
  using V = Variant<Args, CpuContext>;
  static bool always(const Args&, const DeviceCaps&) { return true; }
  static constexpr std::array<V, 4> kAll = {
      V{"avx512",
        [](const Args&, const DeviceCaps& caps) {
          return caps.avx512 && row_kernels_avx512() != nullptr;
        },
        [](const Args& args, CpuContext& c) { kFast(args, c, *row_kernels_avx512()); }},
      V{"avx2",
        [](const Args&, const DeviceCaps& caps) {
          return caps.avx2 && row_kernels_avx2() != nullptr;
        },
        [](const Args& args, CpuContext& c) { kFast(args, c, *row_kernels_avx2()); }},
      V{"portable", always,
        [](const Args& args, CpuContext& c) { kFast(args, c, row_kernels_portable()); }},
      V{"ref", always, kRef}};
};

}  // namespace heddle::cpu
