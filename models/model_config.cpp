#include "models/model_config.h"

#include <utility>

namespace heddle {

ModelConfig for_context(ModelConfig config, std::int64_t context) {
  for (LayerSpec& layer : config.layers) {
    std::visit(
        [&](auto& mixer) {
          RopeSpec& rope = mixer.rope;
          if (rope.long_inv_freq.empty()) return;
          if (context > rope.short_context) rope.inv_freq = std::move(rope.long_inv_freq);
          rope.long_inv_freq.clear();
        },
        layer.mixer);
  }
  return config;
}

}  // namespace heddle
