// Ops without a CUDA kernel: their tables are empty, and a call of one is refused by its name.

#include "kernels/cuda/cuda_tables.h"

namespace heddle::cuda {
namespace {

template <typename Args>
const Table<Args>& missing(std::string_view op) {
  static const Table<Args> table{op, {}};
  return table;
}

}  // namespace

const Table<MatmulArgs>& matmul_table() {
  return missing<MatmulArgs>("matmul");
}
const Table<AttentionArgs>& attention_table() {
  return missing<AttentionArgs>("attention");
}
const Table<LinearAttentionArgs>& linear_attention_table() {
  return missing<LinearAttentionArgs>("linear_attention");
}
const Table<ExpertMatmulArgs>& expert_matmul_table() {
  return missing<ExpertMatmulArgs>("expert_matmul");
}

}  // namespace heddle::cuda
