#pragma once
// The keys of config.json that the dense families share, with what the reference implementation
// (transformers) assumes where a published config says nothing.

#include <string>
#include <string_view>
#include <vector>

#include "models/config_json.h"
#include "models/families/dense.h"

namespace heddle {

/// What a family's configuration class assumes for keys that are absent.
struct FolderDefaults {
  int head_dim = 0;  // 0: hidden_size / num_attention_heads
  int q_heads = 0;   // 0: the key is required
  int kv_heads = 0;  // 0: as many as query heads
  int context = 2048;
  double norm_eps = 1e-6;
  double rope_theta = 10'000.0;
  std::string_view activation_key = "hidden_act";
  Activation activation = Activation::kSilu;
  bool tied_head = false;
  bool post_norms = false;
  /// Keys of unmet_need() that this family computes.
  std::vector<std::string_view> known_needs = {};
  bool mxfp4 = false;  // quantization_config may say so
  std::string_view embedding = "embed_tokens";
};

/// Reads one model folder into a DenseModel, which the family then completes; build() ends it.
class FolderDense {
 public:
  /// `config` may hold the decoder's keys in "text_config" (a model that also sees images: its
  /// other tensors are left alone). Sets checkpoint.config.vocab. Throws kBadInput.
  FolderDense(const ConfigJson& config, Checkpoint& checkpoint, const FolderDefaults& defaults);

  DenseModel model;

  const ConfigJson& config() const { return config_; }
  DenseNaming& naming() { return naming_; }
  TensorCheck& tensors() { return tensors_; }
  bool flag(std::string_view key, bool otherwise) const;
  /// "sliding_window" in all layers; null: none; absent: `otherwise` (0: none).
  void window_everywhere(int otherwise);
  /// Qwen: with "use_sliding_window", "sliding_window" from layer "max_window_layers" on, or where
  /// "layer_types" says so.
  void window_from_layer();
  /// `window` or 0 per layer, as "layer_types" says; empty where the key is absent.
  std::vector<int> windows_by_layer_types(int window) const;
  /// The rotation of windowed layers: rope_parameters.sliding_attention, else plain frequencies for
  /// `key`.
  RopeSpec local_rope(std::string_view key, double theta_or) const;

  /// Experts chosen by softmax: their number under `experts_key`, "num_experts_per_tok" of them.
  MoeFfnSpec experts(std::string_view experts_key, int intermediate) const;
  int count(std::string_view key, std::int64_t most, std::int64_t otherwise = 0) const;

  void build();

 private:
  void read_sizes(const FolderDefaults& defaults);
  void read_vocab();
  void find_tensors(const FolderDefaults& defaults);

  ConfigJson config_;  // the decoder's
  bool has_other_towers_ = false;
  Checkpoint& checkpoint_;
  TensorCheck tensors_;
  DenseNaming naming_;
};

}  // namespace heddle
