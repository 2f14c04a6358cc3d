#pragma once
// The closed set of feed-forward layers; see mixers/mixer.h.

#include <string>
#include <variant>

#include "models/ffn/dense.h"
#include "models/ffn/moe.h"

namespace heddle {

using Ffn = std::variant<DenseFfn, MoeFfn>;

Ffn bind_ffn(const FfnSpec& spec, const FfnNames& names, int hidden, WeightBinder& binder);
std::size_t workspace_bytes(const FfnSpec& spec, int hidden, const StepSize& size);
void forward(const Ffn& ffn, LayerStep& step);
std::string describe(const FfnSpec& spec);  // "dense, silu x 1536"

}  // namespace heddle
