#pragma once
// The closed set of feed-forward layers; see mixers/mixer.h.

#include <string>
#include <variant>

#include "models/ffn/dense.h"

namespace heddle {

using Ffn = std::variant<DenseFfn>;

Ffn bind_ffn(const FfnSpec& spec, const FfnNames& names, int hidden, WeightBinder& binder);
std::size_t workspace_bytes(const FfnSpec& spec, std::int64_t n_tokens);
void forward(const Ffn& ffn, LayerStep& step);
std::string describe(const FfnSpec& spec);  // "dense silu 1536"

}  // namespace heddle
