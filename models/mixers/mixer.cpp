#include "models/mixers/mixer.h"

#include <fmt/format.h>

#include <algorithm>

namespace heddle {
namespace {

int rope_index(const RopeSpec& spec, std::vector<RopeSpec>& specs) {
  if (spec.rotary_dim == 0) return -1;
  auto it = std::find(specs.begin(), specs.end(), spec);
  if (it == specs.end()) it = specs.insert(specs.end(), spec);
  return static_cast<int>(it - specs.begin());
}

}  // namespace

Mixer bind_mixer(const MixerSpec& spec,
                 const MixerNames& names,
                 int hidden,
                 std::vector<RopeSpec>& rope_specs,
                 WeightBinder& binder) {
  return std::visit(
      [&](const SoftmaxAttentionSpec& s) -> Mixer {
        return SoftmaxAttention::bind(s, std::get<SoftmaxAttentionNames>(names), hidden,
                                      rope_index(s.rope, rope_specs), binder);
      },
      spec);
}

void forward(const Mixer& mixer, LayerStep& step) {
  std::visit([&](const auto& m) { m.forward(step); }, mixer);
}

CacheNeed cache_need(const MixerSpec& spec) {
  return std::visit([](const SoftmaxAttentionSpec& s) { return SoftmaxAttention::cache_need(s); },
                    spec);
}

std::size_t workspace_bytes(const MixerSpec& spec, std::int64_t n_tokens) {
  return std::visit(
      [&](const SoftmaxAttentionSpec& s) { return SoftmaxAttention::workspace_bytes(s, n_tokens); },
      spec);
}

int rotary_dim(const MixerSpec& spec) {
  return std::visit([](const auto& s) { return s.rope.rotary_dim; }, spec);
}

std::string describe(const MixerSpec& spec) {
  return std::visit(
      [](const SoftmaxAttentionSpec& s) {
        std::string text = fmt::format("softmax attention, {} query and {} KV heads of {}, rope {}",
                                       s.n_q_heads, s.n_kv_heads, s.head_dim, s.rope.rotary_dim);
        if (s.window > 0) text += fmt::format(", window {}", s.window);
        if (s.soft_cap != 0.0F) text += fmt::format(", soft-cap {}", s.soft_cap);
        if (s.qk_norm) text += ", qk-norm";
        return text;
      },
      spec);
}

}  // namespace heddle
