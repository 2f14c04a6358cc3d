// Families gemma2 and gemma3: norms before and after attention and FFN, embeddings times
// sqrt(hidden), GELU, windowed layers between full ones. gemma2 soft-caps attention scores and
// logits; gemma3 has a norm on each head of q and k and a rotation of its own in windowed layers.
// In a folder norms are stored as w - 1; GGUF stores w.

#include <fmt/format.h>

#include <cmath>

#include "models/families/families.h"
#include "models/families/fields.h"
#include "models/families/folder_dense.h"
#include "models/families/gguf_dense.h"

namespace heddle {
namespace {

constexpr double kMostCap = 1e6;
constexpr double kGemma3LocalTheta = 10'000.0;
// The largest model of each generation scales scores by its hidden size per head, the others by the
// head's own width. GGUF has no key for it; readers of the format go by the number of layers.
constexpr int kLargestGemma2Layers = 46;
constexpr int kLargestGemma3Layers = 62;

void set_common(DenseModel& model) {
  model.post_norms = true;
  model.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(model.hidden)));
}

/// Every `period`-th layer sees all keys, the others `window`.
std::vector<int> alternate(int layers, int window, int period) {
  std::vector<int> windows(static_cast<std::size_t>(layers), window);
  for (std::size_t i = 0; i < windows.size(); ++i) {
    if ((i + 1) % static_cast<std::size_t>(period) == 0) windows[i] = 0;
  }
  return windows;
}

DenseModel read_gguf(const GgufFields& fields,
                     TensorCheck& tensors,
                     Checkpoint& checkpoint,
                     int default_period,
                     int largest_layers) {
  DenseModel model = read_gguf_dense(fields, tensors, checkpoint);
  set_common(model);
  model.activation = Activation::kGeluTanh;
  const int window = require_count(fields, "attention.sliding_window", ModelLimits::kContext);
  const int period =
      count_or(fields, "attention.sliding_window_pattern", ModelLimits::kLayers, default_period);
  model.windows = alternate(model.layers, window, period);
  if (!fields.has("attention.scale") && model.layers == largest_layers) {
    model.attention_scale = static_cast<float>(
        1.0 / std::sqrt(static_cast<double>(model.hidden) / static_cast<double>(model.q_heads)));
  }
  return model;
}

/// What an absent key stands for.
struct FolderTraits {
  double attention_soft_cap, final_soft_cap;
  int period;
};

/// Both families' keys in config.json.
void read_folder(FolderDense& folder, const FolderTraits& traits) {
  DenseModel& model = folder.model;
  set_common(model);
  model.norm_add = 1.0F;
  model.qkv_bias = model.o_bias = folder.flag("attention_bias", false);
  const double scalar = real_or(folder.config(), "query_pre_attn_scalar", 1e-3, 1e6, 256.0);
  model.attention_scale = static_cast<float>(1.0 / std::sqrt(scalar));
  const auto cap = [&](std::string_view key, double otherwise) {
    if (folder.config().is_null(key)) return 0.0F;
    return static_cast<float>(real_or(folder.config(), key, 0.0, kMostCap, otherwise));
  };
  model.attention_soft_cap = cap("attn_logit_softcapping", traits.attention_soft_cap);
  model.final_soft_cap = cap("final_logit_softcapping", traits.final_soft_cap);
  const int window = count_or(folder.config(), "sliding_window", ModelLimits::kContext, 4096);
  const int period =
      count_or(folder.config(), "sliding_window_pattern", ModelLimits::kLayers, traits.period);
  model.windows = folder.windows_by_layer_types(window);
  if (model.windows.empty()) model.windows = alternate(model.layers, window, period);
}

}  // namespace

void read_gemma2_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "gemma2");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model = read_gguf(fields, tensors, checkpoint, 2, kLargestGemma2Layers);
  model.attention_soft_cap =
      static_cast<float>(real_or(fields, "attn_logit_softcapping", 0.0, kMostCap, 50.0));
  model.final_soft_cap =
      static_cast<float>(real_or(fields, "final_logit_softcapping", 0.0, kMostCap, 30.0));
  build_dense(model, DenseNaming::gguf(), tensors, checkpoint);
}

void read_gemma3_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "gemma3");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model = read_gguf(fields, tensors, checkpoint, 6, kLargestGemma3Layers);
  refuse_gguf_key(fields, "attn_logit_softcapping");
  model.final_soft_cap =
      static_cast<float>(real_or(fields, "final_logit_softcapping", 0.0, kMostCap, 0.0));
  model.qk_norm = true;
  const double theta =
      real_or(fields, "rope.freq_base_swa", 1.0, ModelLimits::kRopeTheta, kGemma3LocalTheta);
  model.window_rope = plain_rope(theta, model.rope.rotary_dim);
  build_dense(model, DenseNaming::gguf(), tensors, checkpoint);
}

void read_gemma2_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint,
                     {.head_dim = 256,
                      .kv_heads = 4,
                      .context = 8192,
                      .activation_key = "hidden_activation",
                      .activation = Activation::kGeluTanh,
                      .tied_head = true,
                      .post_norms = true});
  read_folder(folder, {50.0, 30.0, 2});
  folder.build();
}

void read_gemma3_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint,
                     {.head_dim = 256,
                      .q_heads = 8,
                      .kv_heads = 4,
                      .context = 131'072,
                      .rope_theta = 1e6,
                      .activation_key = "hidden_activation",
                      .activation = Activation::kGeluTanh,
                      .tied_head = true,
                      .post_norms = true});
  read_folder(folder, {0.0, 0.0, 6});
  folder.model.qk_norm = true;
  folder.model.window_rope = folder.local_rope("rope_local_base_freq", kGemma3LocalTheta);
  folder.build();
}

}  // namespace heddle
