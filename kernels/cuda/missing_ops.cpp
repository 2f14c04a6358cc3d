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

const Table<EmbedArgs>& embed_table() {
  return missing<EmbedArgs>("embed");
}
const Table<GatherRowsArgs>& gather_rows_table() {
  return missing<GatherRowsArgs>("gather_rows");
}
const Table<MatmulArgs>& matmul_table() {
  return missing<MatmulArgs>("matmul");
}
const Table<RopeAnglesArgs>& rope_angles_table() {
  return missing<RopeAnglesArgs>("rope_angles");
}
const Table<RopeArgs>& rope_table() {
  return missing<RopeArgs>("rope");
}
const Table<KvWriteArgs>& kv_write_table() {
  return missing<KvWriteArgs>("kv_write");
}
const Table<AttentionArgs>& attention_table() {
  return missing<AttentionArgs>("attention");
}
const Table<LinearAttentionArgs>& linear_attention_table() {
  return missing<LinearAttentionArgs>("linear_attention");
}
const Table<PatternBlocksArgs>& pattern_blocks_table() {
  return missing<PatternBlocksArgs>("pattern_blocks");
}
const Table<CompressKeysArgs>& compress_keys_table() {
  return missing<CompressKeysArgs>("compress_keys");
}
const Table<SelectBlocksArgs>& select_blocks_table() {
  return missing<SelectBlocksArgs>("select_blocks");
}
const Table<SoftCapArgs>& soft_cap_table() {
  return missing<SoftCapArgs>("soft_cap");
}
const Table<RouteArgs>& route_table() {
  return missing<RouteArgs>("route");
}
const Table<ExpertMatmulArgs>& expert_matmul_table() {
  return missing<ExpertMatmulArgs>("expert_matmul");
}
const Table<ExpertSumArgs>& expert_sum_table() {
  return missing<ExpertSumArgs>("expert_sum");
}
const Table<RouteHeadsArgs>& route_heads_table() {
  return missing<RouteHeadsArgs>("route_heads");
}
const Table<ActivateArgs>& activate_table() {
  return missing<ActivateArgs>("activate");
}
const Table<AddScaledArgs>& add_scaled_table() {
  return missing<AddScaledArgs>("add_scaled");
}
const Table<LogScaleArgs>& log_scale_table() {
  return missing<LogScaleArgs>("log_scale");
}
const Table<ScaleHeadsArgs>& scale_heads_table() {
  return missing<ScaleHeadsArgs>("scale_heads");
}
const Table<LrpeArgs>& lrpe_table() {
  return missing<LrpeArgs>("lrpe");
}
const Table<SampleArgs>& sample_table() {
  return missing<SampleArgs>("sample");
}

}  // namespace heddle::cuda
