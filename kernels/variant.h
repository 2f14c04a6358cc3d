#pragma once
// One ordered table of implementations per op: fastest first, `ref` (CPU) or `plain` (CUDA) last.
// The first whose `accepts` is true runs, unless a name is forced.

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "kernels/device_caps.h"

namespace heddle {

/// Op name -> variant name, from --force-kernel; "all" applies to every op that has the variant.
using ForcedVariants = std::map<std::string, std::string, std::less<>>;

template <typename Args, typename Context>
struct Variant {
  std::string_view name;
  bool (*accepts)(const Args&, const DeviceCaps&);
  void (*run)(const Args&, Context&);
};

/// An op with its table; `pick` chooses per call.
template <typename Args, typename Context>
struct VariantTable {
  std::string_view op;
  std::span<const Variant<Args, Context>> variants;

  const Variant<Args, Context>& pick(const Args& args,
                                     const DeviceCaps& caps,
                                     std::string_view forced) const {
    for (const auto& v : variants) {
      if (!forced.empty() && v.name != forced) continue;
      if (v.accepts(args, caps)) return v;
      if (!forced.empty()) {
        throw bad_input("--force-kernel " + std::string(op) + "=" + std::string(forced) +
                        ": this variant does not run here (processor or shape)");
      }
    }
    throw runtime_failure("internal: no variant of " + std::string(op) + " accepts the call");
  }
};

}  // namespace heddle
