#pragma once
// What a mixer or FFN gets to compute one layer of one step.

#include <functional>
#include <string_view>
#include <vector>

#include "kernels/ops.h"
#include "models/cache_need.h"
#include "models/forward_batch.h"

namespace heddle {

/// Bump allocator over memory sized at load: a layer takes what it needs, the next layer starts
/// over.
class Workspace {
 public:
  Workspace() = default;
  Workspace(std::byte* data, std::size_t bytes, DeviceKind device)
      : data_(data), bytes_(bytes), device_(device) {}

  TensorView take(DType dtype, std::initializer_list<std::int64_t> shape) {
    TensorView view(data_ + used_, dtype, shape, device_);
    used_ += padded(static_cast<std::size_t>(view.bytes()));
    HEDDLE_CHECK(used_ <= bytes_);
    return view;
  }
  TensorView f32(std::initializer_list<std::int64_t> shape) { return take(DType::kF32, shape); }
  TensorView i32(std::initializer_list<std::int64_t> shape) { return take(DType::kI32, shape); }
  TensorView u8(std::initializer_list<std::int64_t> shape) { return take(DType::kU8, shape); }
  void reset() { used_ = 0; }
  static std::size_t padded(std::size_t bytes) { return (bytes + 255) / 256 * 256; }
  static std::size_t f32_bytes(std::int64_t elements) {
    return padded(static_cast<std::size_t>(elements) * sizeof(float));
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t used_ = 0;
  DeviceKind device_ = DeviceKind::kCpu;
};

/// One mixer's caches as the kernels see them; made by the engine's CacheStorage.
struct MixerCache {
  std::vector<KvPages> paged;  // each as in CacheNeed
  int ring = -1;               // of ForwardBatch::rings, which `paged` belongs to; -1: the pool
  std::vector<CompressedKeys> compressed;
  std::vector<LinearState> recurrent;
};

/// The largest step: what workspaces are sized for.
struct StepSize {
  std::int64_t n_tokens = 0;
  std::int64_t n_positions = 0;  // of one sequence
};

/// Called with intermediate results, named after the reference implementation's modules
/// ("self_attn" of layer 3); layer -1 outside the layers. The view is valid during the call.
using Tap = std::function<void(std::string_view name, int layer, const TensorView& value)>;

/// Which heads of a mixture are in use: [n_tokens, n_q_heads] U8, on the backend's stream.
inline constexpr std::string_view kHeadMask = "self_attn.head_mask";

struct LayerStep {
  Ops& ops;
  const ForwardBatch& batch;
  const MixerCache* cache;  // of the mixer at work
  const Tap* tap;           // or null
  int layer;
  const std::vector<TensorView>& rope_tables;  // per distinct RopeSpec of the model
  Workspace& workspace;
  TensorView normed;    // [n_tokens, hidden] input of the mixer or FFN
  TensorView residual;  // [n_tokens, hidden] added to its result; absent: nothing is
  TensorView out;       // [n_tokens, hidden] where the sum goes; may be normed or residual
};

}  // namespace heddle
