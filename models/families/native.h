#pragma once
// Heddle's own format (model_type "heddle"): a list of layers, each a list of mixers and an FFN.
// docs/native_format.md is its reference.

#include <string>

#include "models/checkpoint.h"
#include "models/families/tensor_check.h"
#include "models/strict_object.h"

namespace heddle {

/// What a layer's parts are read with.
struct NativeLayer {
  TensorCheck& tensors;
  std::string prefix;  // "layers.3."
  int index = 0;
  int n_layers = 0;
  int hidden = 0;
  int context = 0;
  double norm_eps = 0.0;

  TensorPart matrix(const std::string& name, std::int64_t rows, std::int64_t cols) const {
    return tensors.matrix(prefix + name + ".weight", rows, cols);
  }
  TensorPart vector(const std::string& name, std::int64_t n) const {
    return tensors.vector(prefix + name, n);
  }
};

/// read_native_folder() for the first `layers` layers only; 0: all.
void read_native(const ConfigJson& object, Checkpoint& checkpoint, int layers);

/// The activation named under `key`.
Activation read_native_activation(const StrictObject& config,
                                  std::string_view key,
                                  Activation otherwise);

/// Reads one element of "mixers", or "ffn": its spec, and its tensors from `layer.prefix` on.
std::pair<MixerSpec, MixerNames> read_native_mixer(const StrictObject& config,
                                                   const NativeLayer& layer);
std::pair<FfnSpec, FfnNames> read_native_ffn(const StrictObject& config, const NativeLayer& layer);

}  // namespace heddle
