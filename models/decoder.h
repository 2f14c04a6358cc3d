#pragma once
// The arithmetic of a model: embed, layers, final norm, logits of the rows asked for.

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "models/cache_need.h"
#include "models/checkpoint.h"
#include "models/forward_batch.h"

namespace heddle {

/// Called with intermediate results, named after the reference implementation's modules
/// ("model.layers.3.self_attn"); layer -1 outside the layers. The view is valid during the call.
using Tap = std::function<void(std::string_view name, int layer, const TensorView& value)>;

/// The memory of one layer as the decoder sees it; made by the engine's CacheStorage.
struct LayerCache {
  std::vector<KvPages> paged;  // as CacheNeed::paged
};

struct DecoderLimits {
  std::int64_t max_tokens = 512;   // rows of one step
  std::int64_t max_outputs = 512;  // rows with logits of one step
};

/// Weights and specs; keeps no state between calls (caches are the caller's). Used by one thread.
class Decoder {
 public:
  virtual ~Decoder() = default;
  /// Enqueues the step; the result [n_outputs, vocab] F32 lives on the device until the next call.
  virtual TensorView forward(const ForwardBatch& batch, const std::vector<LayerCache>& caches) = 0;
  virtual void set_tap(Tap tap) = 0;
  virtual const ModelConfig& config() const = 0;
  virtual std::vector<CacheNeed> cache_needs() const = 0;  // one per layer
  virtual std::uint64_t weight_bytes() const = 0;
  virtual std::uint64_t activation_bytes() const = 0;
};

/// Binds and packs every tensor (releasing the mapped pages as it goes) and fails if one is left
/// over. Consumes checkpoint.weights.
std::unique_ptr<Decoder> build_decoder(Checkpoint& checkpoint,
                                       Backend& backend,
                                       const DecoderLimits& limits);

}  // namespace heddle
