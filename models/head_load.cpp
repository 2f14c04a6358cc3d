#include "models/head_load.h"

namespace heddle {

Tap HeadLoad::tap() {
  return [this](std::string_view name, int layer, const TensorView& value) {
    if (name != kHeadMask) return;
    Layer& load = layers_[layer];
    const std::int64_t n_heads = value.dim(1);
    load.taken.resize(static_cast<std::size_t>(n_heads));
    load.n_tokens += value.dim(0);
    for (std::int64_t i = 0; i < value.elements(); ++i) {
      load.taken[static_cast<std::size_t>(i % n_heads)] += value.as<const std::uint8_t>()[i];
    }
  };
}

}  // namespace heddle
