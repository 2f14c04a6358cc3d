#include "models/ffn/ffn.h"

#include "models/overloaded.h"

namespace heddle {

Ffn bind_ffn(const FfnSpec& spec, const FfnNames& names, int hidden, WeightBinder& binder) {
  return std::visit(
      Overloaded{[&](const DenseFfnSpec& s) -> Ffn {
                   return DenseFfn::bind(s, std::get<DenseFfnNames>(names), hidden, binder);
                 },
                 [&](const MoeFfnSpec& s) -> Ffn {
                   return MoeFfn::bind(s, std::get<MoeFfnNames>(names), hidden, binder);
                 }},
      spec);
}

std::size_t workspace_bytes(const FfnSpec& spec, int hidden, const StepSize& size) {
  return std::visit(
      Overloaded{[&](const DenseFfnSpec& s) { return DenseFfn::workspace_bytes(s, size); },
                 [&](const MoeFfnSpec& s) { return MoeFfn::workspace_bytes(s, hidden, size); }},
      spec);
}

void forward(const Ffn& ffn, LayerStep& step) {
  std::visit([&](const auto& f) { f.forward(step); }, ffn);
}

std::string describe(const FfnSpec& spec) {
  return std::visit(Overloaded{[](const DenseFfnSpec& s) { return DenseFfn::describe(s); },
                               [](const MoeFfnSpec& s) { return MoeFfn::describe(s); }},
                    spec);
}

}  // namespace heddle
