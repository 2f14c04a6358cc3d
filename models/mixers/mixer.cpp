#include "models/mixers/mixer.h"

#include <algorithm>

#include "models/overloaded.h"

namespace heddle {
namespace {

int rope_index(const RopeSpec& spec, std::vector<RopeSpec>& specs) {
  if (spec.rotary_dim == 0) return -1;
  auto it = std::find(specs.begin(), specs.end(), spec);
  if (it == specs.end()) it = specs.insert(specs.end(), spec);
  return static_cast<int>(it - specs.begin());
}

MixerLetter softmax_letter(const SoftmaxAttentionSpec& spec) {
  const bool all_keys = spec.window == 0 && spec.sparse.index() == 0;
  if (spec.heads && all_keys) return {'H', "softmax attention, mixture of heads"};
  if (spec.heads) return {'h', "softmax attention, mixture of heads, over some of the keys"};
  if (std::holds_alternative<SelectSpec>(spec.sparse)) {
    return {'I', "softmax attention over chosen blocks (InfLLM-V2)"};
  }
  if (const auto* const s = std::get_if<PatternSpec>(&spec.sparse)) {
    switch (s->pattern) {
      case BlockPattern::kStrided:
        return {'T', "softmax attention over strided blocks"};
      case BlockPattern::kDilated:
        return {'D', "softmax attention over dilated blocks"};
      case BlockPattern::kNeighbourhood:
        return {'N', "softmax attention over a neighbourhood of blocks"};
      case BlockPattern::kPower:
        break;
    }
    return {'P', "softmax attention over blocks at powers of two (PowerAttention)"};
  }
  if (spec.first_keys > 0) return {'A', "softmax attention, first keys and sliding window"};
  if (spec.window > 0) return {'W', "softmax attention, sliding window"};
  return {'S', "softmax attention"};
}

}  // namespace

Mixer bind_mixer(const MixerSpec& spec,
                 const MixerNames& names,
                 int hidden,
                 std::vector<RopeSpec>& rope_specs,
                 WeightBinder& binder) {
  return std::visit(
      Overloaded{[&](const SoftmaxAttentionSpec& s) -> Mixer {
                   return SoftmaxAttention::bind(s, std::get<SoftmaxAttentionNames>(names), hidden,
                                                 rope_index(s.rope, rope_specs), binder);
                 },
                 [&](const LinearAttentionSpec& s) -> Mixer {
                   return LinearAttention::bind(s, std::get<LinearAttentionNames>(names), hidden,
                                                rope_index(s.rope, rope_specs), binder);
                 }},
      spec);
}

void forward(const Mixer& mixer, LayerStep& step) {
  std::visit([&](const auto& m) { m.forward(step); }, mixer);
}

CacheNeed cache_need(const MixerSpec& spec) {
  return std::visit(
      Overloaded{[](const SoftmaxAttentionSpec& s) { return SoftmaxAttention::cache_need(s); },
                 [](const LinearAttentionSpec& s) { return LinearAttention::cache_need(s); }},
      spec);
}

std::size_t workspace_bytes(const MixerSpec& spec, const StepSize& size) {
  return std::visit(
      Overloaded{
          [&](const SoftmaxAttentionSpec& s) { return SoftmaxAttention::workspace_bytes(s, size); },
          [&](const LinearAttentionSpec& s) { return LinearAttention::workspace_bytes(s, size); }},
      spec);
}

const RopeSpec& rope(const MixerSpec& spec) {
  return std::visit([](const auto& s) -> const RopeSpec& { return s.rope; }, spec);
}

std::int64_t keys_seen(const MixerSpec& spec, std::int64_t n_keys) {
  return std::visit(Overloaded{[&](const SoftmaxAttentionSpec& s) {
                                 return SoftmaxAttention::keys_seen(s, n_keys);
                               },
                               [](const auto&) { return std::int64_t{0}; }},
                    spec);
}

std::string describe(const MixerSpec& spec) {
  return std::visit(
      Overloaded{[](const SoftmaxAttentionSpec& s) { return SoftmaxAttention::describe(s); },
                 [](const LinearAttentionSpec& s) { return LinearAttention::describe(s); }},
      spec);
}

MixerLetter letter(const MixerSpec& spec) {
  return std::visit(Overloaded{[](const SoftmaxAttentionSpec& s) { return softmax_letter(s); },
                               [](const LinearAttentionSpec&) {
                                 return MixerLetter{'L', "linear (lightning) attention"};
                               }},
                    spec);
}

}  // namespace heddle
