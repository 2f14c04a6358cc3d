#include "models/model_config.h"

#include <utility>

namespace heddle {

ModelConfig for_context(ModelConfig config, std::int64_t context) {
  for (LayerSpec& layer : config.layers) {
    for (MixerSpec& mixer : layer.mixers) {
      std::visit(
          [&](auto& spec) {
            RopeSpec& rope = spec.rope;
            if (rope.long_inv_freq.empty()) return;
            if (context > rope.short_context) rope.inv_freq = std::move(rope.long_inv_freq);
            rope.long_inv_freq.clear();
          },
          mixer);
    }
  }
  return config;
}

}  // namespace heddle
