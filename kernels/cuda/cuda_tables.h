#pragma once
// The variant table of every op that has CUDA kernels, each defined in the .cu of its op. The
// fastest is first, `plain` last.

#include "kernels/cuda/cuda_context.h"
#include "kernels/ops.h"
#include "kernels/variant.h"

namespace heddle::cuda {

template <typename Args>
using Table = VariantTable<Args, CudaContext>;

const Table<EmbedArgs>& embed_table();
const Table<GatherRowsArgs>& gather_rows_table();
const Table<RmsNormArgs>& rms_norm_table();
const Table<MatmulArgs>& matmul_table();
const Table<RopeAnglesArgs>& rope_angles_table();
const Table<RopeArgs>& rope_table();
const Table<KvWriteArgs>& kv_write_table();
const Table<AttentionArgs>& attention_table();
const Table<LinearAttentionArgs>& linear_attention_table();
const Table<PatternBlocksArgs>& pattern_blocks_table();
const Table<CompressKeysArgs>& compress_keys_table();
const Table<SelectBlocksArgs>& select_blocks_table();
const Table<GluArgs>& glu_table();
const Table<SoftCapArgs>& soft_cap_table();
const Table<RouteArgs>& route_table();
const Table<ExpertMatmulArgs>& expert_matmul_table();
const Table<ExpertSumArgs>& expert_sum_table();
const Table<RouteHeadsArgs>& route_heads_table();
const Table<ActivateArgs>& activate_table();
const Table<AddScaledArgs>& add_scaled_table();
const Table<LogScaleArgs>& log_scale_table();
const Table<ScaleHeadsArgs>& scale_heads_table();
const Table<LrpeArgs>& lrpe_table();
const Table<SampleArgs>& sample_table();

}  // namespace heddle::cuda
