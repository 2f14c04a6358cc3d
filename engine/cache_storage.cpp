#include "engine/cache_storage.h"

namespace heddle {

CacheStorage::CacheStorage(const std::vector<CacheNeed>& needs,
                           DType kv_dtype,
                           std::int64_t n_blocks,
                           int block_tokens,
                           Backend& backend) {
  for (const CacheNeed& need : needs) {
    LayerCache layer;
    for (const PagedKvNeed& kv : need.paged) {
      const std::int64_t page = std::int64_t{kv.n_kv_heads} * kv.head_dim * block_tokens;
      const auto take = [&] {
        buffers_.push_back(backend.allocate_sparse(
            static_cast<std::size_t>(row_bytes(kv_dtype, page * n_blocks))));
        return buffers_.back().data();
      };
      KvPages pages;
      pages.k = TensorView(take(), kv_dtype, {n_blocks, kv.n_kv_heads, kv.head_dim, block_tokens},
                           backend.kind());
      pages.v = TensorView(take(), kv_dtype, {n_blocks, kv.n_kv_heads, block_tokens, kv.head_dim},
                           backend.kind());
      layer.paged.push_back(pages);
    }
    layers_.push_back(std::move(layer));
  }
}

std::uint64_t kv_bytes_per_token(const std::vector<CacheNeed>& needs, DType kv_dtype) {
  std::int64_t elements = 0;
  for (const CacheNeed& need : needs) {
    for (const PagedKvNeed& kv : need.paged) elements += kv.elements_per_token();
  }
  return static_cast<std::uint64_t>(row_bytes(kv_dtype, elements));
}

}  // namespace heddle
