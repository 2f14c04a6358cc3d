#pragma once
// The closed set of mixers. A struct added to MixerSpec is handled here or nothing compiles.

#include <string>
#include <variant>

#include "models/mixers/linear_attention.h"
#include "models/mixers/softmax_attention.h"

namespace heddle {

using Mixer = std::variant<SoftmaxAttention, LinearAttention>;

/// `rope_specs` collects the distinct rotations of the model; the mixer keeps an index into it.
Mixer bind_mixer(const MixerSpec& spec,
                 const MixerNames& names,
                 int hidden,
                 std::vector<RopeSpec>& rope_specs,
                 WeightBinder& binder);
void forward(const Mixer& mixer, LayerStep& step);

/// What the specs alone say, before any weight is read (memory plan, inspect).
CacheNeed cache_need(const MixerSpec& spec);
std::size_t workspace_bytes(const MixerSpec& spec, const StepSize& size);
const RopeSpec& rope(const MixerSpec& spec);
/// Keys that a token with n_keys before it, itself included, attends to at most.
std::int64_t keys_seen(const MixerSpec& spec, std::int64_t n_keys);
std::string describe(const MixerSpec& spec);  // "softmax attention, 9 query and 3 KV heads of 64"
/// One letter for each kind of mixer, and what it stands for: the layer map of `heddle inspect`.
struct MixerLetter {
  char letter = '?';
  std::string_view meaning;
};
MixerLetter letter(const MixerSpec& spec);

}  // namespace heddle
