#pragma once
#include <string>
#include <string_view>

#include "models/checkpoint.h"
#include "models/families/tensor_check.h"

namespace heddle {

/// How a format names the tensors of linear attention, after "model.layers.3.".
struct LinearNaming {
  /// q, k and v: three tensors; the rows of one after the other in one; or each head's q, k and v
  /// after the other in one.
  enum class Rows { kSeparate, kContiguous, kByHead };
  Rows rows = Rows::kSeparate;
  std::string_view q = "self_attn.q_proj", k = "self_attn.k_proj", v = "self_attn.v_proj";
  std::string_view qkv = "";
  std::string_view o = "self_attn.o_proj", gate = "", norm = "";
  std::string_view q_norm = "self_attn.q_norm", k_norm = "self_attn.k_norm";
};

/// The tensors of one layer, checked.
LinearAttentionNames linear_names(const LinearAttentionSpec& spec,
                                  int hidden,
                                  const LinearNaming& naming,
                                  const std::string& prefix,
                                  TensorCheck& tensors);

/// Where in a tensor of heads' [part 0 | part 1 | ...], head_dim rows each, part `part` of all
/// heads stands.
std::vector<std::int32_t> rows_by_head(int n_heads, int head_dim, int part, int n_parts);

}  // namespace heddle
