#pragma once
// The variant table of every CPU op, each defined in the .cpp of its op (kernels/cpu/<op>.cpp).

#include "kernels/api/activation.h"
#include "kernels/api/attention.h"
#include "kernels/api/elementwise.h"
#include "kernels/api/embed.h"
#include "kernels/api/key_blocks.h"
#include "kernels/api/linear_attention.h"
#include "kernels/api/matmul.h"
#include "kernels/api/moe.h"
#include "kernels/api/rms_norm.h"
#include "kernels/api/rope.h"
#include "kernels/api/route_heads.h"
#include "kernels/api/sample.h"
#include "kernels/api/soft_cap.h"
#include "kernels/cpu/cpu_context.h"
#include "kernels/variant.h"

namespace heddle::cpu {

template <typename Args>
using Table = VariantTable<Args, CpuContext>;

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

}  // namespace heddle::cpu
