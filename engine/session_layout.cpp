#include "engine/session_layout.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "engine/cache_storage.h"

namespace heddle {
namespace {

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

/// One level of compressed keys: kernels/api/key_blocks.h. Entry i belongs to the window whose last
/// key is i stride + stride - 1; those before `first` end no window.
struct Level {
  std::int64_t stride = 0;
  std::int64_t first = 0;
  std::int64_t n_heads = 0;
  std::int64_t head_bytes = 0;
  std::int64_t entries(std::int64_t n) const {
    return std::max<std::int64_t>(0, n / stride - first);
  }
  std::int64_t bytes(std::int64_t n) const { return entries(n) * n_heads * head_bytes; }
};

std::array<Level, 2> levels(const CompressedKeyNeed& need) {
  const auto level = [&](std::int64_t factor) {
    return Level{.stride = factor * need.stride,
                 .first = need.kernel / need.stride - 1,
                 .n_heads = need.n_kv_heads,
                 .head_bytes = need.head_dim * static_cast<std::int64_t>(sizeof(float))};
  };
  return {level(1), level(kCoarseKeys)};
}

/// Of a ring in a state: the group that may be incomplete, and those with the window - 1 keys
/// before it.
std::int64_t state_groups(const PagedKvNeed& kv) {
  return 1 + (kv.window - 1 + SessionLayout::kGroup - 1) / SessionLayout::kGroup;
}

void copy_bytes(std::span<std::byte> to,
                std::size_t to_at,
                std::span<const std::byte> from,
                std::size_t from_at,
                std::size_t n) {
  HEDDLE_CHECK(to_at <= to.size() && n <= to.size() - to_at);
  HEDDLE_CHECK(from_at <= from.size() && n <= from.size() - from_at);
  std::memcpy(to.data() + to_at, from.data() + from_at, n);
}

}  // namespace

SessionLayout::SessionLayout(std::vector<CacheNeed> needs, DType kv_dtype, int block_tokens)
    : needs_(std::move(needs)),
      element_(size(row_bytes(kv_dtype, 1))),
      block_tokens_(block_tokens) {
  HEDDLE_CHECK(block_tokens % kGroup == 0);
}

std::size_t SessionLayout::paged_bytes(const PagedKvNeed& kv, std::int64_t n_tokens) const {
  return size(kv.elements_per_token() * n_tokens) * element_;
}

std::uint64_t SessionLayout::group_bytes() const {
  std::uint64_t bytes = 0;
  for (const CacheNeed& need : needs_) {
    for (const PagedKvNeed& kv : need.paged) {
      if (kv.ring_blocks == 0) bytes += paged_bytes(kv, kGroup);
    }
  }
  return bytes;
}

std::uint64_t SessionLayout::state_bytes() const {
  std::uint64_t bytes = heddle::state_bytes(needs_);
  for (const CacheNeed& need : needs_) {
    for (const PagedKvNeed& kv : need.paged) {
      if (kv.ring_blocks > 0) bytes += paged_bytes(kv, state_groups(kv) * kGroup);
    }
  }
  return bytes;
}

std::uint64_t SessionLayout::compressed_bytes(std::int64_t n) const {
  std::int64_t bytes = 0;
  for (const CacheNeed& need : needs_) {
    for (const CompressedKeyNeed& c : need.compressed) {
      for (const Level& level : levels(c)) bytes += level.bytes(n);
    }
  }
  return static_cast<std::uint64_t>(bytes);
}

std::int64_t SessionLayout::block_groups(std::int64_t index, std::int64_t n) const {
  return n_groups(std::min(block_tokens_, n - index * block_tokens_));
}

/// copy(offset in the block, offset in its groups, bytes) for every run of keys and values of
/// tokens below n.
template <typename Copy>
void SessionLayout::each_run(std::int64_t index, std::int64_t n, const Copy& copy) const {
  const std::int64_t tokens = std::min(block_tokens_, n - index * block_tokens_);
  const std::size_t per_group = group_bytes();
  std::size_t in_block = 0;
  std::size_t in_group = 0;
  // `rows` rows of a value of `token_bytes` for each token.
  const auto part = [&](std::int64_t rows, std::size_t token_bytes) {
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t begin = 0; begin < tokens; begin += kGroup) {
        copy(in_block + size(begin) * token_bytes, size(begin / kGroup) * per_group + in_group,
             size(std::min(kGroup, tokens - begin)) * token_bytes);
      }
      in_block += size(block_tokens_) * token_bytes;
      in_group += size(kGroup) * token_bytes;
    }
  };
  for (const CacheNeed& need : needs_) {
    for (const PagedKvNeed& kv : need.paged) {
      if (kv.ring_blocks > 0) continue;
      part(std::int64_t{kv.n_kv_heads} * kv.head_dim, element_);
      part(kv.n_kv_heads, size(kv.head_dim) * element_);
    }
    in_block += compressed_block_bytes({need}, static_cast<int>(block_tokens_));
  }
}

