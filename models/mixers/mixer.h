#pragma once
// The closed set of mixers. A struct added to MixerSpec is handled here or nothing compiles.

#include <variant>

#include "models/mixers/softmax_attention.h"

namespace heddle {

using Mixer = std::variant<SoftmaxAttention>;

/// `rope_specs` collects the distinct rotations of the model; the mixer keeps an index into it.
Mixer bind_mixer(const MixerSpec& spec,
                 const MixerNames& names,
                 int hidden,
                 std::vector<RopeSpec>& rope_specs,
                 WeightBinder& binder);
void forward(const Mixer& mixer, LayerStep& step);

/// What the specs alone say, before any weight is read (memory plan, inspect).
CacheNeed cache_need(const MixerSpec& spec);
std::size_t workspace_bytes(const MixerSpec& spec, std::int64_t n_tokens);
int rotary_dim(const MixerSpec& spec);
std::string describe(const MixerSpec& spec);  // "softmax 9/3 heads x 64, rope 64"

}  // namespace heddle
