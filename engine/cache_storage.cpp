#include "engine/cache_storage.h"

#include <algorithm>

#include "engine/cache_rings.h"

namespace heddle {
namespace {

/// Entries of compressed keys in one cache block.
std::int64_t entries(int stride, int block_tokens) {
  return std::max<std::int64_t>(1, block_tokens / stride);
}

/// Of one entry of the first dimension.
std::size_t entry_bytes(const TensorView& part) {
  return part.dim(0) == 0 ? 0 : static_cast<std::size_t>(part.bytes() / part.dim(0));
}

/// Pages of rings by their slots: [n_slots, elements of a ring].
TensorView by_slot(const TensorView& pages, std::int64_t n_slots) {
  TensorView slots = pages;
  slots.rank = 2;
  slots.dims = {n_slots, n_slots == 0 ? 0 : pages.elements() / n_slots, 0, 0};
  return slots;
}

std::byte* entry(const TensorView& part, BlockId id) {
  return static_cast<std::byte*>(part.data) + static_cast<std::size_t>(id) * entry_bytes(part);
}

}  // namespace

CacheStorage::CacheStorage(const std::vector<CacheNeed>& needs,
                           const CacheShape& shape,
                           Backend& backend)
    : backend_(backend) {
  const std::int64_t n = shape.n_blocks;
  const int tokens = shape.block_tokens;
  const std::vector<std::int64_t> sizes = ring_sizes(needs);
  for (const CacheNeed& need : needs) {
    MixerCache mixer;
    for (const PagedKvNeed& kv : need.paged) {
      const bool ring = kv.ring_blocks > 0;
      if (ring) {
        HEDDLE_CHECK(need.paged.size() == 1 && need.compressed.empty());
        mixer.ring = static_cast<int>(std::lower_bound(sizes.begin(), sizes.end(), kv.ring_blocks) -
                                      sizes.begin());
      }
      const std::int64_t pages = ring ? shape.n_state_slots * kv.ring_blocks : n;
      mixer.paged.push_back(
          {.k = take(shape.kv_dtype, {pages, kv.n_kv_heads, kv.head_dim, tokens}, backend),
           .v = take(shape.kv_dtype, {pages, kv.n_kv_heads, tokens, kv.head_dim}, backend)});
    }
    for (const CompressedKeyNeed& c : need.compressed) {
      const auto level = [&](int stride) {
        return take(DType::kF32, {n, c.n_kv_heads, entries(stride, tokens), c.head_dim}, backend);
      };
      mixer.compressed.push_back({.k1 = level(c.stride),
                                  .k2 = level(kCoarseKeys * c.stride),
                                  .kernel = c.kernel,
                                  .stride = c.stride,
                                  .block_tokens = tokens});
    }
    for (const RecurrentNeed& r : need.recurrent) {
      const auto part = [&](std::int64_t rows, int cols) {
        return take(DType::kF32, {shape.n_state_slots, r.n_heads, rows, cols}, backend);
      };
      mixer.recurrent.push_back({.s = part(r.key_dim, r.value_dim),
                                 .tail_k = part(kLinearBlock, r.key_dim),
                                 .tail_v = part(kLinearBlock, r.value_dim)});
    }
    mixers_.push_back(std::move(mixer));
  }
  list_parts(shape.n_state_slots);
  take_host(blocks_, shape.n_host_blocks);
  take_host(slots_, shape.n_host_slots);
}

TensorView CacheStorage::take(DType dtype,
                              std::initializer_list<std::int64_t> dims,
                              Backend& backend) {
  TensorView view(nullptr, dtype, dims, backend.kind());
  buffers_.push_back(backend.allocate_sparse(static_cast<std::size_t>(view.bytes())));
  view.data = buffers_.back().data();
  return view;
}

void CacheStorage::list_parts(std::int64_t n_slots) {
  for (const MixerCache& mixer : mixers_) {
    for (const KvPages& pages : mixer.paged) {
      if (mixer.ring < 0) {
        blocks_.parts.insert(blocks_.parts.end(), {pages.k, pages.v});
      } else {
        slots_.parts.insert(slots_.parts.end(),
                            {by_slot(pages.k, n_slots), by_slot(pages.v, n_slots)});
      }
    }
    for (const CompressedKeys& keys : mixer.compressed) {
      blocks_.parts.insert(blocks_.parts.end(), {keys.k1, keys.k2});
    }
    for (const LinearState& state : mixer.recurrent) {
      slots_.parts.insert(slots_.parts.end(), {state.s, state.tail_k, state.tail_v});
    }
  }
  for (Entries* entries : {&blocks_, &slots_}) {
    for (const TensorView& part : entries->parts) entries->entry_bytes += entry_bytes(part);
  }
}

void CacheStorage::take_host(Entries& entries, std::int64_t n) {
  if (n > 0)
    entries.host = backend_.allocate_host(static_cast<std::size_t>(n) * entries.entry_bytes);
}

void CacheStorage::to_host(const Entries& entries, BlockId from, std::byte* to) {
  for (const TensorView& part : entries.parts) {
    backend_.copy_to_host(to, entry(part, from), entry_bytes(part));
    to += entry_bytes(part);
  }
}

void CacheStorage::to_device(const Entries& entries, const std::byte* from, BlockId to) {
  for (const TensorView& part : entries.parts) {
    backend_.copy_to_device(entry(part, to), from, entry_bytes(part));
    from += entry_bytes(part);
  }
}

void CacheStorage::copy(const std::vector<BatchPlan::Copy>& copies) {
  for (const BatchPlan::Copy& copy : copies) {
    const Entries& entries = copy.what == BatchPlan::Copy::What::kBlock ? blocks_ : slots_;
    if (copy.to.on_host) {
      to_host(entries, copy.from.id, entries.on_host(copy.to.id));
    } else if (copy.from.on_host) {
      to_device(entries, entries.on_host(copy.from.id), copy.to.id);
    } else if (copy.from.id != copy.to.id) {
      for (const TensorView& part : entries.parts) {
        backend_.copy_on_device(entry(part, copy.to.id), entry(part, copy.from.id),
                                entry_bytes(part));
      }
    }
  }
}

void CacheStorage::read_block(const CachePlace& block, std::span<std::byte> host) {
  read(blocks_, block, host);
}

void CacheStorage::read_slot(const CachePlace& slot, std::span<std::byte> host) {
  read(slots_, slot, host);
}

void CacheStorage::read(const Entries& entries,
                        const CachePlace& place,
                        std::span<std::byte> host) {
  HEDDLE_CHECK(host.size() == entries.entry_bytes);
  if (!place.on_host) to_host(entries, place.id, host.data());
  backend_.synchronize();
  if (place.on_host) std::copy_n(entries.on_host(place.id), host.size(), host.data());
}

void CacheStorage::write_block(BlockId block, std::span<const std::byte> host) {
  HEDDLE_CHECK(host.size() == blocks_.entry_bytes);
  to_device(blocks_, host.data(), block);
  backend_.synchronize();
}

void CacheStorage::write_slot(BlockId slot, std::span<const std::byte> host) {
  HEDDLE_CHECK(host.size() == slots_.entry_bytes);
  to_device(slots_, host.data(), slot);
  backend_.synchronize();
}

std::uint64_t compressed_block_bytes(const std::vector<CacheNeed>& needs, int block_tokens) {
  std::int64_t elements = 0;
  for (const CacheNeed& need : needs) {
    for (const CompressedKeyNeed& c : need.compressed) {
      elements +=
          (entries(c.stride, block_tokens) + entries(kCoarseKeys * c.stride, block_tokens)) *
          c.n_kv_heads * c.head_dim;
    }
  }
  return static_cast<std::uint64_t>(elements) * sizeof(float);
}

std::uint64_t kv_block_bytes(const std::vector<CacheNeed>& needs,
                             DType kv_dtype,
                             int block_tokens) {
  std::int64_t elements = 0;
  for (const CacheNeed& need : needs) {
    for (const PagedKvNeed& kv : need.paged) {
      if (kv.ring_blocks == 0) elements += kv.elements_per_token() * block_tokens;
    }
  }
  return static_cast<std::uint64_t>(row_bytes(kv_dtype, elements)) +
         compressed_block_bytes(needs, block_tokens);
}

double kv_bytes_per_token(const std::vector<CacheNeed>& needs, DType kv_dtype, int block_tokens) {
  return static_cast<double>(kv_block_bytes(needs, kv_dtype, block_tokens)) / block_tokens;
}

std::uint64_t ring_bytes(const std::vector<CacheNeed>& needs, DType kv_dtype, int block_tokens) {
  std::int64_t elements = 0;
  for (const CacheNeed& need : needs) {
    for (const PagedKvNeed& kv : need.paged) {
      elements += kv.elements_per_token() * kv.ring_blocks * block_tokens;
    }
  }
  return static_cast<std::uint64_t>(row_bytes(kv_dtype, elements));
}

std::uint64_t state_bytes(const std::vector<CacheNeed>& needs) {
  std::int64_t elements = 0;
  for (const CacheNeed& need : needs) {
    for (const RecurrentNeed& r : need.recurrent) elements += r.elements();
  }
  return static_cast<std::uint64_t>(elements) * sizeof(float);
}

}  // namespace heddle
