#pragma once
// Runs one named CPU variant of an op; tests name the variant, and skip where the machine cannot.

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/cpu_context.h"
#include "kernels/variant.h"

namespace heddle::test {

template <typename Args>
using CpuTable = VariantTable<Args, CpuContext>;

/// Null if the table has no such variant or it does not accept the call.
template <typename Args>
const Variant<Args, CpuContext>* find_variant(const CpuTable<Args>& table,
                                              std::string_view name,
                                              const Args& args,
                                              const DeviceCaps& caps = detect_cpu()) {
  for (const auto& v : table.variants) {
    if (v.name == name) return v.accepts(args, caps) ? &v : nullptr;
  }
  return nullptr;
}

/// Fails the test if the variant does not exist or does not accept.
template <typename Args>
void run_variant(const CpuTable<Args>& table,
                 std::string_view name,
                 const Args& args,
                 int n_threads = 2) {
  CpuContext context(n_threads, detect_cpu());
  const auto* const variant = find_variant(table, name, args, context.caps);
  ASSERT_NE(variant, nullptr) << table.op << " has no variant '" << name << "' for this call";
  variant->run(args, context);
}

/// Whether this machine runs variants of that name.
inline bool machine_has(std::string_view variant) {
  const DeviceCaps caps = detect_cpu();
  if (variant == "avx512") return caps.avx512;
  if (variant == "avx2") return caps.avx2;
  return true;
}

/// Names for INSTANTIATE_TEST_SUITE_P.
inline std::string variant_name(const testing::TestParamInfo<std::string>& info) {
  return info.param;
}

#define HEDDLE_SKIP_UNLESS_MACHINE_HAS(variant)                   \
  if (!::heddle::test::machine_has(variant)) {                    \
    GTEST_SKIP() << "this processor does not have " << (variant); \
  }                                                               \
  static_assert(true, "")

inline auto fast_variants() {
  return testing::Values(std::string("avx512"), std::string("avx2"), std::string("portable"));
}
inline auto all_variants() {
  return testing::Values(std::string("avx512"), std::string("avx2"), std::string("portable"),
                         std::string("ref"));
}

}  // namespace heddle::test
