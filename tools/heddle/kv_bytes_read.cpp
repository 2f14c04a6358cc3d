#include "tools/heddle/kv_bytes_read.h"

#include "engine/cache_storage.h"
#include "models/mixers/mixer.h"

namespace heddle::cli {

double kv_bytes_read(const Engine& engine, std::int64_t n_keys) {
  double elements = 0.0;
  double compressed = 0.0;
  for (const LayerSpec& layer : engine.config().layers) {
    for (const MixerSpec& mixer : layer.mixers) {
      const CacheNeed need = cache_need(mixer);
      for (const PagedKvNeed& kv : need.paged) {
        elements += static_cast<double>(kv.elements_per_token() * keys_seen(mixer, n_keys));
      }
      for (const CompressedKeyNeed& keys : need.compressed) {  // of both levels, all, to choose by
        const std::int64_t n = n_keys / keys.stride + n_keys / (kCoarseKeys * keys.stride);
        compressed += static_cast<double>(n * keys.n_kv_heads * keys.head_dim) * sizeof(float);
      }
    }
  }
  return elements * static_cast<double>(row_bytes(*engine.options().kv_dtype, 1)) + compressed;
}

}  // namespace heddle::cli
