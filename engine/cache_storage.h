#pragma once
#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "models/cache_need.h"
#include "models/layer_step.h"

namespace heddle {

/// The bytes behind the scheduler's block ids: per layer, n_blocks pages of K and of V.
class CacheStorage {
 public:
  CacheStorage(const std::vector<CacheNeed>& needs,
               DType kv_dtype,
               std::int64_t n_blocks,
               int block_tokens,
               Backend& backend);
  const std::vector<LayerCache>& layers() const { return layers_; }

 private:
  std::vector<Buffer> buffers_;
  std::vector<LayerCache> layers_;
};

/// KV bytes of one token over all layers.
std::uint64_t kv_bytes_per_token(const std::vector<CacheNeed>& needs, DType kv_dtype);

}  // namespace heddle
