#include "models/ffn/ffn.h"

#include <fmt/format.h>

namespace heddle {

Ffn bind_ffn(const FfnSpec& spec, const FfnNames& names, int hidden, WeightBinder& binder) {
  return std::visit(
      [&](const DenseFfnSpec& s) -> Ffn {
        return DenseFfn::bind(s, std::get<DenseFfnNames>(names), hidden, binder);
      },
      spec);
}

std::size_t workspace_bytes(const FfnSpec& spec, std::int64_t n_tokens) {
  return std::visit([&](const DenseFfnSpec& s) { return DenseFfn::workspace_bytes(s, n_tokens); },
                    spec);
}

void forward(const Ffn& ffn, LayerStep& step) {
  std::visit([&](const auto& f) { f.forward(step); }, ffn);
}

std::string describe(const FfnSpec& spec) {
  return std::visit(
      [](const DenseFfnSpec& s) {
        return fmt::format("dense, {} x {}", name(s.activation), s.intermediate);
      },
      spec);
}

}  // namespace heddle