/// copy(offset in the block, offset among the text's compressed keys, bytes) for every head of
/// every entry of the block whose window lies below n.
template <typename Copy>
void SessionLayout::each_entry(std::int64_t index, std::int64_t n, const Copy& copy) const {
  std::int64_t in_block = 0;
  std::int64_t in_text = 0;
  const std::int64_t begin = index * block_tokens_;
  for (const CacheNeed& need : needs_) {
    in_block += static_cast<std::int64_t>(block_kv_bytes(need));
    for (const CompressedKeyNeed& c : need.compressed) {
      for (const Level& level : levels(c)) {
        const std::int64_t slots = std::max<std::int64_t>(1, block_tokens_ / level.stride);
        // The first window that ends in the block.
        for (std::int64_t i = std::max(level.first, begin / level.stride);; ++i) {
          const std::int64_t last = i * level.stride + level.stride - 1;
          if (last >= std::min(n, begin + block_tokens_)) break;
          const std::int64_t slot = (last - begin) / level.stride;
          for (std::int64_t head = 0; head < level.n_heads; ++head) {
            copy(size(in_block + (head * slots + slot) * level.head_bytes),
                 size(in_text + ((i - level.first) * level.n_heads + head) * level.head_bytes),
                 size(level.head_bytes));
          }
        }
        in_block += slots * level.n_heads * level.head_bytes;
        in_text += level.bytes(n);
      }
    }
  }
}

std::uint64_t SessionLayout::block_kv_bytes(const CacheNeed& need) const {
  std::uint64_t bytes = 0;
  for (const PagedKvNeed& kv : need.paged) {
    if (kv.ring_blocks == 0) bytes += paged_bytes(kv, block_tokens_);
  }
  return bytes;
}

void SessionLayout::gather(std::span<const std::byte> block,
                           std::int64_t index,
                           std::int64_t n,
                           std::span<std::byte> kv,
                           std::span<std::byte> compressed) const {
  std::ranges::fill(kv, std::byte{});
  each_run(index, n, [&](std::size_t in_block, std::size_t in_kv, std::size_t bytes) {
    copy_bytes(kv, in_kv, block, in_block, bytes);
  });
  each_entry(index, n, [&](std::size_t in_block, std::size_t in_text, std::size_t bytes) {
    copy_bytes(compressed, in_text, block, in_block, bytes);
  });
}

void SessionLayout::scatter(std::span<const std::byte> kv,
                            std::span<const std::byte> compressed,
                            std::int64_t index,
                            std::int64_t n,
                            std::span<std::byte> block) const {
  each_run(index, n, [&](std::size_t in_block, std::size_t in_kv, std::size_t bytes) {
    copy_bytes(block, in_block, kv, in_kv, bytes);
  });
  each_entry(index, n, [&](std::size_t in_block, std::size_t in_text, std::size_t bytes) {
    copy_bytes(block, in_block, compressed, in_text, bytes);
  });
}

