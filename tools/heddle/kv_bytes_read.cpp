#include "tools/heddle/kv_bytes_read.h"

#include "models/mixers/mixer.h"

namespace heddle::cli {

double kv_bytes_read(const Engine& engine, std::int64_t n_keys) {
  double elements = 0.0;
  for (const LayerSpec& layer : engine.config().layers) {
    for (const MixerSpec& mixer : layer.mixers) {
      for (const PagedKvNeed& kv : cache_need(mixer).paged) {
        elements += static_cast<double>(kv.elements_per_token() * keys_seen(mixer, n_keys));
      }
    }
  }
  return elements * static_cast<double>(row_bytes(*engine.options().kv_dtype, 1));
}

}  // namespace heddle::cli
