#include "models/families/linear_parts.h"

#include <fmt/format.h>

namespace heddle {

std::vector<std::int32_t> rows_by_head(int n_heads, int head_dim, int part, int n_parts) {
  std::vector<std::int32_t> rows;
  rows.reserve(static_cast<std::size_t>(n_heads) * static_cast<std::size_t>(head_dim));
  for (int h = 0; h < n_heads; ++h) {
    for (int d = 0; d < head_dim; ++d) rows.push_back((h * n_parts + part) * head_dim + d);
  }
  return rows;
}

LinearAttentionNames linear_names(const LinearAttentionSpec& spec,
                                  int hidden,
                                  const LinearNaming& naming,
                                  const std::string& prefix,
                                  TensorCheck& tensors) {
  const std::int64_t width = std::int64_t{spec.n_heads} * spec.head_dim;
  const auto weight = [&](std::string_view name) {
    return fmt::format("{}{}.weight", prefix, name);
  };
  LinearAttentionNames names;
  TensorPart* const parts[] = {&names.q, &names.k, &names.v};
  const std::string_view separate[] = {naming.q, naming.k, naming.v};
  for (int i = 0; i < 3; ++i) {
    switch (naming.rows) {
      case LinearNaming::Rows::kSeparate:
        *parts[i] = tensors.matrix(weight(separate[i]), width, hidden);
        break;
      case LinearNaming::Rows::kContiguous:
        *parts[i] = tensors.rows(weight(naming.qkv), 3 * width, hidden, i * width, width);
        break;
      case LinearNaming::Rows::kByHead:
        *parts[i] = tensors.picked(weight(naming.qkv), 3 * width, hidden,
                                   rows_by_head(spec.n_heads, spec.head_dim, i, 3));
        break;
    }
  }
  names.o = tensors.matrix(weight(naming.o), hidden, width);
  if (spec.qk_norm) {
    const std::int64_t n = spec.qk_norm->all_heads ? width : spec.head_dim;
    names.q_norm = tensors.vector(weight(naming.q_norm), n);
    names.k_norm = tensors.vector(weight(naming.k_norm), n);
  }
  if (spec.gate != OutputGate::kNone)
    names.gate = tensors.matrix(weight(naming.gate), width, hidden);
  if (spec.norm_weight) names.norm = tensors.vector(weight(naming.norm), width);
  return names;
}

}  // namespace heddle
