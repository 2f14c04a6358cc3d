#include "engine/numerics_id.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/sha256.h"
#include "models/ffn/ffn.h"
#include "models/mixers/mixer.h"

namespace heddle {

std::string numerics_id(const Checkpoint& checkpoint,
                        const EngineOptions& options,
                        Backend& backend) {
  Sha256 hash;
  const auto add = [&](std::string_view text) { hash.update(text.data(), text.size()); };
  for (const StoredTensor& tensor : checkpoint.weights->tensors()) {
    add(tensor.name + shape_text(tensor.view));
    const auto bytes = static_cast<std::size_t>(tensor.view.bytes());
    const std::size_t sample = std::min<std::size_t>(bytes, 64);
    hash.update(tensor.view.data, sample);
    hash.update(tensor.view.as<std::byte>() + bytes - sample, sample);
  }
  for (const LayerSpec& layer : checkpoint.config.layers) {
    add(describe(layer.mixer) + describe(layer.ffn) + fmt::format(" eps {}", layer.norm_eps));
  }
  add(fmt::format("kv {} tile {} device {}", name(*options.kv_dtype), kAttentionTile,
                  static_cast<int>(backend.kind())));
  for (const auto& [op, variant] : options.backend.forced) {
    // The fast CPU variants agree bit for bit, so only ref changes the result.
    if (variant == "ref") add(op + "=ref");
  }
  return hash.hex().substr(0, 16);
}

}  // namespace heddle
