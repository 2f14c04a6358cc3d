#pragma once
#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "models/cache_need.h"
#include "models/layer_step.h"
#include "scheduler/batch_plan.h"

namespace heddle {

/// What a model's caches are laid out for.
struct CacheShape {
  DType kv_dtype = DType::kF16;
  std::int64_t n_blocks = 0;
  int block_tokens = 16;
  std::int64_t n_state_slots = 0;
};

/// The bytes behind the scheduler's ids: for each mixer, n_blocks pages of K and of V, and
/// n_state_slots recurrent states.
class CacheStorage {
 public:
  CacheStorage(const std::vector<CacheNeed>& needs, const CacheShape& shape, Backend& backend);
  const std::vector<MixerCache>& mixers() const { return mixers_; }
  /// Copies blocks' keys and values of all mixers, and slots' states, in this order.
  void copy(const std::vector<BatchPlan::Copy>& copies);

 private:
  TensorView take(DType dtype, std::initializer_list<std::int64_t> dims, Backend& backend);

  void copy_block(std::int64_t from, std::int64_t to);
  void copy_state(std::int64_t from, std::int64_t to);
  void copy_part(const TensorView& view, std::int64_t from, std::int64_t to);

  Backend& backend_;
  std::vector<Buffer> buffers_;
  std::vector<MixerCache> mixers_;
};

/// Bytes of one block of all pages, and of one sequence's states.
std::uint64_t kv_block_bytes(const std::vector<CacheNeed>& needs, DType kv_dtype, int block_tokens);
/// Of these, those of compressed keys.
std::uint64_t compressed_block_bytes(const std::vector<CacheNeed>& needs, int block_tokens);
/// A block's bytes by its tokens.
double kv_bytes_per_token(const std::vector<CacheNeed>& needs, DType kv_dtype, int block_tokens);
std::uint64_t state_bytes(const std::vector<CacheNeed>& needs);

}  // namespace heddle