/// copy(offset in the slot, offset in the state, bytes) for every run of a ring's keys and values
/// that a state after `position` tokens has.
template <typename Copy>
void SessionLayout::each_ring_run(const PagedKvNeed& kv,
                                  std::int64_t position,
                                  std::size_t in_slot,
                                  std::size_t in_state,
                                  const Copy& copy) const {
  const std::int64_t begin_last = position / kGroup * kGroup;
  const std::int64_t first_key = std::max<std::int64_t>(0, begin_last - kv.window + 1);
  const std::int64_t n_groups = state_groups(kv);
  // In a slot all keys lie before all values.
  const std::size_t values = paged_bytes(kv, kv.ring_blocks * block_tokens_) / 2;
  for (std::int64_t i = 0; i < n_groups; ++i) {
    const std::int64_t group = begin_last + (i - n_groups + 1) * kGroup;
    const std::int64_t begin = std::max(group, first_key);
    const std::int64_t end = std::min(group + kGroup, position);
    if (begin >= end) continue;
    const std::int64_t page = begin / block_tokens_ % kv.ring_blocks;
    std::size_t from = in_slot + paged_bytes(kv, page * block_tokens_) / 2;
    std::size_t to = in_state + paged_bytes(kv, i * kGroup);
    const auto part = [&](std::int64_t rows, std::size_t token_bytes) {
      for (std::int64_t row = 0; row < rows; ++row) {
        copy(from + size(row * block_tokens_ + begin % block_tokens_) * token_bytes,
             to + size(row * kGroup + begin % kGroup) * token_bytes,
             size(end - begin) * token_bytes);
      }
      to += size(rows * kGroup) * token_bytes;
    };
    part(std::int64_t{kv.n_kv_heads} * kv.head_dim, element_);
    from += values;
    part(kv.n_kv_heads, size(kv.head_dim) * element_);
  }
}

/// The same for all of a slot.
template <typename Copy>
void SessionLayout::each_state_run(std::int64_t position, const Copy& copy) const {
  const std::int64_t used = position % kLinearBlock;
  std::size_t in_slot = 0;
  std::size_t in_state = 0;
  const auto take = [&](std::int64_t floats, bool is_used) {
    const std::size_t bytes = size(floats) * sizeof(float);
    if (is_used) copy(in_slot, in_state, bytes);
    in_slot += bytes;
    in_state += bytes;
  };
  for (const CacheNeed& need : needs_) {
    for (const PagedKvNeed& kv : need.paged) {
      if (kv.ring_blocks == 0) continue;
      each_ring_run(kv, position, in_slot, in_state, copy);
      in_slot += paged_bytes(kv, kv.ring_blocks * block_tokens_);
      in_state += paged_bytes(kv, state_groups(kv) * kGroup);
    }
    for (const RecurrentNeed& r : need.recurrent) {
      take(std::int64_t{r.n_heads} * r.key_dim * r.value_dim, position >= kLinearBlock);
      for (const int width : {r.key_dim, r.value_dim}) {
        for (int head = 0; head < r.n_heads; ++head) {
          take(used * width, true);
          take((kLinearBlock - used) * width, false);
        }
      }
    }
  }
}

void SessionLayout::gather_state(std::span<const std::byte> slot,
                                 std::int64_t position,
                                 std::span<std::byte> state) const {
  HEDDLE_CHECK(state.size() == state_bytes());
  std::ranges::fill(state, std::byte{});
  each_state_run(position, [&](std::size_t in_slot, std::size_t in_state, std::size_t bytes) {
    copy_bytes(state, in_state, slot, in_slot, bytes);
  });
}

void SessionLayout::scatter_state(std::span<const std::byte> state,
                                  std::int64_t position,
                                  std::span<std::byte> slot) const {
  HEDDLE_CHECK(state.size() == state_bytes());
  std::ranges::fill(slot, std::byte{});
  each_state_run(position, [&](std::size_t in_slot, std::size_t in_state, std::size_t bytes) {
    copy_bytes(slot, in_slot, state, in_state, bytes);
  });
}

}  // namespace heddle
