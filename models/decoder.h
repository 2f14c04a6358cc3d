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
#include "models/layer_step.h"

namespace heddle {

struct DecoderLimits {
  std::int64_t max_tokens = 512;   // rows of one step
  std::int64_t max_outputs = 512;  // rows with logits of one step
  std::int64_t max_positions = 0;  // tokens of one sequence, rounded up to whole cache blocks
};

/// Weights and specs; keeps no state between calls (caches are the caller's). Used by one thread.
class Decoder {
 public:
  /// Binds and packs every tensor (releasing the mapped pages as it goes); throws kBadInput if one
  /// is missing, has another shape, is left over or, unless allowed, holds NaN or infinities.
  /// Consumes checkpoint.weights.
  Decoder(Checkpoint& checkpoint,
          Backend& backend,
          const DecoderLimits& limits,
          bool allow_nonfinite = false);
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// Enqueues the step; the result [n_outputs, vocab] F32 lives on the device until the next call,
  /// at the begin of a buffer of max_outputs rows, whose others are the caller's till then.
  /// `caches`: one for each mixer, as cache_needs() lists them.
  TensorView forward(const ForwardBatch& batch, const std::vector<MixerCache>& caches);
  void set_tap(Tap tap);

  const ModelConfig& config() const;
  std::uint64_t weight_bytes() const;
  /// What allow_nonfinite let pass, a line for each tensor.
  const std::vector<std::string>& warnings() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What the config alone says: one need per mixer, layer by layer, and the activations of the
/// largest step.
std::vector<CacheNeed> cache_needs(const ModelConfig& config);
std::uint64_t activation_bytes(const ModelConfig& config, const DecoderLimits& limits);

}  // namespace heddle
