#include "models/scratch_shape.h"

#include <algorithm>

#include "models/ffn/ffn.h"
#include "models/mixers/mixer.h"

namespace heddle {
namespace {

void grow(std::int64_t& most, std::int64_t value) {
  most = std::max(most, value);
}

void take_caches(const CacheNeed& need, ScratchShape& shape) {
  for (const PagedKvNeed& kv : need.paged) {
    grow(shape.n_q_heads, kv.n_q_heads);
    grow(shape.n_kv_heads, kv.n_kv_heads);
    grow(shape.head_dim, kv.head_dim);
    shape.key_lists |= kv.skips;
  }
  for (const CompressedKeyNeed& c : need.compressed) {
    const std::int64_t stride = c.stride;
    shape.entry_stride = shape.entry_stride == 0 ? stride : std::min(shape.entry_stride, stride);
  }
  for (const RecurrentNeed& r : need.recurrent) {
    grow(shape.linear_heads, r.n_heads);
    grow(shape.key_dim, r.key_dim);
    grow(shape.value_dim, r.value_dim);
  }
}

}  // namespace

ScratchShape scratch_shape(const ModelConfig& config,
                           const WeightStore& weights,
                           const DecoderLimits& limits) {
  ScratchShape shape;
  shape.n_rows = limits.max_tokens;
  shape.n_positions = limits.max_positions;
  shape.vocab = config.vocab;
  const StepSize size{limits.max_tokens, limits.max_positions};
  const std::int64_t stream = std::max(limits.max_tokens, limits.max_outputs) * config.hidden;
  shape.x_elements = stream;
  for (const LayerSpec& layer : config.layers) {
    // What a matmul reads is the stream or lies in the workspace; a dense FFN has it beside
    // another of its size, and experts copy rows of either.
    for (const MixerSpec& mixer : layer.mixers) {
      take_caches(cache_need(mixer), shape);
      grow(shape.x_elements, static_cast<std::int64_t>(workspace_bytes(mixer, size) / 4));
    }
    const auto ffn = static_cast<std::int64_t>(workspace_bytes(layer.ffn, config.hidden, size) / 4);
    if (const auto* const moe = std::get_if<MoeFfnSpec>(&layer.ffn)) {
      grow(shape.x_elements, ffn + stream);
      grow(shape.expert_rows, limits.max_tokens * moe->router.top_k);
      grow(shape.n_experts, moe->router.n_experts);
    } else {
      grow(shape.x_elements, ffn / 2);
    }
  }
  for (const StoredTensor& tensor : weights.tensors()) {
    if (!tensor.foreign.empty() || tensor.view.rank < 2) continue;
    grow(shape.x_width, tensor.view.dim(tensor.view.rank - 1));
    const DType type = tensor.view.dtype;
    std::vector<DType>& types = shape.weight_types;
    if (std::find(types.begin(), types.end(), type) == types.end()) types.push_back(type);
  }
  return shape;
}

}  // namespace heddle
