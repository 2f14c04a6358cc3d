#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "models/cache_need.h"
#include "models/layer_step.h"
#include "scheduler/batch_plan.h"

namespace heddle {

/// Level 2 of compressed keys has a window for every four of level 1: kernels/api/key_blocks.h.
inline constexpr int kCoarseKeys = 4;

/// What a model's caches are laid out for.
struct CacheShape {
  DType kv_dtype = DType::kF16;
  std::int64_t n_blocks = 0;
  int block_tokens = 16;
  std::int64_t n_state_slots = 0;
  std::int64_t n_host_blocks = 0;  // in host memory, for what is evicted
  std::int64_t n_host_slots = 0;
};

/// The bytes behind the scheduler's ids: for each mixer, n_blocks pages of K and of V, or
/// n_state_slots rings of pages (PagedKvNeed::ring_blocks), and n_state_slots recurrent states; in
/// host memory, whole blocks and slots one behind the other.
class CacheStorage {
 public:
  CacheStorage(const std::vector<CacheNeed>& needs, const CacheShape& shape, Backend& backend);
  const std::vector<MixerCache>& mixers() const { return mixers_; }
  /// Copies blocks' keys and values of all mixers, and slots' states and rings, in this order.
  void copy(const std::vector<BatchPlan::Copy>& copies);

  /// One block's, or one slot's, bytes in host memory: part after part as mixers() lists them (a
  /// block: k, v, then k1, k2; a slot: the k, then the v of a ring's pages; s, tail_k, tail_v),
  /// each dense. Blocks the caller until the copies are done. `host` has block_bytes() or
  /// slot_bytes().
  void read_block(const CachePlace& block, std::span<std::byte> host);
  void write_block(BlockId block, std::span<const std::byte> host);
  void read_slot(const CachePlace& slot, std::span<std::byte> host);
  void write_slot(BlockId slot, std::span<const std::byte> host);
  std::size_t block_bytes() const { return blocks_.entry_bytes; }
  std::size_t slot_bytes() const { return slots_.entry_bytes; }

 private:
  /// Blocks, or slots: entries of the first dimension of some tensors.
  struct Entries {
    std::vector<TensorView> parts;
    std::size_t entry_bytes = 0;
    Buffer host;
    std::byte* on_host(BlockId id) const {
      return host.as<std::byte>() + static_cast<std::size_t>(id) * entry_bytes;
    }
  };

  TensorView take(DType dtype, std::initializer_list<std::int64_t> dims, Backend& backend);
  void list_parts(std::int64_t n_slots);
  void take_host(Entries& entries, std::int64_t n);
  void read(const Entries& entries, const CachePlace& place, std::span<std::byte> host);
  void to_host(const Entries& entries, BlockId from, std::byte* to);
  void to_device(const Entries& entries, const std::byte* from, BlockId to);

  Backend& backend_;
  std::vector<Buffer> buffers_;
  std::vector<MixerCache> mixers_;
  Entries blocks_;
  Entries slots_;
};

/// Bytes of one block of the pool: pages of all mixers that have no ring.
std::uint64_t kv_block_bytes(const std::vector<CacheNeed>& needs, DType kv_dtype, int block_tokens);
/// Of these, those of compressed keys.
std::uint64_t compressed_block_bytes(const std::vector<CacheNeed>& needs, int block_tokens);
/// A block's bytes by its tokens.
double kv_bytes_per_token(const std::vector<CacheNeed>& needs, DType kv_dtype, int block_tokens);
/// One sequence's recurrent states, and its rings; a slot has both.
std::uint64_t state_bytes(const std::vector<CacheNeed>& needs);
std::uint64_t ring_bytes(const std::vector<CacheNeed>& needs, DType kv_dtype, int block_tokens);

}  // namespace heddle
