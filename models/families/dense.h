#pragma once
// What the dense decoders have in common. A family reads its checkpoint's config into a DenseModel;
// build_dense() turns that into the layers and the tensors that the decoder binds, whatever the
// file format.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/checkpoint.h"
#include "models/families/linear_parts.h"
#include "models/families/moe_parts.h"
#include "models/families/tensor_check.h"
#include "models/slopes.h"

namespace heddle {

/// RMS norms before attention and FFN, grouped-query softmax attention, gated FFN.
struct DenseModel {
  int layers = 0;
  int hidden = 0;
  int intermediate = 0;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int context = 0;
  float norm_eps = 0.0F;
  Activation activation = Activation::kSilu;
  float attention_scale = 0.0F;
  float attention_soft_cap = 0.0F;
  float final_soft_cap = 0.0F;
  float embedding_scale = 1.0F;
  bool tied_head = false;

  std::vector<int> windows;  // per layer, 0: all keys; empty: 0 everywhere
  RopeSpec rope;
  std::optional<RopeSpec> window_rope;  // of the layers with a window, where it differs

  bool qk_norm = false;
  bool post_norms = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool ffn_bias = false;
  bool fused_qkv = false;      // rows of q, k and v in one tensor
  bool fused_gate_up = false;  // rows of gate and up in one tensor
  /// Rows of q and k are stored for interleaved rotation: stored row 2i is dimension i of a head,
  /// 2i + 1 is dimension i + rotary_dim / 2.
  bool interleaved_rows = false;
  bool qk_norm_all_heads = false;  // with qk_norm: one norm over all heads
  bool sinks = false;
  /// Experts in place of the dense FFN, in all layers but dense_layers (ascending).
  std::optional<MoeFfnSpec> moe;
  MoeNaming moe_naming;
  std::vector<int> dense_layers;
  std::optional<HeadRouterSpec> heads;
  SparseSpec sparse;
  float logit_scale = 1.0F;
  bool output_gate = false;  // of softmax attention
  /// In place of softmax attention in linear_layers (ascending); its slopes by `slopes`.
  std::optional<LinearAttentionSpec> linear;
  std::vector<int> linear_layers;
  SlopeRule slopes;
  LinearNaming linear_naming;
  ResidualSpec softmax_residual, linear_residual, ffn_residual;
  float norm_add = 0.0F;  // norms of the file + this are the norms of the formula
};

/// Unscaled frequencies.
RopeSpec plain_rope(double theta, int rotary_dim);

/// Every tensor role of a DenseModel.
enum class DensePart {
  kEmbedding,
  kFinalNorm,
  kHead,
  kMixerNorm,
  kMixerPostNorm,
  kFfnNorm,
  kFfnPostNorm,
  kQ,
  kK,
  kV,
  kQkv,
  kO,
  kOutputGate,
  kQNorm,
  kKNorm,
  kGate,
  kUp,
  kGateUp,
  kDown,
};

/// How a format names them.
class DenseNaming {
 public:
  /// "blk.3.attn_q.weight"
  static DenseNaming gguf();
  /// "model.layers.3.self_attn.q_proj.weight"; `prefix` stands before "embed_tokens" and "layers".
  /// With post norms, Gemma's names of the four norms.
  static DenseNaming folder(std::string prefix, std::string head, bool post_norms);
  /// This family's own name of a part, in place of the format's.
  void rename(DensePart part, std::string name) { own_[part] = std::move(name); }

  /// `suffix`: "weight" or "bias". `layer` is ignored for the parts outside the layers.
  std::string name(DensePart part, int layer, std::string_view suffix = "weight") const;
  /// What stands before the names of a layer's parts: "model.layers.3." or "blk.3.".
  std::string layer(int layer) const;
  std::string sinks(int layer) const;  // whole: it has no suffix in folders

 private:
  enum class Style { kGguf, kFolder, kFolderPostNorms };
  Style style_ = Style::kGguf;
  std::string prefix_, head_;
  std::map<DensePart, std::string> own_;
};

/// Fills config and names of `checkpoint`, whose weights `tensors` watches; refuses tensors of
/// other shapes and tensors left over. Throws kBadInput.
void build_dense(const DenseModel& model,
                 const DenseNaming& naming,
                 TensorCheck& tensors,
                 Checkpoint& checkpoint);

}  // namespace heddle
