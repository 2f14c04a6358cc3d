#include "engine/cache_storage.h"

#include <algorithm>

namespace heddle {
namespace {

/// Entries of compressed keys in one cache block.
std::int64_t entries(int stride, int block_tokens) {
  return std::max<std::int64_t>(1, block_tokens / stride);
}

constexpr int kCoarse = 4;  // level 2 of compressed keys: kernels/api/key_blocks.h

}  // namespace

CacheStorage::CacheStorage(const std::vector<CacheNeed>& needs,
                           const CacheShape& shape,
                           Backend& backend)
    : backend_(backend) {
  const std::int64_t n = shape.n_blocks;
  const int tokens = shape.block_tokens;
  for (const CacheNeed& need : needs) {
    MixerCache mixer;
    for (const PagedKvNeed& kv : need.paged) {
      mixer.paged.push_back(
          {.k = take(shape.kv_dtype, {n, kv.n_kv_heads, kv.head_dim, tokens}, backend),
           .v = take(shape.kv_dtype, {n, kv.n_kv_heads, tokens, kv.head_dim}, backend)});
    }
    for (const CompressedKeyNeed& c : need.compressed) {
      const auto level = [&](int stride) {
        return take(DType::kF32, {n, c.n_kv_heads, entries(stride, tokens), c.head_dim}, backend);
      };
      mixer.compressed.push_back({.k1 = level(c.stride),
                                  .k2 = level(kCoarse * c.stride),
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
}

TensorView CacheStorage::take(DType dtype,
                              std::initializer_list<std::int64_t> dims,
                              Backend& backend) {
  TensorView view(nullptr, dtype, dims, backend.kind());
  buffers_.push_back(backend.allocate_sparse(static_cast<std::size_t>(view.bytes())));
  view.data = buffers_.back().data();
  return view;
}

/// Entry `from` of the first dimension to entry `to`.
void CacheStorage::copy_part(const TensorView& view, std::int64_t from, std::int64_t to) {
  const std::int64_t bytes = view.bytes() / view.dim(0);
  auto* data = static_cast<std::byte*>(view.data);
  backend_.copy_on_device(data + to * bytes, data + from * bytes, static_cast<std::size_t>(bytes));
}

void CacheStorage::copy(const std::vector<BatchPlan::Copy>& copies) {
  for (const BatchPlan::Copy& copy : copies) {
    if (copy.from == copy.to) continue;
    if (copy.what == BatchPlan::Copy::What::kBlock) {
      copy_block(copy.from, copy.to);
    } else {
      copy_state(copy.from, copy.to);
    }
  }
}

void CacheStorage::copy_block(std::int64_t from, std::int64_t to) {
  for (const MixerCache& mixer : mixers_) {
    for (const KvPages& pages : mixer.paged) {
      copy_part(pages.k, from, to);
      copy_part(pages.v, from, to);
    }
    for (const CompressedKeys& keys : mixer.compressed) {
      copy_part(keys.k1, from, to);
      copy_part(keys.k2, from, to);
    }
  }
}

void CacheStorage::copy_state(std::int64_t from, std::int64_t to) {
  for (const MixerCache& mixer : mixers_) {
    for (const LinearState& state : mixer.recurrent) {
      copy_part(state.s, from, to);
      copy_part(state.tail_k, from, to);
      copy_part(state.tail_v, from, to);
    }
  }
}

std::uint64_t compressed_block_bytes(const std::vector<CacheNeed>& needs, int block_tokens) {
  std::int64_t elements = 0;
  for (const CacheNeed& need : needs) {
    for (const CompressedKeyNeed& c : need.compressed) {
      elements += (entries(c.stride, block_tokens) + entries(kCoarse * c.stride, block_tokens)) *
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
    for (const PagedKvNeed& kv : need.paged) elements += kv.elements_per_token() * block_tokens;
  }
  return static_cast<std::uint64_t>(row_bytes(kv_dtype, elements)) +
         compressed_block_bytes(needs, block_tokens);
}

double kv_bytes_per_token(const std::vector<CacheNeed>& needs, DType kv_dtype, int block_tokens) {
  return static_cast<double>(kv_block_bytes(needs, kv_dtype, block_tokens)) / block_tokens;
}

std::uint64_t state_bytes(const std::vector<CacheNeed>& needs) {
  std::int64_t elements = 0;
  for (const CacheNeed& need : needs) {
    for (const RecurrentNeed& r : need.recurrent) elements += r.elements();
  }
  return static_cast<std::uint64_t>(elements) * sizeof(float);
}

}  // namespace heddle
