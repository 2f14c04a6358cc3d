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

/// Keys and values are saved in groups of 16 tokens, each as a cache block of 16 tokens is laid out
/// (CacheStorage::read_block without compressed keys); positions past the last token are zero.
/// Compressed keys follow level after level, the entries of complete windows ascending. A state is
/// a slot (CacheStorage::read_slot); what its position does not use of it is zero.
class SessionLayout {
 public:
  static constexpr std::int64_t kGroup = 16;

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
  /// Zeroes what a state after `position` tokens does not use.
  void clean_state(std::span<std::byte> state, std::int64_t position) const;

 private:
  template <typename Copy>
  void each_run(std::int64_t index, std::int64_t n, const Copy& copy) const;
  template <typename Copy>
  void each_entry(std::int64_t index, std::int64_t n, const Copy& copy) const;
  std::uint64_t block_kv_bytes(const CacheNeed& need) const;

  std::vector<CacheNeed> needs_;
  std::size_t element_;
  std::int64_t block_tokens_;
};

}  // namespace heddle
