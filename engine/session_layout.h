#pragma once
// Cache bytes as a session file has them: independent of --block-tokens, and nothing in them but
// what the tokens decide, so that two runs that computed the same write the same file.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "models/cache_need.h"

namespace heddle {

/// Keys and values of the pool are saved in groups of 16 tokens, each as a cache block of 16 tokens
/// is laid out (CacheStorage::read_block without compressed keys); positions past the last token
/// are zero. Compressed keys follow level after level, the entries of complete windows ascending. A
/// state after n tokens is what a slot has, mixer by mixer: in place of a ring groups like these,
/// those of the 16 tokens from m = n - n mod 16 on and of all that m's row sees, ascending; then
/// the recurrent state. What lies past n, before m's window or before 0, and what n does not use of
/// the recurrent state, is zero.
class SessionLayout {
 public:
  static constexpr std::int64_t kGroup = 16;

  /// `needs` as CacheStorage has them: placed_needs().
  SessionLayout(std::vector<CacheNeed> needs, DType kv_dtype, int block_tokens);

  std::uint64_t group_bytes() const;  // of kGroup tokens
  std::uint64_t state_bytes() const;  // of one snapshot
  /// Of n tokens; n up to 2^31.
  std::uint64_t compressed_bytes(std::int64_t n) const;
  std::int64_t n_groups(std::int64_t n) const { return (n + kGroup - 1) / kGroup; }

  /// Cache block `index` of a text of n tokens: `block` as CacheStorage reads and writes it, `kv`
  /// its groups (block_groups() of them have tokens), `compressed` all of the text's.
  std::int64_t block_groups(std::int64_t index, std::int64_t n) const;
  void gather(std::span<const std::byte> block,
              std::int64_t index,
              std::int64_t n,
              std::span<std::byte> kv,
              std::span<std::byte> compressed) const;
  /// The other way round; what the text has no tokens for is left alone.
  void scatter(std::span<const std::byte> kv,
               std::span<const std::byte> compressed,
               std::int64_t index,
               std::int64_t n,
               std::span<std::byte> block) const;
  /// A state after `position` tokens, at least 1: `slot` as CacheStorage reads and writes it. What
  /// it does not use of either is zeroed.
  void gather_state(std::span<const std::byte> slot,
                    std::int64_t position,
                    std::span<std::byte> state) const;
  void scatter_state(std::span<const std::byte> state,
                     std::int64_t position,
                     std::span<std::byte> slot) const;

 private:
  template <typename Copy>
  void each_run(std::int64_t index, std::int64_t n, const Copy& copy) const;
  template <typename Copy>
  void each_entry(std::int64_t index, std::int64_t n, const Copy& copy) const;
  template <typename Copy>
  void each_state_run(std::int64_t position, const Copy& copy) const;
  template <typename Copy>
  void each_ring_run(const PagedKvNeed& kv,
                     std::int64_t position,
                     std::size_t in_slot,
                     std::size_t in_state,
                     const Copy& copy) const;
  std::size_t paged_bytes(const PagedKvNeed& kv, std::int64_t n_tokens) const;
  std::uint64_t block_kv_bytes(const CacheNeed& need) const;

  std::vector<CacheNeed> needs_;
  std::size_t element_;
  std::int64_t block_tokens_;
};

}  // namespace heddle
