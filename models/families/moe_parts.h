#pragma once
#include <string>
#include <string_view>

#include "models/checkpoint.h"
#include "models/families/tensor_check.h"

namespace heddle {

/// How a format names the tensors of a mixture of experts, after "model.layers.3." or "blk.3.".
struct MoeNaming {
  std::string_view router;            // "mlp.gate"
  std::string_view choice_bias = "";  // "mlp.gate.expert_bias"
  /// One tensor for each expert: "mlp.experts.", then its number and ".gate_proj". Stacked, one
  /// [n_experts, rows, cols] for all: "ffn_gate_exps".
  std::string_view experts = "mlp.experts.";
  std::string_view gate = "gate_proj", up = "up_proj", down = "down_proj";
  bool stacked = false;
  std::string_view gate_up = "";  // stacked rows of gate and up in turn, in place of both
  std::string_view weight_suffix = ".weight", bias_suffix = ".bias";  // of the experts
  std::string_view shared_gate_proj = "", shared_up_proj = "", shared_down_proj = "";
  std::string_view shared_gate = "";
  bool shared_gate_is_vector = false;  // [hidden], not [1, hidden]
};

/// Mixtral's and MiniMax's "block_sparse_moe"; Qwen's and OLMoE's "mlp"; GGUF's.
MoeNaming mixtral_experts();
MoeNaming qwen_experts();
MoeNaming gguf_experts();

/// The tensors of one layer, checked.
MoeFfnNames moe_names(const MoeFfnSpec& spec,
                      int hidden,
                      const MoeNaming& naming,
                      const std::string& prefix,
                      TensorCheck& tensors);

}  // namespace heddle
